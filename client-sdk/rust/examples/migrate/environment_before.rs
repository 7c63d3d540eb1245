use serde_json::{Value, json};

pub async fn run(google: &str) -> Result<(), Box<dyn std::error::Error>> {
    let answer = reqwest::Client::new()
        .post(format!("{google}/v1beta/models/gemini-2.5-flash:generateContent"))
        .header("x-goog-api-key", std::env::var("GEMINI_API_KEY")?)
        .json(&json!({ "contents": [{ "parts": [{ "text": "Name three rivers." }] }] }))
        .send()
        .await?;
    let answer: Value = answer.error_for_status()?.json().await?;
    println!("{}", answer["candidates"][0]["content"]["parts"][0]["text"].as_str().unwrap_or_default());
    Ok(())
}
