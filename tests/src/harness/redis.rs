//! A private redis-server on a port and in a folder of its own.

use std::{
    io,
    process::{Command, Stdio},
    time::Duration,
};

use tempfile::TempDir;

use super::process::{Process, free_port, wait_until};

/// A running redis-server; it ends when this is dropped.
#[derive(Debug)]
pub struct RedisServer {
    process: Process,
    port: u16,
    folder: TempDir,
    password: Option<String>,
    arguments: Vec<String>,
    env: Vec<(String, String)>,
}

impl RedisServer {
    /// Starts a server that keeps nothing on disk.
    ///
    /// # Errors
    /// If redis-server is not installed or does not answer.
    pub fn start() -> io::Result<Self> {
        Self::start_with(None, &[])
    }

    /// Starts a server with a password and with further arguments.
    ///
    /// # Errors
    /// As [`RedisServer::start`].
    pub fn start_with(password: Option<&str>, arguments: &[&str]) -> io::Result<Self> {
        let mut last = io::Error::other("redis-server was not tried");
        // Another process may take the port before redis-server does.
        for _ in 0..5 {
            match Self::try_start(password, arguments) {
                Ok(server) => return Ok(server),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn try_start(password: Option<&str>, arguments: &[&str]) -> io::Result<Self> {
        let folder = TempDir::with_prefix("keybroker-redis")?;
        let port = free_port()?;
        let password = password.map(str::to_owned);
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let process = launch(port, folder.path(), password.as_deref(), &arguments, &[])?;
        let server = Self { process, port, folder, password, arguments, env: Vec::new() };
        // The server of another test may have taken the port, and answer while this one is about to end.
        let info: redis::RedisResult<String> =
            server.connect().and_then(|mut line| redis::cmd("INFO").arg("server").query(&mut line));
        let own = format!("process_id:{}", server.process.id());
        if !info.is_ok_and(|info| info.lines().any(|line| line == own)) {
            return Err(io::Error::other("another redis-server has the port"));
        }
        Ok(server)
    }

    /// Kills it as a crash would; what it has on disk stays.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again on the same port, with what is in its folder.
    ///
    /// # Errors
    /// If it does not answer.
    pub fn start_again(&mut self) -> io::Result<()> {
        let password = self.password.as_deref();
        self.process = launch(self.port, self.folder.path(), password, &self.arguments, &self.env)?;
        Ok(())
    }

    /// Gives it variables from its next start on.
    pub fn set_env(&mut self, env: impl IntoIterator<Item = (&'static str, String)>) {
        self.env = env.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    }

    /// The port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The folder it runs in.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// The URL a broker is given.
    pub fn url(&self) -> String {
        let user = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        format!("redis://{user}127.0.0.1:{}", self.port)
    }

    /// A blocking connection.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn connect(&self) -> redis::RedisResult<redis::Connection> {
        redis::Client::open(self.url())?.get_connection()
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }
}

fn launch(
    port: u16,
    folder: &std::path::Path,
    password: Option<&str>,
    arguments: &[String],
    env: &[(String, String)],
) -> io::Result<Process> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .arg("--dir")
        .arg(folder)
        .args(arguments)
        .envs(env.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(password) = password {
        command.args(["--requirepass", password]);
    }
    let mut process = Process::start("redis-server", &mut command)?;
    let server_url = format!("redis://127.0.0.1:{port}");
    let answers = wait_until(Duration::from_secs(10), || {
        !process.is_running()
            || redis::Client::open(server_url.as_str()).is_ok_and(|client| client.get_connection().is_ok())
    });
    if !answers || !process.is_running() {
        return Err(io::Error::other("redis-server does not answer"));
    }
    Ok(process)
}
