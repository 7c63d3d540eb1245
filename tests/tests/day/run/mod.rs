//! A stretch of a day, event by event.

mod batch;
mod judge;
mod reports;
mod traffic;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use keybroker::{
    ledger::{Millis, calendar::Calendar},
    pool::accounts::{AccountOf, commons, plan_common, shard_name, shard_spec},
};
use rand::{SeedableRng, rngs::StdRng};

use crate::{
    demand::{Request, sources},
    events::{Event, Events},
    fate::{Answer, Fate, Kept, Outside, outside},
    google::Google,
    holds::Holds,
    lane::Lane,
    ledgers::Ledgers,
    setting::{HOUR, MINUTE, PacificDay, SECOND, Setting},
    supply::Supply,
    usage::Rows,
    verdict::{Counts, Verdict},
};

/// After how many batches the ledger has forgotten all leases that were not reported, beside those that
/// were of late.
const LAST_BATCHES: usize = 32;

/// Which stretch of which day is run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stretch {
    pub(crate) day: &'static PacificDay,
    pub(crate) from: Millis,
    /// Requests come until then; what is under way is still brought to its end.
    pub(crate) to: Millis,
    pub(crate) seed: u64,
    /// The broker's calendar.
    pub(crate) calendar: fn(&PacificDay, Millis) -> Calendar,
    pub(crate) traced: bool,
}

impl Stretch {
    /// The whole day, from two hours before it to two hours after it.
    pub(crate) fn whole(day: &'static PacificDay, seed: u64) -> Self {
        let calendar = |_: &PacificDay, now| Calendar::around(now);
        Self { day, from: day.dawn - 2 * HOUR, to: day.dusk + 2 * HOUR, seed, calendar, traced: false }
    }

    /// So many minutes before and after the midnight that ends the day.
    pub(crate) fn around_dusk(day: &'static PacificDay, before: i64, after: i64, seed: u64) -> Self {
        let (from, to) = (day.dusk - before * MINUTE, day.dusk + after * MINUTE);
        Self { from, to, ..Self::whole(day, seed) }
    }

    /// Runs it on a ledger.
    pub(crate) fn run(self, ledgers: &mut dyn Ledgers) -> Verdict {
        let setting = Setting::new();
        let mut run = Run::new(self, &setting, ledgers);
        run.plan();
        run.go();
        run.judge()
    }
}

/// A lease and what is known of it on both sides.
struct Lease {
    id: String,
    lane: usize,
    key: usize,
    request: Request,
    granted_at: Millis,
    expires_at: Millis,
    over: bool,
    fate: Fate,
    answer: Option<Answer>,
    reached: bool,
    ended: bool,
    reported: bool,
}

/// What a pool's next batch does.
#[derive(Default)]
struct Pending {
    settles: Vec<usize>,
    renews: Vec<usize>,
    asks: BTreeSet<usize>,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.settles.is_empty() && self.renews.is_empty() && self.asks.is_empty()
    }
}

struct PoolAtWork {
    name: String,
    ledger_id: String,
    send_within: i64,
    ttl: i64,
    pending: Pending,
    accounts: BTreeSet<String>,
    /// Leases that were not reported yet, by their expiry.
    held: BTreeSet<(Millis, usize)>,
}

struct Run<'a> {
    stretch: Stretch,
    setting: &'a Setting,
    ledgers: &'a mut dyn Ledgers,
    rng: StdRng,
    now: Millis,
    events: Events,
    pools: Vec<PoolAtWork>,
    lanes: Vec<Lane>,
    leases: Vec<Lease>,
    away: Vec<(usize, Option<Request>)>,
    outside: Vec<Outside>,
    calendar: (Millis, Calendar),
    touched: BTreeSet<usize>,
    gauges_due: bool,
    google: Google<'a>,
    holds: Holds<'a>,
    supply: Supply,
    rows: BTreeMap<String, Rows>,
    dead: HashSet<usize>,
    /// Until when Google has refused a project's model for the day.
    spent_until: HashMap<(String, String), Millis>,
    /// Leases that were due to be given up for lost, and when.
    lost: Vec<(usize, Millis)>,
    wrong: Vec<String>,
    gauges: Vec<String>,
    counts: Counts,
    trace: Vec<u8>,
}

impl<'a> Run<'a> {
    fn new(stretch: Stretch, setting: &'a Setting, ledgers: &'a mut dyn Ledgers) -> Self {
        let (pools, lanes) = open(setting, ledgers);
        let Stretch { day, from, seed, calendar, .. } = stretch;
        Self {
            stretch,
            setting,
            ledgers,
            rng: StdRng::seed_from_u64(seed),
            now: from,
            events: Events::default(),
            rows: pools.iter().map(|pool| (pool.name.clone(), Rows::new())).collect(),
            pools,
            lanes,
            leases: Vec::new(),
            away: Vec::new(),
            outside: outside(day),
            calendar: (from, calendar(day, from)),
            touched: BTreeSet::new(),
            gauges_due: false,
            google: Google::new(day),
            holds: Holds::new(setting, day),
            supply: Supply::default(),
            dead: HashSet::new(),
            spent_until: HashMap::new(),
            lost: Vec::new(),
            wrong: Vec::new(),
            gauges: Vec::new(),
            counts: Counts::default(),
            trace: Vec::new(),
        }
    }

    fn plan(&mut self) {
        let Stretch { day, from, to, .. } = self.stretch;
        for lane in 0..self.lanes.len() {
            let first = self.lanes[lane].source.next(from, day, &mut self.rng);
            self.events.plan(first, Event::Comes(lane));
        }
        for (number, outside) in self.outside.iter().enumerate() {
            if (from..to).contains(&outside.at) {
                self.events.plan(outside.at, Event::Outside(number));
            }
        }
        for at in (from..to).step_by(usize::try_from(20 * MINUTE).expect("it is small")) {
            self.events.plan(at + 7 * SECOND, Event::Gauges);
        }
    }

    /// Goes from instant to instant; at each, what comes due is done, then the ledger is asked until nobody
    /// has anything more to ask.
    fn go(&mut self) {
        while let Some(at) = self.events.next_at() {
            self.now = at;
            while let Some(event) = self.events.next_by(at) {
                self.happen(event);
            }
            self.work();
        }
        // What was never reported is forgotten by and by, with whatever the ledger does next.
        self.now += HOUR;
        for _ in 0..LAST_BATCHES {
            (0..self.pools.len()).for_each(|pool| self.batch(pool));
        }
        for (lease, at) in std::mem::take(&mut self.lost) {
            if !self.leases[lease].reported {
                self.counts.never_reported += 1;
                self.ends(lease, None);
                self.record(lease, at, "unreported", Kept::Bound);
            }
        }
        self.check_gauges();
        self.supply.close(self.now);
    }

    fn work(&mut self) {
        while let Some(pool) = self.pools.iter().position(|pool| !pool.pending.is_empty()) {
            self.batch(pool);
        }
        for lane in std::mem::take(&mut self.touched) {
            self.supply.waits(self.now, lane, self.lanes[lane].wants());
        }
        if std::mem::take(&mut self.gauges_due) {
            self.check_gauges();
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Comes(lane) => self.comes(lane),
            Event::AsksAgain(lane) => {
                if self.lanes[lane].refused.is_some_and(|refused| refused.until == self.now) {
                    self.ask(lane);
                }
            }
            Event::GivesUp(lane) => self.gives_up(lane),
            Event::ComesBack(number) => {
                let (lane, request) = &mut self.away[number];
                let (lane, request) = (*lane, request.take().expect("it comes back once"));
                self.enqueue(lane, request, false);
            }
            Event::Reaches(lease) => self.reaches(lease),
            Event::Reports(lease) => {
                let pool = self.lanes[self.leases[lease].lane].pool;
                self.pools[pool].pending.settles.push(lease);
            }
            Event::Renews(lease) => {
                if !self.leases[lease].ended {
                    let pool = self.lanes[self.leases[lease].lane].pool;
                    self.pools[pool].pending.renews.push(lease);
                }
            }
            Event::Outside(number) => self.google.take_outside(self.outside[number]),
            Event::Gauges => self.gauges_due = true,
        }
    }
}

/// Opens every pool and writes its shards, as a broker does when it starts.
fn open(setting: &Setting, ledgers: &mut dyn Ledgers) -> (Vec<PoolAtWork>, Vec<Lane>) {
    let (mut pools, mut generations) = (Vec::new(), Vec::new());
    for (name, pool) in &setting.catalogue.pools {
        let opened = ledgers.open(name, &setting.digest);
        generations.push(opened.generation);
        pools.push(PoolAtWork {
            name: name.clone(),
            ledger_id: opened.ledger_id,
            send_within: millis(pool.send_within),
            ttl: millis(pool.lease_ttl),
            pending: Pending::default(),
            accounts: BTreeSet::new(),
            held: BTreeSet::new(),
        });
    }
    let (mut applied, mut lanes) = (HashSet::new(), Vec::new());
    for source in sources() {
        let number = pools.iter().position(|pool| pool.name == source.pool).expect("the pool is written");
        let (pool, generation) = (setting.pool(source.pool), generations[number]);
        let at_work = &mut pools[number];
        let model = setting.catalogue.quota_model(source.model).to_owned();
        let shard = shard_name(&setting.digest, &model, source.tier);
        if applied.insert((number, shard.clone())) {
            let spec = shard_spec(pool, &shard, &model, source.tier, generation);
            let spec = spec.expect("the pool has keys of the tier");
            at_work.accounts.extend(spec.accounts.iter().map(|account| account.id.clone()));
            ledgers.apply(source.pool, &at_work.ledger_id, &spec);
        }
        let plan = setting.catalogue.plan_of(source.consumer);
        let mut commons = commons(pool, &model, generation);
        commons.extend(
            plan.and_then(|plan| plan_common(AccountOf::Consumer(source.consumer), plan, generation)),
        );
        at_work.accounts.extend(commons.iter().map(|common| common.id.clone()));
        lanes.push(Lane {
            source,
            pool: number,
            model,
            shard,
            commons,
            queue: VecDeque::new(),
            refused: None,
        });
    }
    (pools, lanes)
}

fn millis(span: std::time::Duration) -> i64 {
    i64::try_from(span.as_millis()).expect("spans are short")
}
