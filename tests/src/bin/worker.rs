//! A worker of the demo, as a process of its own.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker_tests::demo::worker::Worker;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    match Worker::parse().run().await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; there is nowhere else to say it.
            let _ = writeln!(std::io::stderr(), "worker: {error}");
            ExitCode::FAILURE
        }
    }
}
