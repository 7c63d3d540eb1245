//! The names Google gives its quotas: which metric and quota id a spent dimension goes by.

use super::config::Tier;
use super::verdict::Dimension;

const SERVICE: &str = "generativelanguage.googleapis.com";

/// One entry of `QuotaFailure.violations`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The metric that is counted.
    pub metric: String,
    /// The id of the quota, whose name tells its period, its unit and the tier.
    pub quota_id: String,
    /// The quota model.
    pub model: String,
    /// The limit. Google leaves `quotaValue` out when it is 0.
    pub value: u64,
    /// Whether this is a limit on a day.
    pub daily: bool,
}

impl Violation {
    /// The violation that names a spent dimension. Embeddings have quotas of their own names.
    pub fn new(dimension: Dimension, embeds: bool, tier: Tier, quota_model: &str, value: u64) -> Self {
        let free = tier == Tier::Free;
        let metric = match (dimension, embeds, free) {
            (Dimension::InputTpm, _, true) => "generate_content_free_tier_input_token_count",
            (Dimension::InputTpm, _, false) => "generate_content_paid_tier_input_token_count",
            (_, true, true) => "embed_content_free_tier_requests",
            (_, true, false) => "embed_content_paid_tier_requests",
            (_, false, true) => "generate_content_free_tier_requests",
            (Dimension::Rpm, false, false) => "generate_requests_per_model",
            (Dimension::Rpd, false, false) => "generate_requests_per_model_per_day",
        };
        let name = match (dimension, embeds, free) {
            (Dimension::InputTpm, _, true) => "GenerateContentInputTokensPerModelPerMinute",
            (Dimension::InputTpm, _, false) => "GenerateContentPaidTierInputTokensPerModelPerMinute",
            (Dimension::Rpm, true, _) => "EmbedContentRequestsPerMinutePerUserPerProjectPerModel",
            (Dimension::Rpd, true, _) => "EmbedContentRequestsPerDayPerUserPerProjectPerModel",
            (Dimension::Rpm, false, _) => "GenerateRequestsPerMinutePerProjectPerModel",
            (Dimension::Rpd, false, _) => "GenerateRequestsPerDayPerProjectPerModel",
        };
        let suffix = match tier {
            Tier::Free => "-FreeTier",
            Tier::Tier1 => "",
            Tier::Tier2 => "-PaidTier2",
            Tier::Tier3 => "-PaidTier3",
        };
        Self {
            metric: format!("{SERVICE}/{metric}"),
            quota_id: format!("{name}{suffix}"),
            model: quota_model.to_owned(),
            value,
            daily: dimension == Dimension::Rpd,
        }
    }
}
