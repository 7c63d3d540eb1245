//! What memory a broker needs for itself, a key, a connection and a lease, and Redis for a lease.

use std::time::Duration;

use super::{
    Error,
    case::{Ledger, Shape},
    load::Callers,
    plan::Plan,
    table::Row,
    target::Target,
};

/// How many connections are opened to know what one needs.
const CONNECTIONS: usize = 1000;
/// How long each of them makes calls.
const CALLS: Duration = Duration::from_millis(200);
/// For how long leases are taken and reported, in slices of saturation.
const SLICES: u32 = 8;

/// Memory of a broker by itself, and what each of many adds to it; in the column of bytes.
pub(super) async fn measure(ledger: Ledger, plan: &Plan) -> Result<Vec<Row>, Error> {
    // As its image has it: huge pages are counted whole, however little of one is used.
    let mut broker_env = plan.broker_env.clone();
    broker_env.push(("MIMALLOC_ALLOW_THP".to_owned(), "0".to_owned()));
    let plan = &Plan { filled: false, connections: 1, broker_env, ..plan.clone() };
    let (Some(&few), Some(&many)) = (plan.keys.first(), plan.keys.last()) else { return Ok(Vec::new()) };
    let row = |what: &str, keys, bytes| Row {
        name: format!("{}/memory/{what}", ledger.name()),
        keys: Some(keys),
        bytes: Some(bytes),
        ..Row::default()
    };

    let target = Target::start(ledger, few, plan).await?;
    let idle = target.meter.own_memory()?;
    let mut rows = vec![row("broker", few, idle)];
    if many > few {
        let larger = Target::start(ledger, many, plan).await?.meter.own_memory()?;
        rows.push(row("key", many, (larger - idle) / (many - few) as f64));
    }

    let slice = target.callers.run(Shape::AcquireReport, plan.tasks, plan.saturated_slice * SLICES).await?;
    let settled = target.meter.own_memory()?;
    rows.push(row("broker/lease", few, (settled - idle) / slice.leases as f64));
    if let Some(bytes) = target.meter.bytes_per_lease()? {
        rows.push(row("redis/lease", few, bytes));
    }

    let target = Target::start(ledger, few, plan).await?;
    let idle = target.meter.own_memory()?;
    let callers = Callers::connect(&target.url, CONNECTIONS).await?;
    callers.run(Shape::AcquireReport, CONNECTIONS, CALLS).await?;
    let connected = target.meter.own_memory()?;
    rows.push(row("connection", few, (connected - idle) / CONNECTIONS as f64));
    Ok(rows)
}
