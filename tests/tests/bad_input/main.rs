//! What is wrong is refused in words that help, with the right code, and nothing is lost by it.

mod bodies;
mod configuration;
mod data_directory;
mod leases;
mod redis_server;
mod requests;

/// Two projects: one wide open, one whose tokens are limited.
const CONFIG: &str = r#"
[[pools]]
name = "default"
[[pools]]
name = "batch"

[[projects]]
id = "alpha"
limits = [ { model = "gemini-fake", requests_per_minute = 100 }, { model = "gemini-small", input_tokens_per_minute = 1000 } ]
keys = [ { id = "a1", secret = "test-key-bad-input-a1" } ]

[[projects]]
id = "beta"
pool = "batch"
keys = [ { id = "b1", secret = "test-key-bad-input-b1" } ]
"#;
