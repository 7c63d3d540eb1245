//! A worker of the chaos harness, as a process of its own.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker_tests::chaos::worker::Args;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Args::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "chaos-worker: {error}");
            ExitCode::FAILURE
        }
    }
}
