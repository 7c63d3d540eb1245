//! `keybroker lease`: leases by hand, for whoever looks into something or writes a script.

mod args;

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use keybroker_proto::v1::{
    AcquireRequest, Constraints, HttpError, Lease, LeaseReport, NotSent, RenewRequest, ReportRequest,
    ReportResult, SettleState, Success, TransportError, Usage, lease_report::Outcome,
};
use serde_json::{Value, json};

use super::{Admin, Failure, PATIENCE, args::TierArg, print};
pub use args::LeaseArgs;
use args::{AcquireArgs, LeaseCommand, ReportArgs};

/// The most of an error's body that a broker reads.
const LARGEST_BODY: u64 = 64 << 10;

pub(super) async fn run(args: LeaseArgs) -> Result<ExitCode, Failure> {
    let wait = match &args.command {
        LeaseCommand::Acquire(acquire) => acquire.wait,
        LeaseCommand::Report(_) | LeaseCommand::Renew { .. } => Duration::ZERO,
    };
    let mut admin = Admin::connect_for(&args.broker, wait + PATIENCE).await?;
    let json = args.broker.json;
    match args.command {
        LeaseCommand::Acquire(acquire) => take(&mut admin, *acquire, json).await?,
        LeaseCommand::Report(report) => return settle(&mut admin, *report, json).await,
        LeaseCommand::Renew { lease, ttl } => {
            let request = admin.request(RenewRequest { lease_id: lease.clone(), ttl: wire(ttl) });
            let renewed = admin.leases.renew(request).await?.into_inner();
            let (at, within) = (print::time(renewed.expires_at.as_ref()), seconds(renewed.expires_in));
            if json {
                print::json(&json!({ "lease_id": lease, "expires_at": at, "expires_in_seconds": within }))?;
            } else {
                print::line(&format!("{lease} expires at {at}, in {within} s"))?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn take(admin: &mut Admin, args: AcquireArgs, json: bool) -> Result<(), Failure> {
    // A file that cannot be made is known before anything is charged.
    let mut file = args.key_file.as_deref().map(new_file).transpose()?;
    let asked = Instant::now();
    let taken = admin.leases.acquire(admin.request(request_of(&args))).await;
    let mut lease = match taken {
        Ok(answer) => answer.into_inner().lease.unwrap_or_default(),
        Err(status) => {
            if let Some(path) = &args.key_file {
                // It is empty, and was made here.
                let _ = fs::remove_file(path);
            }
            return Err(status.into());
        }
    };
    // It counts from when the lease was asked for; who reads it wants to know what is left.
    let within = lease.send_within.and_then(|within| Duration::try_from(within).ok());
    lease.send_within = within.map(|within| within.saturating_sub(asked.elapsed())).and_then(wire);
    if let Some(file) = &mut file {
        let written = writeln!(file, "{}", lease.api_key).and_then(|()| file.sync_all());
        written.map_err(|error| Failure::Failed(format!("--key-file cannot be written: {error}")))?;
    }
    let key = args.show_key.then_some(lease.api_key.as_str());
    if json { print::json(&as_json(&lease, key)) } else { print::line(&in_words(&lease, key)) }
}

fn new_file(path: &Path) -> Result<File, Failure> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        Failure::Usage(format!("--key-file {} cannot be made: {error}; name a new file", path.display()))
    })
}

fn request_of(args: &AcquireArgs) -> AcquireRequest {
    let tier = args.tier.map(TierArg::wire).unwrap_or_default();
    AcquireRequest {
        pool: args.pool.clone(),
        model: args.model.clone(),
        input_tokens: args.input_tokens,
        output_tokens: args.output_tokens,
        consumer: args.consumer.clone(),
        ttl: args.ttl.and_then(wire),
        wait: wire(args.wait),
        permits: Some(args.permits),
        constraints: Some(Constraints {
            project: args.project.clone(),
            tier: tier.into(),
            exclude_key_ids: args.exclude_keys.clone(),
            exclude_projects: args.exclude_projects.clone(),
            labels: args.key_labels.iter().cloned().collect(),
        }),
        labels: args.labels.iter().cloned().collect(),
        settle: None,
    }
}

fn in_words(lease: &Lease, key: Option<&str>) -> String {
    let mut lines = vec![
        format!("lease        {}", lease.lease_id),
        format!("key          {} of project {}", lease.key_id, lease.project),
        format!("quota model  {}", lease.quota_model),
        format!("permits      {}", lease.permits),
        format!("send within  {} s", seconds(lease.send_within)),
        format!(
            "expires      {}, in {} s",
            print::time(lease.expires_at.as_ref()),
            seconds(lease.expires_in)
        ),
    ];
    if lease.over_plan {
        lines.push("over plan    yes: the consumer's soft plan is exceeded".to_owned());
    }
    lines.extend(key.map(|key| format!("api key      {key}")));
    lines.join("\n")
}

fn as_json(lease: &Lease, key: Option<&str>) -> Value {
    let mut value = json!({
        "lease_id": lease.lease_id,
        "key_id": lease.key_id,
        "project": lease.project,
        "quota_model": lease.quota_model,
        "permits": lease.permits,
        "send_within_seconds": seconds(lease.send_within),
        "expires_at": print::time(lease.expires_at.as_ref()),
        "expires_in_seconds": seconds(lease.expires_in),
        "over_plan": lease.over_plan,
    });
    if let Some(key) = key {
        value["api_key"] = key.into();
    }
    value
}

async fn settle(admin: &mut Admin, args: ReportArgs, json: bool) -> Result<ExitCode, Failure> {
    let outcome = Some(outcome_of(&args)?);
    let report = LeaseReport { lease_id: args.lease, outcome, latency: None };
    let request = admin.request(ReportRequest { reports: vec![report] });
    let results = admin.leases.report(request).await?.into_inner().results;
    let result = results.into_iter().next().unwrap_or_default();
    if result.state() == SettleState::UnknownLease && !json {
        let why = "it never existed, or was forgotten after its time";
        return Err(Failure::Failed(format!("no such lease is known: {why}")));
    }
    show(&result, json)?;
    let known = result.state() != SettleState::UnknownLease;
    Ok(if known { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn outcome_of(args: &ReportArgs) -> Result<Outcome, Failure> {
    let usage = Usage {
        input_tokens: args.input_tokens,
        output_tokens: args.output_tokens,
        total_tokens: args.total_tokens,
        thoughts_tokens: args.thoughts_tokens,
        cached_tokens: args.cached_tokens,
    };
    if args.outcome.http_status.is_none() && (args.body_file.is_some() || args.retry_after.is_some()) {
        let why = "--body-file and --retry-after are of an error: they need --http-status".to_owned();
        return Err(Failure::Usage(why));
    }
    let told = usage != Usage::default();
    if told && !args.outcome.ok && args.outcome.transport.is_none() {
        return Err(Failure::Usage(
            "tokens are reported with --ok or --transport: nothing else has used any".to_owned(),
        ));
    }
    let usage = told.then_some(usage);
    Ok(match (args.outcome.http_status, args.outcome.transport) {
        (Some(status), _) => {
            let body = args.body_file.as_deref().map(read_body).transpose()?.unwrap_or_default();
            Outcome::HttpError(HttpError {
                status,
                body: body.into(),
                retry_after: args.retry_after.and_then(wire),
            })
        }
        (None, Some(kind)) => {
            let kind = keybroker_proto::v1::transport_error::Kind::from(kind).into();
            Outcome::TransportError(TransportError { kind, message: String::new(), usage })
        }
        (None, None) if args.outcome.not_sent => Outcome::NotSent(NotSent {}),
        (None, None) => Outcome::Success(Success { usage }),
    })
}

fn read_body(path: &Path) -> Result<Vec<u8>, Failure> {
    let mut body = Vec::new();
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(LARGEST_BODY).read_to_end(&mut body)
    } else {
        File::open(path).and_then(|file| file.take(LARGEST_BODY).read_to_end(&mut body))
    };
    read.map_err(|error| Failure::Usage(format!("the file that --body-file names cannot be read: {error}")))?;
    Ok(body)
}

fn show(result: &ReportResult, json: bool) -> Result<(), Failure> {
    let advice = result.advice.clone().unwrap_or_default();
    let state = result.state().as_str_name().to_lowercase();
    let action = advice.action().as_str_name().to_lowercase();
    let signal = advice.signal().as_str_name().trim_start_matches("SIGNAL_").to_lowercase();
    let retry_after = advice.retry_after.map(|span| seconds(Some(span)));
    if json {
        return print::json(&json!({
            "lease_id": result.lease_id,
            "state": state,
            "advice": {
                "action": action,
                "retry_after_seconds": retry_after,
                "once": advice.once,
                "signal": signal,
                "message": advice.message,
            },
        }));
    }
    let after = retry_after.map(|span| format!(" {span} s")).unwrap_or_default();
    print::line(&format!(
        "{}: {}\nadvice: {}{after} ({signal}: {})",
        result.lease_id,
        state.replace('_', " "),
        action.replace('_', " "),
        advice.message
    ))
}

fn wire(span: Duration) -> Option<prost_types::Duration> {
    prost_types::Duration::try_from(span).ok()
}

/// A span in seconds, to the millisecond.
fn seconds(span: Option<prost_types::Duration>) -> f64 {
    let span = span.and_then(|span| Duration::try_from(span).ok()).unwrap_or_default();
    span.as_millis() as f64 / 1000.0
}
