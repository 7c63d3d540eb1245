//! `keybroker audit`.

use std::process::ExitCode;

use keybroker_proto::v1::{AuditRecord, ListAuditRecordsRequest};
use serde_json::{Value, json};

use super::{Admin, Failure, args::AuditArgs, print};

pub(super) async fn run(args: AuditArgs) -> Result<ExitCode, Failure> {
    let mut admin = Admin::connect(&args.broker).await?;
    let limit = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let (mut records, mut page_token) = (Vec::new(), String::new());
    while records.len() < limit {
        let page_size = i32::try_from((limit - records.len()).min(1000)).unwrap_or(1000);
        let request = admin.request(ListAuditRecordsRequest { page_size, page_token });
        let page = admin.client.list_audit_records(request).await?.into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if args.broker.json {
        print::json(&Value::Array(records.iter().map(as_json).collect()))?;
    } else {
        let rows: Vec<Vec<String>> = records.iter().map(row).collect();
        print::table(&["TIME", "ACTOR", "FROM", "ACTION", "RESOURCE", "AFTER"], &rows)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn row(record: &AuditRecord) -> Vec<String> {
    vec![
        print::time(record.time.as_ref()),
        print::or_none(&record.actor),
        print::or_none(&record.peer),
        record.action.clone(),
        record.resource.clone(),
        print::or_none(&record.after_json),
    ]
}

fn as_json(record: &AuditRecord) -> Value {
    let parsed = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
    json!({
        "name": record.name,
        "time": print::time(record.time.as_ref()),
        "actor": record.actor,
        "peer": record.peer,
        "action": record.action,
        "resource": record.resource,
        "before": parsed(&record.before_json),
        "after": parsed(&record.after_json),
    })
}
