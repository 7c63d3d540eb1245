//! What Redis itself does on this machine: the smallest script, and the batch script by itself.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use super::{Error, cost::scripts, fill, table::Row};
use crate::harness::redis::RedisServer;

/// How many calls are sent before their answers are read.
const PIPELINED: usize = 64;
/// Leases taken by one call of the batch script.
const BATCHES: [usize; 4] = [1, 16, 64, 256];

/// The smallest script, alone and pipelined.
pub(super) fn smallest_script(length: Duration) -> Result<Vec<Row>, Error> {
    let server = RedisServer::start()?;
    let mut line = server.connect()?;
    let hash: String = redis::cmd("SCRIPT").arg("LOAD").arg("return 1").query(&mut line)?;
    let call = redis::cmd("EVALSHA").arg(&hash).arg(0).clone();
    let mut rows = Vec::new();
    for (name, at_once) in [("redis/evalsha/alone", 1), ("redis/evalsha/pipelined", PIPELINED)] {
        let mut pipe = redis::pipe();
        for _ in 0..at_once {
            pipe.add_command(call.clone());
        }
        let (mut times, before) = (Vec::new(), scripts(&mut line)?);
        let started = Instant::now();
        while started.elapsed() < length {
            let sent = Instant::now();
            let answers: Vec<i64> = pipe.query(&mut line)?;
            times.push(sent.elapsed());
            if answers.len() != at_once {
                return Err("Redis left calls unanswered".into());
            }
        }
        rows.push(row(name, at_once, times, started.elapsed(), before, scripts(&mut line)?, at_once));
    }
    Ok(rows)
}

/// The batch script called without a broker, one call after the other.
pub(super) async fn batch_script(folder: &Path, keys: usize, length: Duration) -> Result<Vec<Row>, Error> {
    let server = RedisServer::start()?;
    let catalogue = folder.join("keybroker.toml");
    super::target::write_catalogue(&catalogue, keys)?;
    let mut filled = fill::redis(&server.url(), &catalogue).await?;
    let mut line = server.connect()?;
    let mut rows = Vec::new();
    for leases in BATCHES {
        let (mut times, before) = (Vec::new(), scripts(&mut line)?);
        let started = Instant::now();
        while started.elapsed() < length {
            let sent = Instant::now();
            filled.take(leases, 0).await?;
            times.push(sent.elapsed());
        }
        let name = format!("redis/batch-script/{leases}");
        rows.push(row(&name, 1, times, started.elapsed(), before, scripts(&mut line)?, leases));
        if let Some(row) = rows.last_mut() {
            row.keys = Some(keys);
        }
    }
    Ok(rows)
}

fn row(
    name: &str,
    calls_each: usize,
    mut times: Vec<Duration>,
    elapsed: Duration,
    before: (f64, f64),
    after: (f64, f64),
    done_each: usize,
) -> Row {
    times.sort_unstable();
    let at = |part: usize| times.get(times.len() * part / 100).map_or(0.0, |time| time.as_secs_f64() * 1e6);
    let done = (times.len() * done_each) as f64;
    Row {
        name: name.to_owned(),
        rate: Some(done / elapsed.as_secs_f64()),
        p50: Some(at(50)),
        p99: Some(at(99)),
        calls_per_lease: Some(calls_each as f64 / done_each as f64),
        script_per_lease: Some((after.1 - before.1) / done),
        ..Row::default()
    }
}
