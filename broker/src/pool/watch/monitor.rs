//! The task beside a pool that asks the ledger and emits events.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use keybroker_proto::v1::Tier;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Happened, ReadAccounts, Settled,
    alarm::{self, Alarm, Shortage, Step},
    cooling::{Cooldown, Cooling, is_key},
    findings,
    standing::{Standing, able_at},
    subjects::Subjects,
    told::Told,
};
use crate::{
    catalogue,
    claims::FleetTurns,
    events::{Event, EventKind, Events, Redactor},
    gemini::Scope,
    ledger::{FOREVER, Millis, account::Account},
    pool::accounts::{AccountOf, commons, shard_spec},
};

/// The ledger is asked no more often than this.
const PACE: Duration = Duration::from_secs(1);
/// While something cools down it is asked at least this often: an operator or a check may end it early.
const POLL: Duration = Duration::from_secs(5);
/// An end is looked for this much after its instant, so that the ledger's clock has surely passed it.
const AFTER_THE_END: Duration = Duration::from_millis(5);
/// How long the ledger may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// How many accounts are read in one call.
const LARGEST_READ: usize = 1000;
/// How many keys are looked at in one call, to find out whether two are able to serve.
const KEYS_AT_ONCE: usize = 128;
/// Between two looks at a model's keys lie at least so many times what one took.
const REST: u32 = 20;
/// The most settles that are looked at together.
const MOST_SETTLED: usize = 256;
/// The same quota is suspected of outside usage no more often.
const SUSPECT_AGAIN: Millis = 5 * 60_000;
/// For so long one broker's word on an end stands for the whole fleet.
const END_IS_TOLD: Duration = Duration::from_secs(60);

pub(super) struct Monitor {
    subjects: Subjects,
    reader: Arc<dyn ReadAccounts>,
    events: Events,
    turns: FleetTurns,
    settled: Vec<Settled>,
    // Models whose keys are to be counted.
    models: BTreeSet<String>,
    standings: BTreeMap<String, Counted>,
    cooling: Cooling,
    told: Told,
    looked: Option<Instant>,
    // The ledger's clock, and when it was read.
    clock: Option<(Millis, Instant)>,
}

/// A model whose keys were counted.
#[derive(Default)]
struct Counted {
    standing: Standing,
    alarm: Alarm,
    again: Option<Instant>,
    // When it is looked at though nothing happened.
    watched: Option<Instant>,
}

/// Accounts as they were read.
struct Rows {
    now: Millis,
    rows: HashMap<String, Account>,
}

impl Monitor {
    pub(super) fn new(
        pool: catalogue::Pool,
        reader: Arc<dyn ReadAccounts>,
        events: Events,
        turns: FleetTurns,
        redactor: Redactor,
    ) -> Self {
        Self {
            subjects: Subjects::new(pool, redactor),
            reader,
            events,
            turns,
            settled: Vec::new(),
            models: BTreeSet::new(),
            standings: BTreeMap::new(),
            cooling: Cooling::default(),
            told: Told::default(),
            looked: None,
            clock: None,
        }
    }

    pub(super) async fn run(mut self, mut happened: mpsc::Receiver<Happened>) {
        self.find_what_cools().await;
        loop {
            let next = self.next_look();
            let look = async {
                match next {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                news = happened.recv() => match news {
                    Some(Happened::Settled(settled)) => self.take_settled(settled),
                    Some(Happened::Refused(model)) => drop(self.models.insert(model)),
                    None => return,
                },
                () = look => self.look().await,
            }
        }
    }

    /// What was cooling before this broker started is noted in silence; its end will be told.
    async fn find_what_cools(&mut self) {
        let mut ids = BTreeSet::new();
        for project in &self.subjects.pool.projects {
            ids.insert(AccountOf::Project(&project.id).id());
            ids.insert(AccountOf::billing_of(project).id());
            ids.extend(project.keys.iter().map(|key| AccountOf::Key(&key.fingerprint).id()));
        }
        if let Some(read) = self.read(&ids.into_iter().collect::<Vec<_>>()).await {
            self.observe(&read);
        }
    }

    fn take_settled(&mut self, settled: Settled) {
        if !settled.decision.blocks.is_empty() {
            self.models.insert(settled.quota_model.clone());
        }
        if self.settled.len() < MOST_SETTLED {
            self.settled.push(settled);
        }
    }

    /// When the ledger is to be asked; never while there is nothing to ask.
    fn next_look(&self) -> Option<Instant> {
        let now = Instant::now();
        let again =
            |model: &String| self.standings.get(model).and_then(|counted| counted.again).unwrap_or(now);
        let to_count = self.models.iter().map(again).min();
        let to_tell = (!self.settled.is_empty()).then_some(now);
        let to_watch = self.standings.values().filter_map(|counted| counted.watched).min();
        let wanted = [to_count, to_watch, to_tell, self.next_end()].into_iter().flatten().min()?;
        Some(self.looked.map_or(wanted, |looked| wanted.max(looked + PACE)))
    }

    fn next_end(&self) -> Option<Instant> {
        if self.cooling.is_empty() {
            return None;
        }
        let now = Instant::now();
        let poll = self.looked.map_or(now, |looked| looked + POLL);
        let end = self.clock.and_then(|(clock, at)| {
            let left = self.cooling.next_end(clock)? - clock;
            at.checked_add(Duration::from_millis(left.unsigned_abs()) + AFTER_THE_END)
        });
        Some(end.map_or(poll, |end| end.min(poll)))
    }

    async fn look(&mut self) {
        self.looked = Some(Instant::now());
        let settled = std::mem::take(&mut self.settled);
        let mut ids: BTreeSet<String> = self.cooling.accounts().cloned().collect();
        for settled in &settled {
            let scopes = settled.decision.blocks.iter().map(|block| block.scope).chain([Scope::ProjectModel]);
            ids.extend(scopes.filter_map(|scope| self.subjects.account(settled, scope)));
        }
        let read = self.read(&ids.into_iter().collect::<Vec<_>>()).await;
        for settled in &settled {
            self.tell(settled, read.as_ref()).await;
        }
        if let Some(read) = read {
            for (account, cooldown) in self.observe(&read) {
                self.tell_end(&account, &cooldown, read.now).await;
            }
        }
        let now = Instant::now();
        let may = |model: &String| {
            self.standings.get(model).and_then(|counted| counted.again).is_none_or(|again| again <= now)
        };
        let watched =
            self.standings.iter().filter(|(_, counted)| counted.watched.is_some_and(|at| at <= now));
        let due: BTreeSet<String> = self
            .models
            .iter()
            .filter(|model| may(model))
            .chain(watched.map(|(model, _)| model))
            .cloned()
            .collect();
        for model in due {
            self.models.remove(&model);
            self.count_keys(&model).await;
        }
    }

    /// Emits what one settled lease tells and was not told yet.
    async fn tell(&mut self, settled: &Settled, read: Option<&Rows>) {
        let row = |account: &str| read.and_then(|read| read.rows.get(account));
        for block in &settled.decision.blocks {
            let Some(account) = self.subjects.account(settled, block.scope) else { continue };
            let begun = findings::begun(&self.subjects, settled, block, &account, row(&account));
            let Some(event) = begun else { continue };
            let until = event.until.unwrap_or(settled.at);
            self.cooling.begun(&account, until, block.reason.as_str());
            // A request with other labels is news to other hooks.
            let what = format!("{account} {} {} {:?}", event.kind, block.reason, settled.note.labels);
            if self.told.is_news(&what, settled.at, until) {
                self.events.emit(event);
            }
        }
        let Some(account) = self.subjects.account(settled, Scope::ProjectModel) else { return };
        for event in findings::learned(&self.subjects, settled, &account) {
            self.events.emit(event);
        }
        if let (Some(read), Some(row)) = (read, row(&account))
            && let Some(event) = findings::outside_usage(&self.subjects, settled, &account, row, read.now)
        {
            let what =
                format!("{} {account} {} {:?}", event.kind, event.numbers.limit_name, settled.note.labels);
            if self.told.is_news(&what, settled.at, settled.at + SUSPECT_AGAIN) {
                self.events.emit(event);
            }
        }
    }

    /// Takes in accounts as they stand; returns the cooldowns that are over.
    fn observe(&mut self, read: &Rows) -> Vec<(String, Cooldown)> {
        let known: Vec<String> = self.cooling.accounts().cloned().collect();
        let fresh = read.rows.keys().filter(|account| !known.contains(account));
        let accounts: Vec<String> = fresh.cloned().chain(known.iter().cloned()).collect();
        let ended = |account: String| {
            let cooldown = self.cooling.observe(&account, read.rows.get(&account), read.now)?;
            Some((account, cooldown))
        };
        accounts.into_iter().filter_map(ended).collect()
    }

    /// Emits the end of a cooldown, if this broker is the one of the fleet to tell it.
    async fn tell_end(&mut self, account: &str, cooldown: &Cooldown, now: Millis) {
        self.told.forget(&format!("{account} "));
        let kind = if is_key(account) { EventKind::KeyRecovered } else { EventKind::CooldownEnded };
        let claim = format!("{kind}/{}/{account}/{}", self.subjects.pool.name, cooldown.until);
        if self.turns.take(&claim, END_IS_TOLD).await {
            let mut event = Event::new(kind, cooldown.until.min(now), self.subjects.of_account(account));
            event.reason = self.subjects.text(&cooldown.reason);
            self.events.emit(event);
        }
    }

    /// Counts the keys that are able to serve a model now, up to two.
    async fn count_keys(&mut self, model: &str) {
        let began = Instant::now();
        let spec = shard_spec(&self.subjects.pool, "", model, Tier::Unspecified, 0);
        let candidates = spec.map(|spec| spec.candidates).unwrap_or_default();
        let commons = commons(&self.subjects.pool, model, 0);
        let (mut able, mut earliest, mut at) = (0, FOREVER, 0);
        for some in candidates.chunks(KEYS_AT_ONCE) {
            let of_keys = some.iter().flat_map(|candidate| candidate.limited.iter().chain(&candidate.sparse));
            let ids: BTreeSet<&String> = of_keys.chain(commons.iter().map(|common| &common.id)).collect();
            let Some(read) = self.read(&ids.into_iter().cloned().collect::<Vec<_>>()).await else { return };
            at = read.now;
            for candidate in some {
                let of_key = candidate.limited.iter().chain(&candidate.sparse);
                let ready =
                    able_at(of_key.chain(commons.iter().map(|common| &common.id)), &read.rows, read.now);
                if ready <= read.now {
                    able += 1;
                } else {
                    earliest = earliest.min(ready);
                }
            }
            // Blocks that other brokers set are found here.
            for (account, row) in &read.rows {
                if row.blocked_until > read.now {
                    self.cooling.observe(account, Some(row), read.now);
                }
            }
            if able > 1 {
                break;
            }
        }
        let now = Instant::now();
        self.watch_shortage(model, Shortage { able, keys: candidates.len(), earliest, at }, now).await;
        let counted = self.standings.entry(model.to_owned()).or_default();
        let pace = PACE.max((now - began) * REST);
        counted.again = Some(now + pace);
        // That a shortage is over shows by nothing else.
        counted.watched = counted.alarm.is_on().then_some(now + pace.max(POLL));
        let Some(kind) = counted.standing.observe(able, candidates.len(), now) else { return };
        let mut event = Event::new(kind, at, self.subjects.of_model(model));
        event.until = (able == 0).then_some(earliest);
        event.numbers.keys_able = i64::try_from(able).ok();
        event.numbers.keys = i64::try_from(candidates.len()).ok();
        self.events.emit(event);
    }

    /// Says once that a model is almost exhausted, by one broker of the fleet, and once that it no longer is.
    async fn watch_shortage(&mut self, model: &str, seen: Shortage, now: Instant) {
        let counted = self.standings.entry(model.to_owned()).or_default();
        let step = counted.alarm.observe(seen.is_one(), now);
        let pool = self.subjects.pool.name.as_str();
        let claim = |slot: i64| format!("almost_exhausted/{pool}/{model}/{slot}");
        let slot = seen.at / alarm::SLOT_MILLIS;
        match step {
            Step::Begins => {
                // Whoever watches a shortage has claimed the next slot as well, so it is told no second time.
                let told_here = self.turns.take(&claim(slot), alarm::CLAIM).await;
                let _ = self.turns.take(&claim(slot + 1), alarm::CLAIM).await;
                self.standings.entry(model.to_owned()).or_default().alarm.told(told_here);
                if told_here {
                    seen.tell(pool, self.subjects.text(model).as_str());
                }
            }
            Step::Lasts => {
                let _ = self.turns.take(&claim(slot + 1), alarm::CLAIM).await;
            }
            Step::Ended { told_here: true } => tracing::info!(
                pool,
                model = self.subjects.text(model).as_str(),
                keys = seen.keys,
                "no longer almost exhausted"
            ),
            Step::Ended { told_here: false } | Step::Nothing => {}
        }
    }

    /// Reads accounts; none if the ledger does not answer, which its callers tell.
    async fn read(&mut self, ids: &[String]) -> Option<Rows> {
        let mut read = Rows { now: 0, rows: HashMap::new() };
        for ids in ids.chunks(LARGEST_READ) {
            let answer = timeout(DEADLINE, self.reader.read(&self.subjects.pool.name, ids)).await;
            let Ok(Ok(inspection)) = answer else {
                tracing::debug!(pool = self.subjects.pool.name, "the ledger could not be looked at");
                return None;
            };
            read.now = inspection.now;
            let rows = ids.iter().zip(inspection.accounts);
            read.rows.extend(rows.filter_map(|(id, row)| Some((id.clone(), row?))));
        }
        if !ids.is_empty() {
            self.clock = Some((read.now, Instant::now()));
        }
        Some(read)
    }
}
