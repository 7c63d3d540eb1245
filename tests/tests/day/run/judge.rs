//! What is found, at times and in the end.

use keybroker::ledger::Span;

use super::Run;
use crate::{usage, verdict::Verdict};

impl Run<'_> {
    /// Compares every gauge of the ledger with what is in flight.
    pub(super) fn check_gauges(&mut self) {
        let now = self.now;
        for pool in &self.pools {
            let ids: Vec<String> = pool.accounts.iter().cloned().collect();
            let accounts = self.ledgers.accounts(&pool.name, now, &ids);
            for (id, account) in ids.iter().zip(accounts) {
                let Some(account) = account else { continue };
                for window in account.windows.iter().filter(|window| window.span == Span::Held) {
                    let owner = match id.split_once('/') {
                        Some(("c", consumer)) => format!("{consumer} in {}", pool.name),
                        Some((_, of_model)) => of_model.to_owned(),
                        None => id.clone(),
                    };
                    let truth = self.holds.in_flight(&owner, now);
                    if window.used(now) != truth {
                        let used = window.used(now);
                        self.gauges.push(format!("{now}: {id} of {} has {used}, not {truth}", pool.name));
                    }
                }
            }
        }
    }

    pub(super) fn judge(self) -> Verdict {
        let day = self.stretch.day;
        let mut usage = Vec::new();
        let mut counts = self.counts;
        for pool in &self.pools {
            let told = self.ledgers.usage(&pool.name, &[day.dawn, day.dusk, day.day_end(day.dusk)]);
            counts.usage_rows += told.len();
            usage.extend(usage::differences(&self.rows[&pool.name], &told));
        }
        (counts.limits_reached, counts.limits) = self.holds.reached();
        let sources: Vec<_> = self.lanes.into_iter().map(|lane| lane.source).collect();
        let mut wrong = self.wrong;
        wrong.extend(
            self.holds.not_flagged.iter().map(|what| format!("over the plan and not flagged: {what}")),
        );
        Verdict {
            our_fault: self.google.ours_at_fault,
            over: self.holds.over(),
            wrong,
            usage,
            gauges: self.gauges,
            lines: self.supply.lines(self.setting, day, &sources),
            refusals: self.google.refusals,
            counts,
            trace: self.trace,
        }
    }
}
