//! The grammar of Google's quota ids, and what a refusal teaches.

/// A quota that a 429 named.
///
/// It is a lesson and not yet a limit: the ledger decides what to do with a value it was not configured for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LearnedQuota {
    /// Google's id, for example `GenerateRequestsPerDayPerProjectPerModel-FreeTier`.
    pub quota_id: String,
    /// The limit in units of `dimension` for each `window`, if the body said it; never 0.
    pub quota_value: Option<u64>,
    /// The family name under which Google counted the model, if the body said it.
    pub quota_model: Option<String>,
    /// What is counted.
    pub dimension: Dimension,
    /// Over which time.
    pub window: Window,
}

/// What a quota counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Dimension {
    /// Requests; for embeddings, texts.
    Requests,
    /// Input tokens.
    InputTokens,
    /// Tokens of both directions.
    TotalTokens,
    /// Images.
    Images,
    /// Money.
    Spend,
}

/// The time over which a quota counts, the longest-lived last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Window {
    /// One second.
    Second,
    /// One minute.
    Minute,
    /// The Pacific day.
    Day,
}

/// Reads a quota id: what it counts, and over which time.
///
/// The id is a camel-case sentence, and both facts may stand anywhere in it. `None` if it names no
/// time, as a limit of concurrent sessions does.
#[must_use]
pub fn parse_quota_id(id: &str) -> Option<(Dimension, Window)> {
    let window = [("PerDay", Window::Day), ("PerMinute", Window::Minute), ("PerSecond", Window::Second)]
        .into_iter()
        .find(|(word, _)| has_word(id, word))
        .map(|(_, window)| window)?;
    let dimension = if has_word(id, "InputTokens") || has_word(id, "InputToken") {
        Dimension::InputTokens
    } else if has_word(id, "Tokens") || has_word(id, "Token") {
        Dimension::TotalTokens
    } else if has_word(id, "Spend") {
        Dimension::Spend
    } else if has_word(id, "Images") || has_word(id, "Image") {
        Dimension::Images
    } else {
        Dimension::Requests
    };
    Some((dimension, window))
}

/// Whether a camel-case word stands in the text; a lowercase letter after it would make it another word.
fn has_word(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| !text[at + word.len()..].starts_with(|next: char| next.is_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_seen_id_is_read() {
        use Dimension::{InputTokens, Requests};
        for (id, expected) in [
            ("GenerateRequestsPerDayPerProjectPerModel-FreeTier", (Requests, Window::Day)),
            ("GenerateRequestsPerMinutePerProjectPerModel-FreeTier", (Requests, Window::Minute)),
            ("GenerateContentInputTokensPerModelPerMinute-FreeTier", (InputTokens, Window::Minute)),
            ("GenerateContentInputTokensPerModelPerDay-FreeTier", (InputTokens, Window::Day)),
            ("GenerateContentPaidTierInputTokensPerModelPerMinute", (InputTokens, Window::Minute)),
            ("GenerateContentPaidTierInputTokensPerModelPerMinute-PaidTier2", (InputTokens, Window::Minute)),
            ("GenerateRequestsPerMinutePerProjectPerModel", (Requests, Window::Minute)),
            ("GenerateRequestsPerDayPerProjectPerModel", (Requests, Window::Day)),
            ("EmbedContentRequestsPerMinutePerUserPerProjectPerModel-FreeTier", (Requests, Window::Minute)),
            ("GenerateRequestsPerSecondPerProjectPerModel", (Requests, Window::Second)),
        ] {
            assert_eq!(parse_quota_id(id), Some(expected), "{id}");
        }
    }

    #[test]
    fn an_id_without_a_time_is_not_read() {
        for id in ["", "BidiGenerateContentConcurrentSessions", "RequestsPerDaybreak", "perday"] {
            assert_eq!(parse_quota_id(id), None, "{id}");
        }
    }

    #[test]
    fn the_longest_time_in_an_id_rules() {
        assert_eq!(parse_quota_id("RequestsPerMinutePerDay"), Some((Dimension::Requests, Window::Day)));
    }
}
