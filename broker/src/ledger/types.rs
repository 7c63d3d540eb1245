//! The operations of the ledger and their answers. Tuples and struct order are the wire format
//! that the Lua scripts read, so a field is only ever added at the end, on both sides.

use serde::{Deserialize, Serialize};

use super::account::Account;

/// An instant of the ledger's clock: milliseconds since the Unix epoch.
pub type Millis = i64;

/// Later than every instant; still exact in a double, which Lua counts in.
pub const FOREVER: Millis = 9_000_000_000_000_000;

/// What a window counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Dimension {
    /// Requests sent.
    #[serde(rename = "r")]
    Requests,
    /// Input tokens.
    #[serde(rename = "i")]
    InputTokens,
    /// Input and output tokens.
    #[serde(rename = "t")]
    TotalTokens,
    /// Leases held and not yet reported.
    #[serde(rename = "f")]
    InFlight,
}

/// For how long a window counts. On the wire: a positive number is a trailing span in
/// milliseconds, 0 is for as long as the lease is held, -1 the Pacific day, -2 the Pacific month.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "i64", into = "i64")]
pub enum Span {
    /// Every window of this many milliseconds, however aligned.
    Trailing(i64),
    /// While the lease is held.
    Held,
    /// The Pacific day.
    Day,
    /// The Pacific calendar month.
    Month,
}

impl From<i64> for Span {
    fn from(code: i64) -> Self {
        match code {
            0 => Self::Held,
            -1 => Self::Day,
            -2 => Self::Month,
            ms => Self::Trailing(ms.max(1)),
        }
    }
}

impl From<Span> for i64 {
    fn from(span: Span) -> Self {
        match span {
            Span::Trailing(ms) => ms,
            Span::Held => 0,
            Span::Day => -1,
            Span::Month => -2,
        }
    }
}

/// One limit of an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitSpec(pub Dimension, pub Span, pub i64);

/// An account and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    /// The id; its first letter is its role, such as `k` for a key.
    pub id: String,
    /// The limits, at most one for each (dimension, span).
    pub limits: Vec<LimitSpec>,
}

/// A key for a quota model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandidateSpec {
    /// The key's id.
    pub name: String,
    /// The priority class, 0 to 15; lower goes first.
    pub class: i64,
    /// By how much virtual time advances with a grant: [`super::shard::SCALE`] / weight.
    pub step: i64,
    /// The accounts with limits; a grant is refused if one of them is missing.
    pub limited: Vec<String>,
    /// The accounts that only ever hold a block; they have no row until then.
    pub sparse: Vec<String>,
}

/// All candidates of one quota model under one catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardSpec {
    /// `<catalogue digest>/<quota model>`.
    pub shard: String,
    /// The generation of the catalogue, as [`Opened`] gave it: newer limits win.
    pub generation: i64,
    /// The accounts that the candidates name, and those of the pool.
    pub accounts: Vec<AccountSpec>,
    /// The candidates.
    pub candidates: Vec<CandidateSpec>,
}

/// The answer to `open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The identity of the pool's ledger; every batch names it.
    pub ledger_id: String,
    /// The generation of the catalogue.
    pub generation: i64,
}

/// Operations that run as one atomic step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// The identity the ledger must have.
    pub ledger_id: String,
    /// 0: the ledger's own clock. Else the instant, for tests that drive the clock.
    pub clock: Millis,
    /// Ends of Pacific days, ascending, from before the oldest lease to days ahead.
    pub day_ends: Vec<Millis>,
    /// The same for months.
    pub month_ends: Vec<Millis>,
    /// From how much virtual time on a shard's order is rebased.
    pub rebase_at: i64,
    /// The shards that the operations name by index.
    pub shards: Vec<String>,
    /// Settled first.
    pub settles: Vec<Settle>,
    /// Then renewed.
    pub renews: Vec<Renew>,
    /// Then granted.
    pub acquires: Vec<Acquire>,
}

/// Asks for one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The id the lease will have; made by the caller, so that an unclear call can be resolved.
    pub lease: String,
    /// Index into [`Batch::shards`].
    pub shard: usize,
    /// Requests that will be sent; at least 1.
    pub permits: i64,
    /// Upper bound of input tokens; 0 counts none.
    pub tokens: i64,
    /// How long the lease may be held, in milliseconds.
    pub ttl: i64,
    /// Within what time of the grant the request is sent, in milliseconds.
    pub send_within: i64,
    /// Only these candidates, if any are named.
    pub only: Vec<String>,
    /// Never these candidates.
    pub exclude: Vec<String>,
    /// Accounts to charge beside the candidate's; all must exist.
    pub common: Vec<String>,
}

/// What becomes of a lease's charge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Charge {
    /// It stays; only the in-flight slot returns.
    #[serde(rename = "k")]
    Keep,
    /// All of it is given back: nothing was sent.
    #[serde(rename = "r")]
    Refund,
    /// Tokens are corrected to what was used.
    #[serde(rename = "t")]
    TrueUp,
}

/// Blocks one of the lease's accounts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Block {
    /// The role letter of the account.
    pub role: String,
    /// Lengths in milliseconds: the nth block in a row takes the nth, the last one repeats.
    pub steps: Vec<i64>,
    /// At least until the Pacific day of the grant ends.
    pub until_day_end: bool,
    /// Whether the first lease afterwards goes out alone.
    pub probe: bool,
    /// A word for people.
    pub reason: String,
}

/// Settles one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settle {
    /// The lease.
    pub lease: String,
    /// Index into [`Batch::shards`].
    pub shard: usize,
    /// What becomes of the charge.
    pub charge: Charge,
    /// Input tokens used, -1 if not known; read with [`Charge::TrueUp`].
    pub input_tokens: i64,
    /// Total tokens used, -1 if not known; read with [`Charge::TrueUp`].
    pub total_tokens: i64,
    /// A definite success: ends probing and the count of blocks in a row.
    pub clear: bool,
    /// Blocks to set.
    pub blocks: Vec<Block>,
    /// Returned to whoever reports the lease again.
    pub memo: String,
}

/// Extends one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The lease.
    pub lease: String,
    /// Index into [`Batch::shards`].
    pub shard: usize,
    /// How long from now, in milliseconds.
    pub ttl: i64,
}

/// The answers to a [`Batch`], in the order of its operations.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The ledger's clock.
    pub now: Millis,
    /// One for each settle.
    pub settles: Vec<Settled>,
    /// One for each renewal.
    pub renews: Vec<Renewed>,
    /// One for each acquire.
    pub acquires: Vec<Acquired>,
}

/// The answer to [`Settle`]: state, candidate, memo.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled(pub SettleState, pub String, pub String);

/// What a settle did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum SettleState {
    /// It settled the lease.
    Settled,
    /// The same, after the lease had expired.
    Late,
    /// An earlier one had.
    Already,
    /// There is no such lease.
    Unknown,
}

/// The answer to [`Renew`]: state and the new expiry, 0 if there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renewed(pub RenewState, pub Millis);

/// What a renewal did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum RenewState {
    /// The lease is held until the new expiry.
    Renewed,
    /// It was settled or has expired.
    Ended,
    /// There is no such lease.
    Unknown,
}

/// The answer to [`Acquire`]: state, instant (expiry or when to ask again), candidate or account,
/// and for a refusal what is spent: a dimension letter and a span such as `r60000`, `exceeds:` before
/// it where the request is larger than the limit, `block:` and a reason, `probe`, or nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquired(pub AcquireState, pub Millis, pub String, pub String);

/// What an acquire did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum AcquireState {
    /// The lease is granted.
    Granted,
    /// Not before the instant; [`FOREVER`] if never.
    Refused,
    /// The shard or one of its accounts is not in the ledger: apply it and ask again.
    Missing,
}

macro_rules! small_enum {
    ($name:ident: $($variant:ident = $code:literal),+) => {
        impl From<$name> for u8 {
            fn from(value: $name) -> u8 { match value { $($name::$variant => $code),+ } }
        }
        impl TryFrom<u8> for $name {
            type Error = String;
            fn try_from(code: u8) -> Result<Self, String> {
                match code { $($code => Ok(Self::$variant),)+ other => Err(format!("unknown state {other}")) }
            }
        }
    };
}
small_enum!(SettleState: Settled = 0, Late = 1, Already = 2, Unknown = 3);
small_enum!(RenewState: Renewed = 0, Ended = 1, Unknown = 2);
small_enum!(AcquireState: Granted = 0, Refused = 1, Missing = 2);

/// Accounts as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The ledger's clock.
    pub now: Millis,
    /// One for each id asked for; none if the account has no row.
    pub accounts: Vec<Option<Account>>,
}
