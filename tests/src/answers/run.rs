//! Plays all rows on both ledgers and prints what came of each.

use std::{
    any::Any,
    process::ExitCode,
    time::{Duration, Instant},
};

use comfy_table::{ContentArrangement, Table, TableComponent, presets::UTF8_HORIZONTAL_ONLY};
use futures_util::StreamExt;
use tokio::{runtime::Handle, time::timeout};

use super::{beyond::check, row::Row, table::ROWS};
use crate::harness::rig::Backing;

/// No row takes longer, unless something hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many rows at a time: most of their time is waiting.
const AT_ONCE: usize = 4;

/// Plays all rows; the exit code is 1 if one of them is not kept.
#[allow(clippy::print_stdout, clippy::print_stderr, reason = "the table is what the command is for")]
pub async fn run() -> ExitCode {
    let begun = Instant::now();
    // Where each check failed, in a line; the reasons come together below the table.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("not kept: {}", panic.location().map(ToString::to_string).unwrap_or_default());
    }));
    let outcomes: Vec<[Result<(), String>; 2]> = futures_util::stream::iter(&ROWS)
        .map(|row| async { [outcome(row, Backing::Embedded).await, outcome(row, Backing::Redis).await] })
        .buffered(AT_ONCE)
        .collect()
        .await;
    println!("{}", table(&outcomes));
    let mut broken = 0;
    for (row, outcomes) in ROWS.iter().zip(&outcomes) {
        for (ledger, outcome) in ["embedded", "Redis"].iter().zip(outcomes) {
            if let Err(reason) = outcome {
                broken += 1;
                println!("row {} on the {ledger} ledger: {reason}", row.number);
            }
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    if broken == 0 {
        println!("OK: all 23 rows are kept on both ledgers ({seconds:.1} s).");
        ExitCode::SUCCESS
    } else {
        println!("FAILED: {broken} of 46 are not kept ({seconds:.1} s).");
        ExitCode::FAILURE
    }
}

/// Plays one row on a thread of its own, so that its panic is its own too.
async fn outcome(row: &'static Row, backing: Backing) -> Result<(), String> {
    let runtime = Handle::current();
    let playing = move || runtime.block_on(async { timeout(PATIENCE, check(row, backing)).await });
    match tokio::task::spawn_blocking(playing).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(format!("took longer than {PATIENCE:?}")),
        Err(error) => {
            Err(error.try_into_panic().map_or_else(|error| error.to_string(), |panic| words(&*panic)))
        }
    }
}

fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("panicked").to_owned()
}

fn table(outcomes: &[[Result<(), String>; 2]]) -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_HORIZONTAL_ONLY).set_content_arrangement(ContentArrangement::Dynamic);
    table.remove_style(TableComponent::HorizontalLines);
    table.remove_style(TableComponent::MiddleIntersections);
    if table.width().is_none() {
        table.set_width(150);
    }
    table.set_header(["#", "Google says", "at fault", "the broker", "the caller", "embedded", "Redis"]);
    for (row, [embedded, redis]) in ROWS.iter().zip(outcomes) {
        let mark = |outcome: &Result<(), String>| if outcome.is_ok() { "✓" } else { "✗" }.to_owned();
        table.add_row([
            row.number.to_string(),
            row.says.to_owned(),
            row.at_fault.to_owned(),
            row.broker.to_owned(),
            row.caller.to_owned(),
            mark(embedded),
            mark(redis),
        ]);
    }
    table
}
