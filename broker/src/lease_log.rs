//! The lease log: who held which key when, one line of JSON for each lease that was handed out, renewed and settled.
//!
//! A thread of its own writes it, so no lease ever waits for a disk. What that thread cannot keep up with is left out, and
//! the file says how much.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::JoinHandle,
    time::Duration,
};

use serde::Serialize;

use crate::{events::instant, ledger::calendar::wall_clock};

/// How many lines may wait to be written.
const ROOM: usize = 65_536;
/// How long a line may lie before it is written.
const FLUSH_EVERY: Duration = Duration::from_millis(200);

/// What happened to a lease.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// It was handed out.
    Leased,
    /// It lasts longer.
    Renewed,
    /// A report settled it.
    Settled,
}

/// A line of the log. What is empty is left out.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    /// When, by the clock of the broker's host.
    pub at: String,
    /// What happened.
    pub what: What,
    /// To which lease.
    pub lease_id: String,
    /// Its pool.
    pub pool: String,
    /// Its key, by id. Of a report that settled nothing it is not known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub key_id: String,
    /// The key's project.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub project: String,
    /// What it is for.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub quota_model: String,
    /// Who called: the identity, where callers have to say who they are.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub identity: String,
    /// From which address.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub peer: String,
    /// For which consumer.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub consumer: String,
    /// Until when it may be held.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub expires_at: String,
    /// What came of it, such as `ok` or `minute_quota`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub outcome: String,
}

impl Line {
    /// A line about a lease, with nothing but that in it.
    pub fn new(what: What, lease_id: &str, pool: &str) -> Self {
        Self {
            at: instant(wall_clock()),
            what,
            lease_id: lease_id.to_owned(),
            pool: pool.to_owned(),
            key_id: String::new(),
            project: String::new(),
            quota_model: String::new(),
            identity: String::new(),
            peer: String::new(),
            consumer: String::new(),
            expires_at: String::new(),
            outcome: String::new(),
        }
    }
}

/// The log.
#[derive(Debug)]
pub struct LeaseLog {
    sender: Option<SyncSender<Message>>,
    left_out: Arc<AtomicU64>,
    writer: Option<JoinHandle<()>>,
}

#[derive(Debug)]
enum Message {
    Line(Box<Line>),
    /// The file may have been renamed: open it anew.
    Reopen,
}

impl LeaseLog {
    /// Opens the file, which is appended to.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn open(path: PathBuf) -> io::Result<Self> {
        let file = append(&path)?;
        let (sender, receiver) = sync_channel(ROOM);
        let left_out = Arc::new(AtomicU64::new(0));
        let writer = std::thread::Builder::new().name("lease-log".to_owned()).spawn({
            let left_out = left_out.clone();
            move || Writer { path, file: BufWriter::new(file), left_out, failing: false }.run(&receiver)
        })?;
        Ok(Self { sender: Some(sender), left_out, writer: Some(writer) })
    }

    /// Writes a line, soon. It neither waits nor fails.
    pub fn write(&self, line: Line) {
        let sent = self.sender.as_ref().map(|sender| sender.try_send(Message::Line(Box::new(line))));
        if !matches!(sent, Some(Ok(()))) {
            self.left_out.fetch_add(1, Relaxed);
        }
    }

    /// Opens the file anew, for whoever renames it.
    pub fn reopen(&self) {
        let _ = self.sender.as_ref().map(|sender| sender.try_send(Message::Reopen));
    }
}

impl Drop for LeaseLog {
    /// Writes what is left.
    fn drop(&mut self) {
        drop(self.sender.take());
        if let Some(writer) = self.writer.take() {
            let _ = writer.join();
        }
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    left_out: Arc<AtomicU64>,
    failing: bool,
}

impl Writer {
    fn run(mut self, receiver: &Receiver<Message>) {
        loop {
            let done = match receiver.recv_timeout(FLUSH_EVERY) {
                Ok(Message::Line(line)) => self.line(&line),
                Ok(Message::Reopen) => self.file.flush().and_then(|()| {
                    self.file = BufWriter::new(append(&self.path)?);
                    Ok(())
                }),
                Err(RecvTimeoutError::Timeout) => self.settle(),
                Err(RecvTimeoutError::Disconnected) => {
                    let _ = self.settle();
                    return;
                }
            };
            match done {
                Err(error) if !self.failing => {
                    self.failing = true;
                    tracing::error!(%error, "the lease log cannot be written; leases go on without it");
                }
                Ok(()) if self.failing => {
                    self.failing = false;
                    tracing::info!("the lease log is written again");
                }
                _ => {}
            }
        }
    }

    fn line(&mut self, line: &Line) -> io::Result<()> {
        let written = self.write_json(line);
        if written.is_err() {
            self.left_out.fetch_add(1, Relaxed);
        }
        written
    }

    fn write_json(&mut self, value: &impl Serialize) -> io::Result<()> {
        let mut text = serde_json::to_vec(value)?;
        text.push(b'\n');
        self.file.write_all(&text)
    }

    /// Says what was left out, and has all of it written.
    fn settle(&mut self) -> io::Result<()> {
        let left_out = self.left_out.swap(0, Relaxed);
        if left_out > 0 {
            let at = instant(wall_clock());
            let told = serde_json::json!({ "at": at, "what": "left_out", "lines": left_out });
            if let Err(error) = self.write_json(&told) {
                self.left_out.fetch_add(left_out, Relaxed);
                return Err(error);
            }
        }
        self.file.flush()
    }
}

/// Nobody but its owner may read a file that is made here.
fn append(path: &PathBuf) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}
