//! Child processes that end with their owner, and free ports.

use std::{
    io,
    net::TcpListener,
    ops::Range,
    process::{Child, Command, ExitStatus},
    time::{Duration, Instant},
};

/// A child process that is killed when this is dropped.
#[derive(Debug)]
pub struct Process {
    child: Child,
    name: String,
}

impl Process {
    /// Starts the command.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(name: &str, command: &mut Command) -> io::Result<Self> {
        let child = command
            .spawn()
            .map_err(|error| io::Error::new(error.kind(), format!("{name} cannot be started: {error}")))?;
        Ok(Self { child, name: name.to_owned() })
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The child itself, for its pipes.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Sends SIGKILL and waits.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Sends a signal by its name, such as `TERM`.
    ///
    /// # Errors
    /// If `kill` cannot be run.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        Command::new("kill").arg(format!("-{signal}")).arg(self.id().to_string()).status().map(|_| ())
    }

    /// Waits for the end, for at most this long.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<ExitStatus> {
        let until = Instant::now() + at_most;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if Instant::now() > until {
                return Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    format!("{} did not end in {at_most:?}", self.name),
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Ports below those that Linux and macOS give to outgoing connections (from 32768), so that no connection of
/// another test's can take one between its choice and its use.
const PORTS: Range<u16> = 15_000..32_000;

/// A port on loopback that was free a moment ago.
///
/// # Errors
/// If there is none.
pub fn free_port() -> io::Result<u16> {
    let mut bound = Err(io::Error::from(io::ErrorKind::AddrInUse));
    for _ in 0..100 {
        bound = TcpListener::bind(("127.0.0.1", rand::random_range(PORTS)));
        if bound.is_ok() {
            break;
        }
    }
    Ok(bound?.local_addr()?.port())
}

/// Asks until the answer is yes, for at most this long.
pub fn wait_until(at_most: Duration, mut ask: impl FnMut() -> bool) -> bool {
    let until = Instant::now() + at_most;
    loop {
        if ask() {
            return true;
        }
        if Instant::now() > until {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}
