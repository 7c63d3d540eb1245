//! A committer under more load than its ledger can answer, in virtual time.

use std::{
    collections::VecDeque,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use tokio::{task::JoinSet, time::sleep};

use super::*;
use crate::ledger::{Amounts, Inspection, LedgerFuture, Opened, SettleState, ShardSpec, UsageRow};

/// How long a call to the ledger takes.
const CALL: Duration = Duration::from_millis(10);
/// Acquires a millisecond: as many as the ledger answers in full calls, less a few percent.
const CAPACITY: usize = 24;
const TICK: Duration = Duration::from_millis(1);

/// A ledger that grants everything, and takes its time.
struct SlowLedger {
    call: Duration,
    each: Duration,
    /// How many operations came in the last calls.
    batches: Mutex<VecDeque<usize>>,
    granted: AtomicUsize,
    settled: AtomicUsize,
    /// What the next calls fail with.
    failures: Mutex<VecDeque<LedgerError>>,
}

impl Ledger for SlowLedger {
    fn open<'a>(&'a self, _: &'a str, _: &'a str) -> LedgerFuture<'a, Opened> {
        Box::pin(async { Ok(Opened { ledger_id: "slow".to_owned(), generation: 1 }) })
    }

    fn apply<'a>(&'a self, _: &'a str, _: &'a str, _: &'a ShardSpec) -> LedgerFuture<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn execute<'a>(&'a self, _: &'a str, batch: &'a Batch) -> LedgerFuture<'a, Reply> {
        Box::pin(async {
            let operations = batch.acquires.len() + batch.settles.len();
            {
                let mut batches = self.batches.lock().unwrap();
                batches.push_front(operations);
                batches.truncate(20);
            }
            sleep(self.call + self.each * u32::try_from(operations).unwrap()).await;
            if let Some(error) = self.failures.lock().unwrap().pop_front() {
                return Err(error);
            }
            self.granted.fetch_add(batch.acquires.len(), SeqCst);
            self.settled.fetch_add(batch.settles.len(), SeqCst);
            let granted = Acquired(AcquireState::Granted, 0, String::new(), String::new());
            let settled = Settled(SettleState::Settled, String::new(), String::new(), String::new(), false);
            Ok(Reply {
                now: 0,
                settles: vec![settled; batch.settles.len()],
                renews: Vec::new(),
                acquires: vec![granted; batch.acquires.len()],
                edits: Vec::new(),
            })
        })
    }

    fn inspect<'a>(&'a self, _: &'a str, _: &'a [String]) -> LedgerFuture<'a, Inspection> {
        Box::pin(async { Ok(Inspection { now: 0, accounts: Vec::new() }) })
    }

    fn usage<'a>(&'a self, _: &'a str, _: &'a [Millis]) -> LedgerFuture<'a, Vec<UsageRow>> {
        Box::pin(async { Ok(Vec::new()) })
    }

    fn held<'a>(&'a self, _: &'a str, _: &'a str, _: Millis) -> LedgerFuture<'a, usize> {
        Box::pin(async { Ok(0) })
    }

    fn ping(&self) -> LedgerFuture<'_, ()> {
        Box::pin(async { Ok(()) })
    }
}

fn acquire_op() -> Acquire {
    Acquire {
        lease: "lease".to_owned(),
        shard: 0,
        amounts: Amounts::default(),
        ttl: 1,
        send_within: 1,
        only: Vec::new(),
        exclude: Vec::new(),
        common: Vec::new(),
        usage: String::new(),
        note: String::new(),
    }
}

fn start(sheds: bool) -> (Arc<SlowLedger>, Committer) {
    start_on(CALL, Duration::ZERO, sheds)
}

/// A call to this ledger takes so long, and so much longer for each operation.
fn start_on(call: Duration, each: Duration, sheds: bool) -> (Arc<SlowLedger>, Committer) {
    let ledger = Arc::new(SlowLedger {
        call,
        each,
        batches: Mutex::default(),
        granted: AtomicUsize::new(0),
        settled: AtomicUsize::new(0),
        failures: Mutex::default(),
    });
    let committer =
        Committer::start_with(ledger.clone(), "default".to_owned(), "slow".to_owned(), Arc::default(), sheds);
    (ledger, committer)
}

async fn acquire(committer: &Committer, deadline: Option<Instant>) -> Result<(), CommitError> {
    committer.acquire("shard".into(), acquire_op(), Vec::new(), deadline).await.map(drop)
}

/// Asks one by one, until the committer knows what a call takes by itself.
async fn get_known(committer: &Committer) {
    for _ in 0..30 {
        acquire(committer, None).await.unwrap();
    }
}

/// What a stretch of load brought.
#[derive(Default)]
struct Stretch {
    /// How long those took who were granted a lease.
    waits: Vec<Duration>,
    shed: usize,
    lost_reports: usize,
}

impl Stretch {
    /// Lets so many acquires come in each millisecond, and one report, whatever becomes of those before. The
    /// first `ignored` milliseconds do not count.
    async fn run(committer: &Committer, each_tick: usize, ticks: usize, ignored: usize) -> Self {
        let (mut acquires, mut reports) = (JoinSet::new(), JoinSet::new());
        let mut stretch = Self::default();
        for tick in 0..ticks {
            for _ in 0..each_tick {
                let committer = committer.clone();
                acquires.spawn(async move {
                    let asked = Instant::now();
                    let answer = acquire(&committer, None).await;
                    (tick >= ignored, answer.map(|()| asked.elapsed()))
                });
            }
            let committer = committer.clone();
            reports.spawn(async move {
                committer.settle("shard".into(), Settle::not_sent("lease")).await.is_err()
            });
            sleep(TICK).await;
        }
        let answers = acquires.join_all().await;
        for (_, answer) in answers.into_iter().filter(|(counts, _)| *counts) {
            match answer {
                Ok(wait) => stretch.waits.push(wait),
                Err(_) => stretch.shed += 1,
            }
        }
        stretch.lost_reports = reports.join_all().await.into_iter().filter(|lost| *lost).count();
        stretch.waits.sort_unstable();
        stretch
    }

    fn p99(&self) -> Duration {
        self.waits[self.waits.len() * 99 / 100]
    }
}

/// Everything that is wrong with how a committer bears five times what its ledger can answer.
async fn faults_under_overload(sheds: bool) -> Vec<String> {
    let (_, committer) = start(sheds);
    get_known(&committer).await;
    let before = Stretch::run(&committer, CAPACITY, 1000, 0).await;
    // The first tenth of a second may be a burst, which is taken in.
    let over = Stretch::run(&committer, 5 * CAPACITY, 2200, 200).await;
    let after = Stretch::run(&committer, CAPACITY, 1000, 0).await;

    let mut faults = Vec::new();
    let mut check = |right: bool, wrong: String| {
        if !right {
            faults.push(wrong);
        }
    };
    check(before.shed == 0, format!("{} were turned away at capacity", before.shed));
    let (usual, slow) = (before.p99(), over.p99());
    check(slow <= 3 * usual, format!("p99 {slow:?} under overload, {usual:?} at capacity"));
    let (most, granted) = (before.waits.len() * 2, over.waits.len());
    check(granted * 10 >= most * 9, format!("{granted} were granted, at capacity it would be {most}"));
    check(over.shed > 0, "nobody was turned away".to_owned());
    check(over.lost_reports == 0, format!("{} reports were lost", over.lost_reports));
    check(after.shed == 0, format!("{} were turned away after the overload", after.shed));
    check(after.p99() <= usual + TICK, format!("p99 {:?} after the overload", after.p99()));
    faults
}

#[tokio::test(start_paused = true)]
async fn five_times_the_load_leaves_those_who_are_let_in_quick_and_loses_no_report() {
    assert_eq!(faults_under_overload(true).await, [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_committer_that_turns_nobody_away_for_waiting_is_found_out() {
    let faults = faults_under_overload(false).await;
    assert!(faults.iter().any(|fault| fault.starts_with("p99")), "{faults:?}");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_takes_long_for_each_operation_is_not_blocked_by_large_calls() {
    let (ledger, committer) = start_on(TICK, 3 * TICK, true);
    Stretch::run(&committer, 1, 2000, 0).await;
    let largest = *ledger.batches.lock().unwrap().iter().max().unwrap();
    assert!((4..=24).contains(&largest), "{largest} in one call");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_is_far_away_is_asked_for_much_at_once() {
    let (ledger, committer) = start_on(60 * TICK, Duration::ZERO, true);
    Stretch::run(&committer, 8, 6000, 0).await;
    let largest = *ledger.batches.lock().unwrap().iter().max().unwrap();
    assert!(largest > 200, "{largest} in one call");
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_served_within_a_tenth_of_a_second_is_taken_in() {
    let (_, committer) = start(true);
    get_known(&committer).await;
    let burst = Stretch::run(&committer, 2000, 1, 0).await;
    assert_eq!((burst.waits.len(), burst.shed), (2000, 0));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_granted_to_one_whose_deadline_has_passed() {
    let (ledger, committer) = start(true);
    let first = tokio::spawn({
        let committer = committer.clone();
        async move { acquire(&committer, None).await }
    });
    sleep(TICK).await;
    let late = acquire(&committer, Some(Instant::now() + CALL / 2)).await;
    assert!(matches!(late, Err(CommitError::DeadlinePassed)), "{late:?}");
    assert!(first.await.unwrap().is_ok());
    let in_time = acquire(&committer, Some(Instant::now() + CALL * 2)).await;
    assert!(in_time.is_ok(), "{in_time:?}");
    assert_eq!(ledger.granted.load(SeqCst), 2, "the ledger was not asked for the late one");
}

#[tokio::test(start_paused = true)]
async fn what_is_granted_as_a_deadline_passes_is_given_back() {
    let (ledger, committer) = start(true);
    let late = acquire(&committer, Some(Instant::now() + CALL / 2)).await;
    assert!(matches!(late, Err(CommitError::DeadlinePassed)), "{late:?}");
    sleep(2 * CALL).await;
    assert_eq!((ledger.granted.load(SeqCst), ledger.settled.load(SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn those_who_are_still_queued_when_the_ledger_fails_are_told_so_and_not_that_there_are_too_many() {
    let (ledger, committer) = start(true);
    let down = || LedgerError::Unavailable("down".to_owned());
    ledger.failures.lock().unwrap().extend((0..200).map(|_| down()));
    let mut asking = JoinSet::new();
    for _ in 0..5000 {
        let committer = committer.clone();
        asking.spawn(async move { acquire(&committer, None).await });
    }
    for answer in asking.join_all().await {
        assert!(matches!(answer, Err(CommitError::Ledger(_))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lease_of_a_call_without_an_answer_is_given_back_with_the_next_one() {
    let (ledger, committer) = start(true);
    ledger.failures.lock().unwrap().push_back(LedgerError::Unavailable("no answer in time".to_owned()));
    assert!(matches!(acquire(&committer, None).await, Err(CommitError::Ledger(_))));
    assert!(acquire(&committer, None).await.is_ok());
    sleep(2 * CALL).await;
    assert_eq!((ledger.granted.load(SeqCst), ledger.settled.load(SeqCst)), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn reports_are_taken_while_leases_are_held_back() {
    let (ledger, committer) = start(true);
    let first = tokio::spawn({
        let committer = committer.clone();
        async move { acquire(&committer, None).await }
    });
    sleep(TICK).await;
    // Both wait for the next call, which is refused for the lease's sake.
    let held = LedgerError::Holding { why: "its clock jumped".to_owned(), retry_after: CALL };
    let report = committer.settle("shard".into(), Settle::not_sent("lease"));
    let (lease, report, first) = tokio::join!(acquire(&committer, None), report, async {
        let first = first.await;
        ledger.failures.lock().unwrap().push_back(held);
        first
    });
    assert!(first.is_ok_and(|first| first.is_ok()));
    assert!(matches!(lease, Err(CommitError::Ledger(LedgerError::Holding { .. }))), "{lease:?}");
    assert!(report.is_ok(), "{report:?}");
    assert_eq!((ledger.granted.load(SeqCst), ledger.settled.load(SeqCst)), (1, 1));
}
