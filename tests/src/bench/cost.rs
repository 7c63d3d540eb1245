//! What a stretch of time cost the processes behind a target, beside the time itself.

use std::{ops::AddAssign, path::PathBuf, sync::Mutex};

use serde::Serialize;

use super::Error;

/// Ticks of processor time in a second, as Linux shows them to programs.
const TICKS: f64 = 100.0;

/// How many leases are looked at to know their size.
const SAMPLES: u32 = 1000;

/// The processes and files that work for a target.
pub(super) struct Meter {
    server: u32,
    redis: Option<(u32, Mutex<redis::Connection>)>,
    file: Option<PathBuf>,
}

/// What was used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(super) struct Cost {
    /// Processor time of the server, in microseconds.
    pub server_cpu: f64,
    /// Processor time of Redis, in microseconds.
    pub redis_cpu: f64,
    /// Script calls.
    pub calls: f64,
    /// Time within scripts, in microseconds.
    pub script: f64,
    /// Bytes of the embedded ledger's file.
    pub file: f64,
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        self.server_cpu += other.server_cpu;
        self.redis_cpu += other.redis_cpu;
        self.calls += other.calls;
        self.script += other.script;
        self.file += other.file;
    }
}

impl Cost {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            server_cpu: self.server_cpu - before.server_cpu,
            redis_cpu: self.redis_cpu - before.redis_cpu,
            calls: self.calls - before.calls,
            script: self.script - before.script,
            file: self.file - before.file,
        }
    }
}

impl Meter {
    pub(super) fn of_process(server: u32) -> Self {
        Self { server, redis: None, file: None }
    }

    pub(super) fn with_redis(self, process: u32, connection: redis::Connection) -> Self {
        Self { redis: Some((process, Mutex::new(connection))), ..self }
    }

    pub(super) fn with_file(self, path: PathBuf) -> Self {
        Self { file: Some(path), ..self }
    }

    /// What was used since the start.
    pub(super) fn read(&self) -> Result<Cost, Error> {
        let mut cost = Cost { server_cpu: cpu(self.server)?, ..Cost::default() };
        if let Some((process, connection)) = &self.redis {
            let mut connection = connection.lock().map_err(|_| "a reader of the meter panicked")?;
            cost.redis_cpu = cpu(*process)?;
            (cost.calls, cost.script) = scripts(&mut connection)?;
        }
        if let Some(path) = &self.file {
            cost.file = std::fs::metadata(path)?.len() as f64;
        }
        Ok(cost)
    }

    /// The server's own memory in bytes: without the pages of its program, which the kernel may let go.
    pub(super) fn own_memory(&self) -> Result<f64, Error> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.server))?;
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
        let kilobytes: f64 = line.ok_or("no RssAnon in /proc")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kilobytes * 1024.0)
    }

    /// The bytes that a lease holds in Redis, by samples of those that are there. The memory of the
    /// whole server would not say it: windows grow and shrink meanwhile.
    pub(super) fn bytes_per_lease(&self) -> Result<Option<f64>, Error> {
        let Some((_, connection)) = &self.redis else { return Ok(None) };
        let mut connection = connection.lock().map_err(|_| "a reader of the meter panicked")?;
        let leases: f64 = redis::cmd("HLEN").arg("kb:{default}:leases").query(&mut *connection)?;
        let mut bytes = 0.0;
        for key in ["kb:{default}:leases", "kb:{default}:forget"] {
            let usage = redis::cmd("MEMORY")
                .arg("USAGE")
                .arg(key)
                .arg("SAMPLES")
                .arg(SAMPLES)
                .query(&mut *connection)?;
            bytes += Option::<f64>::unwrap_or_default(usage);
        }
        Ok((leases > 0.0).then(|| bytes / leases))
    }
}

/// How often scripts ran in a server, and for how many microseconds in all.
pub(super) fn scripts(connection: &mut redis::Connection) -> Result<(f64, f64), Error> {
    let line = info(connection, "commandstats", "cmdstat_evalsha:").unwrap_or_default();
    let field = |name: &str| -> Result<f64, Error> {
        let found = line.split(',').find_map(|field| field.strip_prefix(name));
        Ok(found.map(str::parse).transpose()?.unwrap_or(0.0))
    };
    Ok((field("calls=")?, field("usec=")?))
}

fn info(connection: &mut redis::Connection, section: &str, field: &str) -> Result<String, Error> {
    let text: String = redis::cmd("INFO").arg(section).query(connection)?;
    let found = text.lines().find_map(|line| line.strip_prefix(field));
    Ok(found.ok_or_else(|| format!("INFO {section} does not say {field}"))?.trim().to_owned())
}

/// Processor time of a process in microseconds.
fn cpu(process: u32) -> Result<f64, Error> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold spaces; what follows it does not.
    let (_, rest) = stat.rsplit_once(')').ok_or("an unreadable /proc entry")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks: f64 = fields.get(11).ok_or("a short /proc entry")?.parse::<f64>()?
        + fields.get(12).ok_or("a short /proc entry")?.parse::<f64>()?;
    Ok(ticks / TICKS * 1e6)
}
