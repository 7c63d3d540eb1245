//! The operations of the ledger and their answers. Tuples and struct order are the wire format
//! that the Lua scripts read, so a field is only ever added at the end, on both sides.

use serde::{Deserialize, Serialize};

use super::account::Account;

/// An instant of the ledger's clock: milliseconds since the Unix epoch.
pub type Millis = i64;

/// Later than every instant; still exact in a double, which Lua counts in.
pub const FOREVER: Millis = 9_000_000_000_000_000;

/// The amount of a limit that only counts.
pub const UNLIMITED: i64 = 1_000_000_000_000_000;

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
    /// Money, in millionths of a US dollar.
    #[serde(rename = "s")]
    Spend,
}

/// How much a request costs in each dimension.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amounts {
    /// Requests; at least 1.
    pub permits: i64,
    /// Upper bound of input tokens; 0 counts none.
    pub input: i64,
    /// Upper bound of input and output tokens.
    pub total: i64,
    /// Upper bound of what it costs, in millionths of a US dollar.
    pub spend: i64,
}

impl Amounts {
    /// How much counts in a dimension.
    pub const fn of(&self, dimension: Dimension) -> i64 {
        match dimension {
            Dimension::Requests | Dimension::InFlight => self.permits,
            Dimension::InputTokens => self.input,
            Dimension::TotalTokens => self.total,
            Dimension::Spend => self.spend,
        }
    }
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

/// What an account's limits do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Mode {
    /// They refuse; what Google names can lower them.
    #[default]
    Hard,
    /// They never refuse: who exceeds one is told so.
    Soft,
    /// They refuse; what Google names stands in their place, also where it is more.
    Learning,
}

/// An account and its limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountSpec {
    /// The id; its first letter is its role, such as `k` for a key.
    pub id: String,
    /// The limits, at most one for each (dimension, span).
    pub limits: Vec<LimitSpec>,
    /// What they do.
    pub mode: Mode,
}

/// An account beside those of the candidates, such as a consumer's. It need not have been applied:
/// it brings its limits along.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommonSpec {
    /// The id.
    pub id: String,
    /// The generation of the catalogue that the limits are of; newer ones win.
    pub generation: i64,
    /// The limits; without any the account only ever holds a block, and has no row until then.
    pub limits: Vec<LimitSpec>,
    /// What they do.
    pub mode: Mode,
    /// Whether it is forgotten once all that it counts has ended.
    pub passing: bool,
}

/// In which order a shard's candidates are leased; see [`super::shard`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub enum Order {
    /// By shares: a grant moves a candidate behind by its step.
    #[default]
    Share,
    /// The same, and the step grows as the key's health falls.
    Health,
    /// Whose last grant lies farthest back goes first.
    LeastRecent,
    /// By shares of their limits: the step is how much of a limit the grant took.
    LeastUtilized,
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
    /// What it is recorded under in usage beside its name: its project.
    pub tag: String,
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
    /// In which order they are leased.
    pub order: Order,
}

/// What a pool's leases may count in, before the first is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Horizon {
    /// All limits that its accounts may have.
    pub limits: Vec<LimitSpec>,
    /// Within what time of a grant requests are sent at most, in milliseconds.
    pub send_within: i64,
    /// How long leases live unless they say more, in milliseconds.
    pub ttl: i64,
}

/// The answer to `open`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// The identity of the pool's ledger; every batch names it.
    pub ledger_id: String,
    /// The generation of the catalogue.
    pub generation: i64,
}

/// Changes the standing of one account, outside of any lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// The account.
    pub account: String,
    /// What is done.
    pub action: EditAction,
    /// For [`EditAction::Block`]: for how many milliseconds from now.
    pub length: i64,
    /// For [`EditAction::Block`]: a word for people.
    pub reason: String,
}

/// What an [`Edit`] does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EditAction {
    /// Ends the block with its probe and ramp, as an operator says.
    #[serde(rename = "r")]
    Reset,
    /// Ends the block because a check went well: the ramp begins.
    #[serde(rename = "c")]
    Recover,
    /// Blocks, at least as long as said; a probe follows.
    #[serde(rename = "b")]
    Block,
    /// Forgets the limits that were learned.
    #[serde(rename = "f")]
    Unlearn,
}

/// Asks for one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The id the lease will have; made by the caller, so that an unclear call can be resolved.
    pub lease: String,
    /// Index into [`super::Batch::shards`].
    pub shard: usize,
    /// How much is charged.
    pub amounts: Amounts,
    /// How long the lease may be held, in milliseconds.
    pub ttl: i64,
    /// Within what time of the grant the request is sent, in milliseconds.
    pub send_within: i64,
    /// Only these candidates, if any are named.
    pub only: Vec<String>,
    /// Never these candidates.
    pub exclude: Vec<String>,
    /// Accounts to charge beside the candidate's: indexes into [`super::Batch::commons`].
    pub common: Vec<usize>,
    /// What usage is recorded under, before project, key and outcome: consumer and quota model, with
    /// [`USAGE_MARK`] between them; empty records nothing.
    pub usage: String,
    /// Returned to whoever settles the lease; may be empty.
    pub note: String,
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
    /// Index into [`super::Batch::shards`].
    pub shard: usize,
    /// What becomes of the charge.
    pub charge: Charge,
    /// Input tokens used, -1 if not known; read with [`Charge::TrueUp`].
    pub input_tokens: i64,
    /// Total tokens used, -1 if not known; read with [`Charge::TrueUp`].
    pub total_tokens: i64,
    /// Spent, in millionths of a US dollar, -1 if not known; read with [`Charge::TrueUp`].
    pub spend: i64,
    /// A definite success: ends probing and the count of blocks in a row.
    pub clear: bool,
    /// Blocks to set.
    pub blocks: Vec<Block>,
    /// Returned to whoever reports the lease again.
    pub memo: String,
    /// By how much the health of the accounts of role `k` changes.
    pub health: i64,
    /// Limits that Google named for the accounts of role `q`.
    pub learned: Vec<LimitSpec>,
    /// What usage calls it, such as `ok`.
    pub outcome: String,
}

impl Settle {
    /// Gives all of a lease back.
    pub fn not_sent(lease: &str) -> Self {
        Self {
            lease: lease.to_owned(),
            shard: 0,
            charge: Charge::Refund,
            input_tokens: -1,
            total_tokens: -1,
            spend: -1,
            clear: false,
            blocks: Vec::new(),
            memo: String::new(),
            health: 0,
            learned: Vec::new(),
            outcome: "not_sent".to_owned(),
        }
    }
}

/// Extends one lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The lease.
    pub lease: String,
    /// Index into [`super::Batch::shards`].
    pub shard: usize,
    /// How long from now, in milliseconds.
    pub ttl: i64,
}

/// The answers to a [`super::Batch`], in the order of its operations.
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
    /// One for each edit: whether it changed anything.
    pub edits: Vec<bool>,
}

/// The answer to [`Settle`]: state, candidate, memo, note, and whether a limit was learned that was
/// not known.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled(pub SettleState, pub String, pub String, pub String, pub bool);

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
/// it where the request is larger than the limit, `block:` and a reason, `probe`, `none`; for a lease
/// `over:` and a limit if a soft one is exceeded, or nothing.
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
small_enum!(Mode: Hard = 0, Soft = 1, Learning = 2);
small_enum!(Order: Share = 0, Health = 1, LeastRecent = 2, LeastUtilized = 3);

/// What was used on one Pacific day, under one name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UsageRow {
    /// When the day ends.
    pub day_end: Millis,
    /// Consumer, quota model, project, key and outcome, with [`USAGE_MARK`] between them.
    pub name: String,
    /// What was used.
    pub used: Used,
}

/// What stands between the parts of a usage row's name.
pub const USAGE_MARK: char = '\u{1f}';

/// How long usage is kept after its day, in milliseconds: 400 days.
pub const USAGE_LIFETIME: i64 = 400 * 24 * 3600 * 1000;

/// What usage calls a lease of which no report ever came.
pub const UNREPORTED: &str = "unreported";

/// Sums of usage: leases, requests, input tokens, total tokens, millionths of a US dollar, and
/// requests over a soft plan.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Used(pub i64, pub i64, pub i64, pub i64, pub i64, pub i64);

impl std::ops::AddAssign for Used {
    fn add_assign(&mut self, more: Self) {
        self.0 += more.0;
        self.1 += more.1;
        self.2 += more.2;
        self.3 += more.3;
        self.4 += more.4;
        self.5 += more.5;
    }
}

impl std::ops::Neg for Used {
    type Output = Self;

    fn neg(self) -> Self {
        Self(-self.0, -self.1, -self.2, -self.3, -self.4, -self.5)
    }
}

/// Accounts as they stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The ledger's clock.
    pub now: Millis,
    /// One for each id asked for; none if the account has no row.
    pub accounts: Vec<Option<Account>>,
}
