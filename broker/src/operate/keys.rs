//! `keybroker keys`.

use std::{collections::BTreeMap, io::Write, process::ExitCode, time::Duration};

use keybroker_proto::v1::{
    CreateKeyRequest, DeleteKeyRequest, DisableKeyRequest, DrainKeyRequest, EnableKeyRequest, GetKeyRequest,
    Key, KeyState, LimitRule, ListKeysRequest, Origin, RotateKeyRequest, Tier,
};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    Admin, Failure,
    args::{AddArgs, KeyArgs, KeyFieldsArgs, KeysArgs, KeysCommand, TierArg},
    import, print, text,
};

/// How often a key that is drained is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

pub(super) async fn run(args: KeysArgs) -> Result<ExitCode, Failure> {
    // What is typed is read before anybody is asked.
    let text = match &args.command {
        KeysCommand::Add(add) => Some(text::of_key(&add.secret)?),
        KeysCommand::Rotate { secret, .. } => Some(text::of_key(secret)?),
        _ => None,
    };
    let mut admin = Admin::connect(&args.broker).await?;
    let json = args.broker.json;
    match args.command {
        KeysCommand::List { pool } => list(&mut admin, pool.as_deref(), json).await?,
        KeysCommand::Add(add) => {
            let key =
                create(&mut admin, *add, text.as_deref().map(String::as_str).unwrap_or_default()).await?;
            show(&key, json)?;
        }
        KeysCommand::Import(import) => return import::run(&mut admin, *import, json).await,
        KeysCommand::Enable(key) => {
            let request = admin.request(EnableKeyRequest { name: name(&key), etag: String::new() });
            show(&admin.client.enable_key(request).await?.into_inner(), json)?;
        }
        KeysCommand::Disable { key, reason } => {
            let request = admin.request(DisableKeyRequest { name: name(&key), etag: String::new(), reason });
            show(&admin.client.disable_key(request).await?.into_inner(), json)?;
        }
        KeysCommand::Drain { key, reason, remove, no_wait } => {
            let drain = DrainKeyRequest {
                name: name(&key),
                etag: String::new(),
                reason,
                remove_when_drained: remove,
            };
            let request = admin.request(drain);
            let mut drained = admin.client.drain_key(request).await?.into_inner();
            if !no_wait {
                drained = wait_until_drained(&mut admin, drained).await?;
            }
            show(&drained, json)?;
        }
        KeysCommand::Rotate { key, no_wait, .. } => {
            let api_key = text.as_deref().map(String::as_str).unwrap_or_default().to_owned();
            let rotate = RotateKeyRequest { name: name(&key), api_key, etag: String::new() };
            let request = admin.request(rotate);
            let mut rotated = admin.client.rotate_key(request).await?.into_inner();
            if !no_wait {
                rotated = wait_until_unused(&mut admin, rotated).await?;
            }
            show(&rotated, json)?;
        }
        KeysCommand::Remove(key) => {
            let name = name(&key);
            let request = admin.request(DeleteKeyRequest { name: name.clone(), etag: String::new() });
            admin.client.delete_key(request).await?;
            if json {
                print::json(&json!({ "name": name, "deleted": true }))?
            } else {
                print::line(&format!("{name} is deleted"))?
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The resource name of the key that the command line names.
fn name(key: &KeyArgs) -> String {
    name_of(&key.pool, &key.key)
}

/// The resource name of a key by its id, or what is one already.
pub(super) fn name_of(pool: &str, key: &str) -> String {
    if key.contains('/') { key.to_owned() } else { format!("pools/{pool}/keys/{key}") }
}

async fn list(admin: &mut Admin, pool: Option<&str>, json: bool) -> Result<(), Failure> {
    let (mut keys, mut page_token) = (Vec::new(), String::new());
    loop {
        let parent = format!("pools/{}", pool.unwrap_or("-"));
        let request = admin.request(ListKeysRequest { parent, page_size: 1000, page_token });
        let page = admin.client.list_keys(request).await?.into_inner();
        keys.extend(page.keys);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if json {
        return print::json(&Value::Array(keys.iter().map(as_json).collect()));
    }
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    print::table(&["KEY", "PROJECT", "TIER", "TEXT", "STATE", "ORIGIN", "NOTE"], &rows)
}

async fn create(admin: &mut Admin, args: AddArgs, text: &str) -> Result<Key, Failure> {
    let parent = format!("pools/{}", args.fields.pool);
    let key = Key { api_key: text.to_owned(), ..of_fields(&args.fields) };
    let request = admin.request(CreateKeyRequest { parent, key_id: args.id, key: Some(key) });
    Ok(admin.client.create_key(request).await?.into_inner())
}

/// A key with the fields that the command line names.
pub(super) fn of_fields(args: &KeyFieldsArgs) -> Key {
    let tier = args.tier.map_or(Tier::Unspecified, TierArg::wire);
    let mut rules: BTreeMap<&str, LimitRule> = BTreeMap::new();
    for (model, limit, amount) in &args.limits {
        let rule =
            rules.entry(model).or_insert_with(|| LimitRule { model: model.clone(), ..LimitRule::default() });
        rule.limits.insert(limit.clone(), *amount);
    }
    Key {
        project: args.project.clone().unwrap_or_default(),
        tier: tier.into(),
        billing_account: args.billing_account.clone().unwrap_or_default(),
        weight: args.weight,
        priority: args.priority,
        labels: args.labels.iter().cloned().collect(),
        limits: rules.into_values().collect(),
        ..Key::default()
    }
}

/// Looks at a key until it is drained, or gone if it is to be deleted.
async fn wait_until_drained(admin: &mut Admin, mut key: Key) -> Result<Key, Failure> {
    while key.state() == KeyState::Draining {
        tokio::time::sleep(LOOK_EVERY).await;
        let request = admin.request(GetKeyRequest { name: key.name.clone() });
        match admin.client.get_key(request).await {
            Ok(found) => key = found.into_inner(),
            Err(status) if status.code() == Code::NotFound => key.set_state(KeyState::Drained),
            Err(status) => return Err(status.into()),
        }
    }
    Ok(key)
}

/// Looks at a key until no lease of its former texts is out.
async fn wait_until_unused(admin: &mut Admin, mut key: Key) -> Result<Key, Failure> {
    if !key.former_key_previews.is_empty() {
        let former = key.former_key_previews.join(", ");
        let _ = writeln!(std::io::stderr(), "waiting until no lease of {former} is out");
    }
    while !key.former_key_previews.is_empty() {
        tokio::time::sleep(LOOK_EVERY).await;
        let request = admin.request(GetKeyRequest { name: key.name.clone() });
        key = admin.client.get_key(request).await?.into_inner();
    }
    Ok(key)
}

fn show(key: &Key, json: bool) -> Result<(), Failure> {
    if json {
        return print::json(&as_json(key));
    }
    let state = state(key);
    print::line(&format!("{} {}, project {}: {state}", key.name, key.key_preview, key.project))?;
    if key.problem.is_empty() {
        Ok(())
    } else {
        print::line(&format!("this broker leaves it out: {}", key.problem))
    }
}

fn row(key: &Key) -> Vec<String> {
    let note = [key.state_reason.as_str(), key.problem.as_str()].into_iter().find(|text| !text.is_empty());
    vec![
        key.name.clone(),
        key.project.clone(),
        tier(key).to_owned(),
        key.key_preview.clone(),
        state(key).to_owned(),
        origin(key.origin()).to_owned(),
        note.unwrap_or_default().to_owned(),
    ]
}

fn state(key: &Key) -> &'static str {
    match key.state() {
        KeyState::Active if !key.problem.is_empty() => "left out",
        KeyState::Active => "active",
        KeyState::Disabled => "disabled",
        KeyState::Draining => "draining",
        KeyState::Drained => "drained",
        KeyState::Unspecified => "unknown",
    }
}

fn tier(key: &Key) -> &'static str {
    match key.tier() {
        Tier::Free => "free",
        Tier::Paid => "paid",
        Tier::Unspecified => "unknown",
    }
}

/// Where a key or pool comes from.
pub(super) fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Configured => "configured",
        Origin::RunTime => "run time",
        Origin::Unspecified => "unknown",
    }
}

fn as_json(key: &Key) -> Value {
    json!({
        "name": key.name,
        "key_preview": key.key_preview,
        "former_key_previews": key.former_key_previews,
        "project": key.project,
        "tier": tier(key),
        "billing_account": key.billing_account,
        "weight": key.weight,
        "priority": key.priority,
        "labels": key.labels.iter().collect::<BTreeMap<_, _>>(),
        "limits": rules(&key.limits),
        "state": state(key),
        "state_reason": key.state_reason,
        "remove_when_drained": key.remove_when_drained,
        "origin": origin(key.origin()),
        "problem": key.problem,
        "etag": key.etag,
        "create_time": print::json_time(key.create_time.as_ref()),
        "update_time": print::json_time(key.update_time.as_ref()),
    })
}

/// Limits as JSON.
pub(super) fn rules(rules: &[LimitRule]) -> Value {
    let rule = |rule: &LimitRule| json!({ "model": rule.model, "limits": rule.limits.iter().collect::<BTreeMap<_, _>>() });
    Value::Array(rules.iter().map(rule).collect())
}
