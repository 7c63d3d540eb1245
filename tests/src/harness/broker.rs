//! Real broker processes on ports of their own.

use std::{
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use super::process::Process;

/// How long a broker may take until it serves.
const START_PATIENCE: Duration = Duration::from_secs(20);

/// A running `keybroker serve`; it is killed when this is dropped.
#[derive(Debug)]
pub struct BrokerProcess {
    process: Process,
    /// The gRPC address, such as `127.0.0.1:40051`.
    pub grpc: String,
    /// The HTTP address.
    pub http: String,
    log: Arc<Mutex<String>>,
}

/// How a broker is started.
#[derive(Debug, Default, Clone)]
pub struct BrokerOptions {
    /// Environment variables; nothing but PATH and HOME is inherited.
    pub env: Vec<(String, String)>,
    /// Arguments after `serve`.
    pub args: Vec<String>,
    /// Where it listens for gRPC; none: at a port that the system chooses.
    pub grpc_addr: Option<String>,
    /// Where it listens for HTTP; none: at a port that the system chooses.
    pub http_addr: Option<String>,
    /// The binary; none: the one of this build.
    pub program: Option<PathBuf>,
}

impl BrokerOptions {
    /// Adds an environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Adds an argument and its value.
    #[must_use]
    pub fn arg(mut self, name: &str, value: impl Into<String>) -> Self {
        self.args.extend([name.to_owned(), value.into()]);
        self
    }

    /// Has it listen there for gRPC.
    #[must_use]
    pub fn at(mut self, address: &str) -> Self {
        self.grpc_addr = Some(address.to_owned());
        self
    }

    /// Has it listen there for HTTP.
    #[must_use]
    pub fn http_at(mut self, address: &str) -> Self {
        self.http_addr = Some(address.to_owned());
        self
    }

    /// Has it be another binary.
    #[must_use]
    pub fn program(mut self, program: &Path) -> Self {
        self.program = Some(program.to_owned());
        self
    }

    /// The command, with ports chosen by the system and a log of JSON lines.
    pub fn command(&self) -> Command {
        let mut command = Command::new(self.program.clone().unwrap_or_else(|| binary("keybroker")));
        command.env_clear();
        for inherited in ["PATH", "HOME"] {
            if let Some(value) = std::env::var_os(inherited) {
                command.env(inherited, value);
            }
        }
        command
            .args([
                "serve",
                "--grpc-addr",
                self.grpc_addr.as_deref().unwrap_or("127.0.0.1:0"),
                "--http-addr",
                self.http_addr.as_deref().unwrap_or("127.0.0.1:0"),
                "--log-format",
                "json",
            ])
            .args(&self.args)
            .envs(self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        command
    }
}

impl BrokerProcess {
    /// Starts a broker and waits until it serves.
    ///
    /// # Errors
    /// If it does not serve in time; the text holds its log.
    pub fn start(options: &BrokerOptions) -> io::Result<Self> {
        let mut process =
            Process::start("keybroker", options.command().stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let stderr =
            process.child().stderr.take().ok_or_else(|| io::Error::other("standard error is piped"))?;
        let log = Arc::new(Mutex::new(String::new()));
        let (serving, served) = mpsc::channel();
        std::thread::spawn({
            let log = log.clone();
            move || read_log(stderr, &log, &serving)
        });
        match served.recv_timeout(START_PATIENCE) {
            Ok((grpc, http)) => Ok(Self { process, grpc, http, log }),
            Err(_) => {
                process.kill();
                let log = log.lock().map_or_else(|_| String::new(), |log| log.clone());
                Err(io::Error::other(format!("keybroker does not serve:\n{log}")))
            }
        }
    }

    /// Runs a broker that is expected to end by itself: its exit code and what it wrote.
    ///
    /// # Errors
    /// If it does not end in time.
    pub fn run_to_end(options: &BrokerOptions, at_most: Duration) -> io::Result<(Option<i32>, String)> {
        let mut process =
            Process::start("keybroker", options.command().stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let stderr =
            process.child().stderr.take().ok_or_else(|| io::Error::other("standard error is piped"))?;
        let reader = std::thread::spawn(move || {
            let mut text = String::new();
            let _ = BufReader::new(stderr).read_to_string(&mut text);
            text
        });
        let status = process.wait(at_most)?;
        Ok((status.code(), reader.join().unwrap_or_default()))
    }

    /// The address as a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.grpc)
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// What it logged so far.
    pub fn log(&self) -> String {
        self.log.lock().map_or_else(|_| String::new(), |log| log.clone())
    }
}

fn read_log(stderr: impl Read, log: &Mutex<String>, serving: &mpsc::Sender<(String, String)>) {
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if let Ok(entry) = serde_json::from_str::<serde_json::Value>(&line)
            && entry["fields"]["message"] == "serving"
        {
            let field = |name: &str| entry["fields"][name].as_str().unwrap_or_default().to_owned();
            // The starter may have given up waiting.
            let _ = serving.send((field("grpc"), field("http")));
        }
        if let Ok(mut log) = log.lock() {
            log.push_str(&line);
            log.push('\n');
        }
    }
}

/// A binary of this workspace, beside the one that runs now.
///
/// # Panics
/// If it was not built: `make build` builds all of them.
pub fn binary(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let folders = here.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("{name} is not built; run `make build` first"))
}

/// An example of the Rust SDK, which is built beside the binaries.
///
/// # Panics
/// If it was not built: `make test` builds all of them, as does `cargo build --workspace --all-targets`.
pub fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a running program has a path");
    let folders = here.ancestors().skip(1).take(2);
    let found = folders.map(|folder| folder.join("examples").join(name)).find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("the example {name} is not built; run `cargo build --workspace --all-targets` first")
    })
}
