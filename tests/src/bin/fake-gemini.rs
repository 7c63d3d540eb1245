//! The fake Gemini as a program of its own, for demos and for clients in other languages.

use std::error::Error;
use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use keybroker_tests::fake_gemini::{FakeGemini, FakeGeminiConfig, Limits, config::ANY};
use tokio::net::TcpListener;

/// Stands in for the Gemini API and judges whether its callers keep within their quotas.
///
/// Prints one line of JSON, {"listening":"127.0.0.1:PORT"}, when it is ready. Ask GET /control/verdict.
#[derive(Debug, Parser)]
struct Args {
    /// Where to listen.
    #[arg(long, default_value = "127.0.0.1:0")]
    addr: String,
    /// Keys, projects, limits, aliases and models: a TOML file, or JSON if named .json.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Adds so many projects (project-0000, ...) with one key each (fake-key-0000, ...).
    #[arg(long, default_value_t = 0)]
    projects: usize,
    /// What the keys of those projects begin with.
    #[arg(long, default_value = "fake-key-")]
    key_prefix: String,
    /// Requests per trailing minute for every project and quota model without limits in the file.
    #[arg(long)]
    rpm: Option<u64>,
    /// Input tokens per trailing minute, likewise.
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests per Pacific day, likewise.
    #[arg(long)]
    rpd: Option<u64>,
    /// How many calls the request log remembers.
    #[arg(long)]
    log_capacity: Option<usize>,
    /// The seed of random faults.
    #[arg(long)]
    seed: Option<u64>,
}

impl Args {
    fn config(&self) -> Result<FakeGeminiConfig, Box<dyn Error>> {
        let read = self.config.as_deref().map(FakeGeminiConfig::read).transpose()?;
        let mut config = read.unwrap_or_default().with_projects(self.projects, &self.key_prefix);
        let limits = Limits { rpm: self.rpm, input_tpm: self.tpm, rpd: self.rpd };
        if limits != Limits::default() {
            config.limits.set(ANY, ANY, limits);
        }
        config.log_capacity = self.log_capacity.unwrap_or(config.log_capacity);
        config.seed = self.seed.unwrap_or(config.seed);
        Ok(config)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let args = Args::parse();
    let fake = FakeGemini::start_on(TcpListener::bind(&args.addr).await?, args.config()?)?;
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{}", serde_json::json!({"listening": fake.addr.to_string()}))?;
    stdout.flush()?;
    tokio::signal::ctrl_c().await?;
    fake.shutdown().await;
    Ok(())
}
