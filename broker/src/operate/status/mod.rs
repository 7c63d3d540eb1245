//! `keybroker status`: how pools stand, once or live.

mod feed;
pub(crate) mod line;
mod screen;
pub(crate) mod view;

use std::{io::IsTerminal, process::ExitCode};

use clap::Args;
use keybroker_proto::v1::{InspectPoolRequest, InspectPoolResponse, ListPoolsRequest};
use serde_json::{Value, json};

use super::{Admin, Failure, args::BrokerArgs, print};
use line::{Ink, width_here};
use view::Standing;

const EXAMPLES: &str = "\
Examples:
  keybroker status
  keybroker status --watch --pool batch
  keybroker status --json | jq '.[].keys[] | select(.available | not)'

Limits are those of models that were asked for since the broker started. --watch shows it live on a terminal: q ends
it, arrows and j, k scroll; with --json it prints a line for each change. Colours are left out where NO_COLOR is set.";

/// Which pools to look at, and how.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, mut_arg("actor", |actor| actor.hide(true)))]
pub struct StatusArgs {
    #[command(flatten)]
    broker: BrokerArgs,
    /// Only this pool [default: all that you may use]
    #[arg(long, value_name = "POOL")]
    pool: Option<String>,
    /// Show it live, until q is pressed
    #[arg(long, short)]
    watch: bool,
}

pub(super) async fn run(args: StatusArgs) -> Result<ExitCode, Failure> {
    let mut admin = Admin::connect(&args.broker).await?;
    let pools = match &args.pool {
        Some(pool) => vec![pool.trim_start_matches("pools/").to_owned()],
        None => pools(&mut admin).await?,
    };
    let mut standing = Vec::new();
    for pool in &pools {
        let request = admin.request(InspectPoolRequest { pool: pool.clone() });
        standing.push(Standing::now(admin.client.inspect_pool(request).await?.into_inner()));
    }
    let json = args.broker.json;
    if args.watch && json {
        return feed::lines(&args.broker, &pools).await;
    }
    let terminal = std::io::stdout().is_terminal();
    if args.watch && terminal {
        return screen::watch(&args.broker, &pools, standing).await;
    }
    if json {
        let all: Vec<Value> = standing.iter().map(|standing| as_json(&standing.view)).collect();
        print::json(&Value::Array(all))?;
    } else {
        let ink = Ink::of_environment(terminal);
        let width = width_here(terminal);
        let lines = standing.iter().flat_map(|standing| view::lines(standing, width));
        let text: Vec<String> = lines.map(|line| line.render(ink, usize::MAX)).collect();
        print::line(text.join("\n").trim_end())?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn pools(admin: &mut Admin) -> Result<Vec<String>, Failure> {
    let (mut pools, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = admin.request(ListPoolsRequest { page_size: 1000, page_token });
        let page = admin.client.list_pools(request).await?.into_inner();
        pools.extend(page.pools.iter().map(|pool| pool.name.trim_start_matches("pools/").to_owned()));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(pools);
        }
    }
}

fn as_json(view: &InspectPoolResponse) -> Value {
    let counters = view.counters.unwrap_or_default();
    let keys = view.keys.iter().map(|key| {
        json!({
            "key_id": key.key_id,
            "project": key.project,
            "tier": view::tier(key.tier()),
            "available": key.available,
            "health": key.health,
        })
    });
    let limits = view.limits.iter().map(|limit| {
        json!({
            "subject": limit.subject,
            "project": limit.project,
            "quota_model": limit.quota_model,
            "limit_name": limit.limit_name,
            "used": limit.used,
            "limit": limit.limit,
            "left": limit.left,
            "configured_limit": limit.configured_limit,
            "learned_limit": limit.learned_limit,
            "next_free": time(limit.next_free.as_ref()),
            "exhausted_at": time(limit.exhausted_at.as_ref()),
        })
    });
    let cooldowns = view.cooldowns.iter().map(|cooldown| {
        json!({
            "subject": cooldown.subject,
            "reason": cooldown.reason,
            "until": time(cooldown.until.as_ref()),
            "probing": cooldown.probing,
            "ramp_until": time(cooldown.ramp_until.as_ref()),
        })
    });
    json!({
        "pool": view.pool,
        "now": print::time(view.now.as_ref()),
        "keys": keys.collect::<Vec<Value>>(),
        "limits": limits.collect::<Vec<Value>>(),
        "cooldowns": cooldowns.collect::<Vec<Value>>(),
        "counters": {
            "granted": counters.granted,
            "refused": counters.refused,
            "settled": counters.settled,
            "waiting": counters.waiting,
        },
    })
}

fn time(at: Option<&prost_types::Timestamp>) -> Option<String> {
    at.map(|at| print::time(Some(at)))
}
