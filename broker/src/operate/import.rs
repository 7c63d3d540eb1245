//! `keybroker keys import`.

use std::process::ExitCode;

use keybroker_proto::v1::{ImportFormat, ImportKeysRequest, ImportedLine, imported_line::Outcome};
use serde_json::{Value, json};

use super::{Admin, Failure, args::ImportArgs, keys, print, text};

pub(super) async fn run(admin: &mut Admin, args: ImportArgs, json: bool) -> Result<ExitCode, Failure> {
    let data = text::read(&args.file, "FILE")?;
    let request = admin.request(ImportKeysRequest {
        parent: format!("pools/{}", args.fields.pool),
        data: data.as_bytes().to_vec(),
        format: ImportFormat::Unspecified.into(),
        defaults: Some(keys::of_fields(&args.fields)),
        validate_only: args.dry_run,
    });
    let answer = admin.client.import_keys(request).await?.into_inner();
    let invalid = answer.lines.iter().filter(|line| line.outcome() == Outcome::Invalid).count();
    if json {
        print::json(&json!({
            "lines": answer.lines.iter().map(as_json).collect::<Vec<Value>>(),
            "created_count": answer.created_count,
        }))?;
    } else {
        for line in &answer.lines {
            let what = if line.name.is_empty() { &line.message } else { &line.name };
            print::line(&format!("line {}: {} {}: {what}", line.line, line.key_preview, outcome(line)))?;
        }
        let created = if args.dry_run { "would be created" } else { "created" };
        print::line(&format!("{} of {} keys {created}", answer.created_count, answer.lines.len()))?;
    }
    Ok(if invalid == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome(line: &ImportedLine) -> &'static str {
    match line.outcome() {
        Outcome::Created => "created",
        Outcome::Duplicate => "duplicate",
        Outcome::Invalid => "invalid",
        Outcome::Unspecified => "unknown",
    }
}

fn as_json(line: &ImportedLine) -> Value {
    json!({
        "line": line.line,
        "outcome": outcome(line),
        "name": line.name,
        "key_preview": line.key_preview,
        "message": line.message,
    })
}
