//! The demo that a newcomer sees first: `make demo`.

use std::process::ExitCode;

use clap::Parser;
use keybroker_tests::demo::{options::Options, run::run};

#[tokio::main]
async fn main() -> ExitCode {
    run(Options::parse()).await
}
