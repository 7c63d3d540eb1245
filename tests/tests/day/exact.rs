//! What has arrived within a span, by the list of what arrived: no sub-buckets, no ends of charges.

use std::collections::VecDeque;

use keybroker::ledger::Span;

use crate::setting::PacificDay;

/// A count over every trailing span, over each Pacific day or month, or of what is held at once.
#[derive(Debug)]
pub(crate) struct Exact {
    span: Span,
    arrivals: VecDeque<(i64, i64)>,
    period: usize,
    sum: i64,
    /// The highest that it ever was.
    pub(crate) worst: i64,
}

impl Exact {
    pub(crate) fn new(span: Span) -> Self {
        Self { span, arrivals: VecDeque::new(), period: 0, sum: 0, worst: 0 }
    }

    /// What counts at an instant: of a trailing span what arrived less than the span ago.
    pub(crate) fn sum(&mut self, at: i64, day: &PacificDay) -> i64 {
        let period = match self.span {
            Span::Trailing(span) => {
                while let Some((old, amount)) =
                    self.arrivals.front().copied().filter(|old| old.0 <= at - span)
                {
                    debug_assert!(old <= at);
                    self.arrivals.pop_front();
                    self.sum -= amount;
                }
                0
            }
            Span::Day => day.day_of(at),
            Span::Month => day.month_of(at),
            Span::Held => 0,
        };
        if period != self.period {
            self.period = period;
            self.sum = 0;
        }
        self.sum
    }

    /// Counts an arrival; instants never go back.
    pub(crate) fn add(&mut self, at: i64, amount: i64, day: &PacificDay) {
        self.sum(at, day);
        self.sum += amount;
        self.worst = self.worst.max(self.sum);
        if matches!(self.span, Span::Trailing(_)) {
            self.arrivals.push_back((at, amount));
        }
    }

    /// After how long an amount fits under a limit, if nothing else arrives.
    pub(crate) fn wait(&mut self, at: i64, amount: i64, limit: i64, day: &PacificDay) -> i64 {
        let mut excess = self.sum(at, day) + amount - limit;
        let Span::Trailing(span) = self.span else { return day.day_end(at) - at };
        for (old, amount) in &self.arrivals {
            excess -= amount;
            if excess <= 0 {
                return old + span - at;
            }
        }
        span
    }
}
