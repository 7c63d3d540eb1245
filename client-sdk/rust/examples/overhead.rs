//! What a lease costs: the same call with and without one, in turns; the medians in milliseconds as one line of JSON.
//!
//! `overhead --broker HOST:PORT --gemini URL [--calls 100] [--model gemini-2.5-flash]`; the direct calls use the key
//! `fake-key-0000` of the fake Gemini.

use std::{collections::BTreeMap, time::Instant};

use keybroker_client::{AcquireOptions, Broker, ExposeSecret, Gemini, Usage};

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example prints what it measured")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments();
    let argument =
        |name: &str, default: &str| arguments.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let calls: usize = argument("--calls", "100").parse()?;
    let model = argument("--model", "gemini-2.5-flash");
    let base = argument("--gemini", "http://127.0.0.1:8080");
    let broker = Broker::connect(argument("--broker", "127.0.0.1:50051"))?;
    let gemini = Gemini::builder(&broker).base_url(&base).build()?;
    let http = reqwest::Client::new();
    let url = format!("{base}/v1beta/models/{model}:generateContent");
    let body = r#"{"contents":[{"parts":[{"text":"Hello."}]}]}"#;
    let direct = async || -> Result<(), reqwest::Error> {
        let request = http
            .post(&url)
            .header("x-goog-api-key", "fake-key-0000")
            .header("content-type", "application/json");
        request.body(body).send().await?.error_for_status()?.bytes().await.map(drop)
    };
    // Connections are made before anything is timed.
    direct().await?;
    gemini.ask(&model, "Hello.").await?;
    let (mut direct_took, mut leased_took, mut rpc_took) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..calls {
        let began = Instant::now();
        direct().await?;
        direct_took.push(began.elapsed());
        let began = Instant::now();
        gemini.ask(&model, "Hello.").await?;
        leased_took.push(began.elapsed());
        let began = Instant::now();
        let mut lease = broker.acquire(AcquireOptions::new(&model).input_tokens(10)).await?;
        let _ = lease.begin_send()?.expose_secret();
        lease.success(Usage::default()).await?;
        rpc_took.push(began.elapsed());
    }
    broker.close().await?;
    let median = |mut took: Vec<std::time::Duration>| {
        took.sort();
        took[took.len() / 2].as_secs_f64() * 1000.0
    };
    let summary = serde_json::json!({
        "direct_p50_ms": median(direct_took), "leased_p50_ms": median(leased_took), "rpc_p50_ms": median(rpc_took),
    });
    println!("{summary}");
    Ok(())
}

fn arguments() -> BTreeMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect()
}
