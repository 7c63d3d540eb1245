//! Calls that go on: they are made anew when they end, and when the broker went away and came back.

use std::{io::Write, time::Duration};

use tokio::time::sleep;
use tonic::{Code, Status};

use super::{Admin, BrokerArgs, Failure};

/// How long it rests until a broker that is away is called again: at first, and at most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));

/// A broker that may go away and come back.
pub(super) struct Follower {
    broker: BrokerArgs,
    rest: Duration,
    away: bool,
}

impl Follower {
    pub(super) fn of(broker: &BrokerArgs) -> Self {
        Self { broker: broker.clone(), rest: AGAIN.0, away: false }
    }

    /// A new connection; the first call by it shows whether the broker is there.
    pub(super) async fn connect(&self) -> Result<Admin, Failure> {
        Admin::connect(&self.broker).await
    }

    /// Something came: the broker is there. True if it was not before.
    pub(super) fn is_there(&mut self) -> bool {
        self.rest = AGAIN.0;
        std::mem::take(&mut self.away)
    }

    /// The broker is not there. True if it was before. Rests until it is time to call again.
    pub(super) async fn is_away(&mut self, tell: impl FnOnce()) {
        if !std::mem::replace(&mut self.away, true) {
            tell();
        }
        sleep(self.rest).await;
        self.rest = (self.rest * 2).min(AGAIN.1);
    }
}

/// Whether asking again may help: the broker is away, drains, or cannot reach its ledger.
pub(super) fn may_pass(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable
            | Code::Unknown
            | Code::Internal
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
    )
}

/// Says something beside the output.
pub(super) fn say(text: &str) {
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "keybroker: {text}");
}
