//! `keybroker reset`.

use std::process::ExitCode;

use keybroker_proto::v1::ResetCooldownsRequest;
use serde_json::json;

use super::{Admin, Failure, args::ResetArgs, keys, print};

pub(super) async fn run(args: ResetArgs) -> Result<ExitCode, Failure> {
    let name = match &args.key {
        // The name of a pool would end all of its cooldowns, which is not what `--key` says.
        Some(key) if key.contains('/') && !key.contains("/keys/") => {
            let wrong = "--key is not a key; write its id, or its name pools/POOL/keys/ID";
            return Err(Failure::Usage(wrong.to_owned()));
        }
        Some(key) => keys::name_of(&args.pool, key),
        None => format!("pools/{}", args.pool),
    };
    let mut admin = Admin::connect(&args.broker).await?;
    let request = ResetCooldownsRequest { name: name.clone(), quota_model: args.model.clone() };
    let request = admin.request(request);
    let ended = admin.client.reset_cooldowns(request).await?.into_inner().reset_count;
    if args.broker.json {
        print::json(&json!({ "name": name, "quota_model": args.model, "reset_count": ended }))?;
    } else {
        let of_model = if args.model.is_empty() { String::new() } else { format!(", model {}", args.model) };
        let cooldowns = if ended == 1 { "cooldown" } else { "cooldowns" };
        print::line(&format!("{name}{of_model}: {ended} {cooldowns} ended"))?;
    }
    Ok(ExitCode::SUCCESS)
}
