//! Where a key's text is read from: never from an argument.

use std::{
    io::{BufRead, IsTerminal, Read, Write},
    path::Path,
};

use secrecy::zeroize::Zeroizing;

use super::{Failure, args::SecretArgs};

/// The most that is read, in bytes.
const LARGEST: u64 = 6 << 20;

/// The text of a key.
pub(super) fn of_key(args: &SecretArgs) -> Result<Zeroizing<String>, Failure> {
    let (text, source) = match (&args.secret_env, &args.secret_file) {
        (Some(name), _) => {
            let text = std::env::var(name).map(Zeroizing::new);
            let unset = |_| Failure::Usage("the variable that --secret-env names is not set".to_owned());
            (text.map_err(unset)?, "the variable that --secret-env names")
        }
        (None, Some(path)) => (read(path, "--secret-file")?, "the file that --secret-file names"),
        (None, None) => (of_standard_input()?, "standard input"),
    };
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err(Failure::Usage(format!("{source} holds no text on its first line")));
    }
    Ok(Zeroizing::new(line.to_owned()))
}

fn of_standard_input() -> Result<Zeroizing<String>, Failure> {
    let mut input = std::io::stdin().lock();
    if input.is_terminal() {
        let _ = write!(std::io::stderr(), "The key's text (it is shown as you type): ");
    }
    let mut line = Zeroizing::new(String::new());
    let read = input.by_ref().take(LARGEST).read_line(&mut line);
    read.map_err(|error| Failure::Usage(format!("standard input cannot be read: {error}")))?;
    Ok(line)
}

/// A file's text; standard input's if the path is `-`.
pub(super) fn read(path: &Path, setting: &str) -> Result<Zeroizing<String>, Failure> {
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text))
    };
    read.map_err(|error| Failure::Usage(format!("the file that {setting} names cannot be read: {error}")))?;
    Ok(text)
}
