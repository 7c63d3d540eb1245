use std::sync::atomic::{AtomicUsize, Ordering};

use reqwest::StatusCode;
use serde_json::{Value, json};

const KEYS: [&str; 3] = ["fake-key-0000", "fake-key-0001", "fake-key-0002"];
static TURN: AtomicUsize = AtomicUsize::new(0);

async fn ask(google: &str, question: &str) -> Result<String, Box<dyn std::error::Error>> {
    for _ in KEYS {
        let answer = reqwest::Client::new()
            .post(format!("{google}/v1beta/models/gemini-2.5-flash:generateContent"))
            .header("x-goog-api-key", KEYS[TURN.fetch_add(1, Ordering::Relaxed) % KEYS.len()])
            .json(&json!({ "contents": [{ "parts": [{ "text": question }] }] }))
            .send()
            .await?;
        if answer.status() != StatusCode::TOO_MANY_REQUESTS {
            let answer: Value = answer.error_for_status()?.json().await?;
            let text = answer["candidates"][0]["content"]["parts"][0]["text"].as_str();
            return Ok(text.unwrap_or_default().to_owned());
        }
    }
    Err("every key was refused".into())
}

pub async fn run(google: &str) -> Result<(), Box<dyn std::error::Error>> {
    for river in ["Nile", "Amazon", "Yangtze"] {
        println!("{}", ask(google, &format!("Where does the {river} begin?")).await?);
    }
    Ok(())
}
