//! The book: what a pool's ledger must hold, kept from its operations and answers alone, by the definition of
//! each rule. It shares no code with the kernel.

mod account;
mod lease;

use std::collections::BTreeMap;

use keybroker::ledger::{
    Acquire, AcquireState, Acquired, Batch, Charge, Dimension, FOREVER, LimitSpec, Millis, Mode, RenewState,
    Reply, Settle, SettleState, ShardSpec, Span, UNLIMITED, calendar::Calendar, kernel::Kernel,
};

use account::{Account, Limit};
use lease::{Cap, Lease, State};

use super::rules::Rule;

/// For how long a lease is known after it expired or was settled, as the ledger promises.
const KNOWN_EXPIRED: i64 = 600_000;
const KNOWN_SETTLED: i64 = 300_000;

/// A broken rule, and what was seen.
pub(super) type Findings = Vec<(Rule, String)>;

/// What one pool's ledger must hold.
#[derive(Debug, Default)]
pub(super) struct Book {
    accounts: BTreeMap<String, Account>,
    /// The accounts of each candidate of each shard.
    candidates: BTreeMap<(String, String), Vec<String>>,
    leases: Vec<Lease>,
    numbers: BTreeMap<String, usize>,
    pub(super) granted: usize,
    pub(super) settled: usize,
}

impl Book {
    pub(super) fn apply(&mut self, spec: &ShardSpec) {
        for account in &spec.accounts {
            self.set_limits(&account.id, spec.generation, &account.limits, account.mode);
        }
        for candidate in &spec.candidates {
            let key = (spec.shard.clone(), candidate.name.clone());
            let accounts = candidate.limited.iter().chain(&candidate.sparse).cloned().collect();
            self.candidates.insert(key, accounts);
        }
    }

    fn set_limits(&mut self, id: &str, generation: i64, limits: &[LimitSpec], mode: Mode) {
        if !self.accounts.contains_key(id) {
            self.accounts.insert(id.to_owned(), Account::default());
        }
        let account = self.accounts.get_mut(id).expect("it was put there");
        if generation <= account.generation {
            return;
        }
        account.generation = generation;
        account.mode = mode;
        for window in account.windows.values_mut() {
            window.configured = UNLIMITED;
        }
        for &LimitSpec(dimension, span, limit) in limits {
            account.windows.entry((dimension, span)).or_default().configured = limit;
        }
    }

    /// Takes in a batch and its answers.
    pub(super) fn take_in(&mut self, batch: &Batch, reply: &Reply) -> Findings {
        let mut found = Findings::new();
        let calendar = Calendar::of(batch);
        for common in &batch.commons {
            self.set_limits(&common.id, common.generation, &common.limits, common.mode);
        }
        for (op, answer) in batch.settles.iter().zip(&reply.settles) {
            self.settle(op, answer.0, &answer.2, reply.now, &calendar, &mut found);
        }
        for (op, answer) in batch.renews.iter().zip(&reply.renews) {
            self.renew(&op.lease, op.ttl, answer.0, answer.1, reply.now, &mut found);
        }
        for (op, answer) in batch.acquires.iter().zip(&reply.acquires) {
            match answer.0 {
                AcquireState::Granted => self.grant(batch, op, answer, reply.now, &calendar, &mut found),
                AcquireState::Refused if answer.1 <= reply.now => {
                    found.push((Rule::RefusalInstant, format!("{} is refused until {}", op.lease, answer.1)));
                }
                AcquireState::Refused => {}
                AcquireState::Missing => {
                    found.push((Rule::Answers, format!("{}: a shard is missing", op.lease)))
                }
            }
        }
        found
    }

    fn settle(
        &mut self,
        op: &Settle,
        state: SettleState,
        memo: &str,
        now: Millis,
        calendar: &Calendar,
        found: &mut Findings,
    ) {
        let Some(&number) = self.numbers.get(&op.lease) else {
            if state != SettleState::Unknown {
                found.push((Rule::SettledOnce, format!("{} is settled and was never granted", op.lease)));
            }
            return;
        };
        let lease = &self.leases[number];
        let late = lease.expires_at <= now;
        match (&lease.state, state) {
            (State::Held, SettleState::Settled) if !late => {}
            (State::Held, SettleState::Late) if late => {}
            (State::Settled { .. }, SettleState::Settled | SettleState::Late) => {
                found.push((Rule::SettledOnce, format!("{} is settled again", op.lease)));
                return;
            }
            (State::Settled { memo: first, .. }, SettleState::Already) => {
                if memo != first {
                    found.push((Rule::FirstAdvice, format!("{} is told {memo:?}, not {first:?}", op.lease)));
                }
                return;
            }
            (State::Settled { at, .. }, SettleState::Unknown) if *at + KNOWN_SETTLED <= now => return,
            (State::Held, SettleState::Unknown) if lease.expires_at + KNOWN_EXPIRED <= now => return,
            (known, told) => {
                found.push((Rule::Remembered, format!("{} is {known:?} and told {told:?}", op.lease)));
                return;
            }
        }
        self.settled += 1;
        self.correct(number, op, calendar);
        self.cool(number, op, now, calendar);
        self.leases[number].state = State::Settled { memo: op.memo.clone(), at: now };
    }

    /// Corrects the charge of a lease, which ended.
    fn correct(&mut self, number: usize, op: &Settle, calendar: &Calendar) {
        let lease = &mut self.leases[number];
        for id in &lease.accounts {
            let account = self.accounts.get_mut(id).expect("what is charged is known");
            for ((dimension, span), window) in &mut account.windows {
                let charged = lease.amounts.of(*dimension);
                let used = match (op.charge, dimension) {
                    _ if *span == Span::Held => 0,
                    (Charge::Refund, _) => 0,
                    (Charge::TrueUp, Dimension::InputTokens) if op.input_tokens >= 0 => op.input_tokens,
                    (Charge::TrueUp, Dimension::TotalTokens) if op.total_tokens >= 0 => op.total_tokens,
                    (Charge::TrueUp, Dimension::Spend) if op.spend >= 0 => op.spend,
                    _ => charged,
                };
                window.change(lease.charge_end(*span, calendar), used - charged);
            }
        }
    }

    /// Notes what a report blocks, at the least, and that a probe ended.
    fn cool(&mut self, number: usize, op: &Settle, now: Millis, calendar: &Calendar) {
        let lease = &self.leases[number];
        for id in &lease.accounts {
            let account = self.accounts.get_mut(id).expect("what is charged is known");
            if account.probing && account.probe == Some(number) {
                account.probing = !op.clear;
                account.probe = None;
            }
            for block in op.blocks.iter().filter(|block| id.starts_with(&block.role)) {
                let mut until = (now + block.steps.iter().min().copied().unwrap_or(0)).min(FOREVER);
                if block.until_day_end {
                    until = until.max(calendar.day_end(lease.granted_at));
                }
                account.blocked_until = account.blocked_until.max(until);
                if block.probe && until > now {
                    account.probing = true;
                    account.probe = None;
                }
            }
            if id.starts_with("q/") {
                for &LimitSpec(dimension, span, limit) in &op.learned {
                    let window = account.windows.entry((dimension, span));
                    window.or_insert_with(Limit::unlimited).learned = Some(limit);
                }
            }
        }
    }

    fn renew(
        &mut self,
        id: &str,
        ttl: i64,
        state: RenewState,
        until: Millis,
        now: Millis,
        found: &mut Findings,
    ) {
        let Some(&number) = self.numbers.get(id) else {
            if state != RenewState::Unknown {
                found.push((Rule::Renewal, format!("{id} was never granted and is {state:?}")));
            }
            return;
        };
        let lease = &mut self.leases[number];
        let held = matches!(lease.state, State::Held) && lease.expires_at > now;
        match state {
            RenewState::Renewed if held && until >= lease.expires_at.max(now + ttl) => {
                let old = std::mem::replace(&mut lease.expires_at, until);
                for id in &lease.accounts {
                    let account = self.accounts.get_mut(id).expect("what is charged is known");
                    let windows = account.windows.iter_mut();
                    for ((dimension, _), window) in windows.filter(|((_, span), _)| *span == Span::Held) {
                        window.change(old, -lease.amounts.of(*dimension));
                        window.change(until, lease.amounts.of(*dimension));
                    }
                }
            }
            RenewState::Ended if !held => {}
            RenewState::Unknown if !held && lease.is_forgotten(now) => {}
            _ => found.push((
                Rule::Renewal,
                format!("{id}, {:?} until {}, is {state:?} until {until}", lease.state, lease.expires_at),
            )),
        }
    }

    fn grant(
        &mut self,
        batch: &Batch,
        op: &Acquire,
        answer: &Acquired,
        now: Millis,
        calendar: &Calendar,
        found: &mut Findings,
    ) {
        let number = self.leases.len();
        if self.numbers.insert(op.lease.clone(), number).is_some() {
            found.push((Rule::GrantedOnce, format!("{} is granted again", op.lease)));
        }
        let key = (batch.shards[op.shard].clone(), answer.2.clone());
        let Some(of_key) = self.candidates.get(&key) else {
            found.push((Rule::Answers, format!("{} gets {}, which is no candidate", op.lease, answer.2)));
            return;
        };
        if op.exclude.contains(&answer.2) || (!op.only.is_empty() && !op.only.contains(&answer.2)) {
            found.push((Rule::Answers, format!("{} gets {}, which it did not want", op.lease, answer.2)));
        }
        let commons = op.common.iter().map(|index| batch.commons[*index].id.clone());
        let mut lease = Lease {
            unique: op.lease.clone(),
            accounts: of_key.iter().cloned().chain(commons).collect(),
            granted_at: now,
            send_within: op.send_within,
            expires_at: answer.1,
            amounts: op.amounts,
            state: State::Held,
            caps: Vec::new(),
        };
        self.granted += 1;
        for id in &lease.accounts {
            let account = self.accounts.entry(id.clone()).or_default();
            if now < account.blocked_until {
                let until = account.blocked_until;
                found.push((
                    Rule::Cooldown,
                    format!("{} is granted and {id} is blocked until {until}", op.lease),
                ));
            }
            if account.probing {
                let out = account.probe.map(|probe| &self.leases[probe]);
                if let Some(out) = out.filter(|out| matches!(out.state, State::Held) && out.expires_at > now)
                {
                    let probe = &out.unique;
                    found
                        .push((Rule::Cooldown, format!("{} is granted while {probe} probes {id}", op.lease)));
                }
                account.probe = Some(number);
            }
            for (&(dimension, span), window) in &mut account.windows {
                let amount = op.amounts.of(dimension);
                window.forget(now);
                window.change(lease.charge_end(span, calendar), amount);
                let limit = window.limit();
                if account.mode != Mode::Hard || limit >= UNLIMITED || amount == 0 {
                    continue;
                }
                let used = window.used(now);
                if used > limit {
                    let what = format!("{} makes {used} of {limit} {dimension:?} {span:?} in {id}", op.lease);
                    found.push((Rule::WithinLimits, what));
                }
                if let Span::Trailing(length) = span {
                    lease.caps.push(Cap { account: id.clone(), dimension, length, limit });
                }
            }
        }
        self.leases.push(lease);
    }

    /// A request of the lease arrived at Google and costs so much: no window that ends now is over the limit that
    /// held when the last of its leases was granted.
    pub(super) fn arrived(&mut self, unique: &str, tokens: i64, now: Millis) -> Findings {
        let mut found = Findings::new();
        let Some(&number) = self.numbers.get(unique) else { return found };
        let lease = &self.leases[number];
        for cap in &lease.caps {
            let amount = match cap.dimension {
                Dimension::InputTokens => tokens.min(lease.amounts.input),
                other => lease.amounts.of(other),
            };
            // Tokens of answers and money are not told from the arrival.
            if matches!(cap.dimension, Dimension::TotalTokens | Dimension::Spend) {
                continue;
            }
            let account = self.accounts.get_mut(&cap.account).expect("what is charged is known");
            let window = account.windows.get_mut(&(cap.dimension, Span::Trailing(cap.length)));
            let window = window.expect("a cap is of a window");
            if let Some((sum, limit)) = window.arrive(now, cap.length, number, amount, cap.limit) {
                let what = format!(
                    "{sum} of {limit} {:?} within {} ms at {}, the last by {unique}",
                    cap.dimension, cap.length, cap.account
                );
                found.push((Rule::NoOverSpend, what));
            }
        }
        found
    }

    /// Compares every account of the ledger with the book.
    pub(super) fn audit(&mut self, kernel: &Kernel) -> Findings {
        let now = kernel.now;
        let mut found = Findings::new();
        for (id, account) in &mut self.accounts {
            let known = kernel.account(id);
            for ((dimension, span), window) in &mut account.windows {
                window.forget(now);
                let must = window.used(now);
                let theirs = known.and_then(|account| {
                    account.windows.iter().find(|known| (known.dimension, known.span) == (*dimension, *span))
                });
                let counts = theirs.map_or(0, |window| window.used(now));
                // A limit that is gone counts nothing, and holds for nobody.
                if counts != must && !(theirs.is_none() && window.limit() >= UNLIMITED) {
                    let rule = if *span == Span::Held { Rule::InFlight } else { Rule::Charges };
                    found.push((rule, format!("{id} counts {counts} {dimension:?} {span:?}, not {must}")));
                }
            }
        }
        found
    }

    /// The ids of all accounts.
    pub(super) fn account_ids(&self) -> Vec<String> {
        self.accounts.keys().cloned().collect()
    }
}
