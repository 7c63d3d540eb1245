//! What to ask a lease for.

use std::{collections::HashMap, time::Duration};

use keybroker_proto::v1::{self, Tier};

use crate::wire;

/// What to ask a lease for; only the model is required.
///
/// ```
/// use std::time::Duration;
/// use keybroker_client::{AcquireOptions, Tier};
///
/// let options = AcquireOptions::new("gemini-2.5-flash")
///     .pool("batch")
///     .consumer("nightly-report")
///     .input_tokens(4_000)
///     .output_tokens(1_000)
///     .wait(Duration::from_secs(5))
///     .tier(Tier::Paid)
///     .label("integration", "zalo");
/// # let _ = options;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct AcquireOptions {
    pub(crate) model: String,
    pub(crate) pool: String,
    pub(crate) consumer: String,
    pub(crate) input_tokens: i64,
    pub(crate) output_tokens: i64,
    pub(crate) ttl: Option<Duration>,
    pub(crate) wait: Option<Duration>,
    pub(crate) permits: Option<i32>,
    pub(crate) project: String,
    pub(crate) tier: Option<Tier>,
    pub(crate) exclude_keys: Vec<String>,
    pub(crate) exclude_projects: Vec<String>,
    pub(crate) key_labels: HashMap<String, String>,
    pub(crate) labels: HashMap<String, String>,
}

impl AcquireOptions {
    /// A lease for one request to this model, from the default pool.
    pub fn new(model: impl Into<String>) -> Self {
        Self { model: model.into(), ..Self::default() }
    }

    /// The pool to lease from. Default: the pool `default`.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = pool.into();
        self
    }

    /// Who asks: a user, a team or a service, under the limits of its plan. Usage is told apart by it, and
    /// waiting requests take turns by it. Default: nobody, under no consumer's limit.
    ///
    /// ```no_run
    /// # async fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::Error> {
    /// use keybroker_client::{AcquireOptions, Error};
    ///
    /// let options = AcquireOptions::new("gemini-2.5-flash").consumer("reports@example.com");
    /// match broker.acquire(options).await {
    ///     Ok(lease) if lease.over_plan() => eprintln!("over the plan, and served all the same"),
    ///     Ok(lease) => println!("key {}", lease.key_id()),
    ///     Err(Error::Refused(refusal)) => println!("{refusal}, not before {:?}", refusal.retry_after),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn consumer(mut self, consumer: impl Into<String>) -> Self {
        self.consumer = consumer.into();
        self
    }

    /// An upper bound on the input tokens; the report's usage corrects it. Default 0: not counted.
    pub fn input_tokens(mut self, tokens: i64) -> Self {
        self.input_tokens = tokens;
        self
    }

    /// An upper bound on the output tokens, thinking included; where limits count total tokens or money
    /// they are charged ahead by it, and the report's usage corrects it. Default 0: not charged ahead.
    pub fn output_tokens(mut self, tokens: i64) -> Self {
        self.output_tokens = tokens;
        self
    }

    /// How long the lease may be held without a report, 1 second to 1 hour. Default: the pool's.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long the call may wait in the broker for a key, up to 10 minutes. Default: not at all.
    /// The deadline of the call is this and the call timeout.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = Some(wait);
        self
    }

    /// How many requests will be sent with the lease, 1 to 1000. Default: 1.
    pub fn permits(mut self, permits: i32) -> Self {
        self.permits = Some(permits);
        self
    }

    /// Only keys of this project: files, caches and batches belong to the project that made them.
    pub fn project(mut self, project: impl Into<String>) -> Self {
        self.project = project.into();
        self
    }

    /// Only keys of this tier. A paid request is never given a free key.
    pub fn tier(mut self, tier: Tier) -> Self {
        self.tier = Some(tier);
        self
    }

    /// Never this key; call it again for more, 256 at most.
    pub fn exclude_key(mut self, key_id: impl Into<String>) -> Self {
        self.exclude_keys.push(key_id.into());
        self
    }

    /// Never keys of this project; call it again for more, 256 at most.
    pub fn exclude_project(mut self, project: impl Into<String>) -> Self {
        self.exclude_projects.push(project.into());
        self
    }

    /// Only keys with this label, as the configuration or an operator gave it; call it again for more,
    /// 16 at most, which keys must have all.
    ///
    /// ```
    /// use keybroker_client::AcquireOptions;
    ///
    /// let options = AcquireOptions::new("gemini-2.5-flash").key_label("region", "eu");
    /// # let _ = options;
    /// ```
    pub fn key_label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.key_labels.insert(name.into(), value.into());
        self
    }

    /// A free label for logs, traces and hooks; 16 at most.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    pub(crate) fn into_proto(self, settle: Option<v1::LeaseReport>) -> v1::AcquireRequest {
        v1::AcquireRequest {
            pool: self.pool,
            model: self.model,
            input_tokens: self.input_tokens,
            output_tokens: self.output_tokens,
            consumer: self.consumer,
            ttl: self.ttl.map(wire::to_proto),
            wait: self.wait.map(wire::to_proto),
            permits: self.permits,
            constraints: Some(v1::Constraints {
                project: self.project,
                tier: self.tier.unwrap_or(Tier::Unspecified) as i32,
                exclude_key_ids: self.exclude_keys,
                exclude_projects: self.exclude_projects,
                labels: self.key_labels,
            }),
            labels: self.labels,
            settle,
            ..v1::AcquireRequest::default()
        }
    }
}
