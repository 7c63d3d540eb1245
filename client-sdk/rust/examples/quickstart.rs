//! Asks one question with a leased key: `cargo run --example quickstart -- http://127.0.0.1:50051`.

use keybroker_client::{Broker, Gemini};

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example prints its answer")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:50051".to_owned());
    let broker = Broker::connect(address)?;
    let gemini = Gemini::new(&broker)?;
    println!("{}", gemini.ask("gemini-2.5-flash", "Why is the sky blue?").await?);
    broker.close().await?;
    Ok(())
}
