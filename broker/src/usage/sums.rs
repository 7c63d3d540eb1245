//! How much was used.

use std::ops::AddAssign;

use crate::ledger::Used;

/// Sums over leases.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sums {
    /// Leases settled.
    pub leases: i64,
    /// Requests.
    pub requests: i64,
    /// Input tokens.
    pub input_tokens: i64,
    /// Input and output tokens.
    pub total_tokens: i64,
    /// Millionths of a US dollar.
    pub spend: i64,
    /// Requests over a soft plan.
    pub over_plan: i64,
}

impl Sums {
    /// Output tokens. A report may name input tokens alone, so the input may exceed the total.
    pub fn output_tokens(&self) -> i64 {
        self.total_tokens.saturating_sub(self.input_tokens).max(0)
    }
}

impl AddAssign<Used> for Sums {
    /// Adds exactly. What workers report may be absurd, but only beyond what a sum can hold is it cut.
    fn add_assign(&mut self, more: Used) {
        let Used(leases, requests, input, total, spend, over) = more;
        for (sum, more) in [
            (&mut self.leases, leases),
            (&mut self.requests, requests),
            (&mut self.input_tokens, input),
            (&mut self.total_tokens, total),
            (&mut self.spend, spend),
            (&mut self.over_plan, over),
        ] {
            *sum = sum.saturating_add(more);
        }
    }
}
