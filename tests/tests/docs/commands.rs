//! Every command that a page shows is one: `keybroker` takes it as it is written, and `make` has the task.

use std::{collections::BTreeSet, fs, path::PathBuf};

use clap::{Command, CommandFactory, error::ErrorKind};
use keybroker::cli::Cli;

use super::{blocks, root};

/// Every page that people read: those of the book, and the first one of the repository.
pub(super) fn pages() -> Vec<PathBuf> {
    let pages = fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path());
    let mut pages: Vec<_> = pages.filter(|path| path.extension().is_some_and(|end| end == "md")).collect();
    pages.extend(
        ["README.md", "GUARANTEES.md", "ARCHITECTURE.md", "deploy/README.md", "deploy/compose/README.md"]
            .map(|name| root().join(name)),
    );
    pages.retain(|path| path.exists());
    pages.sort();
    pages
}

/// The commands of a page's blocks, each on one line: what follows `$ `, or all lines of a block that has no `$ `.
pub(super) fn shown(page: &str) -> Vec<String> {
    let mut commands = Vec::new();
    // What the program tells of itself has usage lines, which are no commands.
    let page = page.split("<!-- Below: as the program tells it. -->").next().unwrap();
    // Blocks within lists are indented.
    let page: String = page.lines().flat_map(|line| [line.trim_start(), "\n"]).collect();
    for block in blocks(&page) {
        if !["", "sh", "bash", "shell", "console"].contains(&block.language.as_str()) {
            continue;
        }
        let text = block.text.replace("\\\n", " ");
        let prompted = text.lines().any(|line| line.starts_with("$ "));
        let lines =
            text.lines().filter_map(|line| if prompted { line.strip_prefix("$ ") } else { Some(line) });
        commands.extend(lines.map(str::to_owned));
    }
    commands
}

/// The words of each command of `program` that a line of a shell has, also behind variables, pipes and `$(`.
pub(super) fn words_of(line: &str, program: &str) -> Vec<Vec<String>> {
    let line = line.replace("$(", " ; ").replace(")", " ");
    let Some(words) = shlex::split(&line) else { return Vec::new() };
    let is_variable = |word: &str| word.split_once('=').is_some_and(|(name, _)| !name.starts_with('-'));
    let ends = |word: &str| ["|", "&&", "||", ";", "&", ">", ">>", "<", "2>"].contains(&word);
    let commands = words.split(|word| ends(word));
    let commands = commands.map(|words| words.iter().skip_while(|word| is_variable(word)).cloned().collect());
    commands.filter(|words: &Vec<String>| words.first().is_some_and(|first| first == program)).collect()
}

/// What is wrong with a command, if anything is.
fn wrong_with(words: &[String]) -> Option<String> {
    let error = Cli::command().try_get_matches_from(words).err()?;
    let asked = [
        ErrorKind::DisplayHelp,
        ErrorKind::DisplayVersion,
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
    ];
    (!asked.contains(&error.kind())).then(|| error.to_string())
}

#[test]
fn keybroker_takes_every_command_that_is_shown() {
    let (mut seen, mut wrong) = (0, Vec::new());
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        // What the demo prints begins with its name, without a prompt.
        let of_output = |line: &str| line.starts_with("keybroker demo, ");
        for line in shown(&page).iter().filter(|line| !of_output(line)) {
            for words in words_of(line, "keybroker") {
                seen += 1;
                if let Some(why) = wrong_with(&words) {
                    wrong.push(format!("{}: {line}\n{why}", path.display()));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 35, "only {seen} commands were found");
}

/// What stands between backticks, outside of blocks.
fn inline(page: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            inside = !inside;
        } else if !inside {
            found.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    found
}

/// The first word of a command in a sentence that is no subcommand or option of it. Names in capitals and the like
/// stand for something.
fn unknown_in(words: &[&str]) -> Option<String> {
    let mut command = Cli::command();
    command.build();
    let mut at = &command;
    for word in words {
        if *word == "--" {
            return None;
        }
        if let Some(option) = word.strip_prefix("--") {
            let option = option.split('=').next().unwrap();
            if !["help", "version"].contains(&option) && !has_option(at, option) {
                return Some(format!("--{option}"));
            }
        } else if let Some(next) = at.find_subcommand(word) {
            at = next;
        } else if at.has_subcommands() && word.chars().all(|c| c.is_ascii_lowercase() || c == '-') {
            return Some((*word).to_owned());
        }
    }
    None
}

fn has_option(command: &Command, name: &str) -> bool {
    command.get_arguments().any(|argument| argument.get_long() == Some(name))
}

#[test]
fn commands_in_sentences_are_there() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for path in pages() {
        for text in inline(&fs::read_to_string(&path).unwrap()) {
            let Some(rest) = text.strip_prefix("keybroker ") else { continue };
            seen += 1;
            let words: Vec<_> = rest.split_whitespace().collect();
            if let Some(word) = unknown_in(&words) {
                wrong.push(format!("{}: `{text}`: there is no {word}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(seen >= 20, "only {seen} commands were found");
}

#[test]
fn every_task_of_make_is_there() {
    let makefile = fs::read_to_string(root().join("Makefile")).unwrap();
    let tasks: BTreeSet<_> = makefile
        .lines()
        .filter_map(|line| line.split_once(':').map(|(name, _)| name))
        .filter(|name| name.chars().all(|c| c.is_ascii_lowercase() || c == '-'))
        .collect();
    let mut seen = 0;
    for path in pages() {
        let page = fs::read_to_string(&path).unwrap();
        for line in shown(&page).into_iter().chain(inline(&page)) {
            for words in words_of(&line, "make") {
                let task = words[1..].iter().find(|word| !word.contains('='));
                seen += 1;
                assert!(
                    task.is_none_or(|task| tasks.contains(task.as_str())),
                    "{}: {line}: there is no such task",
                    path.display()
                );
            }
        }
    }
    assert!(seen >= 10, "only {seen} were found");
}

#[test]
fn what_is_no_command_is_found() {
    let split = |line: &str| words_of(line, "keybroker");
    assert_eq!(split("A=b keybroker keys list | head"), [["keybroker", "keys", "list"]]);
    assert_eq!(
        split("export X=$(keybroker generate-master-key)  # why"),
        [["keybroker", "generate-master-key"]]
    );
    for line in ["keybroker key list", "keybroker keys list --colour", "keybroker serve --drain-grace soon"] {
        assert!(wrong_with(&split(line)[0]).is_some(), "{line}");
    }
    assert_eq!(unknown_in(&["keys", "drain", "KEY", "--remove"]), None);
    assert_eq!(unknown_in(&["keys", "dry"]), Some("dry".to_owned()));
    assert_eq!(unknown_in(&["keys", "list", "--colour"]), Some("--colour".to_owned()));
}
