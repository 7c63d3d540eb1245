//! How the fleet is spread over pools, and its pools over threads.

use std::sync::{
    Mutex,
    atomic::{AtomicU64, Ordering},
};

use super::{
    ScaleArgs,
    pool::{Day, simulate_pool},
};
use crate::sim::setting::HOUR;

/// How much of the workers of a pool each consumer has, in parts; the first asks eight times as often as the last.
pub(super) const WEIGHTS: [u64; 16] = [8, 8, 8, 8, 4, 4, 4, 4, 2, 2, 2, 2, 1, 1, 1, 1];

/// What is simulated.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Projects in all.
    pub projects: u64,
    /// Workers in all.
    pub workers: u64,
    /// Pools.
    pub pools: u64,
    /// Requests a minute of each project.
    pub rpm: u64,
    /// When it begins, in milliseconds since midnight.
    pub from: i64,
    /// For how many milliseconds.
    pub length: i64,
}

impl Plan {
    pub(super) fn of(args: &ScaleArgs) -> Self {
        Self {
            projects: args.projects,
            workers: args.workers,
            pools: args.pools.min(args.projects),
            rpm: args.rpm,
            from: args.from * HOUR,
            length: args.hours * HOUR,
        }
    }

    /// How many of `all` the pool has: as many as any other, or one more.
    pub fn part(&self, all: u64, pool: u64) -> u64 {
        all / self.pools + u64::from(pool < all % self.pools)
    }
}

/// The days of all pools, in order. Each pool is one thread's; there are as many threads as processors.
pub(super) fn simulate(plan: &Plan) -> Vec<Day> {
    let next = AtomicU64::new(0);
    let days = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let pool = next.fetch_add(1, Ordering::Relaxed);
                    if pool >= plan.pools {
                        return;
                    }
                    let day = simulate_pool(plan, pool);
                    days.lock().expect("no holder of this lock panics").push((pool, day));
                }
            });
        }
    });
    let mut days = days.into_inner().expect("no holder of this lock panicked");
    days.sort_by_key(|(pool, _)| *pool);
    days.into_iter().map(|(_, day)| day).collect()
}
