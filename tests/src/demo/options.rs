//! What the demo can be told, and the numbers that follow from it.

use std::time::Duration;

use clap::Parser;

use crate::fake_gemini::Limits;

/// Starts a stand-in for the Gemini API, a broker and a fleet of worker processes on this machine, lets the
/// workers ask for several times what the quota allows, and shows that not one request goes over it.
#[derive(Clone, Debug, Parser)]
#[command(name = "demo", after_help = EXPLANATION)]
pub struct Options {
    /// Share the ledger through a private redis-server between several brokers, instead of one broker alone
    #[arg(long)]
    pub redis: bool,
    /// How many brokers share the Redis
    #[arg(long, default_value_t = 2, requires = "redis", value_parser = clap::value_parser!(u64).range(1..=16))]
    pub brokers: u64,
    /// How long it runs; over 65 seconds it shows the second minute
    #[arg(long, default_value_t = 75, value_parser = clap::value_parser!(u64).range(3..=86_400))]
    pub seconds: u64,
    /// How many Google Cloud projects there are, each with one key
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=200))]
    pub projects: u64,
    /// Requests a minute that each project allows
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub rpm: u64,
    /// Input tokens a minute that each project allows
    #[arg(long, default_value_t = 250_000, value_parser = clap::value_parser!(u64).range(2_000..=1_000_000_000))]
    pub tpm: u64,
    /// How many worker processes there are
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=64))]
    pub workers: u64,
    /// How many tasks ask at the same time in each worker
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=256))]
    pub tasks: u64,
    /// How many times as much the workers want as the quota allows
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=100))]
    pub demand: u64,
    /// Print one JSON object a line: one each second, and the summary at the end
    #[arg(long)]
    pub json: bool,
    /// Print a line every 5 seconds, also on a terminal
    #[arg(long, conflicts_with = "json")]
    pub plain: bool,
    /// No colours (so does the variable NO_COLOR)
    #[arg(long)]
    pub no_color: bool,
}

const EXPLANATION: &str = "\
What you see:
  granted, refused  leases that the brokers gave, and refused with the exact time to come back
  waiting           tasks that wait inside a broker for the next free key
  used              what the ledger counts of each limit. It holds a request for 61 to 62 s, because
                    Google counts on arrival and a lease may be used up to a second after its grant
  sent              requests that arrived at the stand-in for Gemini
  refused by Gemini what it answered with an error; it judges every trailing 60 s with no tolerance

What the summary says:
  worst window      the most that arrived in any trailing 60 s, however aligned, against the limit
  utilisation       requests admitted / the most that an exact limiter could have admitted in that time,
                    which is limit x (1 + floor(elapsed / 60 s)) for each project, elapsed from the first
                    request of the project to the end: a full limit at once, and again each whole minute
  leases left open  leases that nobody reported; their requests would stay charged until they expire

Half of the tasks wait in the broker until there is a key. The other half wait 3 s at most, take the
refusal and come back when their next request is due.

Examples:
  demo                                        75 seconds, nothing to install
  demo --redis --brokers 4                    four brokers on one Redis
  demo --projects 20 --rpm 60 --seconds 130   a larger quota, into the third minute
  demo --json | jq 'select(.type == \"summary\")'

Exit codes: 0 nothing was refused by Gemini and no window was over its limit, 1 otherwise or if it
could not run, 2 wrong usage, 130 interrupted.";

impl Options {
    /// How many brokers there are.
    pub fn broker_count(&self) -> u64 {
        if self.redis { self.brokers } else { 1 }
    }

    /// Requests a minute that all projects allow together.
    pub fn capacity(&self) -> u64 {
        self.projects * self.rpm
    }

    /// Requests a minute that the workers would send if they were let.
    pub fn wanted(&self) -> u64 {
        self.capacity() * self.demand
    }

    /// How often each task has a request to send.
    pub fn pace(&self) -> Duration {
        Duration::from_secs_f64((self.workers * self.tasks * 60) as f64 / self.wanted() as f64)
    }

    /// How long it runs.
    pub fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }

    /// The limits of each project.
    pub fn limits(&self) -> Limits {
        Limits { rpm: Some(self.rpm), input_tpm: Some(self.tpm), rpd: None }
    }

    /// What is about to happen, in two lines.
    pub fn introduction(&self) -> [String; 2] {
        let Self { projects, rpm, workers, tasks, demand, .. } = self;
        let brokers = match self.broker_count() {
            1 if self.redis => "one broker on Redis".to_owned(),
            1 => "one embedded broker".to_owned(),
            count => format!("{count} brokers on one Redis"),
        };
        let (capacity, wanted) = (self.capacity(), self.wanted());
        [
            format!("{projects} projects x {rpm} requests a minute = {capacity}, leased by {brokers}."),
            format!(
                "{workers} worker processes x {tasks} tasks want {wanted} a minute, {demand} times as much."
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usage_is_well_formed_and_the_pace_follows_from_the_demand() {
        let options = Options::parse_from(["demo"]);
        assert_eq!((options.broker_count(), options.capacity(), options.wanted()), (1, 50, 300));
        assert_eq!(options.pace(), Duration::from_millis(12_800));
        let options = Options::parse_from(["demo", "--redis", "--brokers", "3"]);
        assert_eq!(options.broker_count(), 3);
        assert!(options.introduction().iter().all(|line| line.len() < 78));
        assert!(Options::try_parse_from(["demo", "--brokers", "3"]).is_err());
        assert!(Options::try_parse_from(["demo", "--seconds", "1"]).is_err());
    }
}
