//! What is logged and how: levels that can change while the broker runs, lines that say of which call they tell, and
//! refusals that do not drown the rest.

mod format;
mod refusals;

use std::sync::Mutex;

use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::cli::LogFormat;
pub(crate) use refusals::Refusals;

/// How many refusals of a pool for the same reason are logged a second, if nothing else is said.
pub const DEFAULT_REFUSALS: u32 = 1;
/// The levels.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// What a configuration says of logs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Levels or directives, instead of those of the command line.
    pub level: Option<String>,
    /// How many refusals of a pool for the same reason are logged a second.
    pub refusals_per_second: u32,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self { level: None, refusals_per_second: DEFAULT_REFUSALS }
    }
}

/// Reads levels and directives, such as `info,keybroker::hooks=debug`.
///
/// # Errors
/// What is wrong with them.
pub(crate) fn parse(text: &str) -> Result<EnvFilter, String> {
    // What is no level would be taken for a part of the program, and silence everything else.
    let bare = |part: &&str| {
        !part.contains(['=', '[']) && !LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
    };
    let is_in_brackets = text.contains('[');
    match text.split(',').map(str::trim).find(|part| !is_in_brackets && bare(part)) {
        Some(_) => Err(format!("write one of {}, or directives such as keybroker=debug", LEVELS.join(", "))),
        None => EnvFilter::try_new(text).map_err(|error| error.to_string()),
    }
}

type Set = Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>;

/// The levels of this process.
pub(crate) struct Levels {
    at_start: String,
    standing: Mutex<String>,
    set: Set,
}

impl Levels {
    /// Starts to log.
    ///
    /// # Errors
    /// If the levels cannot be read.
    pub(crate) fn start(level: &str, format: LogFormat) -> Result<Self, String> {
        let filter = parse(level)?;
        let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
        let builder = fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colours);
        let set: Set = match format {
            LogFormat::Text => {
                let builder = builder.fmt_fields(format::Text::default()).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.init();
                Box::new(move |filter| handle.reload(filter))
            }
            LogFormat::Json => {
                let builder = builder.json().map_event_format(format::Json).with_filter_reloading();
                let handle = builder.reload_handle();
                builder.init();
                Box::new(move |filter| handle.reload(filter))
            }
        };
        Ok(Self { at_start: level.to_owned(), standing: Mutex::new(level.to_owned()), set })
    }

    /// From now on what a configuration says holds; what it says nothing of is as it was at the start.
    pub(crate) fn apply(&self, settings: &LogSettings) {
        refusals::set(settings.refusals_per_second);
        let level = settings.level.as_ref().unwrap_or(&self.at_start);
        let mut standing = self.standing.lock().expect("no holder of this lock panics");
        if *standing == *level {
            return;
        }
        match parse(level).map(&self.set) {
            Ok(Ok(())) => {
                level.clone_into(&mut standing);
                tracing::info!(level, "what is logged has changed");
            }
            Ok(Err(error)) => tracing::error!(%error, "what is logged cannot be changed"),
            Err(why) => tracing::error!(why, "what is logged stays as it was"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_silence_everything_is_a_fault() {
        for good in
            ["info", "INFO", "off", "warn,keybroker=debug", "error,keybroker::serve=info", "[call]=debug"]
        {
            assert!(parse(good).is_ok(), "{good}");
        }
        for bad in ["infoo", "", "keybroker", "info,keybroker=loud"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
