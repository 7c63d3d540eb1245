//! How things stand: looked up at the ledger when somebody asks, at most once a second.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use opentelemetry::{KeyValue, global, metrics::AsyncInstrument};
use tokio::time::Instant;

use super::{SCOPE, label, word};
use crate::{broker::Broker, ledger::LedgerState, pool::PoolView};

/// For how long what was looked up is shown again.
const FRESH: Duration = Duration::from_secs(1);
/// How many limits of all pools are shown: those that are used most, compared with what they allow.
const MOST_LIMITS: usize = 500;

/// How things stood when they were last looked up.
#[derive(Default)]
struct Seen {
    at: Option<Instant>,
    ready: bool,
    ledgers: Vec<(String, LedgerState)>,
    pools: Vec<(String, PoolView)>,
    limits: Vec<LimitSeen>,
}

struct LimitSeen {
    labels: [KeyValue; 3],
    used: i64,
    limit: i64,
}

/// Looks up how things stand.
pub struct Standing {
    broker: Arc<Broker>,
    seen: Arc<Mutex<Seen>>,
    looking: tokio::sync::Mutex<()>,
}

impl Standing {
    /// Shows how that broker's pools stand.
    pub fn of(broker: Arc<Broker>) -> Self {
        let seen = Arc::default();
        show(&seen);
        Self { broker, seen, looking: tokio::sync::Mutex::default() }
    }

    /// Looks again, unless somebody did a moment ago. What cannot be had is not shown.
    pub async fn refresh(&self) {
        let _looking = self.looking.lock().await;
        if self.seen.lock().expect("no holder of this lock panics").at.is_some_and(|at| at.elapsed() < FRESH)
        {
            return;
        }
        let answers = self.broker.ledger_answers().await.is_ok();
        let ready = answers && !self.broker.is_draining();
        let (mut ledgers, mut pools) = (Vec::new(), Vec::new());
        for name in self.broker.pool_names() {
            let state = if answers { self.broker.ledger_state(&name) } else { LedgerState::Unreachable };
            ledgers.push((name.clone(), state));
            let Some(pool) = self.broker.pool(&name).filter(|_| ready) else { continue };
            if let Ok(view) = pool.inspect().await {
                pools.push((name, view));
            }
        }
        let limits = most_used(&pools);
        let seen = Seen { at: Some(Instant::now()), ready, ledgers, pools, limits };
        *self.seen.lock().expect("no holder of this lock panics") = seen;
    }
}

/// Limits that are used most, compared with what they allow.
fn most_used(pools: &[(String, PoolView)]) -> Vec<LimitSeen> {
    let mut limits: Vec<_> = pools
        .iter()
        .flat_map(|(pool, view)| view.limits.iter().map(move |limit| (pool, limit)))
        .filter_map(|(pool, limit)| Some((pool, limit, limit.limit?)))
        .collect();
    let part = |used: i64, limit: i64| used as f64 / limit.max(1) as f64;
    limits.sort_by(|a, b| part(b.1.used, b.2).total_cmp(&part(a.1.used, a.2)));
    limits.truncate(MOST_LIMITS);
    let seen = |(pool, view, limit): (&String, &crate::pool::LimitView, i64)| LimitSeen {
        labels: [label("pool", pool), label("subject", &view.subject), label("limit", &view.limit_name)],
        used: view.used,
        limit,
    };
    limits.into_iter().map(seen).collect()
}

/// Registers what is shown; the meter keeps it.
fn show(seen: &Arc<Mutex<Seen>>) {
    let meter = global::meter(SCOPE);
    let gauge = |name: &'static str, about: &'static str, look: fn(&Seen, &dyn AsyncInstrument<i64>)| {
        let seen = seen.clone();
        meter
            .i64_observable_gauge(name)
            .with_description(about)
            .with_callback(move |observer| {
                look(&seen.lock().expect("no holder of this lock panics"), observer)
            })
            .build();
    };
    gauge(
        "keybroker.ready",
        "1 while leases can be had: the ledger answers, and the broker is not draining",
        |seen, observer| observer.observe(i64::from(seen.ready), &[]),
    );
    gauge("keybroker.ledger.state", "1 for the state that the ledger of a pool is in", |seen, observer| {
        for (pool, is) in &seen.ledgers {
            for state in LedgerState::ALL {
                let labels = [label("pool", pool), word("state", state.name())];
                observer.observe(i64::from(state == *is), &labels);
            }
        }
    });
    gauge("gemini.keys", "Keys of a pool that are leased", |seen, observer| {
        for (pool, view) in &seen.pools {
            observer.observe(count(view.keys.len()), &[label("pool", pool)]);
        }
    });
    gauge(
        "gemini.available_keys",
        "Keys of a pool that nothing which cools down keeps from serving",
        |seen, observer| {
            for (pool, view) in &seen.pools {
                let available = view.keys.iter().filter(|key| key.cooling_until.is_none()).count();
                observer.observe(count(available), &[label("pool", pool)]);
            }
        },
    );
    gauge("keybroker.waiting", "Acquires that wait for a lease", |seen, observer| {
        for (pool, view) in &seen.pools {
            observer.observe(view.stats.waiting, &[label("pool", pool)]);
        }
    });
    gauge("keybroker.cooldowns", "Keys, projects and models that are cooling down", |seen, observer| {
        for (pool, view) in &seen.pools {
            observer.observe(count(view.cooldowns.len()), &[label("pool", pool)]);
        }
    });
    gauge("keybroker.limit.used", "What is used of the limits that are used most", |seen, observer| {
        seen.limits.iter().for_each(|limit| observer.observe(limit.used, &limit.labels));
    });
    gauge("keybroker.limit.amount", "What these limits allow", |seen, observer| {
        seen.limits.iter().for_each(|limit| observer.observe(limit.limit, &limit.labels));
    });
    let seen = seen.clone();
    meter
        .f64_observable_gauge("keybroker.limit.worst")
        .with_description("The largest part of any limit of a pool that is used; above 1 it is exceeded")
        .with_callback(move |observer| {
            for (pool, view) in &seen.lock().expect("no holder of this lock panics").pools {
                let parts = view.limits.iter();
                let parts = parts.filter_map(|limit| Some(limit.used as f64 / limit.limit?.max(1) as f64));
                observer.observe(parts.fold(0.0, f64::max), &[label("pool", pool)]);
            }
        })
        .build();
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
