//! The crate `genai` with leased keys: its auth resolver takes a lease for each request, and what comes of the request
//! reports it.
//!
//! `genai_crate --broker HOST:PORT [--gemini URL] [--calls 3] [--model gemini-2.5-flash]`
//!
//! The resolver hands out a key and sees no answer. So each request runs with a slot of its own, a task local, in which
//! the resolver leaves the lease and from which the caller takes it to report.

use std::{cell::RefCell, collections::BTreeMap, error::Error, future::Future, pin::Pin, time::Duration};

use genai::{
    Client, ModelIden, ServiceTarget,
    chat::{ChatRequest, ChatResponse},
    resolver::{self, AuthData, AuthResolver, Endpoint},
    webc,
};
use keybroker_client::{AcquireOptions, Action, Broker, ExposeSecret, Lease, Outcome, TransportKind, Usage};

/// How many requests one question may take.
const ATTEMPTS: usize = 5;
/// How long a question may wait in the broker for a key.
const WAIT: Duration = Duration::from_secs(60);

tokio::task_local! {
    static SLOT: Slot;
}

/// What the resolver and the caller of one request share.
#[derive(Default)]
struct Slot {
    /// Keys that failed this question.
    excluded: Vec<String>,
    lease: RefCell<Option<Lease>>,
}

type Resolved = Pin<Box<dyn Future<Output = Result<Option<AuthData>, resolver::Error>> + Send>>;

/// Google's client of the crate `genai`, which leases where it would read a key from the environment.
fn leasing_client(broker: &Broker, gemini: Option<String>) -> Result<Client, Box<dyn Error>> {
    let broker = broker.clone();
    let resolver = AuthResolver::from_resolver_async_fn(move |model: ModelIden| -> Resolved {
        let broker = broker.clone();
        Box::pin(async move {
            let excluded = SLOT.try_with(|slot| slot.excluded.clone());
            let excluded = excluded.map_err(|_| "ask by way of `ask`".to_owned())?;
            let options = AcquireOptions::new(model.model_name.to_string()).wait(WAIT);
            let options = excluded.into_iter().fold(options, AcquireOptions::exclude_key);
            let mut lease = broker.acquire(options).await.map_err(|error| error.to_string())?;
            let key = lease.begin_send().map_err(|error| error.to_string())?.expose_secret().to_owned();
            SLOT.with(|slot| slot.lease.replace(Some(lease)));
            Ok(Some(AuthData::from_single(key)))
        })
    });
    // A lease is for one request: nothing may be sent again by itself.
    let http = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none());
    let http = http.retry(reqwest::retry::never()).build()?;
    let client = Client::builder().with_reqwest(http).with_auth_resolver(resolver);
    let client = client.with_service_target_resolver_fn(
        move |mut target: ServiceTarget| -> Result<ServiceTarget, resolver::Error> {
            if let Some(gemini) = &gemini {
                target.endpoint = Endpoint::from_owned(format!("{gemini}/v1beta/"));
            }
            Ok(target)
        },
    );
    Ok(client.build())
}

/// Asks one question, as often and with such keys as the broker advises.
async fn ask(client: &Client, model: &str, question: &str) -> Result<String, Box<dyn Error>> {
    let mut slot = Slot::default();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let request = ChatRequest::from_user(question);
        let (result, mut excluded, lease) = SLOT
            .scope(slot, async {
                let result = client.exec_chat(model, request, None).await;
                SLOT.with(|slot| (result, slot.excluded.clone(), slot.lease.take()))
            })
            .await;
        // Without a lease there was none to be had: the error says so.
        let Some(lease) = lease else { return Err(result.err().map_or("no lease".into(), Into::into)) };
        let key_id = lease.key_id().to_owned();
        let advice = lease.report(outcome(&result)).await;
        let error = match result {
            Ok(answer) => return Ok(answer.first_text().unwrap_or_default().to_owned()),
            Err(error) => error,
        };
        match advice?.action {
            _ if attempt == ATTEMPTS => return Err(error.into()),
            Action::RetryOtherKey => excluded.push(key_id),
            Action::RetryAfter(wait) => tokio::time::sleep(wait.unwrap_or(Duration::from_secs(1))).await,
            _ => return Err(error.into()),
        }
        slot = Slot { excluded, ..Slot::default() };
    }
}

/// What a result of `genai` says to the broker.
fn outcome(result: &genai::Result<ChatResponse>) -> Outcome {
    let webc_error = match result {
        Ok(answer) => {
            let tokens = |tokens: Option<i32>| tokens.map(i64::from);
            return Outcome::Success(Usage {
                input_tokens: tokens(answer.usage.prompt_tokens),
                output_tokens: tokens(answer.usage.completion_tokens),
                total_tokens: tokens(answer.usage.total_tokens),
                ..Usage::default()
            });
        }
        Err(genai::Error::WebModelCall { webc_error, .. }) => webc_error,
        Err(_) => return Outcome::transport(TransportKind::Reset),
    };
    match webc_error {
        webc::Error::ResponseFailedStatus { status, body, .. } => {
            Outcome::HttpError { status: status.as_u16(), body: body.clone().into(), retry_after: None }
        }
        webc::Error::Reqwest(error) if error.is_connect() => Outcome::transport(TransportKind::Connect),
        webc::Error::Reqwest(error) if error.is_timeout() => Outcome::transport(TransportKind::Timeout),
        _ => Outcome::transport(TransportKind::Reset),
    }
}

#[tokio::main]
#[allow(clippy::print_stdout, reason = "an example prints its answers")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments = arguments();
    let argument =
        |name: &str, default: &str| arguments.get(name).cloned().unwrap_or_else(|| default.to_owned());
    let broker = Broker::connect(argument("--broker", "127.0.0.1:50051"))?;
    let client = leasing_client(&broker, arguments.get("--gemini").cloned())?;
    let model = argument("--model", "gemini-2.5-flash");
    for number in 0..argument("--calls", "3").parse()? {
        println!("{}", ask(&client, &model, &format!("Question {number}: why is the sky blue?")).await?);
    }
    broker.close().await?;
    Ok(())
}

fn arguments() -> BTreeMap<String, String> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    words.chunks(2).filter_map(|pair| Some((pair.first()?.clone(), pair.get(1)?.clone()))).collect()
}
