//! What is done once by the whole fleet and not by each of its brokers.

use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, sync::Mutex, time::Duration};

use tokio::time::{Instant, timeout};

use crate::registry::Registry;

/// How long the fleet may take to say whose turn it is.
const DEADLINE: Duration = Duration::from_secs(3);
/// For how long a claim that another broker has is not asked for again.
const ASK_AGAIN: Duration = Duration::from_secs(1);
/// The most claims that are remembered; beyond it those that have ended are forgotten.
const MOST_REMEMBERED: usize = 4096;

/// The answer to a claim.
pub type ClaimFuture<'a> = Pin<Box<dyn Future<Output = Result<bool, ClaimError>> + Send + 'a>>;

/// Why nobody could say whose turn it is.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct ClaimError(pub String);

/// Whoever can say which broker of a fleet does something.
pub trait Claims: Send + Sync + 'static {
    /// True for exactly one caller of the fleet until `span` has passed; false for all others.
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> ClaimFuture<'a>;
}

impl Claims for Arc<dyn Registry> {
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> ClaimFuture<'a> {
        let claim = self.as_ref().claim(name, span);
        Box::pin(async move { claim.await.map_err(|error| ClaimError(error.to_string())) })
    }
}

/// Claims within this process alone: the whole fleet, where it is one broker.
#[derive(Debug, Default)]
pub struct LocalClaims {
    until: Mutex<HashMap<String, Instant>>,
}

impl LocalClaims {
    /// Whether the name is free; if so, it is taken for `span`.
    fn take(&self, name: &str, span: Duration) -> bool {
        if self.is_taken(name) {
            return false;
        }
        self.remember(name, span);
        true
    }

    fn is_taken(&self, name: &str) -> bool {
        let until = self.until.lock().expect("no holder of this lock panics");
        until.get(name).is_some_and(|until| *until > Instant::now())
    }

    fn remember(&self, name: &str, span: Duration) {
        let now = Instant::now();
        let mut until = self.until.lock().expect("no holder of this lock panics");
        if until.len() >= MOST_REMEMBERED {
            until.retain(|_, until| *until > now);
        }
        until.insert(name.to_owned(), now + span);
    }
}

impl Claims for LocalClaims {
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> ClaimFuture<'a> {
        Box::pin(std::future::ready(Ok(self.take(name, span))))
    }
}

/// Asks the fleet, spares it questions whose answer is known, and answers alone while it cannot be asked.
#[derive(Clone)]
pub struct FleetTurns {
    fleet: Arc<dyn Claims>,
    known: Arc<LocalClaims>,
}

impl FleetTurns {
    /// Turns within a fleet.
    pub fn new(fleet: Arc<dyn Claims>) -> Self {
        Self { fleet, known: Arc::default() }
    }

    /// Whether this broker is the one of the fleet that does what the name says, for the next `span`.
    ///
    /// While the fleet cannot be asked, each of its brokers holds the span by itself: a hook that tells of
    /// exactly that state must not be silent, so up to one a broker is done rather than none.
    pub async fn take(&self, name: &str, span: Duration) -> bool {
        if span.is_zero() {
            return true;
        }
        if self.known.is_taken(name) {
            return false;
        }
        let answer = timeout(DEADLINE, self.fleet.claim(name, span)).await;
        match answer {
            Ok(Ok(true)) => {
                self.known.remember(name, span);
                true
            }
            Ok(Ok(false)) => {
                self.known.remember(name, span.min(ASK_AGAIN));
                false
            }
            failed => {
                let why = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => format!("no answer in {DEADLINE:?}"),
                };
                tracing::warn!(claim = name, why, "the fleet cannot be asked; this broker decides alone");
                self.known.take(name, span)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;

    /// Counts how often it is asked, and answers as told.
    #[derive(Default)]
    struct Asked {
        local: LocalClaims,
        times: AtomicUsize,
        silent: bool,
    }

    impl Claims for Asked {
        fn claim<'a>(&'a self, name: &'a str, span: Duration) -> ClaimFuture<'a> {
            self.times.fetch_add(1, Relaxed);
            if self.silent {
                return Box::pin(std::future::pending());
            }
            self.local.claim(name, span)
        }
    }

    const SPAN: Duration = Duration::from_secs(300);

    #[tokio::test(start_paused = true)]
    async fn one_of_four_brokers_has_the_turn_until_the_span_is_over() {
        let fleet = Arc::new(LocalClaims::default());
        let brokers: Vec<_> = (0..4).map(|_| FleetTurns::new(fleet.clone())).collect();
        for _ in 0..2 {
            let mut turns = 0;
            for broker in &brokers {
                turns += usize::from(broker.take("hook", SPAN).await);
                assert!(!broker.take("hook", SPAN).await, "nobody has it twice");
            }
            assert_eq!(turns, 1);
            tokio::time::advance(SPAN).await;
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_known_is_not_asked_again() {
        let fleet = Arc::new(Asked::default());
        let (first, second) = (FleetTurns::new(fleet.clone()), FleetTurns::new(fleet.clone()));
        assert!(first.take("hook", SPAN).await);
        for _ in 0..100 {
            assert!(!first.take("hook", SPAN).await);
            assert!(!second.take("hook", SPAN).await);
        }
        assert_eq!(fleet.times.load(Relaxed), 2, "once by each");
        assert!(second.take("another", SPAN).await);
    }

    #[tokio::test(start_paused = true)]
    async fn while_the_fleet_is_silent_each_broker_holds_the_span_by_itself() {
        let fleet = Arc::new(Asked { silent: true, ..Asked::default() });
        let broker = FleetTurns::new(fleet);
        assert!(broker.take("hook", SPAN).await);
        assert!(!broker.take("hook", SPAN).await);
        tokio::time::advance(SPAN).await;
        assert!(broker.take("hook", SPAN).await);
    }

    #[tokio::test]
    async fn without_a_span_everybody_has_the_turn_and_nobody_is_asked() {
        let fleet = Arc::new(Asked::default());
        let broker = FleetTurns::new(fleet.clone());
        assert!(broker.take("hook", Duration::ZERO).await && broker.take("hook", Duration::ZERO).await);
        assert_eq!(fleet.times.load(Relaxed), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn claims_that_have_ended_are_forgotten_once_there_are_many() {
        let claims = LocalClaims::default();
        for n in 0..MOST_REMEMBERED {
            claims.remember(&n.to_string(), Duration::from_secs(1));
        }
        tokio::time::advance(Duration::from_secs(2)).await;
        claims.remember("new", SPAN);
        assert_eq!(claims.until.lock().unwrap().len(), 1);
    }
}
