//! What metrics and traces cost: the same load on a broker without them, and on one that pushes both to a collector.
//!
//! The collector is a part of this process and keeps nothing. It works on the machine that is measured, so what it
//! takes is counted as well, which a collector elsewhere would not be.

use super::{
    Error, Plan, Table,
    case::{Case, Ledger, Load},
    compare::{Spread, compare},
    mark::Mark,
    run::progress,
    table::Row,
    target::Target,
};
use crate::harness::collector::Collector;

/// Measures it for each ledger, with the fewest keys of the plan and with the most.
pub(super) async fn run(plan: &Plan, ratio: f64) -> Result<Table, Error> {
    let collector = Collector::start_forgetful().await;
    let env = |more: &[(&str, &str)]| {
        let mut plan = plan.clone();
        plan.broker_env.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        plan
    };
    let without = env(&[("OTEL_SDK_DISABLED", "true")]);
    let with = env(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url()),
        ("OTEL_METRIC_EXPORT_INTERVAL", "1000"),
        ("OTEL_TRACES_SAMPLER_ARG", &ratio.to_string()),
    ]);
    let mut rows = Vec::new();
    for ledger in [Ledger::Redis, Ledger::Embedded] {
        for &keys in &plan.keys {
            let cases: Vec<Case> =
                Case::of(ledger, keys).into_iter().filter(|case| plan.wants(case)).collect();
            if cases.is_empty() {
                continue;
            }
            progress(&format!("telemetry of {} with {keys} keys", ledger.name()));
            let base = Target::start(ledger, keys, &without).await?;
            let case = Target::start(ledger, keys, &with).await?;
            for of in cases {
                rows.push(row(&of, &compare(&base, &case, of.shape, of.load, plan).await?));
            }
        }
    }
    Ok(Table { rows, notes: notes(plan, ratio) })
}

/// Compared are processor times as well: on a busy machine they say more than the time that passed.
fn row(case: &Case, outcome: &super::compare::Comparison) -> Row {
    let each = |side: &super::compare::Side| side.cost.server_cpu / side.leases as f64;
    let ratio = outcome.ratio;
    let (base, slower) = match case.load {
        Load::Alone => (outcome.base.p50, ratio),
        Load::Saturated => (
            outcome.base.rate,
            Spread { median: 1.0 / ratio.median, least: 1.0 / ratio.greatest, greatest: 1.0 / ratio.least },
        ),
    };
    let cpu = each(&outcome.case) / each(&outcome.base);
    Row {
        keys: Some(case.keys),
        base: Some(base),
        ratio: Some(slower),
        marks: vec![Mark::of_telemetry(slower.median - 1.0), Mark::of_telemetry_cpu(cpu - 1.0)],
        ..Row::of_side(format!("telemetry/{}", case.name()), &outcome.case)
    }
}

fn notes(plan: &Plan, ratio: f64) -> Vec<String> {
    let Plan { tasks, connections, pairs, saturated_slice, alone_slice, .. } = plan;
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    vec![
        format!(
            "saturated: {tasks} callers over {connections} connections; {pairs} pairs of slices of {saturated_slice:?} \
             (alone {alone_slice:?}); {cores} cores for callers, servers and the collector."
        ),
        format!(
            "base: a broker that counts and records nothing (OTEL_SDK_DISABLED). measured: one that pushes metrics every \
             second and records {ratio} of the calls. ratio: time a lease takes, measured to base, the median of the \
             pairs; the marks give what it is above 1, of that and of the broker's processor time."
        ),
    ]
}
