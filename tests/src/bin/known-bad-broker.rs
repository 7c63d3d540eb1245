//! A broker that is wrong on purpose, so that it is seen that the chaos harness notices.
//!
//! The first argument names the variant, the rest is as for `keybroker serve`.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker::{cli::ServeArgs, ledger::redis::RedisLedger, serve::serve_altered};
use keybroker_tests::chaos::control::Control;

#[derive(Parser)]
struct Args {
    /// fixed-window or no-run-check
    variant: String,
    #[command(flatten)]
    serve: ServeArgs,
}

fn main() -> ExitCode {
    let Args { variant, serve } = Args::parse();
    let alter = match variant.as_str() {
        "fixed-window" => fixed_window,
        "no-run-check" => no_run_check,
        _ => return fail("the variant must be fixed-window or no-run-check"),
    };
    serve_altered(&serve, alter)
}

fn fixed_window(ledger: RedisLedger) -> RedisLedger {
    altered(ledger, "fixed-window")
}

fn no_run_check(ledger: RedisLedger) -> RedisLedger {
    altered(ledger, "no-run-check")
}

fn altered(ledger: RedisLedger, variant: &str) -> RedisLedger {
    ledger.with_scripts(Control::scripts(variant).expect("it is one of the two"))
}

fn fail(why: &str) -> ExitCode {
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "known-bad-broker: {why}");
    ExitCode::from(2)
}
