//! How the cost of a lease grows with the projects of one pool.

use std::time::Instant;

use keybroker::ledger::{AcquireState, Millis, calendar::Calendar, kernel::Kernel};

use super::pool::{ask, batch_at, report, spec};
use crate::sim::setting::{MINUTE, SECOND};

/// How many projects the pools have.
const SIZES: [u64; 4] = [10, 100, 1_000, 10_000];
/// Leases in one call, each of which also settles as many.
const BATCH: usize = 64;
/// How many leases are measured at each size.
const LEASES: usize = 200_000;
/// Requests a minute of each project.
const RPM: i64 = 60;
const BEGAN: Millis = 1_782_900_000_000;

/// What a lease costs in a pool of that size.
#[derive(Debug, Clone, Copy)]
pub(super) struct Cost {
    pub(super) projects: u64,
    /// Nanoseconds of the kernel for a lease and its report.
    pub(super) nanoseconds: f64,
    /// Bytes of a project's account as JSON, when its minute is used up.
    pub(super) account_bytes: usize,
    /// Share of the questions that were granted.
    pub(super) granted: f64,
}

/// Measures all sizes. The pool is asked for nine tenths of what it has, for a minute to fill its windows and for as
/// long as it takes to be measured.
pub(super) fn measure() -> Vec<Cost> {
    SIZES.into_iter().map(measure_one).collect()
}

fn measure_one(projects: u64) -> Cost {
    let mut kernel = Kernel::default();
    kernel.apply(&spec(projects, RPM));
    let calendar = Calendar::around(BEGAN);
    let a_second = (projects as f64 * RPM as f64 * 0.9 / 62.0).max(1.0);
    let mut now = BEGAN as f64;
    let mut held: Vec<String> = Vec::new();
    let (mut names, mut asked, mut granted, mut measured) = (0_usize, 0_usize, 0_usize, 0_usize);
    let mut took = std::time::Duration::ZERO;
    while measured < LEASES.min(40 * (a_second * 62.0) as usize) {
        // As many as come meanwhile, and a call for them whenever there are enough.
        now += BATCH as f64 * SECOND as f64 / a_second;
        let clock = now as Millis;
        let mut batch = batch_at(clock, &calendar);
        batch.settles = held.drain(..).map(|lease| report(&lease)).collect();
        for _ in 0..BATCH {
            names += 1;
            batch.acquires.push(ask(format!("{names:x}")));
        }
        let began = Instant::now();
        let Some(reply) = kernel.execute(clock, &batch) else { break };
        kernel.changes = Default::default();
        let elapsed = began.elapsed();
        for (op, answer) in batch.acquires.iter().zip(&reply.acquires) {
            if answer.0 == AcquireState::Granted {
                held.push(op.lease.clone());
            }
        }
        if clock > BEGAN + 2 * MINUTE {
            took += elapsed;
            asked += BATCH;
            granted += held.len();
            measured += held.len();
        }
    }
    let account = kernel.account("q/p0/m").expect("the project is in the ledger");
    Cost {
        projects,
        nanoseconds: took.as_nanos() as f64 / granted.max(1) as f64,
        account_bytes: serde_json::to_vec(account).map_or(0, |text| text.len()),
        granted: granted as f64 / asked.max(1) as f64,
    }
}
