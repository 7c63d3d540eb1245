use keybroker_client::{Broker, Gemini};
use serde_json::{Value, json};

pub async fn run(google: &str) -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::connect(std::env::var("KEYBROKER_BROKER")?)?;
    let request = reqwest::Client::new()
        .post(format!("{google}/v1beta/models/gemini-2.5-flash:generateContent"))
        .json(&json!({ "contents": [{ "parts": [{ "text": "Name three rivers." }] }] }))
        .build()?;
    let answer = Gemini::new(&broker)?.execute(request).await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    println!("{}", answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default());
    broker.close().await?; // Delivers what is still to be reported.
    Ok(())
}
