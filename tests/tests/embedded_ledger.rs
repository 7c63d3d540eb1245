//! The embedded ledger gives the kernel's answers through any number of kills, and says plainly
//! why a data directory cannot be used.

#![allow(clippy::unwrap_used, reason = "the lint exempts test functions but not their helpers")]
#![allow(clippy::result_large_err, reason = "a failed run carries its scenario")]

mod ledger_model;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering::SeqCst,
    time::Duration,
};

use keybroker::ledger::{
    AcquireState, Batch, Dimension, Ledger, LedgerError, LimitSpec, Opened, Reply, Settle, SettleState, Span,
    account::Account,
    calendar::{Calendar, wall_clock},
    embedded::{Checkpoints, EmbeddedLedger, Reach},
    kernel::Kernel,
};
use keybroker_tests::harness::one_key;
use ledger_model::{Scenario, Step, Usage, cases, run_on_kernel, scenario, usage};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestCaseError, TestError, TestRunner},
};
use redb::{Database, TableDefinition};
use tempfile::TempDir;

const SEQUENCES: u32 = 300;
const STEPS: usize = 40;
const NEVER: Checkpoints = Checkpoints { every: Duration::from_secs(3600), part: 1 };

/// Checkpoints that follow each other, in parts of so many rows.
const fn in_parts_of(part: usize) -> Checkpoints {
    Checkpoints { every: Duration::ZERO, part }
}

/// What happens to the broker after a step.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Lives,
    /// It is killed, and the next one makes checkpoints this often.
    Killed(Checkpoints),
}

fn fates() -> impl Strategy<Value = Vec<Fate>> {
    let fate = prop_oneof![
        5 => Just(Fate::Lives),
        1 => Just(Fate::Killed(NEVER)),
        1 => Just(Fate::Killed(in_parts_of(1000))),
        1 => (1..8_usize).prop_map(|part| Fate::Killed(in_parts_of(part))),
    ];
    vec(fate, STEPS)
}

/// A broker's ledger, and the folder that its machine has.
struct Broker {
    home: TempDir,
    lives: usize,
    ledger: EmbeddedLedger,
}

impl Broker {
    fn start() -> Self {
        let home = TempDir::with_prefix("keybroker-ledger").unwrap();
        let ledger =
            EmbeddedLedger::open_with(&home.path().join("0"), Reach::System, in_parts_of(2)).unwrap();
        Self { home, lives: 0, ledger }
    }

    fn folder(&self, life: usize) -> PathBuf {
        self.home.path().join(life.to_string())
    }

    /// The file as the operating system has it now, which is what outlives a kill.
    fn copy(&self, name: &str) -> PathBuf {
        let folder = self.home.path().join(name);
        fs::create_dir_all(&folder).unwrap();
        fs::copy(self.folder(self.lives).join("ledger.redb"), folder.join("ledger.redb")).unwrap();
        folder
    }

    /// Goes on with a copy of the file made while it was open.
    fn go_on_with(&mut self, copy: &Path, checkpoints: Checkpoints) {
        self.lives += 1;
        fs::rename(copy, self.folder(self.lives)).unwrap();
        self.ledger =
            EmbeddedLedger::open_with(&self.folder(self.lives), Reach::System, checkpoints).unwrap();
        let _ = fs::remove_dir_all(self.folder(self.lives - 1));
    }
}

/// What a kill takes from the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    Nothing,
    /// The last batch.
    Batch,
    /// The amends of checkpoints, of accounts (by the number of their rows' variant) or of sums.
    Amends(u8),
}

const ACCOUNTS: u8 = 0;
const SUMS: u8 = 4;

/// The journal of the file, and what stands in records that hold amends in place of an instant.
const JOURNAL: TableDefinition<u64, (i64, &str, &[u8])> = TableDefinition::new("journal");
const AMENDS: i64 = -1;

fn drop_amends(folder: &Path, of: u8) {
    let write = Database::create(folder.join("ledger.redb")).unwrap().begin_write().unwrap();
    // Their number is before the first row.
    let is_lost = |until: i64, rows: &[u8]| until == AMENDS && rows[1] == of;
    write.open_table(JOURNAL).unwrap().retain(|_, (until, _, rows)| !is_lost(until, rows)).unwrap();
    write.commit().unwrap();
}

/// Runs the scenario on a broker with these fates, and tells what was used on the days that the kernel names.
async fn run_on_brokers(
    scenario: &Scenario,
    fates: &[Fate],
    loss: Loss,
    kernel: &Kernel,
) -> Result<(Vec<Step>, Usage), LedgerError> {
    let mut broker = Broker::start();
    let opened = Ledger::open(&broker.ledger, "pool", "digest").await?;
    let ids = scenario.account_ids();
    let mut steps = Vec::new();
    for ((batch, apply), fate) in scenario.batches(&opened.ledger_id).iter().zip(fates) {
        for spec in apply {
            Ledger::apply(&broker.ledger, "pool", &opened.ledger_id, spec).await?;
        }
        let before = (loss == Loss::Batch).then(|| broker.copy("before"));
        let reply = Ledger::execute(&broker.ledger, "pool", batch).await?;
        if let Fate::Killed(checkpoints) = fate {
            let copy = before.unwrap_or_else(|| broker.copy("copy"));
            if let Loss::Amends(of) = loss {
                drop_amends(&copy, of);
            }
            broker.go_on_with(&copy, *checkpoints);
            assert_eq!(Ledger::open(&broker.ledger, "pool", "digest").await?, opened);
        }
        let inspection = broker.ledger.inspect_at("pool", batch.clock, &ids)?;
        steps.push(Step::new(reply, inspection.accounts));
    }
    Ok((steps, usage(&broker.ledger, "pool", kernel).await?))
}

fn run(loss: Loss) -> Result<(), TestError<(Scenario, Vec<Fate>)>> {
    let config = Config { cases: cases(SEQUENCES), failure_persistence: None, ..Config::default() };
    // What is lost on purpose needs no example that is simple.
    let max_shrink_iters = if loss == Loss::Nothing { config.max_shrink_iters } else { 0 };
    let config = Config { max_shrink_iters, ..config };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    TestRunner::new(config).run(&(scenario(STEPS), fates()), |(scenario, fates)| {
        let mut kernel = Kernel::default();
        let specified = run_on_kernel(&mut kernel, &scenario);
        let observed = runtime.block_on(run_on_brokers(&scenario, &fates, loss, &kernel));
        let (observed, used) = observed.map_err(|error| TestCaseError::fail(error.to_string()))?;
        for (number, (specified, observed)) in specified.iter().zip(&observed).enumerate() {
            prop_assert_eq!(specified, observed, "step {}", number);
        }
        prop_assert_eq!(kernel.changes.usage.into_iter().collect::<Usage>(), used);
        Ok(())
    })
}

#[test]
fn a_ledger_that_is_killed_again_and_again_answers_as_the_kernel_does() {
    run(Loss::Nothing).expect("nothing is forgotten");
}

#[test]
fn a_ledger_that_forgets_its_last_batch_is_found_to_answer_differently() {
    run(Loss::Batch).expect_err("what was granted in the last batch is granted again");
}

#[test]
fn a_part_of_a_checkpoint_without_its_amends_is_found_to_count_twice() {
    for of in [ACCOUNTS, SUMS] {
        run(Loss::Amends(of)).expect_err("records of before are played over what they are in already");
    }
}

#[test]
fn a_lease_and_its_charge_outlive_a_ledger_that_is_never_closed() {
    let home = TempDir::new().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let first = EmbeddedLedger::open(&home.path().join("first"), Reach::Disk).unwrap();
    let opened = runtime.block_on(Ledger::open(&first, "pool", "digest")).unwrap();
    fs::create_dir(home.path().join("second")).unwrap();
    fs::copy(home.path().join("first/ledger.redb"), home.path().join("second/ledger.redb")).unwrap();
    let second = EmbeddedLedger::open(&home.path().join("second"), Reach::Disk).unwrap();
    assert_eq!(runtime.block_on(Ledger::open(&second, "pool", "digest")).unwrap(), opened);
    let other = runtime.block_on(Ledger::open(&second, "pool", "another digest")).unwrap();
    assert_eq!((other.ledger_id, other.generation), (opened.ledger_id, opened.generation + 1));
}

/// Why the folder cannot be used.
fn refusal(folder: &Path) -> String {
    match EmbeddedLedger::open(folder, Reach::System) {
        Err(LedgerError::Unusable(text)) => text,
        Err(other) => panic!("an error of another kind: {other:?}"),
        Ok(_) => panic!("{} was opened", folder.display()),
    }
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let home = TempDir::new().unwrap();
    fs::write(home.path().join("file"), "a file, not a folder").unwrap();
    let folder = home.path().join("file/data");
    let text = refusal(&folder);
    assert!(text.contains("cannot be made") && text.contains(&folder.display().to_string()), "{text}");
}

#[test]
fn a_file_that_cannot_be_written_is_named() {
    let home = TempDir::new().unwrap();
    fs::create_dir(home.path().join("ledger.redb")).unwrap();
    let text = refusal(home.path());
    assert!(text.contains("ledger.redb cannot be opened for writing"), "{text}");
}

#[test]
fn a_folder_in_use_by_another_broker_is_named() {
    let home = TempDir::new().unwrap();
    let first = EmbeddedLedger::open(home.path(), Reach::System).unwrap();
    let text = refusal(home.path());
    assert!(
        text.contains("in use by another broker") && text.contains(&home.path().display().to_string()),
        "{text}"
    );
    drop(first);
    EmbeddedLedger::open(home.path(), Reach::System).expect("it is free again");
}

/// A ledger that some batches were run on: its file, its identity, and how its accounts stand.
struct Written {
    bytes: Vec<u8>,
    opened: Opened,
    ids: Vec<String>,
    accounts: Vec<Option<Account>>,
}

fn written_ledger() -> Written {
    let home = TempDir::with_prefix("keybroker-ledger").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let ledger = EmbeddedLedger::open_with(home.path(), Reach::System, in_parts_of(1000)).unwrap();
    let opened = runtime.block_on(Ledger::open(&ledger, "pool", "digest")).unwrap();
    let mut runner = TestRunner::deterministic();
    let scenario = scenario(STEPS).new_tree(&mut runner).unwrap().current();
    for (batch, apply) in scenario.batches(&opened.ledger_id) {
        for spec in apply {
            runtime.block_on(Ledger::apply(&ledger, "pool", &opened.ledger_id, &spec)).unwrap();
        }
        runtime.block_on(Ledger::execute(&ledger, "pool", &batch)).unwrap();
    }
    let ids = scenario.account_ids();
    let accounts = ledger.inspect_at("pool", 0, &ids).unwrap().accounts;
    Written { bytes: fs::read(home.path().join("ledger.redb")).unwrap(), opened, ids, accounts }
}

fn assert_says_damaged(folder: &Path) {
    let text = refusal(folder);
    assert!(text.contains("ledger.redb cannot be read") && text.contains("move it away"), "{text}");
}

#[test]
fn a_file_of_random_bytes_is_said_to_be_damaged() {
    let home = TempDir::new().unwrap();
    let file = home.path().join("ledger.redb");
    for length in [1_usize, 9, 100, 4_096, 100_000] {
        let bytes: Vec<u8> = (0..length).map(|at| (at * 7_919 % 251) as u8).collect();
        fs::write(&file, &bytes).unwrap();
        assert_says_damaged(home.path());
        assert!(fs::read(&file).unwrap() == bytes, "what may still be repaired is left as it is");
    }
}

#[test]
fn an_emptied_file_is_not_taken_for_a_new_ledger() {
    let home = TempDir::new().unwrap();
    drop(EmbeddedLedger::open(home.path(), Reach::System).unwrap());
    fs::write(home.path().join("ledger.redb"), "").unwrap();
    assert_says_damaged(home.path());
}

#[test]
fn a_truncated_file_is_said_to_be_damaged() {
    let whole = written_ledger().bytes;
    let home = TempDir::new().unwrap();
    for part in 1..20 {
        fs::write(home.path().join("ledger.redb"), &whole[..whole.len() * part / 20]).unwrap();
        assert_says_damaged(home.path());
    }
}

#[test]
fn a_file_with_a_flipped_byte_is_refused_or_whole() {
    let written = written_ledger();
    let whole = &written.bytes;
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let home = TempDir::new().unwrap();
    let mut refused = 0;
    for at in (0..whole.len()).step_by(whole.len() / 200) {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x55;
        fs::write(home.path().join("ledger.redb"), &bytes).unwrap();
        match EmbeddedLedger::open(home.path(), Reach::System) {
            Ok(ledger) => {
                assert_eq!(
                    runtime.block_on(Ledger::open(&ledger, "pool", "digest")).unwrap(),
                    written.opened
                );
                let accounts = ledger.inspect_at("pool", 0, &written.ids).unwrap().accounts;
                assert_eq!(accounts, written.accounts, "byte {at}");
            }
            Err(LedgerError::Unusable(text)) => {
                assert!(text.contains("ledger.redb cannot be read"), "{text}");
                refused += 1;
            }
            Err(other) => panic!("an error of another kind: {other:?}"),
        }
    }
    assert!(refused > 0, "some of the bytes matter");
}

/// How far the clock of [`ClockedBroker`] is off, in milliseconds.
static OFF: std::sync::atomic::AtomicI64 = std::sync::atomic::AtomicI64::new(0);

/// A ledger whose clock can be set, with one key of three requests each window.
struct ClockedBroker {
    ledger: EmbeddedLedger,
    _home: TempDir,
    opened: Opened,
}

impl ClockedBroker {
    async fn start(window: i64) -> Self {
        let home = TempDir::with_prefix("keybroker-ledger").unwrap();
        let clock = || wall_clock() + OFF.load(SeqCst);
        OFF.store(0, SeqCst);
        let ledger = EmbeddedLedger::open(home.path(), Reach::System).unwrap().with_clock(clock);
        let opened = Ledger::open(&ledger, "pool", "digest").await.unwrap();
        let limits = vec![LimitSpec(Dimension::Requests, Span::Trailing(window), 3)];
        let spec = one_key::shard("shard", opened.generation, limits);
        Ledger::apply(&ledger, "pool", &opened.ledger_id, &spec).await.unwrap();
        Self { ledger, _home: home, opened }
    }

    async fn execute(&self, fill: impl FnOnce(&mut Batch)) -> Result<Reply, LedgerError> {
        let now = wall_clock() + OFF.load(SeqCst);
        let mut batch = Batch::empty(&self.opened.ledger_id, 0, &Calendar::around(now));
        batch.shards.push("shard".to_owned());
        fill(&mut batch);
        Ledger::execute(&self.ledger, "pool", &batch).await
    }

    async fn take(&self, lease: &str) -> Result<AcquireState, LedgerError> {
        let op = one_key::request(lease, 600_000);
        Ok(self.execute(|batch| batch.acquires.push(op)).await?.acquires[0].0)
    }
}

#[tokio::test]
async fn a_clock_that_is_set_ends_no_window_early_and_stops_none_for_good() {
    // Ahead: to the kernel alone the window has ended.
    let broker = ClockedBroker::start(60_000).await;
    for lease in ["a", "b", "c"] {
        assert_eq!(broker.take(lease).await.unwrap(), AcquireState::Granted);
    }
    assert_eq!(broker.take("d").await.unwrap(), AcquireState::Refused);
    OFF.store(61_500, SeqCst);
    let held_back = broker.take("e").await;
    assert!(
        matches!(&held_back, Err(LedgerError::Holding { retry_after, .. }) if *retry_after > Duration::from_secs(59)),
        "{held_back:?}"
    );
    let reply = broker.execute(|batch| batch.settles.push(Settle::not_sent("a"))).await.unwrap();
    assert_eq!(reply.settles[0].0, SettleState::Settled, "reports are taken");

    // Back by an hour: time goes on from there.
    let broker = ClockedBroker::start(400).await;
    assert_eq!(broker.take("a").await.unwrap(), AcquireState::Granted);
    OFF.store(-3_600_000, SeqCst);
    for lease in ["b", "c"] {
        assert_eq!(broker.take(lease).await.unwrap(), AcquireState::Granted);
    }
    assert_eq!(broker.take("d").await.unwrap(), AcquireState::Refused, "what was counted still counts");
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(broker.take("e").await.unwrap(), AcquireState::Granted);
}
