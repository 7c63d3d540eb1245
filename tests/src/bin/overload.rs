//! Prints what becomes of a broker under five times its capacity, on each ledger.

use std::{io::Write, process::ExitCode};

use clap::{Parser, Subcommand};
use keybroker_tests::{
    harness::rig::Backing,
    overload::{self, Error, Load, Plan},
};

/// Finds a broker's capacity, asks it for five times as much, and looks how it recovers.
///
/// Speed is never pass or fail: the exit code is 0 whatever the marks say, and 1 if something failed.
#[derive(Debug, Parser)]
#[command(name = "overload", args_conflicts_with_subcommands = true)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only the embedded ledger
    #[arg(long, conflicts_with = "redis")]
    embedded: bool,
    /// Only Redis
    #[arg(long)]
    redis: bool,
    #[command(flatten)]
    plan: Plan,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put a load on a broker and print what came of it as JSON
    Generate(Load),
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args.command {
        Some(Command::Generate(load)) => generate(load).await,
        None => measure(&args).await,
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "overload: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn generate(load: &Load) -> Result<(), Error> {
    let outcome = overload::generate(load).await?;
    Ok(writeln!(std::io::stdout(), "{}", serde_json::to_string(&outcome)?)?)
}

async fn measure(args: &Args) -> Result<(), Error> {
    let program = std::env::current_exe()?;
    for (name, backing, skipped) in
        [("embedded ledger", Backing::Embedded, args.redis), ("Redis", Backing::Redis, args.embedded)]
    {
        if skipped {
            continue;
        }
        let measured = overload::measure(backing, &args.plan, program.clone()).await?;
        write!(std::io::stdout(), "{name}\n{measured}\n")?;
    }
    Ok(())
}
