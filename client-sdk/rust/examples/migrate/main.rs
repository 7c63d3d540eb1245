//! What `docs/migrate.md` shows: programs that call Gemini with keys of their own, and the same with leased keys.
//!
//! `cargo run --example migrate -- rotator_after`

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::print_stdout,
    reason = "the modules stand for programs, whose text the page shows"
)]

mod environment_after;
mod environment_before;
mod file_after;
mod file_before;
mod rotator_after;
mod rotator_before;

const GOOGLE: &str = "https://generativelanguage.googleapis.com";

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let google = std::env::var("GOOGLE_GEMINI_BASE_URL").unwrap_or_else(|_| GOOGLE.to_owned());
    match std::env::args().nth(1).as_deref() {
        Some("environment_before") => environment_before::run(&google).await,
        Some("environment_after") => environment_after::run(&google).await,
        Some("rotator_before") => rotator_before::run(&google).await,
        Some("rotator_after") => rotator_after::run(&google).await,
        Some("file_before") => file_before::run(&google).await,
        Some("file_after") => file_after::run(&google).await,
        _ => Err("name one program, such as rotator_after".into()),
    }
}
