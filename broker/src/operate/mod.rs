//! The commands of operators: they speak to a running broker.

mod accept_loss;
mod args;
mod audit;
mod events;
mod follow;
mod health;
mod import;
mod keys;
mod lease;
mod pools;
pub(crate) mod print;
mod reset;
pub(crate) mod status;
mod text;
mod usage;

use std::{error::Error, io::Write, process::ExitCode, time::Duration};

use keybroker_proto::v1::{admin_client::AdminClient, key_broker_client::KeyBrokerClient};
use tonic::{
    Code, Request, Status,
    metadata::{Ascii, MetadataValue},
    transport::Channel,
};
use tonic_types::StatusExt;

use crate::connection::{not_connected, root_cause};

pub(crate) use args::BrokerArgs;
pub use args::{AcceptLossArgs, AuditArgs, KeysArgs, PoolsArgs, ResetArgs};
pub use events::EventsArgs;
pub use health::HealthArgs;
pub use lease::LeaseArgs;
pub use status::StatusArgs;
pub use usage::UsageArgs;

/// How long a broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a command about keys.
pub fn keys(args: KeysArgs) -> ExitCode {
    run(keys::run(args))
}

/// Runs a command about pools.
pub fn pools(args: PoolsArgs) -> ExitCode {
    run(pools::run(args))
}

/// Takes, reports or renews a lease by hand.
pub fn lease(args: LeaseArgs) -> ExitCode {
    run(lease::run(args))
}

/// Prints how pools stand.
pub fn status(args: StatusArgs) -> ExitCode {
    run(status::run(args))
}

/// Prints what happens.
pub fn events(args: EventsArgs) -> ExitCode {
    run(events::run(args))
}

/// Asks whether a broker is well.
pub fn health(args: HealthArgs) -> ExitCode {
    run(health::run(args))
}

/// Lists the record of changes.
pub fn audit(args: AuditArgs) -> ExitCode {
    run(audit::run(args))
}

/// Ends cooldowns.
pub fn reset(args: ResetArgs) -> ExitCode {
    run(reset::run(args))
}

/// Accepts that counts are lost.
pub fn accept_loss(args: AcceptLossArgs) -> ExitCode {
    run(accept_loss::run(args))
}

/// Prints what was used.
pub fn usage(args: UsageArgs) -> ExitCode {
    run(usage::run(args))
}

/// Why a command did not do what it was told to.
pub(crate) enum Failure {
    /// What it was told cannot be meant.
    Usage(String),
    /// It failed.
    Failed(String),
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let fields = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
        if let Some(error) = status.source().filter(|_| status.code() != Code::DeadlineExceeded) {
            let hint = "a broker that speaks TLS needs https:// before its address, or --tls-ca";
            return Self::Failed(format!("the broker did not answer ({}); {hint}", root_cause(error)));
        }
        if fields.is_empty() {
            return Self::Failed(status.message().to_owned());
        }
        let lines = fields.iter().map(|field| format!("  {} {}", field.field, field.description));
        let lines: Vec<String> = lines.collect();
        Self::Failed(format!("the broker refused this:\n{}", lines.join("\n")))
    }
}

pub(crate) fn run(command: impl Future<Output = Result<ExitCode, Failure>>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(command),
        Err(error) => Err(Failure::Failed(error.to_string())),
    };
    let (text, code) = match outcome {
        Ok(code) => return code,
        Err(Failure::Usage(text)) => (text, 2),
        Err(Failure::Failed(text)) => (text, 1),
    };
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "keybroker: {text}");
    ExitCode::from(code)
}

/// A broker, and who speaks to it.
pub(crate) struct Admin {
    pub(crate) client: AdminClient<Channel>,
    leases: KeyBrokerClient<Channel>,
    actor: Option<MetadataValue<Ascii>>,
    authorization: Option<MetadataValue<Ascii>>,
}

impl Admin {
    pub(crate) async fn connect(args: &BrokerArgs) -> Result<Self, Failure> {
        Self::connect_for(args, PATIENCE).await
    }

    /// The same for calls that may take so long.
    pub(crate) async fn connect_for(args: &BrokerArgs, patience: Duration) -> Result<Self, Failure> {
        let (endpoint, authorization) = args.security.endpoint(&args.broker).map_err(Failure::Usage)?;
        let actor = args.actor.as_deref().filter(|actor| !actor.trim().is_empty());
        let actor = actor
            .map(|actor| actor.parse())
            .transpose()
            .map_err(|_| Failure::Usage("--actor or KEYBROKER_ACTOR is not printable ASCII".to_owned()))?;
        let channel = endpoint.connect_timeout(PATIENCE).timeout(patience).connect().await;
        let channel = channel.map_err(|error| Failure::Failed(not_connected(&args.broker, &error)))?;
        let leases = KeyBrokerClient::new(channel.clone());
        Ok(Self { client: AdminClient::new(channel), leases, actor, authorization })
    }

    /// A request that says who makes it.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(actor) = &self.actor {
            request.metadata_mut().insert("x-keybroker-actor", actor.clone());
        }
        if let Some(authorization) = &self.authorization {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        request
    }
}
