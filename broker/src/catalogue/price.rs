//! What tokens cost.

use super::pattern::NamePattern;

/// The number of tokens that a price is for.
const PRICED: u128 = 1_000_000;

/// What a million tokens of some quota models cost, in millionths of a US dollar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// Which quota models.
    pub model: NamePattern,
    /// A million tokens of prompts.
    pub input: u64,
    /// A million tokens of prompts that Google had cached.
    pub cached_input: u64,
    /// A million tokens of answers, thinking included.
    pub output: u64,
}

impl Price {
    /// What a request costs, in millionths of a dollar, rounded up: a limit is rather reached a
    /// millionth early than passed.
    ///
    /// `input` are all tokens of the prompt and `cached` those of them that were cached, as Google's
    /// usage tells them; more cached ones than there are at all count as all.
    pub fn spend(&self, input: u64, cached: u64, output: u64) -> u64 {
        let cached = cached.min(input);
        let cost = |tokens: u64, price: u64| u128::from(tokens) * u128::from(price);
        // Each product of two 64-bit numbers fits, the sum of three may not.
        let sum = cost(input - cached, self.input)
            .saturating_add(cost(cached, self.cached_input))
            .saturating_add(cost(output, self.output));
        u64::try_from(sum.div_ceil(PRICED)).unwrap_or(u64::MAX)
    }
}

/// The price for a quota model: that of the most specific pattern.
pub(super) fn price_of<'a>(prices: &'a [Price], quota_model: &str) -> Option<&'a Price> {
    let meant = prices.iter().filter(|price| price.model.matches(quota_model));
    meant.max_by_key(|price| price.model.specificity())
}
