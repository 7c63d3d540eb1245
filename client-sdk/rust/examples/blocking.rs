//! Asks one question without an async runtime: `blocking [--broker HOST:PORT] [--gemini URL]`.

use std::collections::BTreeMap;

use keybroker_client::blocking::{Broker, Gemini};

#[allow(clippy::print_stdout, reason = "an example prints its answer")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments = arguments();
    let argument =
        |name: &str, default: &str| arguments.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let broker = Broker::connect(argument("--broker", "127.0.0.1:50051"))?;
    let url = argument("--gemini", "https://generativelanguage.googleapis.com");
    let gemini = Gemini::with(&broker, |settings| settings.base_url(url))?;
    println!("{}", gemini.ask("gemini-2.5-flash", "Why is the sky blue?")?);
    broker.close()?;
    Ok(())
}

fn arguments() -> BTreeMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect()
}
