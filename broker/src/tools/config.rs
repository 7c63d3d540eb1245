//! `keybroker config`: what the configuration says, and what is wrong with it.

use std::{io::Write, process::ExitCode};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::{
    cli::ConfigArgs,
    config::{self, ConfigError, Effective, Loaded, Sources, Warning},
    operate::{Failure, print, run},
};

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Read it, list every fault and warning, sum up what was understood, and start nothing
    Check(ReadArgs),
    /// Print all that holds: defaults filled in, limits less their margins, where each key is from; keys are masked
    Show(ReadArgs),
    /// Print every field of the file: what may be written, what holds if it is not, and what it means; in Markdown
    Reference,
}

/// Which configuration, and how to print.
#[derive(Debug, Args)]
pub struct ReadArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Checks or shows the configuration.
pub fn config(command: ConfigCommand) -> ExitCode {
    run(async {
        match command {
            ConfigCommand::Check(args) => check(&args),
            ConfigCommand::Show(args) => show(&args),
            ConfigCommand::Reference => {
                print::line(config::reference::markdown().trim_end())?;
                Ok(ExitCode::SUCCESS)
            }
        }
    })
}

fn load(args: &ReadArgs) -> Result<Loaded, ConfigError> {
    config::load(&Sources::of_process(args.config.config.clone()))
}

fn check(args: &ReadArgs) -> Result<ExitCode, Failure> {
    let loaded = load(args);
    if args.json {
        let (faults, warnings) = match &loaded {
            Ok(loaded) => (Vec::new(), &loaded.warnings),
            Err(error) => (error.faults.clone(), &error.warnings),
        };
        let faults = faults
            .iter()
            .map(|fault| json!({ "place": fault.place, "problem": fault.problem, "fix": fault.fix }))
            .collect::<Vec<Value>>();
        let summary = loaded.as_ref().map(config::summary).unwrap_or_default();
        print::json(&json!({
            "ok": loaded.is_ok(),
            "faults": faults,
            "warnings": warnings.iter().map(as_json).collect::<Vec<Value>>(),
            "summary": summary,
        }))?;
        return Ok(if loaded.is_ok() { ExitCode::SUCCESS } else { ExitCode::from(2) });
    }
    let loaded = loaded.map_err(|error| Failure::Usage(error.to_string()))?;
    warn(&loaded.warnings);
    print::line(&config::summary(&loaded).join("\n"))?;
    Ok(ExitCode::SUCCESS)
}

fn show(args: &ReadArgs) -> Result<ExitCode, Failure> {
    let loaded = load(args).map_err(|error| Failure::Usage(error.to_string()))?;
    let effective = Effective::of(&loaded);
    let failed = |error: &dyn std::fmt::Display| Failure::Failed(error.to_string());
    if args.json {
        print::json(&serde_json::to_value(&effective).map_err(|error| failed(&error))?)?;
    } else {
        warn(&loaded.warnings);
        print::line(toml::to_string(&effective).map_err(|error| failed(&error))?.trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

fn warn(warnings: &[Warning]) {
    for warning in warnings {
        // Standard error may be closed; there is nowhere else to say it.
        let _ = writeln!(std::io::stderr(), "warning: {warning}");
    }
}

fn as_json(warning: &Warning) -> Value {
    json!({ "place": warning.place, "text": warning.text })
}
