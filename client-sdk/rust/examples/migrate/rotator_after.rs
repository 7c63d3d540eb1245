use keybroker_client::{Broker, Gemini};

pub async fn run(google: &str) -> Result<(), Box<dyn std::error::Error>> {
    let broker = Broker::connect(std::env::var("KEYBROKER_BROKER")?)?;
    let gemini = Gemini::builder(&broker).base_url(google).build()?;
    for river in ["Nile", "Amazon", "Yangtze"] {
        let question = format!("Where does the {river} begin?");
        println!("{}", gemini.ask("gemini-2.5-flash", &question).await?);
    }
    broker.close().await?;
    Ok(())
}
