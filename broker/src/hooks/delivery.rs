//! An event is told: as many attempts as configured, with growing pauses between them.

use std::time::Duration;

use reqwest::Client;
use tokio::time::{Instant, sleep};

use super::{attempt::Failure, command, message, post};
use crate::{
    catalogue::{Hook, HookAction},
    events::{Event, Redactor},
};

/// The pause after the first attempt, before jitter; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// The longest pause, also where a receiver asks for a longer one.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// No attempt begins later than this after the first one began.
const DEADLINE: Duration = Duration::from_secs(300);

/// Tells the event.
///
/// # Errors
/// Why the last attempt failed.
pub(super) async fn deliver(
    client: &Client,
    hook: &Hook,
    event: &Event,
    redactor: &Redactor,
) -> Result<(), String> {
    let begun = Instant::now();
    for nth in 1.. {
        let failure = match attempt(client, hook, event, redactor).await {
            Ok(()) => return Ok(()),
            Err(failure) => failure,
        };
        let pause = pause(nth, failure.wait, rand::random_range(0.5..1.0));
        if !failure.again || nth >= hook.attempts || begun.elapsed() + pause > DEADLINE {
            return Err(format!("{} (attempt {nth} of {})", failure.why, hook.attempts));
        }
        tracing::debug!(
            hook = hook.name,
            event = event.id,
            nth,
            why = failure.why,
            ?pause,
            "a hook is tried again"
        );
        sleep(pause).await;
    }
    unreachable!("the last attempt returns")
}

async fn attempt(client: &Client, hook: &Hook, event: &Event, redactor: &Redactor) -> Result<(), Failure> {
    match &hook.action {
        HookAction::Post { url, format } => {
            post::post(client, url, &message::body(event, *format), hook.timeout, redactor).await
        }
        HookAction::Run { command } => command::run(command, event, hook.timeout, redactor).await,
    }
}

/// The pause after the nth attempt. What the receiver asked for is not shortened by jitter.
fn pause(nth: u32, asked: Option<Duration>, jitter: f64) -> Duration {
    let doubled = FIRST_PAUSE.saturating_mul(1 << (nth - 1).min(16)).min(LONGEST_PAUSE);
    doubled.mul_f64(jitter).max(asked.unwrap_or_default()).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_bound() {
        let pauses = [1, 2, 3, 5, 6, 40].map(|nth| pause(nth, None, 1.0).as_secs());
        assert_eq!(pauses, [1, 2, 4, 16, 30, 30]);
        assert_eq!(pause(2, None, 0.5), Duration::from_secs(1));
    }

    #[test]
    fn a_receiver_is_given_the_time_it_asks_for_within_bounds() {
        assert_eq!(pause(1, Some(Duration::from_secs(9)), 0.5), Duration::from_secs(9));
        assert_eq!(pause(1, Some(Duration::from_secs(3600)), 0.5), LONGEST_PAUSE);
    }
}
