//! Many workers in one process, that ask for as long as they are told; what became of their calls as one line of JSON.
//!
//! `fleet --broker HOST:PORT --gemini URL [--workers 200] [--seconds 60] [--model gemini-2.5-flash]`

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use keybroker_client::{Broker, Gemini, GeminiError};

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example prints what it measured")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments();
    let argument =
        |name: &str, default: &str| arguments.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let seconds: u64 = argument("--seconds", "60").parse()?;
    let workers: usize = argument("--workers", "200").parse()?;
    let model = argument("--model", "gemini-2.5-flash");
    let broker = Broker::connect(argument("--broker", "127.0.0.1:50051"))?;
    let gemini = Gemini::builder(&broker)
        .base_url(argument("--gemini", "https://generativelanguage.googleapis.com"))
        .deadline(Duration::from_secs(seconds))
        .lease_wait(Duration::from_secs(seconds.min(600)))
        .build()?;
    let until = Instant::now() + Duration::from_secs(seconds);
    let tasks = (0..workers).map(|worker| {
        let (gemini, model) = (gemini.clone(), model.clone());
        tokio::spawn(async move {
            let mut calls = Vec::new();
            while let Some(left) = until.checked_duration_since(Instant::now()) {
                let asked = Instant::now();
                // A call ends with the run.
                let question = format!("Worker {worker} says hello.");
                let answer = tokio::time::timeout(left, gemini.ask(&model, &question)).await;
                let outcome = match answer {
                    Ok(Ok(_)) => "ok",
                    Ok(Err(GeminiError::Upstream(_))) => "upstream",
                    Ok(Err(_)) => "refused",
                    Err(_) => break,
                };
                calls.push((outcome, asked.elapsed()));
            }
            calls
        })
    });
    let mut calls = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        calls.extend(task.await?);
    }
    broker.close().await?;
    let mut took: Vec<f64> =
        calls.iter().filter(|(outcome, _)| *outcome == "ok").map(|(_, took)| millis(*took)).collect();
    took.sort_by(f64::total_cmp);
    let mut failed = BTreeMap::new();
    for (outcome, _) in calls.iter().filter(|(outcome, _)| *outcome != "ok") {
        *failed.entry(*outcome).or_insert(0) += 1;
    }
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default();
    let summary = serde_json::json!({
        "calls": calls.len(), "ok": took.len(), "failed": failed, "p50_ms": at(0.5), "p99_ms": at(0.99),
    });
    println!("{summary}");
    Ok(())
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

fn arguments() -> BTreeMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect()
}
