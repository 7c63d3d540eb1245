//! Lets fleets suffer failures, and checks that they keep what is promised: `make chaos SEEDS=12`.

use std::process::ExitCode;

use clap::Parser;
use keybroker_tests::chaos::{campaign::campaign, options::Options};

fn main() -> ExitCode {
    campaign(&Options::parse())
}
