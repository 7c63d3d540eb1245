//! Takes the steps of a scenario through the SDK.

use std::{collections::HashMap, time::Duration};

use futures_util::StreamExt;
use keybroker_client::{
    AcquireOptions, Action, Advice, Broker, Error, Gemini, GeminiError, Lease, Outcome, Tls, TransportKind,
    Usage, gemini::types::GenerateContentRequest,
};
use keybroker_tests::contract::{Scenario, Stage, StageStep};
use serde_json::{Map, Value, json};

type Fields = Map<String, Value>;

struct Player {
    stage: Stage,
    broker: Broker,
    gemini: Gemini,
    leases: HashMap<String, Lease>,
}

/// A client with these options.
fn connect(options: &Fields, stage: &Stage) -> Result<(Broker, Gemini), String> {
    let mut builder = Broker::builder();
    let (mut deadline, mut attempts) = (Duration::from_secs(60), None);
    for (name, value) in options {
        let duration =
            || value.as_u64().map(Duration::from_millis).ok_or_else(|| format!("{name} is no duration"));
        match name.as_str() {
            "call_timeout" => builder = builder.call_timeout(duration()?),
            "deadline" => deadline = duration()?,
            "attempts" => attempts = value.as_u64(),
            "token" => {
                let token = value.as_str().ok_or("token is no text")?;
                builder = builder.token(&token.into()).map_err(|error| error.to_string())?;
            }
            "tls" => builder = builder.tls(tls(value, stage)?),
            other => return Err(format!("the option {other} is not known")),
        }
    }
    let broker = builder.connect(stage.addresses().join(",")).map_err(|error| error.to_string())?;
    let mut gemini =
        Gemini::builder(&broker).base_url(&stage.gemini.base_url).deadline(deadline).lease_wait(deadline);
    if let Some(attempts) = attempts {
        gemini = gemini.attempts(u32::try_from(attempts).unwrap());
    }
    let gemini = gemini.build().map_err(|error| error.to_string())?;
    Ok((broker, gemini))
}

fn tls(files: &Value, stage: &Stage) -> Result<Tls, String> {
    let mut tls = Tls::new();
    for (name, file) in files.as_object().ok_or("tls names files")? {
        let path = stage.folder().join(file.as_str().ok_or("a file is named by a text")?);
        tls = match name.as_str() {
            "ca_file" => tls.ca_file(path),
            "cert_file" => tls.cert_file(path),
            "key_file" => tls.key_file(path),
            other => return Err(format!("the file {other} is not known")),
        };
    }
    Ok(tls)
}

/// Plays a scenario; what was not as it says.
pub(crate) async fn play(scenario: &Scenario, stage: Stage) -> Result<(), String> {
    let (broker, gemini) = connect(&scenario.client, &stage)?;
    let mut player = Player { stage, broker, gemini, leases: HashMap::new() };
    for (number, step) in scenario.steps.iter().enumerate() {
        let seen = player.take(step).await.map_err(|error| format!("step {number} {step:?}: {error}"))?;
        let expected = step.get("expect").and_then(Value::as_object).cloned().unwrap_or_default();
        for (name, wanted) in &expected {
            let found =
                seen.get(name).ok_or_else(|| format!("step {number}: {name} is not seen in {seen}"))?;
            if !is(found, wanted) {
                return Err(format!("step {number} {step:?}: {name} is {found}, not {wanted}; seen: {seen}"));
            }
        }
    }
    Ok(())
}

fn is(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Number(found), Value::Object(range)) => {
            let found = found.as_f64().unwrap();
            let bound = |name: &str| range.get(name).and_then(Value::as_f64);
            bound("min").is_none_or(|min| min <= found) && bound("max").is_none_or(|max| found <= max)
        }
        // A text has to hold what is wanted; names of enums are the whole text.
        (Value::String(found), Value::String(wanted)) => found.contains(wanted.as_str()),
        (found, wanted) => found == wanted,
    }
}

impl Player {
    async fn take(&mut self, step: &Fields) -> Result<Value, String> {
        if step.contains_key("stage") {
            let step = serde_json::from_value::<StageStep>(Value::Object(step.clone()))
                .map_err(|e| e.to_string())?;
            return self.stage.take(step).await.map_err(|error| error.to_string());
        }
        let name = |field: &str| step.get(field).and_then(Value::as_str).unwrap_or("lease").to_owned();
        let (as_name, of_name) = (name("as"), name("lease"));
        let action = step.iter().find(|(name, _)| !matches!(name.as_str(), "expect" | "as" | "lease"));
        let (action, fields) = action.ok_or("a step without an action")?;
        let empty = Fields::new();
        let fields_of = fields.as_object().unwrap_or(&empty);
        match action.as_str() {
            "acquire" => match self.broker.acquire(options(fields_of)?).await {
                Ok(lease) => {
                    self.leases.insert(as_name, lease);
                    Ok(json!({ "granted": true }))
                }
                Err(error) => Ok(seen_of(&error)),
            },
            "begin_send" => match self.lease(&of_name)?.begin_send() {
                Ok(_) => Ok(json!({ "key": true })),
                Err(passed) => Ok(seen_of(&Error::from(passed))),
            },
            "report" => {
                let lease = self.leases.remove(&of_name).ok_or("there is no such lease")?;
                match lease.report(outcome(fields_of)?).await {
                    Ok(advice) => Ok(advised(&advice)),
                    Err(error) => Ok(seen_of(&error)),
                }
            }
            "renew" => {
                let ttl = millis(fields_of, "ttl").ok_or("ttl is missing")?;
                // A lease that was reported is gone in this language: nothing is left to renew.
                let Some(lease) = self.leases.get(&of_name) else {
                    return Ok(seen_of(&Error::LeaseEnded { message: String::new() }));
                };
                match lease.renew(ttl).await {
                    Ok(expires_in) => Ok(json!({ "expires_in": expires_in.as_millis() as u64 })),
                    Err(error) => Ok(seen_of(&error)),
                }
            }
            "raise" => {
                let options = options(fields_of)?;
                let sent = fields_of.get("sent") == Some(&Value::Bool(true));
                let raised = block(&self.broker, options, sent).await;
                Ok(json!({ "raised": raised.is_err_and(|error| error == "the caller's own") }))
            }
            "abandon" => {
                let mut lease = self.leases.remove(&of_name).ok_or("there is no such lease")?;
                if fields_of.get("sent") == Some(&Value::Bool(true)) {
                    lease.begin_send().map_err(|error| error.to_string())?;
                }
                drop(lease);
                Ok(json!({}))
            }
            "client" => {
                (self.broker, self.gemini) = connect(fields_of, &self.stage)?;
                Ok(json!({}))
            }
            "generate" => self.generate(fields_of).await,
            "flush" => self.broker.flush().await.map(|()| json!({})).map_err(|error| error.to_string()),
            "sleep" => {
                tokio::time::sleep(Duration::from_millis(fields.as_u64().ok_or("how long?")?)).await;
                Ok(json!({}))
            }
            other => Err(format!("the action {other} is not known")),
        }
    }

    fn lease(&mut self, name: &str) -> Result<&mut Lease, String> {
        self.leases.get_mut(name).ok_or_else(|| "there is no such lease".to_owned())
    }

    async fn generate(&self, fields: &Fields) -> Result<Value, String> {
        let model = fields.get("model").and_then(Value::as_str).ok_or("model is missing")?;
        let request = GenerateContentRequest::text("Say something.");
        let call = async {
            if fields.get("stream") != Some(&Value::Bool(true)) {
                return match self.gemini.generate_content(model, &request).await {
                    Ok(answer) => json!({ "answer": !answer.text().is_empty() }),
                    Err(error) => seen_of_gemini(&error, 0),
                };
            }
            let mut stream = match self.gemini.stream_generate_content(model, &request).await {
                Ok(stream) => stream,
                Err(error) => return seen_of_gemini(&error, 0),
            };
            let stop_after = fields.get("stop_after").and_then(Value::as_u64);
            let (mut events, mut text) = (0, String::new());
            while let Some(event) = stream.next().await {
                match event {
                    Ok(event) => text.push_str(&event.text()),
                    Err(error) => return seen_of_gemini(&error, events),
                }
                events += 1;
                if stop_after == Some(events) {
                    break;
                }
            }
            json!({ "answer": !text.is_empty(), "events": events })
        };
        match millis(fields, "cancel_after") {
            Some(after) => Ok(tokio::time::timeout(after, call)
                .await
                .unwrap_or_else(|_| json!({ "error": "cancelled" }))),
            None => Ok(call.await),
        }
    }
}

async fn block(broker: &Broker, options: AcquireOptions, sent: bool) -> Result<(), String> {
    let mut lease = broker.acquire(options).await.map_err(|error| error.to_string())?;
    if sent {
        lease.begin_send().map_err(|error| error.to_string())?;
    }
    Err("the caller's own".to_owned())
}

fn millis(fields: &Fields, name: &str) -> Option<Duration> {
    fields.get(name).and_then(Value::as_u64).map(Duration::from_millis)
}

fn options(fields: &Fields) -> Result<AcquireOptions, String> {
    let model = fields.get("model").and_then(Value::as_str).unwrap_or_default();
    let mut options = AcquireOptions::new(model);
    for (name, value) in fields {
        let text = || value.as_str().ok_or_else(|| format!("{name} is no text"));
        let number = || value.as_i64().ok_or_else(|| format!("{name} is no number"));
        let duration =
            || value.as_u64().map(Duration::from_millis).ok_or_else(|| format!("{name} is no duration"));
        options = match name.as_str() {
            "model" | "sent" => options,
            "pool" => options.pool(text()?),
            "consumer" => options.consumer(text()?),
            "wait" => options.wait(duration()?),
            "ttl" => options.ttl(duration()?),
            "permits" => options.permits(i32::try_from(number()?).map_err(|error| error.to_string())?),
            "input_tokens" => options.input_tokens(number()?),
            other => return Err(format!("the field {other} is not known")),
        };
    }
    Ok(options)
}

fn outcome(fields: &Fields) -> Result<Outcome, String> {
    let (kind, of) = fields.iter().next().ok_or("an outcome is missing")?;
    let count = |name: &str| of.get(name).and_then(Value::as_i64);
    Ok(match kind.as_str() {
        "success" => Outcome::Success(Usage {
            input_tokens: count("input_tokens"),
            output_tokens: count("output_tokens"),
            total_tokens: count("total_tokens"),
            ..Usage::default()
        }),
        "http_error" => Outcome::HttpError {
            status: u16::try_from(count("status").ok_or("status is missing")?)
                .map_err(|error| error.to_string())?,
            body: of["body"].as_str().unwrap_or_default().to_owned().into(),
            retry_after: of.get("retry_after").and_then(Value::as_u64).map(Duration::from_millis),
        },
        "transport_error" => Outcome::transport(match of["kind"].as_str().unwrap_or_default() {
            "CONNECT" => TransportKind::Connect,
            "TIMEOUT" => TransportKind::Timeout,
            "RESET" => TransportKind::Reset,
            "CANCELLED" => TransportKind::Cancelled,
            other => return Err(format!("the kind {other} is not known")),
        }),
        "not_sent" => Outcome::NotSent,
        other => return Err(format!("the outcome {other} is not known")),
    })
}

fn advised(advice: &Advice) -> Value {
    let (action, retry_after) = match advice.action {
        Action::Done => ("DONE", None),
        Action::RetryOtherKey => ("RETRY_OTHER_KEY", None),
        Action::RetryAfter(wait) => ("RETRY_AFTER", wait),
        _ => ("DO_NOT_RETRY", None),
    };
    json!({
        "action": action,
        "settled": advice.settled.as_str_name(),
        "signal": advice.signal.as_str_name(),
        "once": advice.once,
        "retry_after": retry_after.map(|wait| wait.as_millis() as u64),
    })
}

fn seen_of(error: &Error) -> Value {
    let kind = match error {
        Error::Refused(_) => "refused",
        Error::NeverPossible { .. } => "never_possible",
        Error::NoUsableKey { .. } => "no_usable_key",
        Error::UnknownPool { .. } => "unknown_pool",
        Error::UnknownLease { .. } => "unknown_lease",
        Error::LeaseEnded { .. } => "lease_ended",
        Error::InvalidArgument { .. } => "invalid_argument",
        Error::Unavailable { .. } => "unavailable",
        Error::DeadlineExceeded { .. } => "deadline_exceeded",
        Error::Unauthenticated { .. } => "unauthenticated",
        Error::NotPermitted { .. } => "not_permitted",
        Error::ReportLost { .. } => "report_lost",
        Error::SendWindowPassed(_) => "send_window_passed",
        _ => "other",
    };
    let retry_after = error.retry_after().map(|wait| wait.as_millis() as u64);
    json!({ "error": kind, "text": error.to_string(), "retry_after": retry_after })
}

fn seen_of_gemini(error: &GeminiError, events: u64) -> Value {
    let mut seen = match error {
        GeminiError::Broker(error) => seen_of(error),
        GeminiError::Upstream(error) => json!({ "error": "upstream", "status": error.status }),
        GeminiError::Transport { .. } => json!({ "error": "transport" }),
        GeminiError::DeadlineExceeded { .. } => json!({ "error": "deadline_exceeded" }),
        _ => json!({ "error": "other" }),
    };
    seen["events"] = events.into();
    seen
}
