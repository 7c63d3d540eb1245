//! One run of a local program that is told an event.

use std::{
    process::{ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    process::{Child, Command},
    task::JoinHandle,
    time::timeout,
};

use super::attempt::Failure;
use crate::{
    child::Group,
    events::{Event, Redactor},
};

/// What a program inherits: nothing else of the broker's environment, which may hold keys.
const INHERITED: [&str; 7] = ["PATH", "HOME", "USER", "LANG", "LC_ALL", "TZ", "TMPDIR"];
/// How much of what it writes is logged, of each of its two outputs.
const MOST_SHOWN: usize = 4 * 1024;
/// How long after its end its output is waited for: a child of its own may hold it open.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs a program with the event as JSON on its standard input. It succeeds by exiting with 0; when the
/// time is over, it is killed together with what it started.
pub(super) async fn run(
    command: &[String],
    event: &Event,
    limit: Duration,
    redactor: &Redactor,
) -> Result<(), Failure> {
    let mut child = start(command, event)?;
    let group = Group::of(&child);
    let output = [listen(child.stdout.take()), listen(child.stderr.take())];
    let input = serde_json::to_vec(event).expect("an event has no map with keys but text");
    let ended = timeout(limit, async {
        if let Some(mut stdin) = child.stdin.take() {
            // A program need not read what it is told.
            let _ = stdin.write_all(&input).await;
        }
        child.wait().await
    })
    .await;
    match &ended {
        Ok(_) => group.keep(),
        Err(_) => {
            drop(group);
            // It is dead; this only takes note of it.
            let _ = timeout(LAST_WORDS, child.wait()).await;
        }
    }
    let [stdout, stderr] = output;
    let (stdout, stderr) = (stdout.heard().await, stderr.heard().await);
    let program = command.first().map_or("", String::as_str);
    let (stdout, stderr) = (redactor.output(&stdout), redactor.output(&stderr));
    tracing::debug!(program, stdout, stderr, "a hook's program ended");
    match ended {
        Err(_) => Err(Failure::passing(format!("{program} did not end within {limit:?} and was killed"))),
        Ok(Err(error)) => Err(Failure::passing(format!("{program} cannot be waited for: {error}"))),
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(Ok(status)) => Err(Failure::passing(format!("{program} ended with {}", ending(status)))),
    }
}

fn start(command: &[String], event: &Event) -> Result<Child, Failure> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::lasting("the command is empty"));
    };
    let inherited = INHERITED.iter().filter_map(|name| Some((*name, std::env::var_os(name)?)));
    let spawned = Command::new(program)
        .args(arguments)
        .env_clear()
        .envs(inherited)
        .envs(variables(event))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .kill_on_drop(true)
        .spawn();
    spawned.map_err(|error| {
        let why = format!("{program} cannot be started: {error}");
        match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => Failure::lasting(why),
            _ => Failure::passing(why),
        }
    })
}

/// What a program is told by its environment, so that a few lines of shell need no JSON.
fn variables(event: &Event) -> Vec<(&'static str, String)> {
    let subject = &event.subject;
    vec![
        ("KEYBROKER_EVENT_ID", event.id.clone()),
        ("KEYBROKER_EVENT_KIND", event.kind.to_string()),
        ("KEYBROKER_EVENT_MESSAGE", event.message()),
        ("KEYBROKER_EVENT_POOL", subject.pool.to_string()),
        ("KEYBROKER_EVENT_KEY_ID", subject.key_id.to_string()),
        ("KEYBROKER_EVENT_PROJECT", subject.project.to_string()),
        ("KEYBROKER_EVENT_QUOTA_MODEL", subject.quota_model.to_string()),
        ("KEYBROKER_EVENT_CONSUMER", subject.consumer.to_string()),
        ("KEYBROKER_EVENT_REASON", event.reason.to_string()),
        ("KEYBROKER_EVENT_UNTIL", event.until_text().unwrap_or_default()),
    ]
}

fn ending(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "an unknown status".to_owned(),
    }
}

/// One output of a program, read to its end so that the program never waits, and kept as far as it is shown.
struct Listener {
    heard: Arc<Mutex<Vec<u8>>>,
    task: JoinHandle<()>,
}

fn listen(output: Option<impl AsyncRead + Unpin + Send + 'static>) -> Listener {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = heard.clone();
    let task = tokio::spawn(async move {
        let Some(mut output) = output else { return };
        let mut piece = [0; 1024];
        while let Ok(read @ 1..) = output.read(&mut piece).await {
            let mut kept = kept.lock().expect("no holder of this lock panics");
            let room = MOST_SHOWN - kept.len();
            kept.extend_from_slice(&piece[..read.min(room)]);
        }
    });
    Listener { heard, task }
}

impl Listener {
    async fn heard(mut self) -> Vec<u8> {
        let _ = timeout(LAST_WORDS, &mut self.task).await;
        std::mem::take(&mut *self.heard.lock().expect("no holder of this lock panics"))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::tests::event;
    use super::*;
    use crate::{catalogue::EventKind, secret::Secret};

    const PATIENCE: Duration = Duration::from_secs(20);

    async fn shell(script: &str, limit: Duration) -> Result<(), Failure> {
        let command = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&command, &event(EventKind::CooldownBegun), limit, &Redactor::default()).await
    }

    #[tokio::test]
    async fn a_program_gets_the_event_as_json_and_by_its_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("told");
        let script =
            format!("{{ echo $KEYBROKER_EVENT_KIND $KEYBROKER_EVENT_KEY_ID; cat; }} > {}", file.display());
        shell(&script, PATIENCE).await.unwrap();
        let told = std::fs::read_to_string(file).unwrap();
        let (first, json) = told.split_once('\n').unwrap();
        assert_eq!(first, "cooldown_begun a1");
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        assert_eq!(json["subject"], "project team-a, model flash");
    }

    #[tokio::test]
    async fn a_program_inherits_nothing_that_may_hold_a_key() {
        let set: Vec<_> =
            std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("CARGO")).collect();
        assert!(!set.is_empty(), "this process has variables that are not passed on");
        shell(r#"test -z "$(env | grep ^CARGO)""#, PATIENCE).await.unwrap();
    }

    #[tokio::test]
    async fn an_exit_code_and_a_signal_are_failures_that_may_pass() {
        assert_eq!(shell("exit 7", PATIENCE).await, Err(Failure::passing("/bin/sh ended with exit code 7")));
        assert_eq!(shell("kill -9 $$", PATIENCE).await, Err(Failure::passing("/bin/sh ended with signal 9")));
    }

    #[tokio::test]
    async fn a_program_that_is_not_there_is_not_tried_again() {
        let event = event(EventKind::KeyDisabled);
        let missing = ["/nowhere/relogin".to_owned()];
        let failure = run(&missing, &event, PATIENCE, &Redactor::default()).await.unwrap_err();
        assert!(!failure.again && failure.why.starts_with("/nowhere/relogin cannot be started"));
    }

    #[tokio::test]
    async fn at_the_timeout_a_program_is_killed_with_what_it_started() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let script = format!("sleep 600 & echo $! > {0}.new; mv {0}.new {0}; wait", file.display());
        let failure = shell(&script, Duration::from_secs(2)).await.unwrap_err();
        assert!(failure.again && failure.why.ends_with("did not end within 2s and was killed"));
        let started: i32 = std::fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        let deadline = Instant::now() + PATIENCE;
        while is_running(started) {
            assert!(Instant::now() < deadline, "the program's child still runs");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Whether a process runs; one that is dead and not yet taken note of does not.
    fn is_running(pid: i32) -> bool {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
    }

    #[tokio::test]
    async fn much_output_neither_stops_a_program_nor_is_kept() {
        shell("head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2; cat > /dev/null", PATIENCE)
            .await
            .unwrap();
        let listener = listen(Some(&[b'x'; 100_000][..]));
        assert_eq!(listener.heard().await.len(), MOST_SHOWN);
    }

    #[tokio::test]
    async fn a_program_that_leaves_a_child_behind_ends_when_it_ends() {
        let begun = Instant::now();
        shell("sleep 30 & exit 0", PATIENCE).await.unwrap();
        assert!(begun.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn output_is_shown_without_keys() {
        let redactor = Redactor::new([Secret::from("fake-key-of-team-a")]);
        assert_eq!(redactor.output(b"using fake-key-of-team-a\xff"), "using ***\u{fffd}");
    }
}
