//! `keybroker events`: what happens at a broker.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use keybroker_proto::v1::{Event, WatchEventsRequest};
use serde_json::{Value, json};
use tokio::time::timeout;
use tonic::{Status, Streaming};

use super::{
    Admin, Failure,
    args::BrokerArgs,
    follow::{Follower, may_pass, say},
    print,
};
use crate::events::{EventKind, KEPT};

/// What happened is sent at once: who hears nothing for so long has all of it.
const SILENCE: Duration = Duration::from_secs(1);

fn examples() -> String {
    let kinds = EventKind::ALL.map(EventKind::as_str).join(", ");
    format!(
        "\
Examples:
  keybroker events
  keybroker events --follow --kind key_disabled --kind pool_exhausted
  keybroker events --follow --recent 0 --json | jq .message

Kinds: {kinds}; docs/hooks.md says what each means. A broker keeps its last {KEPT} events and tells of its own alone: ask each of a fleet."
    )
}

/// Which events to print.
#[derive(Debug, Args)]
#[command(after_help = examples(), mut_arg("actor", |actor| actor.hide(true)))]
pub struct EventsArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Go on with what happens, also when the broker went away and came back
    #[arg(long, short)]
    follow: bool,
    /// Only this kind; may be given several times
    #[arg(long = "kind", value_name = "KIND")]
    kinds: Vec<String>,
    /// Only those of this pool
    #[arg(long, default_value = "", hide_default_value = true, value_name = "POOL")]
    pool: String,
    /// How many of the last ones to print first, 0 to 256
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(i32).range(0..=256), value_name = "NUMBER")]
    recent: i32,
}

pub(super) async fn run(args: EventsArgs) -> Result<ExitCode, Failure> {
    let mut request = WatchEventsRequest {
        pool: args.pool.clone(),
        kinds: args.kinds.clone(),
        recent: args.recent,
        after: String::new(),
    };
    let mut follower = Follower::of(&args.broker);
    // A wrong address or a wrong kind is no broker that went away.
    let mut stream = ask(&mut follower.connect().await?, &request).await?;
    if !args.follow {
        while let Ok(Some(event)) = timeout(SILENCE, stream.message()).await.unwrap_or(Ok(None)) {
            if !show(&event, args.broker.json)? {
                break;
            }
        }
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        let ended = loop {
            match stream.message().await {
                Ok(Some(event)) => {
                    request.after.clone_from(&event.id);
                    if !show(&event, args.broker.json)? {
                        return Ok(ExitCode::SUCCESS);
                    }
                }
                Ok(None) => break Ok(()),
                Err(status) => break Err(status),
            }
        };
        // What was asked for first was told; from here on all that is missed is wanted.
        request.recent = if request.after.is_empty() { request.recent } else { 0 };
        if let Err(status) = ended {
            away(&mut follower, &args.broker.broker, status).await?;
        }
        stream = anew(&mut follower, &args.broker.broker, &request).await?;
    }
}

async fn ask(admin: &mut Admin, request: &WatchEventsRequest) -> Result<Streaming<Event>, Status> {
    Ok(admin.client.watch_events(admin.request(request.clone())).await?.into_inner())
}

async fn anew(
    follower: &mut Follower,
    address: &str,
    request: &WatchEventsRequest,
) -> Result<Streaming<Event>, Failure> {
    loop {
        let status = match follower.connect().await {
            Ok(mut admin) => match ask(&mut admin, request).await {
                Ok(stream) => {
                    if follower.is_there() {
                        say(&format!("the broker at {address} answers again"));
                    }
                    return Ok(stream);
                }
                Err(status) => status,
            },
            Err(Failure::Failed(why)) => Status::unavailable(why),
            Err(usage) => return Err(usage),
        };
        away(follower, address, status).await?;
    }
}

async fn away(follower: &mut Follower, address: &str, status: Status) -> Result<(), Failure> {
    if !may_pass(&status) {
        return Err(status.into());
    }
    follower.is_away(|| say(&format!("the broker at {address} went away; calling it again"))).await;
    Ok(())
}

/// Prints an event, and tells whether anybody reads on.
fn show(event: &Event, json: bool) -> Result<bool, Failure> {
    if json {
        return print::passes(&format!("{}\n", as_json(event)));
    }
    let at = print::time(event.time.as_ref());
    print::passes(&format!("{at}  {:23}  {}\n", event.kind, event.message))
}

/// What is not known is left out.
fn as_json(event: &Event) -> Value {
    let mut value = json!({
        "id": event.id,
        "kind": event.kind,
        "time": print::time(event.time.as_ref()),
        "pool": event.pool,
        "message": event.message,
    });
    for (name, text) in [
        ("subject", &event.subject),
        ("reason", &event.reason),
        ("key_id", &event.key_id),
        ("project", &event.project),
        ("billing_account", &event.billing_account),
        ("quota_model", &event.quota_model),
        ("consumer", &event.consumer),
        ("limit_name", &event.limit_name),
    ] {
        if !text.is_empty() {
            value[name] = text.as_str().into();
        }
    }
    for (name, number) in
        [("limit", event.limit), ("used", event.used), ("keys_able", event.keys_able), ("keys", event.keys)]
    {
        if let Some(number) = number {
            value[name] = number.into();
        }
    }
    if event.until.is_some() {
        value["until"] = print::time(event.until.as_ref()).into();
    }
    if event.forever {
        value["forever"] = true.into();
    }
    if !event.labels.is_empty() {
        value["labels"] = json!(event.labels);
    }
    value
}
