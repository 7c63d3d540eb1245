//! Goes through the plan.

use std::io::Write;

use tempfile::TempDir;

use super::{
    Error, Plan, Table,
    case::{Case, Ledger, Load, Shape},
    compare::{Comparison, Side, Spread, compare},
    echo::EchoProcess,
    mark::Mark,
    memory, raw_redis,
    table::Row,
    target::Target,
    telemetry,
};

/// The keys of the catalogue that the batch script is called with.
const SCRIPT_KEYS: usize = 100;

/// Measures everything that the plan names.
///
/// # Errors
/// If something cannot be started, or a call fails.
pub async fn run(plan: &Plan) -> Result<Table, Error> {
    if let Some(ratio) = plan.telemetry {
        return telemetry::run(plan, ratio).await;
    }
    let echo = EchoProcess::start()?;
    let ceiling = Target::of_process(&echo.url, echo.id(), plan.connections).await?;
    let mut bench = Bench { plan, ceiling, ceilings: Vec::new(), rows: Vec::new() };
    bench.raw_redis().await?;
    for ledger in [Ledger::Redis, Ledger::Embedded] {
        bench.ledger(ledger).await?;
    }
    let mut rows = bench.ceiling_rows()?;
    rows.append(&mut bench.rows);
    Ok(Table { rows, notes: notes(plan) })
}

struct Bench<'a> {
    plan: &'a Plan,
    ceiling: Target,
    ceilings: Vec<(Shape, Load, Side)>,
    rows: Vec<Row>,
}

impl Bench<'_> {
    async fn raw_redis(&mut self) -> Result<(), Error> {
        let length = self.plan.saturated_slice;
        if self.plan.wants_name("redis/evalsha") {
            progress("Redis by itself");
            self.rows.extend(raw_redis::smallest_script(length)?);
        }
        if self.plan.wants_name("redis/batch-script") {
            let folder = TempDir::with_prefix("keybroker-bench")?;
            self.rows.extend(raw_redis::batch_script(folder.path(), SCRIPT_KEYS, length).await?);
        }
        Ok(())
    }

    async fn ledger(&mut self, ledger: Ledger) -> Result<(), Error> {
        let plan = self.plan;
        let growth = format!("{}/growth", ledger.name());
        let measures_growth = plan.wants_name(&growth) && plan.keys.len() > 1;
        let mut fewest = None;
        for (position, &keys) in plan.keys.iter().enumerate() {
            let cases: Vec<Case> =
                Case::of(ledger, keys).into_iter().filter(|case| plan.wants(case)).collect();
            let is_last = position + 1 == plan.keys.len();
            if cases.is_empty() && !(measures_growth && (position == 0 || is_last)) {
                continue;
            }
            progress(&format!("{} with {keys} keys", ledger.name()));
            let target = Target::start(ledger, keys, plan).await?;
            for case in &cases {
                let outcome = compare(&self.ceiling, &target, case.shape, case.load, plan).await?;
                let bytes = if case.load == Load::Saturated { target.meter.bytes_per_lease()? } else { None };
                self.add(case, &outcome, bytes);
            }
            if measures_growth && is_last {
                if let Some((few, base)) = &fewest {
                    let outcome = compare(base, &target, Shape::Acquire, Load::Saturated, plan).await?;
                    self.rows.push(growth_row(&format!("{growth}/{few}-to-{keys}"), keys, &outcome));
                }
            } else if position == 0 {
                fewest = Some((keys, target));
            }
        }
        if plan.wants_name(&format!("{}/memory", ledger.name())) {
            progress(&format!("memory, {}", ledger.name()));
            self.rows.extend(memory::measure(ledger, plan).await?);
        }
        Ok(())
    }

    fn add(&mut self, case: &Case, outcome: &Comparison, bytes: Option<f64>) {
        let mut row = Row::of_case(case, outcome);
        // Only a run of acquires alone leaves nothing but live leases behind.
        if case.shape == Shape::Acquire && case.load == Load::Saturated {
            // A file that grew by nothing had room left: that says nothing of a lease.
            let grown =
                (outcome.case.cost.file > 0.0).then(|| outcome.case.cost.file / outcome.case.leases as f64);
            row.bytes = bytes.or(grown);
        }
        self.ceilings.push((case.shape, case.load, outcome.base));
        self.rows.push(row);
    }

    /// The ceiling as it stood over the whole run.
    fn ceiling_rows(&self) -> Result<Vec<Row>, Error> {
        let mut rows = Vec::new();
        for shape in [Shape::Acquire, Shape::AcquireReport] {
            for load in [Load::Alone, Load::Saturated] {
                let sides = self.ceilings.iter().filter(|(s, l, _)| (*s, *l) == (shape, load));
                let sides: Vec<Side> = sides.map(|(.., side)| *side).collect();
                let Some(last) = sides.last() else { continue };
                let median = |of: fn(&Side) -> f64| {
                    Spread::of(sides.iter().map(of).collect()).map(|spread| spread.median)
                };
                let mut all = Side {
                    rate: median(|side| side.rate).ok_or("no ceiling")?,
                    p50: median(|side| side.p50).ok_or("no ceiling")?,
                    p99: median(|side| side.p99).ok_or("no ceiling")?,
                    ..*last
                };
                (all.leases, all.cost) = (0, super::cost::Cost::default());
                for side in &sides {
                    all.leases += side.leases;
                    all.cost += side.cost;
                }
                rows.push(Row::of_side(format!("echo/{}/{}", shape.name(), load.name()), &all));
            }
        }
        Ok(rows)
    }
}

fn growth_row(name: &str, keys: usize, outcome: &Comparison) -> Row {
    // Rates are compared, and what is asked is by how much a lease takes longer.
    let ratio = outcome.ratio;
    let slower =
        Spread { median: 1.0 / ratio.median, least: 1.0 / ratio.greatest, greatest: 1.0 / ratio.least };
    Row {
        keys: Some(keys),
        base: Some(outcome.base.rate),
        ratio: Some(slower),
        marks: vec![Mark::of_growth(slower.median)],
        ..Row::of_side(name.to_owned(), &outcome.case)
    }
}

fn notes(plan: &Plan) -> Vec<String> {
    let Plan { tasks, connections, pairs, saturated_slice, alone_slice, .. } = plan;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let windows =
        if plan.filled { "windows filled as by a minute of work" } else { "windows empty at the start" };
    vec![
        format!(
            "saturated: {tasks} callers over {connections} connections; {pairs} pairs of slices of {saturated_slice:?} \
             (alone {alone_slice:?}); {cores} cores for callers and servers; {windows}."
        ),
        "ratio: the median over the pairs, alone of p50 to the echo's p50, saturated of leases/s to the echo's; \
         growth of time per lease, many keys to few. base is the echo's figure, or that of few keys."
            .to_owned(),
        "cpu, calls and script time (µs) are per lease; a lease of acquire+report is two calls to the broker. bytes: \
         what a live lease holds in Redis, or by how much the embedded file grew a lease (nothing where it had room)."
            .to_owned(),
        "memory, in bytes: a broker without the pages of its program, and what each key with its project, each connection \
         and each lease adds to it; redis/lease is what Redis holds of one until five minutes after its report."
            .to_owned(),
    ]
}

pub(super) fn progress(text: &str) {
    // Standard error may be closed; the table does not depend on it.
    let _ = writeln!(std::io::stderr(), "measuring {text}");
}
