//! What is checked when all is over.

use keybroker::ledger::{Batch, Millis, Span, calendar::Calendar};

use super::Run;
use crate::sim::{
    broker::millis,
    rules::Rule,
    setting::{HOUR, MINUTE, MODELS, SECOND},
};

impl Run {
    /// Everything has ended: so must have every charge, and the books must be balanced.
    pub(in crate::sim) fn settle_up(&mut self) {
        self.seam.audit();
        self.take_findings();
        self.now += HOUR;
        for pool in 0..self.seam.pools.len() {
            let nothing = Batch::empty("", self.now, &Calendar::around(self.now));
            self.seam.execute(pool, self.now, &nothing);
            let ledger = &self.seam.pools[pool];
            let in_flight = ledger.book.account_ids().into_iter().filter_map(|id| {
                let account = ledger.kernel.account(&id)?;
                let held = account.windows.iter().filter(|window| window.span == Span::Held);
                let held: i64 = held.map(|window| window.used(ledger.kernel.now)).sum();
                (held != 0).then(|| format!("{held} in flight at {id} after everything ended"))
            });
            let in_flight: Vec<String> = in_flight.collect();
            self.seam.found.extend(in_flight.into_iter().map(|what| (Rule::InFlight, what)));
        }
        self.seam.audit();
        self.take_findings();
    }

    /// How much is used of what there is, where somebody wanted more all the time; how many quotas that was.
    pub(in crate::sim) fn check_utilisation(&mut self) -> usize {
        if !self.setting.calm {
            return 0;
        }
        let (mut seen, mut low) = (0, Vec::new());
        let end = self.setting.traffic_until;
        for quota in &self.quotas {
            let pool = self.setting.catalogues[0]
                .0
                .pools
                .values()
                .position(|pool| pool.projects.iter().any(|project| project.id == quota.project));
            let pool = pool.expect("every project is in a pool");
            let config = self.setting.pool(0, pool);
            let model = MODELS.iter().position(|model| *model == quota.model);
            let model = model.expect("every quota is of a model");
            let tokens = self.setting.quotas.iter().any(|(project, model, limits)| {
                *project == quota.project && *model == quota.model && limits.input_tpm.is_some()
            });
            let dry = self.demand.get(&(pool, model)).map_or(Millis::MAX, |demand| demand.dry_until(end));
            if tokens || dry > 0 {
                continue;
            }
            seen += 1;
            // A charge lasts a minute, the time to send and a sub-bucket; then all of the limit is there again.
            let lasts = MINUTE + SECOND + millis(config.send_within);
            let windows = (end - self.setting.start - 10 * SECOND) / lasts + 1;
            let limit = quota.rpm * u64::from(100 - config.margin_percent) / 100;
            let possible = limit * windows.unsigned_abs();
            if quota.served * 100 < possible * 85 {
                let (project, model) = (&quota.project, &quota.model);
                low.push(format!("{project} {model} served {} of {possible}", quota.served));
            }
        }
        for what in low {
            self.broken(Rule::Utilisation, what);
        }
        seen
    }
}
