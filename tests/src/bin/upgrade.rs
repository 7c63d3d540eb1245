//! Replaces brokers under load and prints what workers and Gemini noticed.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker_tests::upgrade::{Error, Outcome, Plan, run};

/// Replaces each broker of a fleet by another version and back, while workers ask for more than there is.
///
/// Needs redis-server, and haproxy unless --direct. The exit code is 0 if no call failed and nothing was spent twice, 1 if
/// not.
#[derive(Debug, Parser)]
#[command(name = "upgrade")]
struct Args {
    #[command(flatten)]
    plan: Plan,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    match show(run(&args.plan).await) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "upgrade: {error}");
            ExitCode::FAILURE
        }
    }
}

fn show(outcome: Result<Outcome, Error>) -> Result<bool, Error> {
    let outcome = outcome?;
    write!(std::io::stdout(), "{outcome}")?;
    Ok(outcome.is_unnoticed())
}
