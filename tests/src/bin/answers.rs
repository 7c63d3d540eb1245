//! The table of Google's answers, with a tick for each that is kept: `make test-answers`.

use std::process::ExitCode;

use keybroker_tests::answers::run::run;

#[tokio::main]
async fn main() -> ExitCode {
    run().await
}
