//! Runs seeds of the simulation: `make sim SEED=7`, `make sim SEEDS=1..1000`.

use std::{io::Write, process::ExitCode};

use clap::Parser;
use keybroker_tests::sim::{Args, run};

fn main() -> ExitCode {
    match run(&Args::parse(), &mut std::io::stdout()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "sim: {error}");
            ExitCode::FAILURE
        }
    }
}
