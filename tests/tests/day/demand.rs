//! Who asks for leases, how often at which hour, and how large the requests are.

use keybroker::{catalogue::Price, ledger::Amounts};
use keybroker_proto::v1::Tier;
use rand::{RngExt, rngs::StdRng};

use crate::setting::{HOUR, MINUTE, PacificDay};

/// How long a request waits for a lease before its worker gives up.
const PATIENCE: i64 = 2 * MINUTE;
/// Of the small hours: how much of the usual demand there is.
const NIGHT: f64 = 0.3;

/// A consumer's use of one model.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) pool: &'static str,
    /// As it is asked for, which may be an alias.
    pub(crate) model: &'static str,
    /// Empty for a request that names none.
    pub(crate) consumer: &'static str,
    pub(crate) tier: Tier,
    /// Requests a minute where there is no rush.
    usual: f64,
    rushes: Vec<Rush>,
    sizes: Sizes,
}

/// A time in which there are so many requests a minute.
#[derive(Debug, Clone, Copy)]
struct Rush {
    edge: Edge,
    /// Hours after the edge.
    from: f64,
    to: f64,
    rate: f64,
}

#[derive(Debug, Clone, Copy)]
enum Edge {
    Dawn,
    Dusk,
}

/// How large requests are.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Input tokens for each of its requests.
    input: (i64, i64),
    /// By how much the upper bound of input tokens lies above them at most, in percent.
    slack: i64,
    output: (i64, i64),
    /// At most so many requests by one lease.
    permits: i64,
    /// How long an answer takes, on average.
    latency: i64,
}

/// A request that waits for a lease.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// What is charged.
    pub(crate) bound: Amounts,
    /// What it uses in truth.
    pub(crate) actual: Amounts,
    pub(crate) latency: i64,
    pub(crate) arrived: i64,
    pub(crate) gives_up_at: i64,
    /// How often it was sent.
    pub(crate) tries: u8,
    pub(crate) exclude: Vec<String>,
}

const FLASH: Sizes = Sizes { input: (200, 1_800), slack: 40, output: (50, 500), permits: 1, latency: 3_000 };
const PRO: Sizes =
    Sizes { input: (1_000, 3_000), slack: 30, output: (200, 1_000), permits: 1, latency: 9_000 };
const LITE: Sizes = Sizes { input: (300, 1_500), slack: 40, output: (20, 200), permits: 1, latency: 2_000 };
const EMBED: Sizes = Sizes { input: (20, 300), slack: 40, output: (0, 0), permits: 5, latency: 600 };
/// Long thoughts, for which leases are renewed.
const DEEP: Sizes = Sizes { latency: 15_000, ..PRO };

/// Everybody.
pub(crate) fn sources() -> Vec<Source> {
    let source = |pool, model, consumer, usual, rushes: &[Rush], sizes| Source {
        pool,
        model,
        consumer,
        tier: Tier::Unspecified,
        usual,
        rushes: rushes.to_vec(),
        sizes,
    };
    let work = |consumer, usual, morning: f64, midnight: f64| {
        let rushes = [
            dawn(8.0, 10.0, morning),
            dawn(-0.5, 0.5, midnight),
            dusk(-1.0, 1.0, midnight),
            // Soft plans and default ones are exceeded by those who ask alone, too.
            dawn(16.0, 16.5, morning / 3.0),
        ];
        source("work", "gemini-3-flash-preview", consumer, usual, &rushes, FLASH)
    };
    let pro = |consumer, usual, afternoon: f64| {
        let rushes = [dawn(12.0, 14.5, afternoon), dusk(-0.5, 0.25, afternoon / 2.0)];
        source("work", "gemini-3-pro-preview", consumer, usual, &rushes, PRO)
    };
    let batch = |model, consumer, usual, rushes: &[Rush], sizes| {
        source("batch", model, consumer, usual, rushes, sizes)
    };
    let chat = |consumer, usual, noon: f64| {
        let rushes = [dawn(10.5, 12.5, noon), dusk(-0.5, 0.5, noon)];
        source("chat", "models/gemini-3-flash", consumer, usual, &rushes, FLASH)
    };
    let mut all = vec![
        work("", 6.0, 60.0, 80.0),
        work("search@example.com", 4.0, 45.0, 20.0),
        work("reports@example.com", 4.0, 40.0, 60.0),
        work("notes@example.com", 0.5, 4.0, 4.0),
        Source { tier: Tier::Paid, ..work("", 2.0, 10.0, 10.0) },
        pro("", 2.0, 25.0),
        pro("search@example.com", 1.0, 15.0),
        pro("reports@example.com", 1.0, 15.0),
        // Its requests a minute are twenty, whatever it wants.
        source("work", "gemini-3-flash", "hasty@example.com", 0.2, &[dawn(4.0, 5.0, 60.0)], FLASH),
        batch("gemini-3-flash-lite", "", 6.0, &[dawn(1.5, 3.5, 160.0), dusk(-0.5, 0.25, 160.0)], LITE),
        batch(
            "gemini-3-flash-lite",
            "indexer@example.com",
            4.0,
            &[dawn(1.5, 3.5, 120.0), dusk(-0.5, 0.25, 120.0)],
            LITE,
        ),
        batch("gemini-embedding-001", "", 1.0, &[dawn(5.0, 6.5, 50.0)], EMBED),
        batch(
            "gemini-embedding-001",
            "indexer@example.com",
            1.0,
            &[dawn(5.0, 6.5, 30.0), dusk(-0.4, 0.2, 30.0)],
            EMBED,
        ),
        batch("gemini-3-pro-preview", "", 0.5, &[dawn(18.0, 19.5, 45.0), dusk(-0.4, 0.2, 45.0)], DEEP),
        batch("gemini-3-pro-preview", "indexer@example.com", 0.5, &[dawn(18.0, 19.5, 15.0)], DEEP),
        chat("", 6.0, 90.0),
    ];
    const VISITORS: [&str; 4] =
        ["visitor-1@example.com", "visitor-2@example.com", "visitor-3@example.com", "visitor-4@example.com"];
    all.extend(VISITORS.map(|visitor| work(visitor, 0.7, 10.0, 10.0)));
    all.extend(VISITORS.map(|visitor| chat(visitor, 0.7, 15.0)));
    all
}

const fn dawn(from: f64, to: f64, rate: f64) -> Rush {
    Rush { edge: Edge::Dawn, from, to, rate }
}

const fn dusk(from: f64, to: f64, rate: f64) -> Rush {
    Rush { edge: Edge::Dusk, from, to, rate }
}

impl Rush {
    fn span(&self, day: &PacificDay) -> (i64, i64) {
        let edge = match self.edge {
            Edge::Dawn => day.dawn,
            Edge::Dusk => day.dusk,
        };
        let after = |hours: f64| edge + (hours * HOUR as f64) as i64;
        (after(self.from), after(self.to))
    }
}

impl Source {
    /// Requests a millisecond, and until when it stays at that.
    fn rate(&self, at: i64, day: &PacificDay) -> (f64, i64) {
        let night = (day.dawn + HOUR, day.dawn + 7 * HOUR);
        let is_in = |span: (i64, i64)| (span.0..span.1).contains(&at);
        let spans = || self.rushes.iter().map(|rush| rush.span(day));
        let rush = self.rushes.iter().find(|rush| is_in(rush.span(day)));
        let usual = if is_in(night) { self.usual * NIGHT } else { self.usual };
        let until = spans().chain([night]).flat_map(|span| [span.0, span.1]).filter(|edge| *edge > at).min();
        let a_minute = rush.map_or(usual, |rush| rush.rate);
        (a_minute / MINUTE as f64, until.unwrap_or(i64::MAX))
    }

    /// When its next request comes: independent of all that came before, at the rate of the hour.
    pub(crate) fn next(&self, at: i64, day: &PacificDay, rng: &mut StdRng) -> i64 {
        let mut from = at;
        loop {
            let (rate, until) = self.rate(from, day);
            let next = from.saturating_add((exponential(rng) / rate).ceil() as i64);
            if next < until {
                return next;
            }
            from = until;
        }
    }

    /// A request of it.
    pub(crate) fn draw(&self, now: i64, price: Option<&Price>, rng: &mut StdRng) -> Request {
        let Sizes { input, slack, output, permits, latency } = self.sizes;
        let permits = rng.random_range(1..=permits);
        let used = permits * rng.random_range(input.0..=input.1);
        let bound = used + used * rng.random_range(0..=slack) / 100;
        let written = rng.random_range(output.0..=output.1);
        let spend = |input: i64, output: i64| {
            let spend = price.map_or(0, |price| price.spend(input.unsigned_abs(), 0, output.unsigned_abs()));
            i64::try_from(spend).expect("a request costs less than the world has")
        };
        let amounts = |input: i64, output: i64| Amounts {
            permits,
            input,
            total: input + output,
            spend: spend(input, output),
        };
        let half = latency as f64 / 2.0;
        Request {
            bound: amounts(bound, output.1),
            actual: amounts(used, written),
            latency: (half + half * exponential(rng).min(12.0)) as i64,
            arrived: now,
            gives_up_at: now + PATIENCE,
            tries: 0,
            exclude: Vec::new(),
        }
    }
}

/// A random time with the average 1.
pub(crate) fn exponential(rng: &mut StdRng) -> f64 {
    -(1.0 - rng.random::<f64>()).ln()
}
