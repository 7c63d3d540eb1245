//! What goes wrong: with single requests by chance, and with Google at certain hours.

use keybroker::gemini::{Outcome, TransportKind};
use keybroker_tests::fake_gemini::bodies::ErrorBody;
use rand::{RngExt, rngs::StdRng};

use crate::setting::{HOUR, MINUTE, PacificDay, SECOND};

/// What becomes of one request, unless Google refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Served,
    /// The time to send it passed.
    NotSent,
    NoConnection,
    /// Its worker gave it up before or after it was sent.
    Cancelled {
        sent: bool,
    },
    /// Its worker died before or after it was sent, and never reports.
    Died {
        sent: bool,
    },
    TimedOut,
    ServerFault,
    RequestFault,
    /// Its report comes after the lease has expired.
    Late,
    /// Its report comes twice.
    Twice,
}

impl Fate {
    pub(crate) fn draw(rng: &mut StdRng) -> Self {
        match rng.random_range(0..1000) {
            0..8 => Self::NotSent,
            8..10 => Self::NoConnection,
            10..16 => Self::Cancelled { sent: rng.random_bool(0.5) },
            16..19 => Self::Died { sent: rng.random_bool(0.5) },
            19..23 => Self::TimedOut,
            23..26 => Self::ServerFault,
            26..28 => Self::RequestFault,
            28..32 => Self::Late,
            32..42 => Self::Twice,
            _ => Self::Served,
        }
    }
}

/// What a worker reports, and what must come of it, told without asking the broker.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) told: Told,
    /// What usage calls it.
    pub(crate) outcome: &'static str,
    pub(crate) kept: Kept,
}

#[derive(Debug, Clone)]
pub(crate) enum Told {
    Success,
    Http(ErrorBody),
    Transport(TransportKind),
    NotSent,
}

/// What stays of the charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    Actual,
    Bound,
    Nothing,
}

impl Answer {
    pub(crate) const SERVED: Self = Self { told: Told::Success, outcome: "ok", kept: Kept::Actual };
    pub(crate) const NOT_SENT: Self = Self { told: Told::NotSent, outcome: "not_sent", kept: Kept::Nothing };

    pub(crate) fn transport(kind: TransportKind) -> Self {
        let (outcome, kept) = match kind {
            TransportKind::Connect => ("network_fault", Kept::Nothing),
            TransportKind::Cancelled => ("cancelled", Kept::Bound),
            TransportKind::Timeout | TransportKind::Reset => ("network_fault", Kept::Bound),
        };
        Self { told: Told::Transport(kind), outcome, kept }
    }

    pub(crate) fn error(body: ErrorBody, outcome: &'static str) -> Self {
        Self { told: Told::Http(body), outcome, kept: Kept::Bound }
    }

    pub(crate) fn outcome(&self) -> Outcome<'_> {
        match &self.told {
            Told::Success => Outcome::Success,
            Told::NotSent => Outcome::NotSent,
            Told::Transport(kind) => Outcome::Transport(*kind),
            Told::Http(body) => {
                Outcome::HttpError { status: body.status, body: body.text.as_bytes(), retry_after: None }
            }
        }
    }
}

/// Requests of somebody else on a project's quota.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outside {
    pub(crate) at: i64,
    pub(crate) project: &'static str,
    pub(crate) model: &'static str,
}

/// All of them: bursts within a minute, and of `free-b` so many that its day ends early.
pub(crate) fn outside(day: &PacificDay) -> Vec<Outside> {
    let bursts = [
        (day.dawn + SECOND, 9, "free-b", "gemini-3-flash"),
        (day.dawn + 9 * HOUR + 30 * MINUTE, 15, "one-b", "gemini-3-flash"),
        (day.dawn + 11 * HOUR, 45, "chat-large", "gemini-3-flash"),
        (day.dusk + SECOND, 9, "free-b", "gemini-3-flash"),
    ];
    let requests = bursts.into_iter().flat_map(|(at, number, project, model)| {
        (0..number).map(move |nth| Outside { at: at + nth * 100, project, model })
    });
    requests.collect()
}

/// A model that is overloaded for everybody from one instant to another.
pub(crate) fn storms(day: &PacificDay) -> [(&'static str, i64, i64); 3] {
    let storm = |model, from: i64, minutes: i64| (model, from, from + minutes * MINUTE);
    [
        storm("gemini-3-flash", day.dawn + 15 * HOUR, 6),
        storm("gemini-embedding-1.0", day.dawn + 6 * HOUR, 4),
        storm("gemini-3-pro", day.dusk - 10 * MINUTE, 2),
    ]
}

/// Keys that are suspended, and from when on.
pub(crate) fn suspensions(day: &PacificDay) -> [(&'static str, i64); 3] {
    [
        ("fa2", day.dawn + 6 * MINUTE),
        ("oa2", day.dawn + 9 * HOUR + 10 * MINUTE),
        ("tb2", day.dusk - 5 * MINUTE),
    ]
}
