//! A program that prints a secret, such as the command line of a secret store.

use std::{process::Stdio, time::Duration};

use secrecy::zeroize::Zeroizing;
use tokio::{io::AsyncReadExt, process::Command, time::timeout};

use crate::{
    child::Group,
    registry::seal::{FORMER_MASTER_KEYS, MASTER_KEY},
    secret::Secret,
};

/// The most that a program may print.
const MOST: u64 = 64 * 1024;

/// The first line that a program prints, without the space around it. Nothing else of what it prints is told to anybody:
/// a secret store may say more than it should also where it says why it failed.
pub(super) async fn run(command: &[String], limit: Duration) -> Result<Secret, String> {
    let Some((program, arguments)) = command.split_first() else {
        return Err("names no command".to_owned());
    };
    let mut starting = Command::new(program);
    starting.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    for variable in [MASTER_KEY, FORMER_MASTER_KEYS] {
        starting.env_remove(variable);
    }
    let mut child = starting
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("comes from a command that cannot be started: {error}"))?;
    let group = Group::of(&child);
    let mut printed = Zeroizing::new(Vec::new());
    let ended = timeout(limit, async {
        if let Some(stdout) = child.stdout.take() {
            stdout.take(MOST + 1).read_to_end(&mut printed).await?;
        }
        child.wait().await
    })
    .await;
    let status = match ended {
        Err(_) => return Err(format!("comes from a command that did not end within {limit:?}")),
        Ok(Err(error)) => return Err(format!("comes from a command that cannot be waited for: {error}")),
        Ok(Ok(status)) => status,
    };
    group.keep();
    // One that is not listened to any more may end badly for that.
    if printed.len() as u64 > MOST {
        return Err("comes from a command that printed more than 64 KiB".to_owned());
    }
    if !status.success() {
        let how =
            status.code().map_or_else(|| "by a signal".to_owned(), |code| format!("with exit code {code}"));
        return Err(format!("comes from a command that ended {how}; run it by hand to see why"));
    }
    let text =
        std::str::from_utf8(&printed).map_err(|_| "comes from a command that printed no text".to_owned())?;
    let line = text.lines().next().unwrap_or_default().trim();
    if line.is_empty() {
        return Err("comes from a command that printed an empty first line".to_owned());
    }
    Ok(Secret::from(line))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn shell(script: &str, limit: Duration) -> Result<Secret, String> {
        run(&["/bin/sh", "-c", script].map(str::to_owned), limit).await
    }

    #[tokio::test]
    async fn the_first_line_is_the_secret() {
        let secret = shell("echo '  fake-key-number-one '; echo more", PATIENCE).await.unwrap();
        assert_eq!(secret.expose(), "fake-key-number-one");
    }

    #[tokio::test]
    async fn what_goes_wrong_is_told_without_what_was_printed() {
        for (script, why) in [
            ("echo fake-secret; echo fake-secret >&2; exit 3", "exit code 3"),
            ("echo; echo fake-secret", "empty first line"),
            ("echo fake-secret; kill -9 $$", "by a signal"),
            ("yes fake-secret | head -c 70000", "more than 64 KiB"),
            ("printf 'fake-secret\\377'", "no text"),
        ] {
            let told = shell(script, PATIENCE).await.unwrap_err();
            assert!(told.contains(why) && !told.contains("fake-secret"), "{script}: {told}");
        }
        let none = run(&["/no/such/program".to_owned()], PATIENCE).await.unwrap_err();
        assert!(none.contains("cannot be started"), "{none}");
    }

    #[tokio::test]
    async fn a_program_that_does_not_end_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 1000 & echo $! > {}; wait", file.display());
        let told = shell(&script, Duration::from_secs(2)).await.unwrap_err();
        assert!(told.contains("did not end within 2s"), "{told}");
        let pid = std::fs::read_to_string(file).unwrap();
        let status = format!("/proc/{}/stat", pid.trim());
        let gone = async {
            // A killed process may be a zombie for a moment.
            while std::fs::read_to_string(&status).is_ok_and(|stat| !stat.contains(") Z")) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, gone).await.unwrap();
    }
}
