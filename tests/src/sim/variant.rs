//! Wrong ledgers, by which the checker is checked: each changes what goes into the kernel or comes out of it, so
//! that the product's code has no switch for them.

use keybroker::ledger::{
    AcquireState, Acquired, Batch, Charge, FOREVER, Millis, RenewState, Renewed, Reply, SettleState, Span,
    kernel::Kernel,
};

use super::{rules::Rule, setting::CONSUMERS};

/// What is wrong with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Variant {
    /// Nothing.
    Right,
    /// A charge does not last while its request may still be sent.
    SendWithinNotCounted,
    /// Minutes begin on the minute.
    FixedWindow,
    /// A window ends one sub-bucket early.
    SubBucketForgotten,
    /// What may have been counted by Google is given back.
    UnknownOutcomeRefunded,
    /// A repeated report returns a slot again.
    SlotReturnedTwice,
    /// An acquire of which no answer came is made again under the same id.
    AcquireRepeated,
    /// Accounts beside those of the key are not charged.
    ConsumerNotCharged,
    /// Nothing cools down.
    NoCooldown,
    /// Every lease may go out after a cooldown.
    NoProbe,
    /// A repeated report gets advice of its own.
    OtherAdvice,
    /// Who is refused is told a second more than it takes.
    RefusedTooLong,
    /// Who is refused is told a millisecond less than it takes.
    RefusedTooShort,
    /// A lowered limit does not hold.
    LoweredLimitIgnored,
    /// A renewal extends a lease whose time is over.
    DeadLeaseRenewed,
    /// What the worker says it used is not corrected in the sub-bucket of the grant.
    TokensGivenBackTwice,
    /// One consumer is never served.
    OneConsumerStarved,
    /// A charge lasts twice as long as it must.
    ChargedTooLong,
    /// A lease is settled by every report.
    SettledAgain,
    /// A lease is forgotten once it is settled.
    ForgottenEarly,
    /// Keys that a request does not want are leased to it.
    UnwantedKeyLeased,
    /// It panics.
    Panics,
}

impl Variant {
    /// All wrong ones, and the rules by which each must be found.
    pub const WRONG: [(Self, &'static [Rule]); 21] = [
        (Self::SendWithinNotCounted, &[Rule::WithinLimits, Rule::NoOverSpend]),
        (Self::FixedWindow, &[Rule::NoOverSpend]),
        (Self::SubBucketForgotten, &[Rule::NoOverSpend]),
        (Self::UnknownOutcomeRefunded, &[Rule::Charges, Rule::NoOverSpend]),
        (Self::SlotReturnedTwice, &[Rule::InFlight, Rule::WithinLimits]),
        (Self::AcquireRepeated, &[Rule::GrantedOnce]),
        (Self::ConsumerNotCharged, &[Rule::Charges]),
        (Self::NoCooldown, &[Rule::Cooldown]),
        (Self::NoProbe, &[Rule::Cooldown]),
        (Self::OtherAdvice, &[Rule::FirstAdvice]),
        (Self::RefusedTooLong, &[Rule::RefusalInstant]),
        (Self::RefusedTooShort, &[Rule::RefusalInstant]),
        (Self::LoweredLimitIgnored, &[Rule::NoOverSpend]),
        (Self::DeadLeaseRenewed, &[Rule::Renewal]),
        (Self::TokensGivenBackTwice, &[Rule::Charges, Rule::NoOverSpend]),
        (Self::OneConsumerStarved, &[Rule::Starvation]),
        (Self::ChargedTooLong, &[Rule::Utilisation]),
        (Self::SettledAgain, &[Rule::SettledOnce]),
        (Self::ForgottenEarly, &[Rule::Remembered]),
        (Self::UnwantedKeyLeased, &[Rule::Answers]),
        (Self::Panics, &[Rule::NoPanic]),
    ];

    /// What goes into the kernel instead of the batch; none if that stays as it is.
    pub(super) fn before(self, batch: &Batch, now: Millis) -> Option<Batch> {
        let minute = 60_000;
        let mut batch = if self == Self::Right { return None } else { batch.clone() };
        match self {
            Self::SendWithinNotCounted => batch.acquires.iter_mut().for_each(|op| op.send_within = 0),
            // What this is less than nothing makes up for the trailing minute that the kernel adds.
            Self::FixedWindow => batch.acquires.iter_mut().for_each(|op| {
                op.send_within = (now / minute + 1) * minute - ((now / 1_000 + 1) * 1_000 + minute);
            }),
            Self::SubBucketForgotten => batch.acquires.iter_mut().for_each(|op| op.send_within -= 1_000),
            Self::UnknownOutcomeRefunded => {
                for op in batch.settles.iter_mut().filter(|op| op.charge == Charge::Keep) {
                    op.charge = Charge::Refund;
                }
            }
            Self::AcquireRepeated if now % 7 == 0 => batch.acquires.extend_from_within(..),
            Self::ConsumerNotCharged => batch.acquires.iter_mut().for_each(|op| op.common.truncate(1)),
            Self::NoCooldown => batch.settles.iter_mut().for_each(|op| op.blocks.clear()),
            Self::NoProbe => {
                batch.settles.iter_mut().flat_map(|op| &mut op.blocks).for_each(|block| block.probe = false);
            }
            Self::OneConsumerStarved => {
                for op in batch.acquires.iter_mut().filter(|op| op.usage.starts_with(CONSUMERS[0])) {
                    op.amounts.permits = 1_000_000;
                }
            }
            Self::ChargedTooLong => batch.acquires.iter_mut().for_each(|op| op.send_within += minute),
            Self::Panics => assert!(batch.acquires.is_empty(), "this ledger is made to panic"),
            Self::UnwantedKeyLeased => batch.acquires.iter_mut().for_each(|op| op.exclude.clear()),
            Self::TokensGivenBackTwice => {
                for op in batch.settles.iter_mut().filter(|op| op.input_tokens > 0) {
                    op.input_tokens = 0;
                }
            }
            _ => {}
        }
        Some(batch)
    }

    /// Changes what comes out of it, and what it holds.
    pub(super) fn after(self, kernel: &mut Kernel, batch: &Batch, reply: &mut Reply, accounts: &[String]) {
        match self {
            Self::AcquireRepeated => reply.acquires.truncate(batch.acquires.len()),
            Self::SettledAgain | Self::ForgottenEarly => {
                let again =
                    [SettleState::Settled, SettleState::Unknown][usize::from(self == Self::ForgottenEarly)];
                for answer in reply.settles.iter_mut().filter(|answer| answer.0 == SettleState::Already) {
                    answer.0 = again;
                }
            }
            Self::OtherAdvice => {
                for answer in reply.settles.iter_mut().filter(|answer| answer.0 == SettleState::Already) {
                    answer.2.push_str("again");
                }
            }
            Self::RefusedTooLong | Self::RefusedTooShort => {
                let by = if self == Self::RefusedTooLong { 1_000 } else { -1 };
                let refused =
                    |answer: &&mut Acquired| answer.0 == AcquireState::Refused && answer.1 < FOREVER;
                reply.acquires.iter_mut().filter(refused).for_each(|answer| answer.1 += by);
            }
            Self::DeadLeaseRenewed => {
                for answer in reply.renews.iter_mut().filter(|answer| answer.0 == RenewState::Ended) {
                    *answer = Renewed(RenewState::Renewed, reply.now + 10_000);
                }
            }
            Self::SlotReturnedTwice
                if reply.settles.iter().any(|answer| answer.0 == SettleState::Already) =>
            {
                return_a_slot(kernel, accounts);
            }
            _ => {}
        }
    }
}

/// Takes one request in flight off the first account that has any.
fn return_a_slot(kernel: &mut Kernel, accounts: &[String]) {
    for id in accounts {
        let now = kernel.now;
        let Some(account) = kernel.account(id) else { continue };
        let held =
            account.windows.iter().position(|window| window.span == Span::Held && window.used(now) > 0);
        let Some((at, end)) = held.map(|at| (at, account.windows[at].counts_until())) else { continue };
        kernel.restore_counts(id, &[(at, end, -1)]);
        return;
    }
}
