//! One run: a fleet under load, faults one after the other, and the checks.

use std::{
    collections::BTreeMap,
    io,
    time::{Duration, Instant},
};

use keybroker_proto::v1::SettleState;
use tokio::runtime::Handle;

use super::{
    checker::{Arrival, Promise, Settled, Violation, acknowledged, exceeded},
    control::Control,
    ending::Witness,
    fault::Fault,
    fleet::Fleet,
    hosts::Hosts,
    interrupt,
    plan::{Plan, Strike},
    quota::{self, POOLS, SEND_WITHIN},
    strike::Struck,
    topology::Topology,
    worker::{What, now},
};

/// How long the fleet works after it has recovered, before the next fault or the end.
const CALM: Duration = Duration::from_millis(2_500);
/// How long after a worker was woken its requests may be late: those that it was about to send.
const AWAKENING: Duration = Duration::from_millis(100);
/// How long the ledger may be silent at the end: a primary that was woken may still be replaced.
const LATE_FAILOVER: Duration = Duration::from_secs(15);
/// How much longer than stated a recovery is waited for, so that the true time can be told.
const OVERTIME: Duration = Duration::from_secs(20);

/// One fault of a run and what came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Suffered {
    /// The fault.
    pub fault: Fault,
    /// When it began.
    pub from: i64,
    /// How long after it was healed everything was granted again; none if that was not seen.
    pub recovery: Option<Duration>,
}

/// What came of a run.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What was to happen.
    pub plan: Plan,
    /// What happened.
    pub suffered: Vec<Suffered>,
    /// What was broken.
    pub violations: Vec<Violation>,
    /// How many leases were granted.
    pub granted: usize,
    /// How many requests arrived at Gemini.
    pub arrived: usize,
    /// How many of them do not count, since their worker was frozen while it sent them.
    pub late: usize,
    /// How many leases were not looked for at the end, since a broker and a Redis that keeps nothing have ended: two
    /// failures.
    pub forgotten: usize,
    /// How long the run took.
    pub took: Duration,
    /// Why the run could not be carried out, if it could not.
    pub failed: Option<String>,
}

impl Outcome {
    /// The fault that a violation belongs to: the last one that had begun.
    pub fn blamed(&self, violation: &Violation) -> Option<Fault> {
        let at = violation.at.unwrap_or(i64::MAX);
        self.suffered.iter().rev().find(|suffered| suffered.from <= at).map(|suffered| suffered.fault)
    }

    /// How often a promise was broken.
    pub fn broken(&self, promise: Promise) -> usize {
        self.violations.iter().filter(|violation| violation.promise == promise).count()
    }
}

struct Run<'a> {
    runtime: &'a Handle,
    fleet: Fleet,
    outcome: Outcome,
    struck: Vec<(Strike, Struck)>,
}

/// Carries out a plan. What goes wrong is part of the outcome.
pub fn run(
    runtime: &Handle,
    plan: &Plan,
    network: bool,
    control: Option<Control>,
    evidence: Option<&std::path::Path>,
    keep: bool,
) -> Outcome {
    let began = Instant::now();
    let empty = Outcome {
        plan: plan.clone(),
        suffered: Vec::new(),
        violations: Vec::new(),
        granted: 0,
        arrived: 0,
        late: 0,
        forgotten: 0,
        took: Duration::ZERO,
        failed: None,
    };
    let started =
        Hosts::open(network.then_some(runtime)).and_then(|hosts| Fleet::start(runtime, hosts, plan, control));
    let mut outcome = match started {
        Err(error) => Outcome { failed: Some(error.to_string()), ..empty },
        Ok(fleet) => {
            let mut run = Run { runtime, fleet, outcome: empty, struck: Vec::new() };
            let went = run.go(plan, control);
            run.outcome.failed = went.err().map(|error| error.to_string());
            if let Some(folder) = evidence
                && (keep || !run.outcome.violations.is_empty() || run.outcome.failed.is_some())
            {
                run.keep(&folder.join(format!("seed-{}", plan.seed)));
            }
            run.outcome
        }
    };
    outcome.took = began.elapsed();
    outcome
}

impl Run<'_> {
    fn go(&mut self, plan: &Plan, control: Option<Control>) -> io::Result<()> {
        // Whatever is granted from now on is not in the snapshot; not even what it is counted on is.
        self.fleet.save_snapshot();
        if control == Some(Control::FastFrozenReplica) {
            let struck = self.fleet.begin_with_frozen_replicas(plan)?;
            self.recover(plan.strikes[0], struck)?;
        } else {
            self.fleet.begin(plan)?;
            interrupt::sleep(plan.warm_up / 4)?;
            if plan.persistent {
                self.fleet.save_snapshot();
            }
            interrupt::sleep(plan.warm_up - plan.warm_up / 4)?;
            if self.fleet.record.granted() == 0 {
                let why = self.fleet.record.failures(0);
                return Err(io::Error::other(format!("no lease was granted before any fault: {why:?}")));
            }
            for strike in &plan.strikes {
                let struck = self.fleet.suffer(strike)?;
                self.recover(*strike, struck)?;
            }
        }
        self.find(|fleet| {
            fleet.fallen().into_iter().map(|what| Violation::of(Promise::Running, what)).collect()
        });
        self.fleet.end_workers();
        self.check()
    }

    /// Waits for the recovery from a fault, and then lets the fleet work on.
    fn recover(&mut self, strike: Strike, struck: Struck) -> io::Result<()> {
        self.struck.push((strike, struck));
        let recovery = self.recovery(struck, strike.fault)?;
        self.outcome.suffered.push(Suffered { fault: strike.fault, from: struck.from, recovery });
        self.fleet.save_snapshot();
        interrupt::sleep(CALM)
    }

    fn find(&mut self, look: impl FnOnce(&mut Fleet) -> Vec<Violation>) {
        let found = look(&mut self.fleet);
        self.outcome.violations.extend(found);
    }

    /// Waits until every pool is granted leases and every broker grants them.
    fn recovery(&mut self, struck: Struck, fault: Fault) -> io::Result<Option<Duration>> {
        let stated = self.outcome.plan.recovers_within(fault);
        let until = Instant::now() + stated + OVERTIME;
        loop {
            let (pools, brokers) = self.fleet.record.first_grants(struck.healed);
            let whole = pools.len() == POOLS.len() && brokers.len() == self.fleet.brokers.len();
            let last = pools.values().chain(brokers.values()).max().filter(|_| whole);
            if let Some(last) = last {
                let recovery = Duration::from_micros(u64::try_from(last - struck.healed).unwrap_or(0));
                if recovery > stated {
                    let evidence =
                        format!("{fault}: recovered {recovery:?} after it was healed; {stated:?} is stated");
                    let late = Violation::of(Promise::Recovery, evidence);
                    self.outcome.violations.push(Violation { at: Some(struck.from), ..late });
                }
                return Ok(Some(recovery));
            }
            if Instant::now() > until {
                let missing = format!(
                    "pools that are granted leases: {:?} of {}, brokers that grant them: {:?} of {}",
                    pools.keys().collect::<Vec<_>>(),
                    POOLS.len(),
                    brokers.keys().collect::<Vec<_>>(),
                    self.fleet.brokers.len()
                );
                let why = self.fleet.record.failures(now() - 2_000_000);
                let evidence = format!(
                    "{fault}: not recovered {:?} after it was healed; {missing}; {why:?}",
                    stated + OVERTIME
                );
                let never = Violation::of(Promise::Recovery, evidence);
                self.outcome.violations.push(Violation { at: Some(struck.from), ..never });
                return Ok(None);
            }
            interrupt::sleep(Duration::from_millis(25))?;
        }
    }

    fn check(&mut self) -> io::Result<()> {
        self.check_arrivals();
        let said = self.fleet.record.all();
        self.outcome.granted = self.fleet.record.granted();
        for (lease, keys) in self.fleet.record.granted_twice() {
            let evidence = format!("{lease} was granted more than once, with {keys:?}");
            self.outcome.violations.push(Violation::of(Promise::GrantedOnce, evidence));
        }
        let mut acknowledged = acknowledged(&said);
        let forgotten = self.fleet.record.granted_before(self.forgotten_until());
        let all = acknowledged.len();
        acknowledged.retain(|lease, _| !forgotten.contains(*lease));
        self.outcome.forgotten = all - acknowledged.len();
        let unknown = i32::from(SettleState::UnknownLease);
        for (lease, settled) in &acknowledged {
            if settled.state == unknown {
                let evidence = format!("{lease} was granted, and is not known when it is reported");
                self.outcome.violations.push(Violation::of(Promise::NothingLost, evidence));
            }
        }
        self.find(|fleet| {
            fleet.panics().into_iter().map(|what| Violation::of(Promise::Running, what)).collect()
        });
        let kept = acknowledged.iter().filter(|(_, settled)| settled.state != unknown);
        let kept = kept.map(|(lease, settled)| (*lease, *settled)).collect();
        let well =
            i64::try_from(acknowledged.values().filter(|settled| settled.ok).count()).unwrap_or(i64::MAX);
        let unanswered = said.iter().filter(|said| matches!(said.what, What::Unanswered { .. })).count();
        let witnesses: Vec<String> =
            (0..self.fleet.brokers.len()).map(|number| self.fleet.broker_url(number)).collect();
        let told = self.runtime.block_on(async {
            let until = Instant::now() + LATE_FAILOVER;
            loop {
                match ask_at_the_end(&witnesses, &kept, (well, unanswered)).await {
                    Err(_) if Instant::now() < until => tokio::time::sleep(Duration::from_millis(250)).await,
                    told => return told,
                }
            }
        });
        match told {
            Ok(told) => {
                // What was acknowledged before a fault is lost by that fault.
                let lost_by = |at: i64| {
                    let after = self.struck.iter().map(|(_, struck)| struck.from).find(|from| *from >= at);
                    after.unwrap_or(at)
                };
                let told = told.into_iter();
                let told = told.map(|violation| Violation { at: violation.at.map(lost_by), ..violation });
                self.outcome.violations.extend(told);
            }
            Err(error) => {
                let evidence = format!("the ledger cannot be asked at the end: {error}");
                self.outcome.violations.push(Violation::of(Promise::Recovery, evidence));
            }
        }
        Ok(())
    }

    /// Up to when nobody needs to know what was granted: brokers that did have ended, and after them a Redis that
    /// keeps nothing.
    fn forgotten_until(&self) -> i64 {
        if self.outcome.plan.topology != Topology::StandaloneEmpty {
            return 0;
        }
        let before_last_end = self.struck.iter().rev().skip_while(|(strike, _)| !strike.fault.ends_primary());
        let ended = before_last_end.filter(|(strike, _)| strike.fault.ends_brokers());
        ended.map(|(_, struck)| struck.healed).max().unwrap_or(0)
    }

    fn check_arrivals(&mut self) {
        let log = self.fleet.gemini.log(0).entries;
        let workers = self.fleet.workers.len();
        let woken = self.struck.iter().filter(|(strike, _)| strike.fault == Fault::FreezeWorker);
        let woken: Vec<(String, i64, i64)> = woken
            .map(|(strike, struck)| {
                let awake = struck.healed + i64::try_from(AWAKENING.as_micros()).unwrap_or(0);
                (quota::model_of(strike.target % workers), struck.from, awake)
            })
            .collect();
        let late = |arrival: &Arrival| {
            woken
                .iter()
                .any(|(model, from, to)| arrival.model == *model && (from..=to).contains(&&arrival.unix))
        };
        let arrivals = Arrival::of(&log, late);
        self.outcome.arrived = Arrival::of(&log, |_| false).len();
        self.outcome.late = self.outcome.arrived - arrivals.len();
        let mut found = exceeded(&arrivals, &quota::windows());
        for deployed in self.struck.iter().filter_map(|(_, struck)| struck.deployed) {
            let from = deployed + i64::try_from(SEND_WITHIN.as_micros()).unwrap_or(0);
            let after: Vec<Arrival> =
                arrivals.iter().filter(|arrival| arrival.unix >= from).cloned().collect();
            found.extend(exceeded(&after, &quota::deployed_windows()).into_iter().map(|violation| {
                let evidence = format!("after the limits were lowered: {}", violation.evidence);
                Violation { evidence, ..violation }
            }));
        }
        for refused in log.iter().filter(|entry| entry.status == 429) {
            if late(&Arrival {
                at: refused.micros,
                unix: refused.unix_micros,
                project: refused.project.to_string(),
                model: refused.model.clone(),
            }) {
                continue;
            }
            let evidence = format!("Gemini refused a request of {} with 429", refused.project);
            found.push(Violation {
                at: Some(refused.unix_micros),
                ..Violation::of(Promise::NoOverSpend, evidence)
            });
        }
        self.outcome.violations.extend(found);
    }

    /// Copies the logs, and writes down what the workers said.
    fn keep(&self, folder: &std::path::Path) {
        let kept = (|| {
            std::fs::create_dir_all(folder)?;
            for entry in std::fs::read_dir(self.fleet.hosts.folder())? {
                let path = entry?.path();
                if path.is_file()
                    && let Some(name) = path.file_name()
                {
                    std::fs::copy(&path, folder.join(name))?;
                }
            }
            let said = serde_json::to_string(&self.fleet.record.all())?;
            std::fs::write(folder.join("workers.json"), said)?;
            let log = serde_json::to_string(&self.fleet.gemini.log(0).entries)?;
            std::fs::write(folder.join("gemini.json"), log)
        })();
        if let Err(error) = kept {
            tell(&format!("the evidence cannot be kept in {}: {error}", folder.display()));
        }
    }
}

/// What the ledger says at the end: of the leases that were reported and acknowledged, of how many are known to have
/// been answered well, and of how many reports got no answer.
async fn ask_at_the_end(
    witnesses: &[String],
    kept: &BTreeMap<&str, Settled>,
    (well, unanswered): (i64, usize),
) -> Result<Vec<Violation>, Box<dyn std::error::Error + Send + Sync>> {
    let witness = witness(witnesses).await?;
    let mut told = witness.lost(kept).await?;
    let used = witness.used_well().await?;
    if used < well {
        let evidence = format!(
            "{well} leases were reported as answered well and acknowledged ({unanswered} reports were not \
             acknowledged); the usage has {used}"
        );
        told.push(Violation::of(Promise::NothingLost, evidence));
    }
    told.extend(witness.gauges().await?);
    Ok(told)
}

async fn witness(urls: &[String]) -> Result<Witness, Box<dyn std::error::Error + Send + Sync>> {
    for url in urls {
        let witness = Witness::at(url)?;
        if witness.answers().await {
            return Ok(witness);
        }
    }
    Err("no broker answers".into())
}

/// Says something beside the table.
pub fn tell(line: &str) {
    use std::io::Write;
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(io::stderr(), "chaos: {line}");
}
