//! Prints what a lease costs on this machine, as ratios to a server that does nothing but answer.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker_tests::bench::{self, Args, Command, Error, Plan};

/// The broker's allocator, for both sides of every comparison.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        Some(Command::EchoServer) => bench::serve_echo(),
        None => measure(&args),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "bench: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(args: &Args) -> Result<(), Error> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let table = runtime.block_on(bench::run(&Plan::of(args)))?;
    let mut stdout = std::io::stdout();
    if args.json {
        writeln!(stdout, "{}", serde_json::to_string_pretty(&table)?)?;
    } else {
        write!(stdout, "{table}")?;
    }
    Ok(())
}
