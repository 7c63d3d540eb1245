//! Many runs: which seeds, how many at a time, and what is said of them.

use std::{
    io::Write,
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

use super::{
    checker::Promise,
    clock::Clock,
    hosts::Hosts,
    interrupt,
    options::{Network, Options},
    plan::{Choice, Plan},
    run::{Outcome, run, tell},
    table::Table,
};

/// Runs what the options say.
pub fn campaign(options: &Options) -> ExitCode {
    match try_campaign(options) {
        Ok(code) => code,
        Err(error) => {
            tell(&error.to_string());
            ExitCode::from(2)
        }
    }
}

#[derive(Default)]
struct Tally {
    table: Table,
    broken: Vec<u64>,
    caught: Vec<u64>,
    failed: Vec<u64>,
}

fn try_campaign(options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
    let choice = choice(options)?;
    let seeds: Vec<u64> = match options.seed.as_slice() {
        [] => (options.first..options.first.saturating_add(options.seeds)).collect(),
        named => named.to_vec(),
    };
    let plan = |seed| Plan::of(seed, choice).ok_or("this fault cannot happen on this topology, or not here");
    if options.plan {
        for seed in seeds {
            print(&format!("seed {seed}: {}", plan(seed)?));
        }
        return Ok(ExitCode::SUCCESS);
    }
    let plans = seeds.into_iter().map(plan).collect::<Result<Vec<_>, _>>()?;
    let runtime = Runtime::new()?;
    watch_for_the_end(&runtime)?;
    let tally = Mutex::new(Tally::default());
    let next = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for _ in 0..options.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let Some(plan) = plans.get(next.fetch_add(1, Ordering::Relaxed)) else { return };
                    if interrupt::is_interrupted() {
                        return;
                    }
                    let evidence = options.evidence.as_deref();
                    let outcome =
                        run(runtime.handle(), plan, choice.network, options.control, evidence, options.keep);
                    if !interrupt::is_interrupted() {
                        tally.lock().unwrap_or_else(PoisonError::into_inner).add(&outcome, options);
                    }
                }
            });
        }
    });
    let tally = tally.into_inner().unwrap_or_else(PoisonError::into_inner);
    tally.conclude(options)
}

fn choice(options: &Options) -> Result<Choice, Box<dyn std::error::Error>> {
    let network = options.network == Network::Namespaces;
    if network && let Some(obstacle) = Hosts::obstacle() {
        return Err(obstacle.into());
    }
    let clocks = Clock::library().is_some();
    if !clocks {
        tell("libfaketime is not installed (scripts/setup installs it): faults of clocks are left out");
    }
    let (topology, fault) = match options.control {
        Some(control) => (Some(control.topology()), Some(control.fault())),
        None => (options.topology, options.fault),
    };
    Ok(Choice { topology, fault, network, clocks, strikes: options.strikes.into() })
}

/// Ends all runs in good order on Ctrl-C or SIGTERM.
fn watch_for_the_end(runtime: &Runtime) -> std::io::Result<()> {
    let _inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::interrupt())?;
    runtime.spawn(async move {
        tokio::select! {
            _ = terminate.recv() => (),
            _ = hangup.recv() => (),
        }
        interrupt::interrupt();
    });
    Ok(())
}

impl Tally {
    fn add(&mut self, outcome: &Outcome, options: &Options) {
        let Plan { seed, topology, .. } = outcome.plan;
        let took = outcome.took.as_secs_f64();
        print(&format!("seed {seed}: {}", outcome.plan));
        if let Some(why) = &outcome.failed {
            print(&format!("  FAILED after {took:.1} s: {why}"));
            self.failed.push(seed);
            return;
        }
        let recoveries = outcome.suffered.iter().map(|suffered| match suffered.recovery {
            Some(recovery) => format!("{} {:.2} s", suffered.fault, recovery.as_secs_f64()),
            None => format!("{} never", suffered.fault),
        });
        let recoveries = recoveries.collect::<Vec<_>>().join(", ");
        let verdict = if outcome.violations.is_empty() { "kept" } else { "BROKEN" };
        print(&format!(
            "  {verdict} in {took:.1} s: {} leases granted, {} requests at Gemini; recovered: {recoveries}",
            outcome.granted, outcome.arrived
        ));
        for violation in outcome.violations.iter().take(20) {
            let fault =
                outcome.blamed(violation).map_or("no fault yet".to_owned(), |fault| fault.to_string());
            print(&format!(
                "  {:?} by {fault} on {topology}, seed {seed}: {}",
                violation.promise, violation.evidence
            ));
        }
        if outcome.violations.len() > 20 {
            print(&format!("  and {} more", outcome.violations.len() - 20));
        }
        if !outcome.violations.is_empty() {
            self.broken.push(seed);
            print(&format!("  again: make chaos SEED={seed}{}", again(options)));
        }
        if outcome.broken(Promise::NoOverSpend) > 0 {
            self.caught.push(seed);
        }
        self.table.add(outcome);
    }

    fn conclude(&self, options: &Options) -> Result<ExitCode, Box<dyn std::error::Error>> {
        let markdown = self.table.markdown();
        print(&format!("\n{markdown}\n{}", self.table.summary()));
        if let Some(file) = &options.markdown {
            std::fs::write(file, format!("{markdown}\n{}\n", self.table.summary()))?;
        }
        if let Some(file) = &options.json {
            std::fs::write(file, self.table.json()?)?;
        }
        if interrupt::is_interrupted() {
            return Err("interrupted".into());
        }
        if !self.failed.is_empty() {
            return Err(format!("these seeds could not be run: {:?}", self.failed).into());
        }
        let good = match options.control {
            None => {
                if !self.broken.is_empty() {
                    print(&format!("BROKEN by seeds {:?}", self.broken));
                }
                self.broken.is_empty()
            }
            Some(control) => {
                let caught = !self.caught.is_empty();
                let word = if caught { "caught" } else { "NOT CAUGHT" };
                print(&format!(
                    "control {control:?} is {word}: over-spend was seen with seeds {:?}",
                    self.caught
                ));
                caught
            }
        };
        Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// What must be said again to have the same plan for a seed.
fn again(options: &Options) -> String {
    let named = |name: &str, value: Option<String>| value.map(|value| format!("--{name} {value}"));
    let strikes = (options.strikes != 2).then(|| options.strikes.to_string());
    let parts = [
        named("topology", options.topology.map(|topology| topology.to_string())),
        named("fault", options.fault.map(|fault| fault.to_string())),
        named("strikes", strikes),
    ];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { String::new() } else { format!(" ARGS=\"{}\"", parts.join(" ")) }
}

fn print(line: &str) {
    // Whoever reads may have gone away; the exit code says it too.
    let _ = writeln!(std::io::stdout(), "{line}");
}
