//! Settings of a [`Gemini`] client.

use std::{collections::HashMap, future::Future, num::NonZeroU32, sync::Arc, time::Duration};

use keybroker_proto::v1::Tier;
use reqwest::{Client, Url, redirect};
use secrecy::SecretString;
use serde_json::Value;

use super::{
    Gemini,
    affinity::Affinity,
    cache::ResponseCache,
    error::GeminiError,
    estimate::{Estimator, estimate_input_tokens},
    fallback::{Fallback, FallbackKey, FallbackRequest},
};
use crate::{acquire::AcquireOptions, backoff::Backoff, broker::Broker};

const BASE_URL: &str = "https://generativelanguage.googleapis.com";
const BACKOFF: Backoff = Backoff { first: Duration::from_millis(500), longest: Duration::from_secs(30) };

/// The settings of a client; cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) broker: Broker,
    pub(crate) http: Option<Client>,
    pub(crate) base_url: String,
    pub(crate) api_version: String,
    pub(crate) pool: String,
    pub(crate) consumer: String,
    pub(crate) project: String,
    pub(crate) tier: Tier,
    pub(crate) labels: HashMap<String, String>,
    pub(crate) attempts: NonZeroU32,
    /// Whether a broker that is away is waited for as long as the call lasts: not where something else would serve.
    pub(crate) patient: bool,
    pub(crate) backoff: Backoff,
    pub(crate) deadline: Duration,
    pub(crate) request_timeout: Duration,
    pub(crate) stream_idle_timeout: Duration,
    pub(crate) lease_wait: Duration,
    pub(crate) lease_ttl: Option<Duration>,
    pub(crate) max_wait: Duration,
    pub(crate) estimator: Estimator,
    pub(crate) count_tokens: bool,
    pub(crate) fallback: Option<Fallback>,
    pub(crate) fallback_key: Option<FallbackKey>,
    pub(crate) cache: Option<ResponseCache>,
    pub(crate) default_model: String,
    pub(crate) affinity: Arc<Affinity>,
}

impl Settings {
    /// What every lease is asked with.
    pub(crate) fn options(&self, model: &str) -> AcquireOptions {
        AcquireOptions {
            model: model.to_owned(),
            pool: self.pool.clone(),
            consumer: self.consumer.clone(),
            project: self.project.clone(),
            tier: Some(self.tier),
            labels: self.labels.clone(),
            ttl: self.lease_ttl,
            ..AcquireOptions::default()
        }
    }

    /// What sends requests.
    pub(crate) fn client(&self) -> Result<Client, GeminiError> {
        let message = || "make the client with build".to_owned();
        self.http.clone().ok_or_else(|| GeminiError::Setup { message: message() })
    }
}

/// Settings of a [`Gemini`] client; made by [`Gemini::builder`] and [`Gemini::customize`].
#[derive(Clone, Debug)]
#[must_use]
pub struct GeminiBuilder {
    settings: Settings,
}

impl GeminiBuilder {
    pub(crate) fn new(broker: &Broker) -> Self {
        let settings = Settings {
            broker: broker.clone(),
            http: None,
            base_url: BASE_URL.to_owned(),
            api_version: "v1beta".to_owned(),
            pool: String::new(),
            consumer: String::new(),
            project: String::new(),
            tier: Tier::Unspecified,
            labels: HashMap::new(),
            attempts: const { NonZeroU32::new(3).expect("3 is not 0") },
            patient: true,
            backoff: BACKOFF,
            deadline: Duration::from_secs(600),
            request_timeout: Duration::from_secs(120),
            stream_idle_timeout: Duration::from_secs(120),
            lease_wait: Duration::from_secs(5),
            lease_ttl: None,
            max_wait: Duration::from_secs(60),
            estimator: Estimator(Arc::new(estimate_input_tokens)),
            count_tokens: false,
            fallback: None,
            fallback_key: None,
            cache: None,
            default_model: "gemini-2.5-flash".to_owned(),
            affinity: Arc::default(),
        };
        Self { settings }
    }

    pub(crate) fn from_settings(settings: &Settings) -> Self {
        Self { settings: settings.clone() }
    }

    /// Where the API is. Default: `https://generativelanguage.googleapis.com`.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.settings.base_url = url.into();
        self
    }

    /// The version of the API, `v1` or `v1beta`. Default: `v1beta`.
    pub fn api_version(mut self, version: impl Into<String>) -> Self {
        self.settings.api_version = version.into();
        self
    }

    /// The pool to lease from. Default: the broker's default pool.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.settings.pool = pool.into();
        self
    }

    /// Who asks. Default: nobody, under no consumer's limit.
    pub fn consumer(mut self, consumer: impl Into<String>) -> Self {
        self.settings.consumer = consumer.into();
        self
    }

    /// Only keys of this project: needed for requests that name files or cached contents, which
    /// belong to the project that made them. Default: any.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.settings.project = project.into();
        self
    }

    /// Only keys of this tier. Default: any.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.settings.tier = tier;
        self
    }

    /// A free label for the broker's logs; 16 at most.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.labels.insert(name.into(), value.into());
        self
    }

    /// The most requests that are sent for one call, 1 to 256 (as many keys as a lease can
    /// exclude). With a fallback it is also how often brokers that are away are asked; else they are until
    /// [`max_wait`](Self::max_wait) or the deadline, where nothing was handed out. Default: 3.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = NonZeroU32::new(attempts.min(256)).unwrap_or(NonZeroU32::MIN);
        self
    }

    /// The backoff with full jitter where the broker names no wait: the ceiling of the first wait
    /// and of all. Default: 500 ms and 30 s.
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        self.settings.backoff = Backoff { first, longest };
        self
    }

    /// How long a whole call may take, its waits and all of its tries included; for a stream, up
    /// to its end. Default: 10 minutes.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.settings.deadline = deadline;
        self
    }

    /// How long one request may take, for a stream up to its first event. Default: 2 minutes.
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.settings.request_timeout = timeout;
        self
    }

    /// How long a stream may be silent between two events. Default: 2 minutes.
    pub fn stream_idle_timeout(mut self, timeout: Duration) -> Self {
        self.settings.stream_idle_timeout = timeout;
        self
    }

    /// How long an Acquire may queue in the broker, up to 10 minutes. Default: 5 s.
    pub fn lease_wait(mut self, wait: Duration) -> Self {
        self.settings.lease_wait = wait;
        self
    }

    /// How long a lease is held without a report; it is renewed while its request runs, at half
    /// of the time. Default: the pool's.
    pub fn lease_ttl(mut self, ttl: Duration) -> Self {
        self.settings.lease_ttl = Some(ttl);
        self
    }

    /// How much of a call may be spent in waiting after refusals, and for a broker that is away.
    /// A longer wait is an error at once. Default: 60 s.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.settings.max_wait = wait;
        self
    }

    /// The model for which [`Gemini::execute`] leases where a request names none, such as an upload of a file.
    /// Default: `gemini-2.5-flash`.
    pub fn default_model(mut self, model: impl Into<String>) -> Self {
        self.settings.default_model = model.into();
        self
    }

    /// What estimates the input tokens of a request body, an upper bound. Default:
    /// [`estimate_input_tokens`]. `|_| 0` leaves tokens uncounted until the report.
    pub fn estimator(mut self, estimator: impl Fn(&Value) -> i64 + Send + Sync + 'static) -> Self {
        self.settings.estimator = Estimator(Arc::new(estimator));
        self
    }

    /// Has Gemini count the tokens of each generation first, by `countTokens` with a lease of its own, which is exact
    /// and costs a request. Where that fails, the [`estimator`](Self::estimator) is asked. Default: false.
    pub fn count_tokens(mut self, count: bool) -> Self {
        self.settings.count_tokens = count;
        self
    }

    /// Answers identical requests from memory. Default: none.
    #[cfg(feature = "cache")]
    pub fn cache(mut self, cache: ResponseCache) -> Self {
        self.settings.cache = Some(cache);
        self
    }

    /// What to call when no lease can be had: it is given the error, and answers with a key to send this one request
    /// with, or with none. Nothing of that request is counted or reported, and it is not tried again. Not called for a
    /// request that is itself at fault, nor once the deadline has passed. Default: none.
    ///
    /// ```no_run
    /// # fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::GeminiError> {
    /// use keybroker_client::{Gemini, SecretString};
    ///
    /// let gemini = Gemini::builder(&broker)
    ///     .fallback_key(|error| {
    ///         eprintln!("with the spare key, since {error}");
    ///         async { std::env::var("GEMINI_SPARE_KEY").ok().map(SecretString::from) }
    ///     })
    ///     .build()?;
    /// # let _ = gemini;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback_key<F, Fut>(mut self, function: F) -> Self
    where
        F: Fn(&GeminiError) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Option<SecretString>> + Send + 'static,
    {
        self.settings.patient = false;
        self.settings.fallback_key = Some(FallbackKey::new(function));
        self
    }

    /// What to call when no key could serve a request: it receives the request and the error, and
    /// answers with a response (typed, or as JSON) or with an error. It is not called for a
    /// request that is itself at fault. In a stream its response is the only event.
    ///
    /// ```no_run
    /// # fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::GeminiError> {
    /// use keybroker_client::{Gemini, gemini::types::GenerateContentResponse};
    ///
    /// let gemini = Gemini::builder(&broker)
    ///     .fallback(|request, error| async move {
    ///         eprintln!("{} by the fallback, after: {error}", request.method);
    ///         Ok(GenerateContentResponse::default())
    ///     })
    ///     .build()?;
    /// # let _ = gemini;
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback<F, Fut, R>(mut self, function: F) -> Self
    where
        F: Fn(FallbackRequest, GeminiError) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, GeminiError>> + Send + 'static,
        R: Into<Value>,
    {
        self.settings.patient = false;
        self.settings.fallback = Some(Fallback::new(function));
        self
    }

    /// The HTTP client to use. It should follow no redirects, which could carry the key's header
    /// to another host, and retry nothing, since a lease is for one request. Default: such a one,
    /// with a connect timeout of 3 s.
    pub fn http_client(mut self, client: Client) -> Self {
        self.settings.http = Some(client);
        self
    }

    /// Makes the client.
    ///
    /// # Errors
    /// [`GeminiError::Setup`]: the base URL cannot be used, or no HTTP client can be made.
    pub fn build(mut self) -> Result<Gemini, GeminiError> {
        let setup = |message: String| GeminiError::Setup { message };
        let base = self.settings.base_url.trim_end_matches('/');
        let url = Url::parse(base).map_err(|error| setup(format!("base_url {base:?}: {error}")))?;
        if !matches!(url.scheme(), "http" | "https") || url.query().is_some() || url.fragment().is_some() {
            return Err(setup(format!("base_url {base:?} must be http or https, without a query")));
        }
        self.settings.base_url = base.to_owned();
        if self.settings.http.is_none() {
            let client = Client::builder()
                .connect_timeout(Duration::from_secs(3))
                .redirect(redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("keybroker-client/", env!("CARGO_PKG_VERSION")))
                .build()
                .map_err(|error| setup(error.to_string()))?;
            self.settings.http = Some(client);
        }
        Ok(Gemini { settings: Arc::new(self.settings) })
    }
}
