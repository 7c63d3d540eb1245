//! One process of a fleet, which can be killed, frozen and started again.

use std::{
    fs::File,
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::Arc,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{clock::Clock, hosts::Hosts, side::Side};

/// A process of a fleet; it is killed when this is dropped.
#[derive(Debug)]
pub struct Member {
    /// What it is called in plans and evidence.
    pub name: String,
    /// The host it runs on.
    pub side: Side,
    /// Its arguments; those of the next start.
    pub arguments: Vec<String>,
    /// The clock it sees, if that is not the host's.
    pub clock: Option<Clock>,
    /// Whether it is meant to run now.
    pub wanted: bool,
    program: PathBuf,
    environment: Vec<(String, String)>,
    talks: bool,
    child: Option<Child>,
    hosts: Arc<Hosts>,
}

impl Member {
    /// A process that is not started yet.
    pub fn new(hosts: &Arc<Hosts>, name: impl Into<String>, side: Side, program: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            side,
            arguments: Vec::new(),
            clock: None,
            wanted: false,
            program: program.into(),
            environment: Vec::new(),
            talks: false,
            child: None,
            hosts: hosts.clone(),
        }
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// Adds a variable. Nothing but PATH and HOME is inherited.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.environment.push((name.to_owned(), value.into()));
        self
    }

    /// Its standard output is read, and is the answer of [`Member::start`].
    #[must_use]
    pub fn talking(mut self) -> Self {
        self.talks = true;
        self
    }

    /// Gives it a clock of its own from the next start on.
    ///
    /// # Errors
    /// If the clock's file cannot be written.
    pub fn with_clock(&mut self) -> io::Result<()> {
        self.clock = Some(Clock::new(&self.hosts.folder().join(format!("{}.clock", self.name)))?);
        Ok(())
    }

    /// Starts it. What it says on standard error is added to its log.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(&mut self) -> io::Result<Option<ChildStdout>> {
        let log = File::options().create(true).append(true).open(self.log_file())?;
        let mut command = self.hosts.command(self.side, &self.program);
        command
            .args(&self.arguments)
            .env_clear()
            .process_group(0)
            .stdin(Stdio::null())
            .stderr(log.try_clone()?);
        command.stdout(if self.talks { Stdio::piped() } else { Stdio::from(log) });
        for inherited in ["PATH", "HOME"] {
            command.envs(std::env::var_os(inherited).map(|value| (inherited, value)));
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        if let Some(clock) = &self.clock {
            clock.put_into(&mut command);
        }
        let mut child = spawn(&mut command, &self.name)?;
        // A guard that is gone cannot guard; the run itself removes what it made all the same.
        let _ = self.hosts.guard().process(child.id());
        let output = child.stdout.take();
        self.child = Some(child);
        self.wanted = true;
        Ok(output)
    }

    /// Sends SIGKILL and waits for the end.
    pub fn kill(&mut self) {
        self.wanted = false;
        if let Some(mut child) = self.child.take() {
            let id = child.id();
            let _ = child.kill();
            let _ = child.wait();
            // A guard that is gone cannot guard; the run itself removes what it made all the same.
            let _ = self.hosts.guard().ended(id);
        }
    }

    /// Sends SIGTERM and waits for the end, which is forced after a while.
    pub fn stop(&mut self) {
        self.wanted = false;
        self.send(Signal::TERM);
        for _ in 0..500 {
            if !self.is_running() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        self.kill();
    }

    /// Sends SIGSTOP.
    pub fn freeze(&self) {
        self.send(Signal::STOP);
    }

    /// Sends SIGCONT.
    pub fn thaw(&self) {
        self.send(Signal::CONT);
    }

    /// Whether it runs; a frozen process does.
    pub fn is_running(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// The last lines of its log.
    pub fn last_words(&self, lines: usize) -> String {
        let log = std::fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let all: Vec<&str> = log.lines().collect();
        all[all.len().saturating_sub(lines)..].join("\n")
    }

    /// The file of its log.
    pub fn log_file(&self) -> PathBuf {
        self.hosts.folder().join(format!("{}.log", self.name))
    }

    /// A folder of its own.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn own_folder(hosts: &Hosts, name: &str) -> io::Result<PathBuf> {
        let folder = hosts.folder().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    fn send(&self, signal: Signal) {
        let id = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok()).and_then(Pid::from_raw);
        if let Some(id) = id {
            // A process that has ended needs no signal.
            let _ = kill_process(id, signal);
        }
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.kill();
    }
}

fn spawn(command: &mut Command, name: &str) -> io::Result<Child> {
    command.spawn().map_err(|error| {
        let program = Path::new(command.get_program()).display();
        io::Error::new(error.kind(), format!("{name} cannot be started by {program}: {error}"))
    })
}
