//! What a seed decides before anything happens: the catalogue and its changes, who works, and the weather.

use std::{collections::BTreeMap, fmt::Write};

use keybroker::{
    catalogue::{Catalogue, Pool},
    config::{Sources, load},
    ledger::{Millis, calendar::Calendar},
};
use rand::{RngExt, rngs::StdRng};

use crate::fake_gemini::Limits;

pub(super) const SECOND: i64 = 1_000;
pub(super) const MINUTE: i64 = 60 * SECOND;
pub(super) const HOUR: i64 = 60 * MINUTE;

/// The quota models.
pub(super) const MODELS: [&str; 2] = ["gemini-3-flash", "gemini-3-pro"];
/// Who asks: the plan of the first is so wide that it never refuses, that of the second is narrow, and that of the
/// third is soft.
pub(super) const CONSUMERS: [&str; 3] = ["wide@example.com", "limited@example.com", "trusted@example.com"];
/// The number of the consumer whose plan is narrow.
pub(super) const LIMITED: usize = 1;

const STRATEGIES: [&str; 6] =
    ["round_robin", "weighted", "priority", "least_recently_used", "health_aware", "least_utilized"];

/// What goes wrong, and how often: numbers of a thousand, and milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Weather {
    /// Messages that are lost on the way.
    pub(super) lost: u32,
    /// Messages that arrive twice.
    pub(super) doubled: u32,
    /// Messages that take up to `longest`.
    pub(super) slow: u32,
    pub(super) longest: i64,
    /// Calls to the ledger, or their replies, that are lost.
    pub(super) ledger_lost: u32,
    /// Other calls, and their replies, take up to so many milliseconds.
    pub(super) ledger_usual: i64,
    /// Calls that take up to `ledger_longest`.
    pub(super) ledger_slow: u32,
    pub(super) ledger_longest: i64,
    /// Requests that are sent at the last moment.
    pub(super) last_moment: u32,
    /// Leases whose request is never sent.
    pub(super) not_sent: u32,
    /// Requests that Google fails, or that are wrong.
    pub(super) trouble: bool,
    /// Reports that come after the lease's time.
    pub(super) late: u32,
    /// Reports that are made again later.
    pub(super) repeated: u32,
    /// Whether processes die.
    pub(super) deaths: bool,
    /// Whether others use the same quotas.
    pub(super) outside: bool,
    /// Whether limits change midway.
    pub(super) changes: bool,
}

impl Weather {
    /// Nothing goes wrong.
    pub(super) const CALM: Self = Self {
        lost: 0,
        doubled: 0,
        slow: 0,
        longest: 0,
        ledger_lost: 0,
        ledger_usual: 3,
        ledger_slow: 0,
        ledger_longest: 0,
        last_moment: 0,
        not_sent: 0,
        trouble: false,
        late: 0,
        repeated: 0,
        deaths: false,
        outside: false,
        changes: false,
    };

    fn draw(rng: &mut StdRng) -> Self {
        let mut some = |most: u32| if rng.random_bool(0.7) { rng.random_range(0..=most) } else { 0 };
        Self {
            lost: some(60),
            doubled: some(100),
            slow: some(80),
            ledger_lost: some(30),
            ledger_slow: some(50),
            last_moment: some(500),
            not_sent: some(50),
            late: some(40),
            repeated: some(80),
            longest: rng.random_range(100..4_000),
            ledger_usual: [1, 10, 100, 400][rng.random_range(0..4)],
            ledger_longest: rng.random_range(50..3_000),
            trouble: rng.random_bool(0.6),
            deaths: rng.random_bool(0.7),
            outside: rng.random_bool(0.4),
            changes: rng.random_bool(0.5),
        }
    }
}

/// A worker: a process with tasks, each of which makes one request at a time.
#[derive(Debug)]
pub(super) struct WorkerPlan {
    pub(super) pool: usize,
    pub(super) consumer: usize,
    pub(super) tasks: usize,
    /// By how many millionths its clock runs slow.
    pub(super) drift: i64,
    /// It renews after so many percent of the time it should.
    pub(super) renews_at: i64,
}

/// Everything that a seed decides beforehand.
#[derive(Debug)]
pub(super) struct Setting {
    pub(super) start: Millis,
    /// New requests are made until then.
    pub(super) traffic_until: Millis,
    pub(super) calm: bool,
    pub(super) weather: Weather,
    pub(super) brokers: usize,
    pub(super) workers: Vec<WorkerPlan>,
    /// The file of limits, as it is and as it becomes for a while.
    pub(super) catalogues: Vec<(Catalogue, String)>,
    pub(super) quotas: Vec<(String, String, Limits)>,
    /// Whether a day's limit may be in the way of being served.
    pub(super) daily: bool,
}

struct ProjectPlan {
    pool: usize,
    keys: usize,
    /// By model.
    limits: Vec<Limits>,
    in_flight: Option<u64>,
}

impl Setting {
    pub(super) fn draw(seed: u64, rng: &mut StdRng) -> Self {
        let calm = seed.is_multiple_of(5);
        let pools = rng.random_range(1..=3);
        let near_midnight = !calm && rng.random_bool(0.3);
        let start = start(near_midnight, rng);
        let daily = near_midnight && rng.random_bool(0.7);
        let projects = projects(pools, daily, calm, rng);
        let mut written = Vec::new();
        let head = pools_written(pools, calm, rng);
        written.push(format!("{head}{}", projects_written(&projects, |_| 100)));
        let lowered: Vec<u64> = projects.iter().map(|_| rng.random_range(40..=100)).collect();
        written.push(format!("{head}{}", projects_written(&projects, |at| lowered[at])));
        let catalogues = written.iter().map(|text| loaded(text)).collect();
        let quotas = projects.iter().enumerate().flat_map(|(at, project)| {
            let of_model =
                move |(model, limits): (usize, &Limits)| (project_id(at), MODELS[model].to_owned(), *limits);
            project.limits.iter().enumerate().map(of_model)
        });
        Self {
            start,
            traffic_until: start + rng.random_range(90..200) * SECOND,
            calm,
            weather: if calm { Weather::CALM } else { Weather::draw(rng) },
            brokers: rng.random_range(1..=4),
            workers: workers(pools, rng),
            catalogues,
            quotas: quotas.collect(),
            daily,
        }
    }

    pub(super) fn pool(&self, file: usize, pool: usize) -> &Pool {
        &self.catalogues[file].0.pools[&pool_name(pool)]
    }

    /// How many pools there are.
    pub(super) fn pools(&self) -> usize {
        self.catalogues[0].0.pools.len()
    }

    /// The project, and the text, of each key.
    pub(super) fn keys(&self) -> BTreeMap<String, (String, String)> {
        let projects = self.catalogues[0].0.projects();
        let of_project = projects.flat_map(|(_, project)| project.keys.iter().map(move |key| (project, key)));
        let place = |(project, key): (&keybroker::catalogue::Project, &keybroker::catalogue::Key)| {
            (key.id.clone(), (project.id.clone(), key.secret.expose().to_owned()))
        };
        of_project.map(place).collect()
    }
}

pub(super) fn pool_name(pool: usize) -> String {
    format!("pool-{pool}")
}

fn project_id(at: usize) -> String {
    format!("project-{at}")
}

/// An ordinary instant, or one shortly before a Pacific midnight, also of days with a change of daylight time.
fn start(near_midnight: bool, rng: &mut StdRng) -> Millis {
    let days = [1_772_964_000_000, 1_793_520_000_000, 1_798_750_000_000, 1_785_000_000_000];
    let day = days[rng.random_range(0..days.len())] + rng.random_range(0..HOUR);
    if near_midnight { Calendar::around(day).day_end(day) - rng.random_range(10..150) * SECOND } else { day }
}

fn projects(pools: usize, daily: bool, calm: bool, rng: &mut StdRng) -> Vec<ProjectPlan> {
    let mut projects = Vec::new();
    for pool in 0..pools {
        for _ in 0..rng.random_range(1..=3) {
            let tokens = rng.random_bool(0.5);
            let limits = (0..MODELS.len()).map(|_| Limits {
                rpm: Some(rng.random_range(4..=20)),
                input_tpm: tokens.then(|| rng.random_range(1_500..6_000)),
                rpd: (daily && rng.random_bool(0.5)).then(|| rng.random_range(10..60)),
            });
            let limits = limits.collect();
            projects.push(ProjectPlan {
                pool,
                keys: rng.random_range(1..=3),
                limits,
                in_flight: (!calm && rng.random_bool(0.4)).then(|| rng.random_range(3..8)),
            });
        }
    }
    projects
}

fn pools_written(pools: usize, calm: bool, rng: &mut StdRng) -> String {
    let limited = rng.random_range(6..30);
    let in_flight = rng.random_range(3..7);
    let trusted = rng.random_range(5..20);
    let mut text = format!(
        "[[plans]]\nname = \"wide\"\nrequests_per_minute = 100000\n\
         [[consumers]]\nid = \"{}\"\nplan = \"wide\"\n[[plans]]\nname = \"limited\"\nrequests_per_minute = {limited}\nin_flight = {in_flight}\n\
         [[plans]]\nname = \"trusted\"\nmode = \"soft\"\nrequests_per_minute = {trusted}\n\
         [[consumers]]\nid = \"{}\"\nplan = \"limited\"\n[[consumers]]\nid = \"{}\"\nplan = \"trusted\"\n",
        CONSUMERS[0], CONSUMERS[1], CONSUMERS[2]
    );
    for pool in 0..pools {
        let strategy = STRATEGIES[rng.random_range(0..STRATEGIES.len())];
        let send_within = [300, 1_000, 1_000, 5_000][rng.random_range(0..4)];
        let ttl = rng.random_range(5..60);
        let margin = if rng.random_bool(0.2) { 10 } else { 0 };
        let total = rng.random_range(20..80);
        let totals = if !calm && rng.random_bool(0.3) {
            format!("totals = {{ requests_per_minute = {total} }}\n")
        } else {
            String::new()
        };
        // Writing to a text does not fail.
        let _ = write!(
            text,
            "[[pools]]\nname = \"{}\"\nstrategy = \"{strategy}\"\nsend_within = \"{send_within}ms\"\n\
             lease_ttl = \"{ttl}s\"\nmargin_percent = {margin}\n{totals}",
            pool_name(pool)
        );
    }
    text
}

fn projects_written(projects: &[ProjectPlan], percent: impl Fn(usize) -> u64) -> String {
    let mut text = String::new();
    for (at, project) in projects.iter().enumerate() {
        let less = |limit: u64| (limit * percent(at) / 100).max(1);
        let mut rules = Vec::new();
        for (model, limits) in MODELS.iter().zip(&project.limits) {
            let mut rule = format!("model = \"{model}\"");
            let fields = [
                ("requests_per_minute", limits.rpm.map(less)),
                // A request that was within the limit must stay so, or it could never be served.
                ("input_tokens_per_minute", limits.input_tpm.map(|limit| less(limit).max(1_000))),
                ("requests_per_day", limits.rpd.map(less)),
                ("in_flight", project.in_flight),
            ];
            for (name, limit) in fields {
                if let Some(limit) = limit {
                    let _ = write!(rule, ", {name} = {limit}");
                }
            }
            rules.push(format!("{{ {rule} }}"));
        }
        let key = |nth: usize| {
            format!("{{ id = \"k{at}-{nth}\", secret = \"test-key-sim-{at}-{nth}\", weight = {} }}", nth + 1)
        };
        let keys: Vec<String> = (0..project.keys).map(key).collect();
        let _ = write!(
            text,
            "[[projects]]\nid = \"{}\"\npool = \"{}\"\nlimits = [{}]\nkeys = [{}]\n",
            project_id(at),
            pool_name(project.pool),
            rules.join(", "),
            keys.join(", ")
        );
    }
    text
}

/// The catalogue, read the way a broker reads it, and its digest.
fn loaded(text: &str) -> (Catalogue, String) {
    let file = tempfile::NamedTempFile::new().expect("there is room for a small file");
    std::fs::write(file.path(), text).expect("the file is ours");
    let loaded = load(&Sources::new(Some(file.path().to_owned()), &|_| None));
    let catalogue = loaded.unwrap_or_else(|error| panic!("{error}\n{text}")).catalogue;
    let digest = catalogue.digest();
    (catalogue, digest)
}

fn workers(pools: usize, rng: &mut StdRng) -> Vec<WorkerPlan> {
    let number = rng.random_range(4..=12);
    let worker = |at: usize| WorkerPlan {
        pool: if at < pools { at } else { rng.random_range(0..pools) },
        consumer: rng.random_range(0..CONSUMERS.len()),
        tasks: rng.random_range(1..=3),
        drift: rng.random_range(-50..=50),
        renews_at: rng.random_range(20..=180),
    };
    (0..number).map(worker).collect()
}
