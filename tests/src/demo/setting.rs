//! Everything but the workers: the fake Gemini, the Redis and the brokers, each a process of its own.

use std::{
    fmt::Write as _,
    io::{self, BufRead, BufReader},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;

use super::options::Options;
use crate::{
    fake_gemini::{FakeGeminiConfig, config::ANY},
    harness::{
        broker::{BrokerOptions, BrokerProcess},
        guard::Guard,
        process::Process,
        redis::RedisServer,
    },
};

/// How many lines of a broker's log are shown if it ends.
const LAST_WORDS: usize = 5;

/// What the demo runs on. Dropping it ends all of it, the guard first: it has nothing left to do then.
#[derive(Debug)]
pub struct Setting {
    guard: Guard,
    /// The brokers.
    pub brokers: Vec<BrokerProcess>,
    redis: Option<RedisServer>,
    fake: Process,
    /// Where the fake Gemini is.
    pub gemini: String,
    // Last, since the others work in it.
    folder: TempDir,
}

impl Setting {
    /// Starts everything and waits until it serves.
    ///
    /// # Errors
    /// If a part is missing or does not start; the text says what to do.
    pub fn start(options: &Options) -> io::Result<Self> {
        for name in ["keybroker", "fake-gemini", "worker"] {
            built(name)?;
        }
        let mut guard = Guard::start()?;
        let folder = TempDir::with_prefix("keybroker-demo")?;
        let (fake, gemini) = start_fake(options, &folder)?;
        guard.process(fake.id())?;
        let redis = if options.redis { Some(start_redis()?) } else { None };
        let mut setting = Self { guard, brokers: Vec::new(), redis, fake, gemini, folder };
        if let Some(redis) = &mut setting.redis {
            setting.guard.process(redis.process().id())?;
        }
        setting.start_brokers(options)?;
        Ok(setting)
    }

    fn start_brokers(&mut self, options: &Options) -> io::Result<()> {
        let folder = self.folder.path();
        let config = folder.join("keybroker.toml");
        std::fs::write(&config, broker_config(options))?;
        let start = BrokerOptions::default().arg("--config", config.display().to_string());
        let start = match &self.redis {
            Some(redis) => start.arg("--redis-url", redis.url()),
            None => start.arg("--data-dir", folder.join("ledger").display().to_string()),
        };
        for _ in 0..options.broker_count() {
            let mut broker = BrokerProcess::start(&start)?;
            self.guard.process(broker.process().id())?;
            self.brokers.push(broker);
        }
        Ok(())
    }

    /// The brokers' gRPC addresses.
    pub fn broker_urls(&self) -> Vec<String> {
        self.brokers.iter().map(BrokerProcess::url).collect()
    }

    /// Puts a process under guard: it ends with the demo, also if that is killed.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn watch(&mut self, process: u32) -> io::Result<()> {
        self.guard.process(process)
    }

    /// Checks that all of it still runs.
    ///
    /// # Errors
    /// If a process has ended; the text says which.
    pub fn check(&mut self) -> io::Result<()> {
        if !self.fake.is_running() {
            return Err(io::Error::other("the fake Gemini has ended"));
        }
        if self.redis.as_mut().is_some_and(|redis| !redis.process().is_running()) {
            return Err(io::Error::other("redis-server has ended"));
        }
        for broker in &mut self.brokers {
            if !broker.process().is_running() {
                let log = broker.log();
                let last = log.lines().rev().take(LAST_WORDS).collect::<Vec<_>>();
                let last = last.into_iter().rev().collect::<Vec<_>>().join("\n");
                return Err(io::Error::other(format!("a broker has ended; its log ended so:\n{last}")));
            }
        }
        Ok(())
    }
}

/// The name of a project and the id and text of its key; nobody could take the text for a real one.
pub fn project(number: u64) -> [String; 3] {
    [format!("project-{number}"), format!("key-{number}"), format!("fake-demo-key-{number:04}")]
}

/// Where a program of this workspace is: beside this one, or one folder above for tests.
///
/// # Errors
/// If it was not built.
pub fn built(name: &str) -> io::Result<PathBuf> {
    let here = std::env::current_exe()?;
    let found = here.ancestors().skip(1).take(2).map(|folder| folder.join(name)).find(|path| path.is_file());
    found.ok_or_else(|| {
        io::Error::new(io::ErrorKind::NotFound, format!("{name} is not built: run `make build`"))
    })
}

fn start_redis() -> io::Result<RedisServer> {
    RedisServer::start().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => io::Error::new(
            io::ErrorKind::NotFound,
            "redis-server is not installed: `make setup` installs it; without --redis the demo needs none",
        ),
        _ => error,
    })
}

fn start_fake(options: &Options, folder: &TempDir) -> io::Result<(Process, String)> {
    let mut config = FakeGeminiConfig::default().with_limits(ANY, ANY, options.limits());
    for number in 1..=options.projects {
        let [project, _, secret] = project(number);
        config = config.with_key(&secret, &project);
    }
    let path = folder.path().join("fake-gemini.json");
    std::fs::write(&path, serde_json::to_string(&config)?)?;
    let mut command = Command::new(built("fake-gemini")?);
    command.arg("--config").arg(&path).stdout(Stdio::piped()).stderr(Stdio::null());
    // A Ctrl-C at the terminal is for the demo alone, which still asks it what it saw.
    command.process_group(0);
    let mut fake = Process::start("fake-gemini", &mut command)?;
    let stdout = fake.child().stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
    match ready["listening"].as_str() {
        Some(address) => Ok((fake, format!("http://{address}"))),
        None => Err(io::Error::other("the fake Gemini does not start")),
    }
}

/// The brokers' configuration: the same limits as the fake Gemini's, which both take from the options. The
/// limit in flight is one that is never reached; it has the ledger count what is in flight.
fn broker_config(options: &Options) -> String {
    let Options { rpm, tpm, .. } = options;
    let mut text = String::new();
    for number in 1..=options.projects {
        let [project, key, secret] = project(number);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[[projects]]\nid = \"{project}\"\nkeys = [{{ id = \"{key}\", secret = \"{secret}\" }}]\n\
             limits = [{{ model = \"*\", requests_per_minute = {rpm}, input_tokens_per_minute = {tpm}, \
             in_flight = 100000 }}]\n\n"
        );
    }
    text
}
