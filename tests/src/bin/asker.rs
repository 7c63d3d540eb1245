//! A worker process of the exactness tests: many tasks that ask for leases with the SDK and call the
//! fake Gemini. One JSON object a line on standard output for each ask.
#![allow(clippy::print_stdout)]

use std::{
    io::BufRead,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use clap::{Parser, ValueEnum};
use keybroker_client::{AcquireOptions, Broker, Error, ExposeSecret, Usage};
use rand::RngExt;
use serde_json::{Value, json};

/// Asks for leases and calls Gemini with them.
#[derive(Debug, Clone, Parser)]
struct Args {
    /// The brokers; tasks take turns
    #[arg(long, required = true)]
    broker: Vec<String>,
    /// The base URL of the fake Gemini
    #[arg(long)]
    gemini: String,
    /// How many tasks ask
    #[arg(long, default_value_t = 25)]
    tasks: usize,
    /// What each task does
    #[arg(long, default_value = "once")]
    mode: Mode,
    /// For how long, in the modes repeat and sustain
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// The model
    #[arg(long, default_value = "gemini-test-flash")]
    model: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// Ask once, send at once
    Once,
    /// Ask again and again without waiting, send at once
    Repeat,
    /// Wait for leases in the broker, and send after a random part of the time there is
    Sustain,
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args = Args::parse();
    let brokers = args.broker.iter().map(Broker::connect).collect::<Result<Vec<_>, _>>()?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    println!("{}", json!({"ready": true}));
    // All processes begin together, when they are told.
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    let until = Instant::now() + Duration::from_secs(args.seconds);
    let args = Arc::new(args);
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..args.tasks {
        let broker = brokers[task % brokers.len()].clone();
        tasks.spawn(run(args.clone(), broker, http.clone(), until));
    }
    tasks.join_all().await;
    for broker in &brokers {
        // Of a broker that was killed nothing can be flushed.
        let _ = broker.flush().await;
    }
    Ok(())
}

async fn run(args: Arc<Args>, broker: Broker, http: reqwest::Client, until: Instant) {
    loop {
        let outcome = ask(&args, &broker, &http, until).await;
        println!("{outcome}");
        if args.mode == Mode::Once || Instant::now() >= until {
            return;
        }
        if args.mode == Mode::Repeat {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

async fn ask(args: &Args, broker: &Broker, http: &reqwest::Client, until: Instant) -> Value {
    let mut options = AcquireOptions::new(&args.model).input_tokens(1);
    if args.mode == Mode::Sustain {
        options = options.wait(until.saturating_duration_since(Instant::now()));
    }
    let asked = Instant::now();
    let mut lease = match broker.acquire(options).await {
        Ok(lease) => lease,
        Err(Error::Refused(refusal)) => {
            let ready = SystemTime::now() + refusal.retry_after;
            let ready = ready.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64);
            return json!({"refused": refusal.reason.as_str_name(), "ready_unix_ms": ready});
        }
        Err(error) => return json!({"error": error.to_string()}),
    };
    if args.mode == Mode::Sustain {
        let left = lease.send_within().saturating_sub(asked.elapsed()).mul_f64(0.9);
        let delay = left.mul_f64(rand::rng().random::<f64>());
        tokio::time::sleep(delay).await;
    }
    let (lease_id, project) = (lease.lease_id().to_owned(), lease.project().to_owned());
    let key = match lease.begin_send() {
        Ok(key) => key.expose_secret().to_owned(),
        Err(_) => {
            let _ = lease.not_sent().await;
            return json!({"missed": lease_id});
        }
    };
    let url = format!("{}/v1beta/models/{}:generateContent", args.gemini, args.model);
    let body = json!({"contents": [{"parts": [{"text": "hi"}]}]});
    let answer = http.post(url).header("x-goog-api-key", key).json(&body).send().await;
    let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
    if status == 200 {
        let usage = Usage { input_tokens: Some(1), ..Usage::default() };
        let _ = lease.success(usage).await;
    } else if let Ok(answer) = answer {
        let body = answer.bytes().await.unwrap_or_default();
        let _ = lease.http_error(status, body, None).await;
    }
    json!({"granted": lease_id, "project": project, "status": status})
}
