//! The command line of operators.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

use crate::connection::SecurityArgs;

/// Which broker, and how to print.
#[derive(Debug, Clone, Args)]
pub(crate) struct BrokerArgs {
    /// The broker's gRPC address
    #[arg(
        long,
        global = true,
        env = "KEYBROKER_BROKER",
        default_value = "127.0.0.1:50051",
        value_name = "ADDR"
    )]
    pub(crate) broker: String,
    /// Who makes the change, for the record of changes [default: your address]
    #[arg(long, global = true, env = "KEYBROKER_ACTOR", value_name = "NAME")]
    pub(crate) actor: Option<String>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) security: SecurityArgs,
}

/// What to do with keys.
#[derive(Debug, Args)]
pub struct KeysArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    #[command(subcommand)]
    pub(super) command: KeysCommand,
}

/// The commands about keys.
#[derive(Debug, Subcommand)]
pub(super) enum KeysCommand {
    /// List all keys: configured and created at run time, leased or not
    List {
        /// Only those of this pool
        #[arg(long, value_name = "POOL")]
        pool: Option<String>,
    },
    /// Create a key; its text is read from standard input, a file or a variable
    Add(Box<AddArgs>),
    /// Create many keys from a file
    Import(Box<ImportArgs>),
    /// Lease a key again that was disabled or drained
    Enable(KeyArgs),
    /// Lease a key no more, until it is enabled
    Disable {
        #[command(flatten)]
        key: KeyArgs,
        /// Why, in a few words
        #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
        reason: String,
    },
    /// Lease a key no more, and wait until no lease of it is out
    Drain {
        #[command(flatten)]
        key: KeyArgs,
        /// Why, in a few words
        #[arg(long, default_value = "", value_name = "TEXT", hide_default_value = true)]
        reason: String,
        /// Delete it once it is drained
        #[arg(long)]
        remove: bool,
        /// Return at once, and let the brokers wait
        #[arg(long)]
        no_wait: bool,
    },
    /// Put another text in the place of a key's, and wait until no lease of the former one is out
    #[command(after_help = ROTATE_EXAMPLES)]
    Rotate {
        #[command(flatten)]
        key: KeyArgs,
        #[command(flatten)]
        secret: SecretArgs,
        /// Return at once; the event key_rotation_done tells when no lease of the former text is out
        #[arg(long)]
        no_wait: bool,
    },
    /// Delete a key that was created at run time, at once
    Remove(KeyArgs),
}

/// Which key.
#[derive(Debug, Clone, Args)]
pub(super) struct KeyArgs {
    /// The key's id, or its name pools/POOL/keys/ID
    #[arg(value_name = "KEY")]
    pub(super) key: String,
    /// The key's pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
}

/// What a key is to be.
#[derive(Debug, Clone, Args)]
pub(super) struct KeyFieldsArgs {
    /// The pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
    /// The Google Cloud project that owns the key; keys of one project share its quota [default: a
    /// project of its own]
    #[arg(long, value_name = "ID")]
    pub(super) project: Option<String>,
    /// Whether the project's requests are paid for
    #[arg(long, value_name = "TIER")]
    pub(super) tier: Option<TierArg>,
    /// The account that pays for the project
    #[arg(long, value_name = "ID")]
    pub(super) billing_account: Option<String>,
    /// Its share among the keys of equal class, 1 to 1000, where the pool's strategy reads it
    #[arg(long, value_name = "NUMBER")]
    pub(super) weight: Option<i32>,
    /// Its class, 0 to 15, where the pool's strategy reads it: lower ones are leased first
    #[arg(long, value_name = "NUMBER")]
    pub(super) priority: Option<i32>,
    /// A note; may be given several times
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = pair)]
    pub(super) labels: Vec<(String, String)>,
    /// A limit of this key alone, such as requests_per_minute=10, or gemini-2.5-*:requests_per_day=100;
    /// may be given several times
    #[arg(long = "limit", value_name = "[MODEL:]LIMIT=AMOUNT", value_parser = limit)]
    pub(super) limits: Vec<(String, String, i64)>,
}

/// How to create a key.
#[derive(Debug, Clone, Args)]
#[command(after_help = ADD_EXAMPLES)]
pub(super) struct AddArgs {
    /// The key's id [default: made from its text's fingerprint]
    #[arg(value_name = "ID", default_value = "", hide_default_value = true)]
    pub(super) id: String,
    #[command(flatten)]
    pub(super) secret: SecretArgs,
    #[command(flatten)]
    pub(super) fields: KeyFieldsArgs,
}

/// Where a key's text is read from; standard input if nothing is said.
#[derive(Debug, Clone, Args)]
pub(super) struct SecretArgs {
    /// Read the text from the first line of this file
    #[arg(long, value_name = "FILE", conflicts_with = "secret_env")]
    pub(super) secret_file: Option<PathBuf>,
    /// Read the text from this variable
    #[arg(long, value_name = "NAME")]
    pub(super) secret_env: Option<String>,
}

const ROTATE_EXAMPLES: &str = "\
The new text is leased at once; leases of the former one can still be reported. When the command
ends, no lease of the former text is out, and it can be deleted at Google:
  keybroker keys rotate a1 --secret-file a1.new
The text of a key of the configuration is changed where the configuration says it lies.";

const ADD_EXAMPLES: &str = "\
A text on the command line would be seen by everyone on the host, so it is never an argument:
  keybroker keys add a1 --project team-a --secret-file a1.key
  keybroker keys add a1 --project team-a --secret-env A1_KEY
  printf %s \"$A1_KEY\" | keybroker keys add a1 --project team-a
The brokers need KEYBROKER_MASTER_KEY; see keybroker generate-master-key.";

/// How to create many keys.
#[derive(Debug, Clone, Args)]
#[command(after_help = IMPORT_EXAMPLES)]
pub(super) struct ImportArgs {
    /// The file; - for standard input
    #[arg(value_name = "FILE")]
    pub(super) file: PathBuf,
    /// Say what would come of it, and create nothing
    #[arg(long)]
    pub(super) dry_run: bool,
    #[command(flatten)]
    pub(super) fields: KeyFieldsArgs,
}

const IMPORT_EXAMPLES: &str = "\
One key a line, or CSV whose first line names the columns:
  api_key,id,project,tier,weight,labels
  (text),a1,team-a,free,2,owner=ann;site=hq
All keys that can be created are. A key that is there already is named and passed over, so the
same file may be imported again. Exit code 1 if a line is invalid.";

/// What to do with pools.
#[derive(Debug, Args)]
pub struct PoolsArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    #[command(subcommand)]
    pub(super) command: PoolsCommand,
}

/// The commands about pools.
#[derive(Debug, Subcommand)]
pub(super) enum PoolsCommand {
    /// List all pools
    List,
}

/// What of the record of changes to print.
#[derive(Debug, Args)]
pub struct AuditArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// How many records at most
    #[arg(long, default_value = "50", value_name = "NUMBER", value_parser = clap::value_parser!(u32).range(1..))]
    pub(super) limit: u32,
}

/// Which cooldowns to end.
#[derive(Debug, Args)]
#[command(after_help = RESET_EXAMPLES)]
pub struct ResetArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// The pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
    /// Only those that hold this key back, its project's and its billing account's too: its id, or its
    /// name pools/POOL/keys/ID [default: all of the pool]
    #[arg(long, value_name = "KEY")]
    pub(super) key: Option<String>,
    /// Only those of this quota model [default: all]
    #[arg(long, default_value = "", hide_default_value = true, value_name = "MODEL")]
    pub(super) model: String,
}

const RESET_EXAMPLES: &str = "\
Examples:
  keybroker reset
  keybroker reset --pool batch --model gemini-2.5-flash
  keybroker reset --key a1

What was counted stays counted, and limits that Google named stay as they are. It is no failure if
nothing cools down.";

/// Of which pool counts are lost.
#[derive(Debug, Args)]
#[command(after_help = ACCEPT_LOSS_HELP)]
pub struct AcceptLossArgs {
    #[command(flatten)]
    pub(super) broker: BrokerArgs,
    /// The pool
    #[arg(long, default_value = "default", value_name = "POOL")]
    pub(super) pool: String,
}

const ACCEPT_LOSS_HELP: &str = "\
After Redis came back without counts that no broker remembers, nothing is leased until the days and
months have ended in which they would count. With this, what was used before counts as nothing:
Google may refuse requests, and a budget may be exceeded, by as much as was used before. Windows of
minutes are waited for all the same. Replicas that are gone for good are not waited for any more
either, where no Sentinel and no cluster says that they are. It fails if the pool waits for nothing.";

/// A tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum TierArg {
    /// Free of charge
    Free,
    /// Paid for
    Paid,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write NAME=VALUE")?;
    Ok((name.to_owned(), value.to_owned()))
}

impl TierArg {
    pub(super) fn wire(self) -> keybroker_proto::v1::Tier {
        match self {
            Self::Free => keybroker_proto::v1::Tier::Free,
            Self::Paid => keybroker_proto::v1::Tier::Paid,
        }
    }
}

fn limit(text: &str) -> Result<(String, String, i64), String> {
    let wrong = "write LIMIT=AMOUNT or MODEL:LIMIT=AMOUNT, such as requests_per_minute=10";
    let (name, amount) = text.rsplit_once('=').ok_or(wrong)?;
    let (model, name) = name.rsplit_once(':').unwrap_or(("*", name));
    Ok((model.to_owned(), name.to_owned(), amount.parse().map_err(|_| wrong)?))
}
