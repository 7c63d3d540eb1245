//! The manual, made of the commands as they are: pages for `man`, and the reference in `docs/cli.md`.

use std::{fmt::Write, fs, path::PathBuf, process::ExitCode};

use clap::{Arg, Args, Command, CommandFactory};

use crate::{
    cli::Cli,
    operate::{Failure, print, run},
};

/// What of the manual to write, and where.
#[derive(Debug, Args)]
pub struct ManArgs {
    /// Write a page for each command into this folder [default: print the page of keybroker itself]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Writes the manual.
pub fn man(args: &ManArgs) -> ExitCode {
    run(async {
        let failed =
            |error: std::io::Error| Failure::Failed(format!("the manual cannot be written: {error}"));
        match &args.out {
            Some(folder) => {
                fs::create_dir_all(folder).map_err(failed)?;
                clap_mangen::generate_to(Cli::command(), folder).map_err(failed)?;
            }
            None => {
                let mut page = Vec::new();
                clap_mangen::Man::new(Cli::command()).render(&mut page).map_err(failed)?;
                print::line(String::from_utf8_lossy(&page).trim_end())?;
            }
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// Every command with its options, in Markdown.
pub fn reference() -> String {
    let mut command = Cli::command();
    command.build();
    let mut text = String::new();
    for sub in shown(&command) {
        section(sub, "keybroker", &mut text);
    }
    text
}

fn shown(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help")
}

fn section(command: &Command, above: &str, text: &mut String) {
    let name = format!("{above} {}", command.get_name());
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    // Writing to a string does not fail.
    let _ = writeln!(text, "## `{name}`\n\n{}.\n", about.unwrap_or_default().trim_end_matches('.'));
    if !command.has_subcommands() {
        let usage = command.clone().render_usage().to_string();
        let _ = writeln!(text, "```\n{}\n```\n", usage.trim_start_matches("Usage: "));
        let mut arguments: Vec<&Arg> = command.get_arguments().filter(|arg| is_shown(arg)).collect();
        arguments.sort_by_key(|arg| (!arg.is_positional(), !arg.is_required_set()));
        if !arguments.is_empty() {
            text.push_str("| argument or option | variable | default | what |\n|---|---|---|---|\n");
            for arg in arguments {
                row(arg, text);
            }
            text.push('\n');
        }
    }
    if let Some(help) = command.get_after_help() {
        let _ = writeln!(text, "```\n{}\n```\n", help.to_string().trim());
    }
    for sub in shown(command) {
        section(sub, &name, text);
    }
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn row(arg: &Arg, text: &mut String) {
    let values = arg.get_value_names().map(|names| names.join(" ")).unwrap_or_default();
    let takes = arg.get_action().takes_values();
    let name = match arg.get_long() {
        Some(long) if takes => format!("--{long} {values}"),
        Some(long) => format!("--{long}"),
        None => values,
    };
    let variable = arg.get_env().map(|name| format!("`{}`", name.to_string_lossy())).unwrap_or_default();
    let defaults = arg.get_default_values().iter().filter(|_| takes && !arg.is_hide_default_value_set());
    let defaults: Vec<String> = defaults
        .map(|value| value.to_string_lossy().into_owned())
        .filter(|value| !value.is_empty())
        .collect();
    let default = if defaults.is_empty() { String::new() } else { format!("`{}`", defaults.join(" ")) };
    let mut what = arg.get_long_help().or(arg.get_help()).map(ToString::to_string).unwrap_or_default();
    let choices: Vec<String> = arg
        .get_possible_values()
        .iter()
        .filter(|_| takes)
        .filter(|value| !value.is_hide_set())
        .map(|value| match value.get_help() {
            Some(help) => format!("`{}`: {help}", value.get_name()),
            None => format!("`{}`", value.get_name()),
        })
        .collect();
    if !choices.is_empty() {
        let _ = write!(what, "; {}", choices.join("; "));
    }
    let what = what.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
    let _ = writeln!(text, "| `{name}` | {variable} | {default} | {what} |");
}
