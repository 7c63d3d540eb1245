//! The task that watches over a pool's ledger: it tells that this broker is there, finds a server that was restarted
//! or promoted, and takes part in its recovery.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use tokio::time::{sleep, timeout};

use super::{
    Durability, Shared, encode, keyspace, of_call,
    script::{self, wait},
    watched::{Catalogue, Standing, Watched},
};
use crate::{
    ledger::{
        CommonSpec, FOREVER, LedgerError, Millis, Renew, Settle,
        calendar::{Calendar, wall_clock},
    },
    redis_servers::Line,
};

/// How often a broker says that it is there.
const BEAT_EVERY: Duration = Duration::from_secs(1);
/// How often it is tried again when Redis does not answer, and asked how far a recovery has come.
const AGAIN: Duration = Duration::from_millis(200);
/// How many leases one call puts back.
const PIECE: usize = 200;
/// For how long a recovery that was waited for is told without an end.
const SHORT_RECOVERY: i64 = 5_000;

/// What one call to `lua/replay.lua` is given.
type Replay<'a> = (
    &'a str,
    Millis,
    &'a [Millis],
    &'a [Millis],
    &'a [String],
    &'a [Settle],
    &'a [Renew],
    &'a [super::journal::Granted],
    &'a [CommonSpec],
);

/// How a recovery stands.
enum Recovery {
    Blessed,
    Waiting { kept_until: Millis, replayed_by_all: i64, until: Millis },
}

impl Shared {
    /// Begins to watch over a pool's ledger, if that was not begun before.
    pub(super) fn watch_over(self: &Arc<Self>, pool: &str, catalogue: Catalogue, made: bool) {
        let mut pools = self.pools.lock().expect("no holder of this lock panics");
        let horizon =
            self.foreseen.lock().expect("no holder of this lock panics").remove(pool).unwrap_or_default();
        if let Some(watched) = pools.get(pool) {
            watched.opened(catalogue);
            watched.foresee(&horizon);
            return;
        }
        let watched = Arc::new(Watched::new(pool, catalogue, made));
        watched.foresee(&horizon);
        let task = tokio::spawn(keep(Arc::downgrade(self), Arc::downgrade(&watched)));
        *watched.task.lock().expect("no holder of this lock panics") = Some(task.abort_handle());
        pools.insert(pool.to_owned(), watched);
    }

    /// Says of every pool that this broker ends in order.
    pub(super) async fn leave(&self) -> Result<(), LedgerError> {
        let all: Vec<Arc<Watched>> =
            self.pools.lock().expect("no holder of this lock panics").values().cloned().collect();
        for watched in all {
            if let Some(task) = watched.task.lock().expect("no holder of this lock panics").take() {
                task.abort();
            }
            let keys = &keyspace::recovery_keys(&watched.pool);
            let ledger_id = &watched.ledger_id();
            let ask = |mut line: Line| async move {
                let arguments = [ledger_id.as_bytes(), line.server.run.as_bytes(), self.broker.as_bytes()];
                script::LEAVE.run::<()>(&mut line.connection, &keys[..2], &arguments).await
            };
            self.call(&keys[0], ask).await?;
        }
        Ok(())
    }

    /// Waits no more for days and months whose counts are lost, nor for replicas that are gone; whether it did.
    pub(super) async fn accept_loss(&self, pool: &str) -> Result<bool, LedgerError> {
        let keys = &keyspace::recovery_keys(pool);
        let ask = |mut line: Line| async move {
            let replicas = line.state().await?.replicas.to_string();
            script::ACCEPT.run::<i64>(&mut line.connection, keys, &[replicas.as_bytes()]).await
        };
        Ok(self.call(&keys[0], ask).await? == 1)
    }

    /// Says that this broker is there, and takes in how the ledger stands.
    async fn say_there(&self, watched: &Watched) -> Result<(), LedgerError> {
        let keys = keyspace::recovery_keys(&watched.pool);
        let line = self.servers.line(&keys[0]).await.map_err(of_call)?;
        let server = match timeout(self.servers.deadline(), line.state()).await {
            Ok(Ok(server)) if server.run == line.server.run => Ok(server),
            Ok(Ok(_)) => Err("the server's history is another one now".to_owned()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        };
        let server = server.map_err(|why| {
            self.servers.distrust(&line.address);
            LedgerError::Unavailable(why)
        })?;
        // Whether replicas are gone for good is asked only where they are missed.
        let left = match watched.standing() {
            Standing::Short { .. } => self.servers.replicas_in_being(&line).await.unwrap_or(-1),
            _ => -1,
        };
        let (keys, ledger_id) = (&keys, &watched.ledger_id());
        let (there, left) = (&server.replicas.to_string(), &left.to_string());
        let ask = |mut line: Line| async move {
            let arguments = [
                ledger_id.as_bytes(),
                line.server.run.as_bytes(),
                self.broker.as_bytes(),
                there.as_bytes(),
                left.as_bytes(),
            ];
            let answer: Vec<String> = self.beat.run(&mut line.connection, &keys[..2], &arguments).await?;
            let acks = answer.get(1).and_then(|acks| acks.parse().ok()).unwrap_or(0);
            let acknowledged =
                if acks > 0 { wait(&mut line.connection, acks, self.ack_time()).await? } else { 0 };
            Ok((answer, acks, acknowledged))
        };
        let asked = Instant::now();
        let (answer, acks, acknowledged) = self.call(&keys[0], ask).await?;
        let answered = Instant::now();
        let now = answer.first().and_then(|now| now.parse().ok()).unwrap_or(0);
        let brokers = answer.get(2..).unwrap_or_default().chunks_exact(2);
        let brokers =
            brokers.filter_map(|pair| Some((pair[0].clone(), pair[1].parse::<f64>().ok()? as Millis)));
        let others = brokers.filter(|(broker, _)| *broker != self.broker).collect();
        watched.beaten(now, acks, others, (asked, answered));
        match watched.standing() {
            _ if acknowledged < acks => {
                watched.set_standing(Standing::Short { acks, acknowledged });
                self.servers.distrust(&line.address);
            }
            Standing::Well => {}
            _ => {
                tracing::info!(pool = watched.pool, "leases are granted again");
                watched.set_standing(Standing::Well);
            }
        }
        Ok(())
    }

    /// Takes part in the recovery of a pool's ledger until it is blessed.
    async fn recover_ledger(&self, watched: &Watched) -> Result<(), LedgerError> {
        self.check_memory(&keyspace::recovery_keys(&watched.pool)[0]).await?;
        tracing::warn!(
            pool = watched.pool,
            "Redis was restarted, or a replica was promoted: nothing is leased until what it lacks is put back"
        );
        let (mut replayed, mut run, mut left_out) = (0, String::new(), false);
        loop {
            let line =
                self.servers.line(&keyspace::recovery_keys(&watched.pool)[0]).await.map_err(of_call)?;
            if line.server.run != run {
                (replayed, run, left_out) = (0, line.server.run.clone(), false);
            }
            match self.recover_step(watched, replayed, left_out).await? {
                Recovery::Blessed => return Ok(()),
                Recovery::Waiting { kept_until, .. } if replayed == 0 => {
                    self.put_back_shards(watched).await?;
                    self.put_back_leases(watched, kept_until).await?;
                    replayed = 1;
                }
                // Reports to one broker of leases of another can be put back once those leases are.
                Recovery::Waiting { kept_until, replayed_by_all, .. }
                    if replayed == 1 && replayed_by_all >= 1 =>
                {
                    left_out = self.put_back_leases(watched, kept_until).await? > 0;
                    replayed = 2;
                }
                Recovery::Waiting { until, .. } => {
                    let left = until - wall_clock();
                    let until = (left > SHORT_RECOVERY)
                        .then(|| Instant::now() + Duration::from_millis(left.unsigned_abs()));
                    watched.set_standing(Standing::Recovering { until });
                    sleep(AGAIN).await;
                }
            }
        }
    }

    async fn recover_step(
        &self,
        watched: &Watched,
        replayed: u8,
        left_out: bool,
    ) -> Result<Recovery, LedgerError> {
        let keys = &keyspace::recovery_keys(&watched.pool);
        let memory = &watched.memory(&Calendar::around(wall_clock()));
        let ask = |mut line: Line| async move {
            let server = line.state().await?;
            let mut arguments = vec![
                memory.catalogue.ledger_id.clone(),
                line.server.run.clone(),
                self.broker.clone(),
                replayed.to_string(),
                memory.watched_from.to_string(),
                memory.last_seen.to_string(),
                if left_out { FOREVER } else { memory.cut }.to_string(),
                server.uptime.as_millis().to_string(),
                memory.trailing.to_string(),
                memory.calendar.to_string(),
                memory.calendar_from.to_string(),
                server.replicas.to_string(),
                memory.catalogue.digest.clone(),
                memory.catalogue.generation.to_string(),
                i32::from(server.appends).to_string(),
            ];
            for (broker, heard) in &memory.brokers {
                arguments.extend([broker.clone(), heard.to_string()]);
            }
            let arguments: Vec<&[u8]> = arguments.iter().map(String::as_bytes).collect();
            self.recover.run::<Vec<String>>(&mut line.connection, keys, &arguments).await
        };
        let answer = self.call(&keys[0], ask).await?;
        let number =
            |index: usize| answer.get(index).and_then(|text: &String| text.parse().ok()).unwrap_or(0);
        Ok(match answer.first().map(String::as_str) {
            Some("blessed") => Recovery::Blessed,
            _ => Recovery::Waiting { kept_until: number(1), replayed_by_all: number(2), until: number(3) },
        })
    }

    /// Puts back candidates and limits, without which no lease can be.
    async fn put_back_shards(&self, watched: &Watched) -> Result<(), LedgerError> {
        let ledger_id = watched.ledger_id();
        for spec in watched.shards() {
            self.write_shard(&watched.pool, &ledger_id, &spec).await?;
        }
        Ok(())
    }

    /// Puts back what this broker did from an instant on; how many leases could not be.
    async fn put_back_leases(&self, watched: &Watched, from: Millis) -> Result<i64, LedgerError> {
        let (mut back, mut left_out, ledger_id) = (0, 0, watched.ledger_id());
        for piece in watched.journal_since(from, PIECE) {
            let calendar = Calendar::around(wall_clock());
            let mut keys = keyspace::keys(&watched.pool, piece.shards.iter().map(String::as_str));
            keys.extend(calendar.day_ends.iter().map(|day_end| keyspace::usage(&watched.pool, *day_end)));
            let replay: Replay<'_> = (
                &ledger_id,
                0,
                &calendar.day_ends,
                &calendar.month_ends,
                &piece.shards,
                &piece.settles,
                &piece.renews,
                &piece.grants,
                &piece.commons,
            );
            let (input, keys) = (&encode(&replay)?, &keys);
            let ask = |mut line: Line| async move {
                let arguments = [input.as_slice(), line.server.run.as_bytes()];
                self.replay.run::<(i64, i64)>(&mut line.connection, keys, &arguments).await
            };
            let piece = self.call(&keys[0], ask).await?;
            (back, left_out) = (back + piece.0, left_out + piece.1);
        }
        if back > 0 {
            tracing::warn!(pool = watched.pool, leases = back, "put back leases that Redis had lost");
        }
        if left_out > 0 {
            tracing::error!(
                pool = watched.pool,
                leases = left_out,
                "leases that Redis had lost cannot be put back: their windows are waited for"
            );
        }
        Ok(left_out)
    }
}

/// Watches over a pool's ledger as long as there is one.
async fn keep(shared: Weak<Shared>, watched: Weak<Watched>) {
    loop {
        let (Some(shared), Some(watched)) = (shared.upgrade(), watched.upgrade()) else { return };
        debug_assert_eq!(shared.durability, Durability::Strict);
        let outcome = match shared.say_there(&watched).await {
            Err(LedgerError::Holding { .. }) => {
                watched.set_standing(Standing::Recovering { until: None });
                shared.recover_ledger(&watched).await
            }
            // A ledger that is gone is made anew, and waited for; one that another fleet made is none of ours.
            Err(LedgerError::Changed { found, .. }) if found == "none" => {
                watched.set_standing(Standing::Recovering { until: None });
                shared.recover_ledger(&watched).await
            }
            outcome => outcome,
        };
        let rest = match outcome {
            Ok(()) => BEAT_EVERY,
            Err(error) => {
                tracing::debug!(pool = watched.pool, %error, "the ledger cannot be watched over");
                AGAIN
            }
        };
        drop(shared);
        let rest = async {
            // What wakes it may come with every batch; it looks again in a moment at the earliest.
            sleep(AGAIN.min(rest)).await;
            let _ = timeout(rest.saturating_sub(AGAIN), watched.wake.notified()).await;
        };
        rest.await;
    }
}
