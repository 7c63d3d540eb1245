//! A broker and a fake Gemini for one scenario of `client-sdk/contract`, played by a client of any language.

use std::{
    ffi::OsString,
    io::Write,
    path::PathBuf,
    process::{ExitCode, Stdio},
};

use clap::Parser;
use keybroker_tests::contract::{Error, Scenario, Stage, StageStep};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

/// Sets the stage for a scenario of client-sdk/contract.
///
/// Prints one line of JSON with the addresses, then answers each line of JSON on its standard input by one
/// line. It ends, with all it started, when its standard input ends.
///
/// With a command it runs that instead, with the arguments --broker and --gemini added, and takes the scenario's own
/// steps when it has ended; the exit code is 1 if the command failed or something is not as expected.
#[derive(Debug, Parser)]
struct Args {
    /// The scenario's file
    scenario: PathBuf,
    /// A program to run on the stage, and its arguments
    #[arg(last = true)]
    command: Vec<OsString>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match play(&Args::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Standard error may be closed; the exit code says it too.
            let _ = writeln!(std::io::stderr(), "contract-stage: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn play(args: &Args) -> Result<(), Error> {
    let scenario = Scenario::read(&args.scenario)?;
    let mut stage = Stage::start(&scenario).await?;
    if !args.command.is_empty() {
        return perform(&scenario, stage, &args.command).await;
    }
    let folder = stage.folder().display().to_string();
    say(&serde_json::json!({
        "brokers": stage.addresses(), "gemini": stage.gemini.base_url, "certificates": folder,
    }))?;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let step: StageStep = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"))?;
        say(&stage.take(step).await?)?;
    }
    Ok(())
}

async fn perform(scenario: &Scenario, mut stage: Stage, command: &[OsString]) -> Result<(), Error> {
    let mut process = Command::new(&command[0]);
    process.args(&command[1..]).arg("--broker").arg(stage.addresses().join(","));
    process.arg("--gemini").arg(&stage.gemini.base_url).stdin(Stdio::null()).kill_on_drop(true);
    let status = process.status().await?;
    if !status.success() {
        return Err(format!("the command ended with {status}").into());
    }
    for step in &scenario.steps {
        let step = Value::Object(step.clone());
        let seen = stage.take(serde_json::from_value(step.clone())?).await?;
        say(&seen)?;
        let expected = step.get("expect").and_then(Value::as_object).into_iter().flatten();
        let wrong: Vec<String> = expected
            .filter(|(name, wanted)| seen.get(name) != Some(wanted))
            .map(|(name, wanted)| format!("{name} is not {wanted}"))
            .collect();
        if !wrong.is_empty() {
            return Err(wrong.join(", ").into());
        }
    }
    Ok(())
}

fn say(line: &serde_json::Value) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
