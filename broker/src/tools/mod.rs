//! The commands that need no broker: they look at what is here, or make something new.

mod completions;
mod config;
mod generate;
mod manual;

pub use completions::completions;
pub use config::{ConfigCommand, config};
pub use generate::{generate_master_key, generate_token};
pub use manual::{ManArgs, man, reference};
