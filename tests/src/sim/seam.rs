//! The one shared ledger: a kernel and a book for each pool, and the rules that are checked where they meet.

use keybroker::ledger::{
    AcquireState, Acquired, Batch, FOREVER, Millis, Opened, Reply, ShardSpec, calendar::Calendar,
    kernel::Kernel,
};

use super::{
    book::{Book, Findings},
    rules::Rule,
    variant::Variant,
};

/// Of so many refusals one is checked to name the true instant.
const REFUSALS: usize = 40;
/// After so many batches the ledger is compared with the book.
const BATCHES: usize = 32;

/// One pool's ledger.
#[derive(Debug, Default)]
pub(super) struct PoolLedger {
    pub(super) kernel: Kernel,
    pub(super) book: Book,
    digest: String,
    generation: i64,
    refusals: usize,
    batches: usize,
}

/// All pools' ledgers.
#[derive(Debug)]
pub(super) struct Seam {
    pub(super) pools: Vec<PoolLedger>,
    variant: Variant,
    pub(super) found: Findings,
    pub(super) checked_refusals: usize,
}

impl Seam {
    pub(super) fn new(pools: usize, variant: Variant) -> Self {
        let pools = (0..pools).map(|_| PoolLedger::default()).collect();
        Self { pools, variant, found: Findings::new(), checked_refusals: 0 }
    }

    /// Opens a pool with the digest of a catalogue, as every ledger does: another digest begins a generation.
    pub(super) fn open(&mut self, pool: usize, digest: &str) -> Opened {
        let ledger = &mut self.pools[pool];
        if ledger.digest != digest {
            digest.clone_into(&mut ledger.digest);
            ledger.generation += 1;
        }
        Opened { ledger_id: format!("ledger-{pool}"), generation: ledger.generation }
    }

    pub(super) fn apply(&mut self, pool: usize, spec: &ShardSpec) {
        let ledger = &mut self.pools[pool];
        ledger.book.apply(spec);
        if self.variant == Variant::LoweredLimitIgnored && spec.generation > 1 {
            let mut spec = spec.clone();
            // No generation at all: the limits of before stay.
            spec.generation = 1;
            return ledger.kernel.apply(&without_limits(spec));
        }
        ledger.kernel.apply(spec);
    }

    /// Runs a batch and checks every answer; none if the ledger refuses the batch.
    pub(super) fn execute(&mut self, pool: usize, clock: Millis, batch: &Batch) -> Option<Reply> {
        let ledger = &mut self.pools[pool];
        let now = ledger.kernel.now.max(clock);
        let altered = self.variant.before(batch, now);
        let altered = altered.as_ref().unwrap_or(batch);
        let Some(mut reply) = ledger.kernel.execute(clock, altered) else {
            self.found.push((Rule::Answers, "a calendar does not cover the ledger's clock".to_owned()));
            return None;
        };
        // As whoever stores what changed does after every batch.
        ledger.kernel.changes = Default::default();
        if self.variant == Variant::AcquireRepeated && altered.acquires.len() > batch.acquires.len() {
            let mut twice = reply.clone();
            twice.acquires.drain(..batch.acquires.len());
            let again = Batch { settles: Vec::new(), renews: Vec::new(), ..batch.clone() };
            self.variant.after(&mut ledger.kernel, batch, &mut reply, &[]);
            self.found.extend(ledger.book.take_in(batch, &reply));
            twice.settles.clear();
            twice.renews.clear();
            self.found.extend(ledger.book.take_in(&again, &twice));
            return Some(reply);
        }
        let accounts =
            if self.variant == Variant::SlotReturnedTwice { ledger.book.account_ids() } else { Vec::new() };
        self.variant.after(&mut ledger.kernel, batch, &mut reply, &accounts);
        self.found.extend(ledger.book.take_in(batch, &reply));
        self.check_refusals(pool, batch, &reply);
        let ledger = &mut self.pools[pool];
        ledger.batches += 1;
        if ledger.batches.is_multiple_of(BATCHES) {
            self.found.extend(ledger.book.audit(&ledger.kernel));
        }
        Some(reply)
    }

    /// Compares all ledgers with their books.
    pub(super) fn audit(&mut self) {
        for ledger in &mut self.pools {
            self.found.extend(ledger.book.audit(&ledger.kernel));
        }
    }

    /// Of some refusals: asking a millisecond earlier is refused, and at the instant granted. Those that a grant of
    /// the same batch followed may no longer hold and are passed over.
    fn check_refusals(&mut self, pool: usize, batch: &Batch, reply: &Reply) {
        let ledger = &mut self.pools[pool];
        let last_grant = reply.acquires.iter().rposition(|answer| answer.0 == AcquireState::Granted);
        let from = last_grant.map_or(0, |at| at + 1);
        for (op, answer) in batch.acquires.iter().zip(&reply.acquires).skip(from) {
            if answer.0 != AcquireState::Refused || answer.1 >= FOREVER {
                continue;
            }
            ledger.refusals += 1;
            if ledger.refusals % REFUSALS != 1 {
                continue;
            }
            self.checked_refusals += 1;
            let ask = |clock: Millis| -> Option<Acquired> {
                let Calendar { day_ends, month_ends } = Calendar::around(clock);
                let alone = Batch {
                    clock,
                    day_ends,
                    month_ends,
                    settles: Vec::new(),
                    renews: Vec::new(),
                    edits: Vec::new(),
                    acquires: vec![op.clone()],
                    ..batch.clone()
                };
                let reply = ledger.kernel.clone().execute(clock, &alone)?;
                reply.acquires.into_iter().next()
            };
            let granted =
                |answer: Option<Acquired>| answer.is_some_and(|answer| answer.0 == AcquireState::Granted);
            let at = answer.1;
            if granted(ask(at - 1)) {
                self.found.push((Rule::RefusalInstant, format!("{} can be had before {at}", op.lease)));
            }
            if !granted(ask(at)) {
                self.found.push((Rule::RefusalInstant, format!("{} cannot be had at {at}", op.lease)));
            }
        }
    }
}

/// The spec without what it says of limits, for a ledger that takes in none that are new.
fn without_limits(mut spec: ShardSpec) -> ShardSpec {
    spec.accounts.clear();
    spec
}
