//! `keybroker pools`.

use std::{process::ExitCode, time::Duration};

use keybroker_proto::v1::{LimitRule, ListPoolsRequest, Pool};
use serde_json::{Value, json};

use super::{
    Admin, Failure,
    args::{PoolsArgs, PoolsCommand},
    keys, print,
};

pub(super) async fn run(args: PoolsArgs) -> Result<ExitCode, Failure> {
    let mut admin = Admin::connect(&args.broker).await?;
    match args.command {
        PoolsCommand::List => {}
    }
    let (mut pools, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = admin.request(ListPoolsRequest { page_size: 1000, page_token });
        let page = admin.client.list_pools(request).await?.into_inner();
        pools.extend(page.pools);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.broker.json {
        print::json(&Value::Array(pools.iter().map(as_json).collect()))?;
    } else {
        let rows: Vec<Vec<String>> = pools.iter().map(row).collect();
        print::table(&["POOL", "KEYS", "STRATEGY", "SEND WITHIN", "LEASE TTL", "ORIGIN", "LIMITS"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(pool: &Pool) -> Vec<String> {
    let limits = pool.limits.iter().map(|LimitRule { model, limits }| {
        let mut limits: Vec<String> =
            limits.iter().map(|(name, amount)| format!("{name} = {amount}")).collect();
        limits.sort();
        format!("{model}: {}", limits.join(", "))
    });
    let limits: Vec<String> = limits.collect();
    vec![
        pool.name.clone(),
        pool.key_count.to_string(),
        pool.strategy.clone(),
        span(pool.send_within.as_ref()),
        span(pool.lease_ttl.as_ref()),
        keys::origin(pool.origin()).to_owned(),
        print::or_none(&limits.join("; ")),
    ]
}

fn span(span: Option<&prost_types::Duration>) -> String {
    let span = span.and_then(|span| Duration::try_from(*span).ok());
    span.map(|span| format!("{span:?}")).unwrap_or_default()
}

fn as_json(pool: &Pool) -> Value {
    json!({
        "name": pool.name,
        "key_count": pool.key_count,
        "strategy": pool.strategy,
        "send_within": span(pool.send_within.as_ref()),
        "lease_ttl": span(pool.lease_ttl.as_ref()),
        "limits": keys::rules(&pool.limits),
        "origin": keys::origin(pool.origin()),
        "etag": pool.etag,
        "create_time": print::json_time(pool.create_time.as_ref()),
        "update_time": print::json_time(pool.update_time.as_ref()),
    })
}
