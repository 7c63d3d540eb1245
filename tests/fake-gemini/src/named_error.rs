//! Every error answer by a name, so that a rule or a test can ask for it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::bodies::{self, ErrorBody};
use super::config::Tier;
use super::quota_id::Violation;
use super::verdict::Dimension;

/// What an error body may have to mention.
#[derive(Clone, Copy, Debug)]
pub struct ErrorContext<'a> {
    /// The key as sent.
    pub key: &'a str,
    /// The tier of its project.
    pub tier: Tier,
    /// The model id as asked for.
    pub model: &'a str,
    /// The family it counts under.
    pub quota_model: &'a str,
    /// Whether the call asks for embeddings, whose quotas have names of their own.
    pub embeds: bool,
}

/// Declares the names together with the body each one stands for.
macro_rules! named_errors {
    ($($(#[$doc:meta])* $name:ident => $body:expr,)*) => {
        /// An error answer of Google's, by name.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum NamedError { $($(#[$doc])* $name,)* }

        impl NamedError {
            /// Every name there is.
            pub const ALL: &'static [Self] = &[$(Self::$name,)*];

            /// The answer in full.
            pub fn body(self, context: &ErrorContext<'_>) -> ErrorBody {
                match self { $(Self::$name => ($body)(context),)* }
            }
        }
    };
}

named_errors! {
    /// A minute's requests are spent.
    #[serde(rename = "minute_429")]
    Minute429 => |context| quota(context, Dimension::Rpm, 15, Duration::new(11, 769_242_877)),
    /// A minute's input tokens are spent.
    #[serde(rename = "minute_tokens_429")]
    MinuteTokens429 => |context| quota(context, Dimension::InputTpm, 250_000, Duration::new(34, 0)),
    /// A day's requests are spent.
    #[serde(rename = "daily_429")]
    Daily429 => |context| quota(context, Dimension::Rpd, 20, Duration::ZERO),
    /// A minute's requests and a day's requests at once.
    #[serde(rename = "minute_and_daily_429")]
    MinuteAndDaily429 => |context| quotas(context, &[(Dimension::Rpm, 15), (Dimension::Rpd, 20)], Duration::ZERO),
    /// The model is not offered to this tier.
    #[serde(rename = "limit_zero_429")]
    LimitZero429 => |context| quota(context, Dimension::Rpm, 0, Duration::from_secs(34)),
    /// Spent, or busy: it does not say.
    #[serde(rename = "opaque_429")]
    Opaque429 => |_| bodies::opaque_429(),
    /// The Interactions API's word for a spent quota.
    InteractionsQuotaExceeded => |_| bodies::interactions_quota_exceeded(),
    /// The Interactions API's word for too many requests.
    InteractionsTooManyRequests => |_| bodies::interactions_too_many_requests(),
    /// The billing account spends too fast.
    #[serde(rename = "spend_rate_429")]
    SpendRate429 => |_| bodies::spend_rate_429(),
    /// The project's monthly cap is reached.
    #[serde(rename = "spending_cap_429")]
    SpendingCap429 => |_| bodies::spending_cap_429(),
    /// The account's credit is used up.
    #[serde(rename = "credits_depleted_429")]
    CreditsDepleted429 => |_| bodies::credits_depleted_429(),
    /// The same as a 402.
    PaymentRequired => |_| bodies::payment_required(),
    /// The key is not known.
    Invalid => |_| bodies::invalid_key(),
    /// The key is past its date.
    Expired => |_| bodies::expired_key(),
    /// The key is bound in a way the method does not take.
    AccessTokenTypeUnsupported => |_| bodies::access_token_type_unsupported(),
    /// The key was found in public.
    Leaked => |_| bodies::leaked(),
    /// The key is suspended; the body echoes it.
    Suspended => |context: &ErrorContext<'_>| bodies::suspended(context.key),
    /// The project has not enabled the API.
    ServiceDisabled => |_| bodies::service_disabled(),
    /// The project is gone.
    ConsumerInvalid => |_| bodies::consumer_invalid(),
    /// The project has no billing.
    BillingDisabled => |_| bodies::billing_disabled(),
    /// The project was shut out.
    ProjectDenied => |_| bodies::project_denied(),
    /// The key is restricted to other services.
    ServiceBlocked => |_| bodies::service_blocked(),
    /// The key is restricted to other addresses.
    IpAddressBlocked => |_| bodies::ip_address_blocked(),
    /// The key is restricted to other sites.
    ReferrerBlocked => |_| bodies::referrer_blocked(),
    /// A file of another project.
    FileForbidden => |_| bodies::file_forbidden(),
    /// A resource that is not there, or not for this project.
    ResourceNotFound => |_| bodies::resource_not_found(),
    /// No permission, and no word on why.
    CallerForbidden => |_| bodies::caller_forbidden(),
    /// More than one key in one request.
    MultipleCredentials => |_| bodies::multiple_credentials(),
    /// A caller in the wrong place.
    LocationUnsupported => |_| bodies::location_unsupported(),
    /// A request that is wrong in itself.
    BadRequest => |_| bodies::bad_request("Request contains an invalid argument."),
    /// A request that is too large.
    TooLarge => |_| bodies::too_large(),
    /// A call without a key.
    MissingKey => |_| bodies::missing_key(),
    /// A model that does not exist.
    UnknownModel => |context: &ErrorContext<'_>| bodies::unknown_model("v1beta", context.model, "generateContent"),
    /// A model that new projects no longer get.
    RetiredModel => |context: &ErrorContext<'_>| bodies::retired_model(context.model),
    /// The model has too many callers.
    Overloaded => |_| bodies::overloaded(),
    /// The same in newer words.
    HighDemand => |_| bodies::high_demand(),
    /// A fault inside.
    Internal => |_| bodies::internal(),
    /// The front end found no back end; an HTML page.
    BadGateway => |_| bodies::bad_gateway(),
    /// The answer took too long.
    DeadlineExceeded => |_| bodies::deadline_exceeded(),
}

fn quota(context: &ErrorContext<'_>, dimension: Dimension, value: u64, wait: Duration) -> ErrorBody {
    quotas(context, &[(dimension, value)], wait)
}

fn quotas(context: &ErrorContext<'_>, spent: &[(Dimension, u64)], wait: Duration) -> ErrorBody {
    let violation = |&(dimension, value): &(Dimension, u64)| {
        Violation::new(dimension, context.embeds, context.tier, context.quota_model, value)
    };
    bodies::quota_429(&spent.iter().map(violation).collect::<Vec<_>>(), wait)
}

impl NamedError {
    /// Whether Google may have counted a request that it answered so. A 4xx is decided before the quota is
    /// spent; a 5xx may come after.
    pub fn may_be_counted(self) -> bool {
        matches!(
            self,
            Self::Overloaded | Self::HighDemand | Self::Internal | Self::BadGateway | Self::DeadlineExceeded
        )
    }

    /// The answer that a bare status stands for.
    pub fn of_status(status: u16) -> Option<Self> {
        match status {
            500 => Some(Self::Internal),
            502 => Some(Self::BadGateway),
            503 => Some(Self::Overloaded),
            504 => Some(Self::DeadlineExceeded),
            _ => None,
        }
    }
}
