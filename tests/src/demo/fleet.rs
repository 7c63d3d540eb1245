//! The worker processes, as the demo holds them.

use std::{
    io::{self, BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    process::{ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use super::{options::Options, setting::built, tally::Tally};
use crate::harness::process::Process;

/// How long a worker may take from the end of its input to its own.
const END_PATIENCE: Duration = Duration::from_secs(15);

/// A running worker; it is killed when this is dropped.
#[derive(Debug)]
struct Member {
    process: Process,
    input: Option<ChildStdin>,
    tally: Arc<Mutex<Tally>>,
    reader: Option<JoinHandle<()>>,
}

/// All workers.
#[derive(Debug)]
pub struct Fleet {
    members: Vec<Member>,
}

impl Fleet {
    /// Starts the workers, in turns on the brokers. They ask nothing before [`Fleet::begin`].
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn start(options: &Options, brokers: &[String], gemini: &str) -> io::Result<Self> {
        let pace = options.pace().as_micros().max(1).to_string();
        let members = brokers.iter().cycle().take(options.workers as usize).map(|broker| {
            let mut command = Command::new(built("worker")?);
            command
                .args(["--broker", broker, "--gemini", gemini, "--pace-micros", &pace])
                .args(["--tasks", &options.tasks.to_string()])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::null())
                // A Ctrl-C at the terminal is for the demo alone, which then ends them in good order.
                .process_group(0);
            let mut process = Process::start("worker", &mut command)?;
            let input = process.child().stdin.take();
            let output = process.child().stdout.take().ok_or(io::ErrorKind::BrokenPipe)?;
            let tally = Arc::<Mutex<Tally>>::default();
            let reader = std::thread::spawn({
                let tally = Arc::clone(&tally);
                move || {
                    for line in BufReader::new(output).lines().map_while(Result::ok) {
                        if let Ok(told) = serde_json::from_str(&line) {
                            *tally.lock().unwrap_or_else(PoisonError::into_inner) = told;
                        }
                    }
                }
            });
            Ok(Member { process, input, tally, reader: Some(reader) })
        });
        Ok(Self { members: members.collect::<io::Result<_>>()? })
    }

    /// The process ids.
    pub fn ids(&self) -> impl Iterator<Item = u32> {
        self.members.iter().map(|member| member.process.id())
    }

    /// Lets all workers begin.
    ///
    /// # Errors
    /// If one has ended.
    pub fn begin(&mut self) -> io::Result<()> {
        self.say("begin")
    }

    /// Lets them finish what is under way and ask nothing more.
    ///
    /// # Errors
    /// If one has ended.
    pub fn last_call(&mut self) -> io::Result<()> {
        self.say("last call")
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        for input in self.members.iter_mut().filter_map(|member| member.input.as_mut()) {
            writeln!(input, "{line}")
                .map_err(|error| io::Error::other(format!("a worker has ended: {error}")))?;
            input.flush()?;
        }
        Ok(())
    }

    /// Ends what is still waiting; [`Fleet::wait`] waits for the ends.
    pub fn close(&mut self) {
        self.members.iter_mut().for_each(|member| drop(member.input.take()));
    }

    /// Waits until all workers have ended.
    ///
    /// # Errors
    /// If one does not end in time, or failed.
    pub fn wait(&mut self) -> io::Result<()> {
        let until = Instant::now() + END_PATIENCE;
        for member in &mut self.members {
            let status = member.process.wait(until.saturating_duration_since(Instant::now()))?;
            if !status.success() {
                return Err(io::Error::other(format!("a worker failed: {status}")));
            }
            // Its last words are in the pipe still.
            drop(member.reader.take().map(JoinHandle::join));
        }
        Ok(())
    }

    /// What all workers counted so far.
    pub fn tally(&self) -> Tally {
        let mut sum = Tally::default();
        for member in &self.members {
            sum += &*member.tally.lock().unwrap_or_else(PoisonError::into_inner);
        }
        sum
    }
}
