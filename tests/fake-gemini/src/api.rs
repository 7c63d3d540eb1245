//! The Gemini API itself: from a request on the wire to a decision, in the order Google takes the steps.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit, Path, RawQuery, State};
use axum::response::Response;
use axum::routing::{get, post};
use bytes::Bytes;
use http::HeaderMap;

use super::answer::{self, Answer};
use super::bodies::{self, ErrorBody};
use super::call::{Query, Understood, Verb, key_of, understand};
use super::clock::Moment;
use super::connection::Line;
use super::fault::{Fault, Mishap, Target};
use super::journal::LogEntry;
use super::judge::{Cost, Excess, Ruling};
use super::keyring::{KeyRecord, fingerprint};
use super::named_error::{ErrorContext, NamedError};
use super::quota_id::Violation;
use super::reply;
use super::shared::Shared;

/// Google's limit on a request with inline data.
const LARGEST_BODY: usize = 20 * 1024 * 1024;

/// The routes of one version of the API.
pub(crate) fn routes(version: &'static str) -> Router<Arc<Shared>> {
    let list = move |State(shared): State<Arc<Shared>>,
                     ConnectInfo(line): ConnectInfo<Line>,
                     RawQuery(query): RawQuery,
                     headers: HeaderMap| async move {
        let call = Call { version, verb: Verb::ListModels, model: "", query: &query.unwrap_or_default() };
        serve(&shared, &line, call, &headers, &[]).await
    };
    let get_model = move |State(shared): State<Arc<Shared>>,
                          ConnectInfo(line): ConnectInfo<Line>,
                          Path(model): Path<String>,
                          RawQuery(query): RawQuery,
                          headers: HeaderMap| async move {
        let call = Call { version, verb: Verb::GetModel, model: &model, query: &query.unwrap_or_default() };
        serve(&shared, &line, call, &headers, &[]).await
    };
    let post_model = move |State(shared): State<Arc<Shared>>,
                           ConnectInfo(line): ConnectInfo<Line>,
                           Path(path): Path<String>,
                           RawQuery(query): RawQuery,
                           headers: HeaderMap,
                           body: Bytes| async move {
        let method = path.rsplit_once(':').and_then(|(model, name)| Some((model, Verb::posted(name)?)));
        let Some((model, verb)) = method else {
            return answer::send(Answer::Error(bodies::unknown_path()), &line).await;
        };
        let call = Call { version, verb, model, query: &query.unwrap_or_default() };
        serve(&shared, &line, call, &headers, &body).await
    };
    let interact = move |State(shared): State<Arc<Shared>>,
                         ConnectInfo(line): ConnectInfo<Line>,
                         RawQuery(query): RawQuery,
                         headers: HeaderMap,
                         body: Bytes| async move {
        let said: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
        let model = said["model"].as_str().unwrap_or_default().trim_start_matches("models/");
        let call = Call { version, verb: Verb::Interact, model, query: &query.unwrap_or_default() };
        serve(&shared, &line, call, &headers, &body).await
    };
    Router::new()
        .route("/interactions", post(interact))
        .route("/models", get(list))
        .route("/models/{model}", get(get_model).merge(post(post_model)))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

/// A call as its URL tells it.
#[derive(Clone, Copy, Debug)]
struct Call<'a> {
    version: &'static str,
    verb: Verb,
    model: &'a str,
    query: &'a str,
}

/// How a call ends.
#[derive(Debug)]
enum Ending {
    Success,
    Error(ErrorBody),
    InStreamError(ErrorBody),
    HalfStream,
    Withheld,
    Hang,
    Reset,
}

impl Ending {
    fn status(&self) -> u16 {
        match self {
            Self::Success | Self::InStreamError(_) | Self::HalfStream | Self::Withheld => 200,
            Self::Error(body) => body.status,
            Self::Hang | Self::Reset => 0,
        }
    }
}

/// A call that may be judged: the key works, the model exists, the body is well-formed.
#[derive(Debug)]
struct Admissible<'a> {
    key: &'a str,
    record: KeyRecord,
    understood: Understood,
}

/// What became of a call: all that the log needs and the answer is made from.
#[derive(Debug)]
struct Decision {
    at: Moment,
    ending: Ending,
    cost: Cost,
    fault: Option<Fault>,
    latency: Duration,
}

async fn serve(shared: &Shared, line: &Line, call: Call<'_>, headers: &HeaderMap, body: &[u8]) -> Response {
    let query = Query::read(call.query);
    let key = key_of(headers, &query);
    let record = key.as_ref().ok().and_then(|key| shared.keyring.find(key));
    let fingerprint = match (&record, &key) {
        (Some(record), _) => Arc::clone(&record.fingerprint),
        (None, Ok(key)) => fingerprint(key).into(),
        (None, Err(_)) => "".into(),
    };
    let project = record.as_ref().map_or_else(|| "".into(), |record| Arc::clone(&record.project));
    let checked = key.and_then(|key| check(shared, call, key, record, headers, body));
    let (decision, understood) = match checked {
        Ok(admissible) => (decide(shared, call, &admissible).await, Some(admissible.understood)),
        Err(body) => (Decision::refusal(shared.clock.now(), body), None),
    };
    let entry = LogEntry {
        seq: 0,
        unix_micros: decision.at.wall.as_microsecond(),
        micros: u64::try_from(decision.at.since_start.as_micros()).unwrap_or(u64::MAX),
        key: fingerprint,
        project,
        model: call.model.to_owned(),
        quota_model: shared.config.quota_model(call.model).to_owned(),
        method: call.verb.name().to_owned(),
        requests: decision.cost.requests,
        input_tokens: understood.as_ref().map_or(0, |understood| understood.cost.input_tokens),
        status: decision.ending.status(),
        fault: decision.fault.map(|fault| fault.name().to_owned()),
    };
    let seq = shared.journal.record(entry, query.key.is_some());
    if !decision.latency.is_zero() {
        tokio::time::sleep(decision.latency).await;
    }
    let success = || understood.as_ref().map(|understood| success(shared, call, &query, understood, seq));
    answer::send(compose(decision.ending, success, call.verb, query.sse), line).await
}

/// What Google looks at before any quota.
fn check<'a>(
    shared: &Shared,
    call: Call<'_>,
    key: &'a str,
    record: Option<KeyRecord>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Admissible<'a>, ErrorBody> {
    let record = record.ok_or_else(bodies::invalid_key)?;
    if let Some(error) = record.disabled_as {
        return Err(error.body(&context(shared, call, key, &record)));
    }
    if call.verb != Verb::ListModels && !shared.config.has_model(call.model) {
        return Err(bodies::unknown_model(call.version, call.model, call.verb.name()));
    }
    let understood = understand(call.verb, headers, body)?;
    if !shared.files.is_empty() {
        let said = serde_json::from_slice(body).unwrap_or_default();
        if shared.files.forbids(&record.project, &said) {
            return Err(bodies::file_forbidden());
        }
    }
    Ok(Admissible { key, record, understood })
}

fn context<'a>(shared: &'a Shared, call: Call<'a>, key: &'a str, record: &'a KeyRecord) -> ErrorContext<'a> {
    ErrorContext {
        key,
        tier: shared.config.tier(&record.project),
        model: call.model,
        quota_model: shared.config.quota_model(call.model),
        embeds: call.verb.embeds(),
    }
}

/// Faults on the way, then the quota, then faults of the server.
async fn decide(shared: &Shared, call: Call<'_>, admissible: &Admissible<'_>) -> Decision {
    let Admissible { key, record, understood } = admissible;
    let context = context(shared, call, key, record);
    let Mishap { late_arrival, latency, ending } = shared.faults.strike(&Target {
        fingerprint: &record.fingerprint,
        project: &record.project,
        model: call.model,
        quota_model: context.quota_model,
        method: call.verb.name(),
    });
    if !late_arrival.is_zero() {
        tokio::time::sleep(late_arrival).await;
    }
    let ended = |fault: Fault| end_by(fault, &context);
    let uncounted = Cost { requests: 0, input_tokens: 0 };
    if !call.verb.is_charged() || ending.is_some_and(|fault| !fault.may_be_counted()) {
        let at = shared.clock.now();
        let cost = uncounted;
        return Decision { at, ending: ending.map_or(Ending::Success, ended), cost, fault: ending, latency };
    }
    let (ruling, at) =
        shared.judge.rule(&record.project, context.quota_model, understood.cost, &shared.clock);
    match ruling {
        Ruling::Admitted => {
            let cost = understood.cost;
            Decision { at, ending: ending.map_or(Ending::Success, ended), cost, fault: ending, latency }
        }
        Ruling::Refused(excesses) => {
            let ending = Ending::Error(quota_refusal(&excesses, &context));
            Decision { at, ending, cost: uncounted, fault: None, latency }
        }
    }
}

impl Decision {
    fn refusal(at: Moment, body: ErrorBody) -> Self {
        let cost = Cost { requests: 0, input_tokens: 0 };
        Self { at, ending: Ending::Error(body), cost, fault: None, latency: Duration::ZERO }
    }
}

fn end_by(fault: Fault, context: &ErrorContext<'_>) -> Ending {
    match fault {
        Fault::Withheld => Ending::Withheld,
        Fault::Hang => Ending::Hang,
        Fault::Reset => Ending::Reset,
        Fault::HalfStream => Ending::HalfStream,
        Fault::Error { name } => Ending::Error(name.body(context)),
        Fault::ShapedError { name, shape } => Ending::Error(shape.of(name.body(context))),
        Fault::InStreamError { name } => Ending::InStreamError(name.body(context)),
        Fault::Status { code } => Ending::Error(
            NamedError::of_status(code).map_or_else(|| bodies::bare(code), |name| name.body(context)),
        ),
        // They are no endings: striking adds them up apart.
        Fault::Latency(_) | Fault::LateArrival(_) => Ending::Success,
    }
}

/// The 429 that names all that is spent, with the true time until the call would fit.
fn quota_refusal(excesses: &[Excess], context: &ErrorContext<'_>) -> ErrorBody {
    let violations: Vec<Violation> = excesses
        .iter()
        .map(|&Excess { dimension, limit, .. }| {
            Violation::new(dimension, context.embeds, context.tier, context.quota_model, limit)
        })
        .collect();
    // A call that never fits is told to wait a minute, as if it might.
    let never = Duration::from_secs(60);
    let wait = excesses.iter().map(|excess| excess.wait.unwrap_or(never)).max().unwrap_or(never);
    bodies::quota_429(&violations, wait)
}

fn success(shared: &Shared, call: Call<'_>, query: &Query<'_>, understood: &Understood, seq: u64) -> Answer {
    match call.verb {
        Verb::Generate => Answer::Json(reply::generated(call.model, seq, understood)),
        Verb::Stream => {
            Answer::Pieces { pieces: reply::streamed(call.model, seq, understood), sse: query.sse }
        }
        Verb::Interact => Answer::Json(reply::interaction(call.model, seq, understood)),
        Verb::CountTokens => Answer::Json(reply::counted(understood)),
        Verb::Embed => Answer::Json(reply::embedded()),
        Verb::BatchEmbed => Answer::Json(reply::batch_embedded(understood)),
        Verb::GetModel => Answer::Json(reply::model(call.model)),
        Verb::ListModels => Answer::Json(reply::models(&shared.config, query.page_size)),
    }
}

/// The answer that an ending calls for.
fn compose(ending: Ending, success: impl FnOnce() -> Option<Answer>, verb: Verb, sse: bool) -> Answer {
    let in_array = verb == Verb::Stream && !sse;
    match ending {
        Ending::Hang => Answer::Hang,
        Ending::Reset => Answer::Reset,
        Ending::Withheld if verb == Verb::Stream => Answer::Pieces { pieces: vec![bodies::withheld()], sse },
        Ending::Withheld => Answer::Json(bodies::withheld()),
        Ending::Error(body) if in_array => Answer::ErrorInArray(body),
        Ending::Error(body) => Answer::Error(body),
        Ending::Success => success().unwrap_or(Answer::Error(bodies::internal())),
        Ending::HalfStream => {
            Answer::Broken(Box::new(success().unwrap_or(Answer::Error(bodies::internal()))))
        }
        Ending::InStreamError(error) => match success() {
            Some(Answer::Pieces { mut pieces, sse }) => {
                pieces.truncate(1);
                Answer::PiecesThenError { pieces, error, sse }
            }
            _ => Answer::Error(error),
        },
    }
}
