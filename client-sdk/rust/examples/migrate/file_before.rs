use std::{collections::VecDeque, time::Duration};

use serde_json::{Value, json};

async fn ask(
    google: &str,
    keys: &mut VecDeque<String>,
    question: &str,
) -> Result<String, Box<dyn std::error::Error>> {
    while let Some(key) = keys.pop_front() {
        let answer = reqwest::Client::new()
            .post(format!("{google}/v1beta/models/gemini-2.5-flash:generateContent"))
            .header("x-goog-api-key", &key)
            .json(&json!({ "contents": [{ "parts": [{ "text": question }] }] }))
            .send()
            .await?;
        match answer.status().as_u16() {
            200 => {
                keys.push_back(key);
                let answer: Value = answer.json().await?;
                let text = answer["candidates"][0]["content"]["parts"][0]["text"].as_str();
                return Ok(text.unwrap_or_default().to_owned());
            }
            429 => {
                keys.push_back(key);
                tokio::time::sleep(Duration::from_secs(60)).await;
            }
            _ => {} // A bad key: never again.
        }
    }
    Err("no key is left".into())
}

pub async fn run(google: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut keys = std::fs::read_to_string("keys.txt")?.lines().map(str::to_owned).collect();
    for river in ["Nile", "Amazon", "Yangtze"] {
        println!("{}", ask(google, &mut keys, &format!("Where does the {river} begin?")).await?);
    }
    Ok(())
}
