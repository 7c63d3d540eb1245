//! The command line: which seeds are run, and what is printed of them.

use std::{
    io::{self, Write},
    ops::RangeInclusive,
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

use clap::Parser;

use super::{
    log::first_difference,
    rules::Rule,
    run::{Counts, Options, Outcome, simulate},
    scale::{self, ScaleArgs},
    variant::Variant,
};

/// Within how many seeds a wrong ledger must be found.
const MOST_FOR_WRONG: u64 = 100;

/// Simulates brokers, workers, Google and the network between them in virtual time, and checks every rule.
#[derive(Debug, Clone, Parser)]
#[command(name = "sim")]
pub struct Args {
    /// Run this seed twice, compare the runs, and print the log with --log
    #[arg(long, conflicts_with = "seeds")]
    pub seed: Option<u64>,
    /// Run these seeds, such as 1..1000
    #[arg(long, value_parser = range)]
    pub seeds: Option<RangeInclusive<u64>>,
    /// Print every line of the log
    #[arg(long, requires = "seed")]
    pub log: bool,
    /// Run wrong ledgers, and print which seed finds each by which rule
    #[arg(long, conflicts_with_all = ["seed", "seeds"])]
    pub wrong: bool,
    /// A day of a large fleet instead.
    #[command(flatten)]
    pub scale: ScaleArgs,
}

fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let fault = || format!("{text:?} is no range of seeds; write it as 1..1000");
    let (from, to) = text.split_once("..").ok_or_else(fault)?;
    let (from, to) = (from.parse().map_err(|_| fault())?, to.parse().map_err(|_| fault())?);
    if from <= to {
        Ok(from..=to)
    } else {
        Err(format!("{from} comes after {to}; the smaller seed goes first"))
    }
}

/// Does what the arguments say; whether every rule held.
///
/// # Errors
/// If nothing can be printed.
pub fn run(args: &Args, out: &mut dyn Write) -> io::Result<bool> {
    if args.scale.scale {
        return scale::run(&args.scale, out);
    }
    if args.wrong {
        return run_wrong(out);
    }
    match (args.seed, &args.seeds) {
        (Some(seed), _) => run_one(seed, args.log, out),
        (None, Some(seeds)) => run_many(seeds.clone(), out),
        (None, None) => run_many(1..=200, out),
    }
}

fn run_one(seed: u64, log: bool, out: &mut dyn Write) -> io::Result<bool> {
    let options = Options { whole_log: true, ..Options::of(seed) };
    let (one, other) = (simulate(options), simulate(options));
    if log {
        for line in &one.log.whole {
            writeln!(out, "{line}")?;
        }
    }
    let same = first_difference(&one.log.whole, &other.log.whole);
    if let Some((line, one, other)) = &same {
        writeln!(out, "seed {seed} differs from itself in line {line}:\n  {one}\n  {other}")?;
    }
    print_failure(&one, out)?;
    writeln!(out, "seed {seed}: {} lines, hash {}", one.log.lines, one.log.hash)?;
    writeln!(out, "{}", in_words(&one.counts))?;
    Ok(same.is_none() && one.violations.is_empty())
}

/// The first seed that finds the wrong ledger by the rule, of so many.
pub fn first_to_find(variant: Variant, rule: Rule, seeds: u64) -> Option<u64> {
    (1..=seeds).find(|seed| {
        let outcome = simulate(Options { variant, ..Options::of(*seed) });
        outcome.violations.iter().any(|violation| violation.rule == rule)
    })
}

fn run_wrong(out: &mut dyn Write) -> io::Result<bool> {
    let mut all = true;
    for (variant, rules) in Variant::WRONG {
        for rule in rules {
            let name = format!("{variant:?}");
            let by = rule.sentence();
            match first_to_find(variant, *rule, MOST_FOR_WRONG) {
                Some(seed) => writeln!(out, "{name:<24} seed {seed:>3}: {by}")?,
                None => {
                    all = false;
                    writeln!(out, "{name:<24} is not found: {by}")?;
                }
            }
        }
    }
    Ok(all)
}

fn run_many(seeds: RangeInclusive<u64>, out: &mut dyn Write) -> io::Result<bool> {
    let began = Instant::now();
    let number = (seeds.end() - seeds.start()).saturating_add(1);
    let outcomes = simulate_all(seeds);
    let mut total = Counts::default();
    let mut failed = 0;
    for outcome in &outcomes {
        total.add(&outcome.counts);
        if !outcome.violations.is_empty() {
            failed += 1;
            print_failure(outcome, out)?;
        }
    }
    writeln!(out, "{number} seeds in {:.1} s, {failed} failed", began.elapsed().as_secs_f64())?;
    writeln!(out, "{}", in_words(&total))?;
    Ok(failed == 0)
}

/// Runs seeds, each in one thread, as many at once as there are processors; the outcomes in the order of seeds.
pub fn simulate_all(seeds: RangeInclusive<u64>) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let next = AtomicU64::new(*seeds.start());
    let mut outcomes: Vec<Outcome> = std::thread::scope(|scope| {
        let work = || {
            let mut outcomes = Vec::new();
            loop {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed > *seeds.end() {
                    return outcomes;
                }
                outcomes.push(simulate(Options::of(seed)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("simulate catches panics")).collect()
    });
    outcomes.sort_by_key(|outcome| outcome.seed);
    outcomes
}

/// What somebody needs who looks for the cause.
fn print_failure(outcome: &Outcome, out: &mut dyn Write) -> io::Result<()> {
    if outcome.violations.is_empty() {
        return Ok(());
    }
    writeln!(out, "{}", failure(outcome))
}

/// The seed, the violated rules, the last events, and the command that replays it.
pub fn failure(outcome: &Outcome) -> String {
    let seed = outcome.seed;
    let mut text = format!("seed {seed} breaks {} rules:\n", outcome.violations.len());
    for violation in &outcome.violations {
        text.push_str(&format!("  {violation}\n"));
    }
    if outcome.violations.iter().all(|violation| violation.rule != Rule::Starvation) {
        text.push_str("the last events:\n");
    } else {
        text.push_str("the last events, long after:\n");
    }
    for line in &outcome.log.recent {
        text.push_str(&format!("  {line}\n"));
    }
    text.push_str(&format!("replay it: make sim SEED={seed} ARGS=--log"));
    text
}

fn in_words(counts: &Counts) -> String {
    format!(
        "{} leases granted, {} reached a worker, {} settled, {} requests brought to an end; {} operations in {} calls; \
         {} refusals and {} utilisations checked; the longest wait was {:.1} s",
        counts.granted,
        counts.leases,
        counts.settled,
        counts.finished,
        counts.operations,
        counts.calls,
        counts.checked_refusals,
        counts.utilisations,
        counts.longest_wait as f64 / 1_000.0
    )
}
