//! The connection to a broker.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use keybroker_proto::v1;
use tokio::{pin, select, sync::oneshot, time::timeout};
use tonic::transport::Endpoint;

use crate::{
    acquire::AcquireOptions,
    advice::Advice,
    builder::BrokerBuilder,
    error::Error,
    lease::{Lease, Settlement},
    reporter::Reporter,
    rpc::Rpc,
    trace,
};

/// How long an Acquire goes on after its caller gave up, so that a lease already on its way is
/// received and refunded rather than charged until it expires.
const AFTER_CANCEL: Duration = Duration::from_secs(1);

/// A connection to a broker: cheap to clone, and every clone shares the connection.
///
/// It belongs to the tokio runtime of its first call, where its background reports run.
#[derive(Clone)]
pub struct Broker {
    pub(crate) shared: Arc<Shared>,
}

/// What all clones and all leases of a [`Broker`] share.
pub(crate) struct Shared {
    pub(crate) rpc: Arc<Rpc>,
    pub(crate) settings: BrokerBuilder,
    reporter: OnceLock<Reporter>,
    closed: AtomicBool,
}

/// A new lease, and the answer to the earlier one that was settled with it.
#[derive(Debug)]
#[non_exhaustive]
pub struct Settled {
    /// The new lease.
    pub lease: Lease,
    /// The advice on the earlier lease, if the broker gave one.
    pub advice: Option<Advice>,
}

impl Broker {
    /// Connects with the default settings, at the first call, to `host:port`, or with TLS to `https://host:port`; to
    /// several, if they are separated by commas: the next is asked where one is gone.
    ///
    /// # Errors
    /// [`Error::InvalidAddress`], and [`Error::InvalidTls`] where `https` is asked for and the system trusts nobody.
    ///
    /// ```
    /// let broker = keybroker_client::Broker::connect("http://127.0.0.1:50051")?;
    /// # let _ = broker;
    /// # Ok::<(), keybroker_client::Error>(())
    /// ```
    pub fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::builder().connect(address)
    }

    /// Settings to choose before connecting.
    pub fn builder() -> BrokerBuilder {
        BrokerBuilder::default()
    }

    pub(crate) fn assemble(endpoints: Vec<Endpoint>, settings: BrokerBuilder) -> Self {
        let rpc = Arc::new(Rpc::new(endpoints, settings.token.clone(), settings.call_timeout));
        let shared = Shared { rpc, settings, reporter: OnceLock::new(), closed: AtomicBool::new(false) };
        Self { shared: Arc::new(shared) }
    }

    /// Takes a lease. It is never retried here, since an answer that was lost may have been a lease.
    ///
    /// Giving up (dropping the future) is safe: a lease that arrives within a second is refunded.
    ///
    /// # Errors
    /// [`Error::Refused`] with the exact time to wait, and the others of [`Error`].
    ///
    /// ```no_run
    /// # async fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::Error> {
    /// use keybroker_client::{AcquireOptions, Error};
    ///
    /// match broker.acquire(AcquireOptions::new("gemini-2.5-flash")).await {
    ///     Ok(lease) => println!("key {} of project {}", lease.key_id(), lease.project()),
    ///     Err(Error::Refused(refusal)) => println!("not before {:?}", refusal.retry_after),
    ///     Err(error) => return Err(error),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire(&self, options: AcquireOptions) -> Result<Lease, Error> {
        self.take(options, None).await.map(|settled| settled.lease)
    }

    /// Settles an earlier lease and takes a new one in the same round trip, for loops that send
    /// one request after another. If no lease comes, the earlier one is reported all the same.
    ///
    /// # Errors
    /// As for [`acquire`](Self::acquire).
    ///
    /// ```no_run
    /// # async fn example(broker: keybroker_client::Broker) -> Result<(), keybroker_client::Error> {
    /// use keybroker_client::{AcquireOptions, Outcome, Usage};
    ///
    /// let options = AcquireOptions::new("gemini-2.5-flash");
    /// let mut lease = broker.acquire(options.clone()).await?;
    /// for _ in 0..100 {
    ///     // ... lease.begin_send(), one request ...
    ///     let done = lease.settle(Outcome::Success(Usage::default()));
    ///     lease = broker.acquire_settling(options.clone(), done).await?.lease;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub async fn acquire_settling(
        &self,
        options: AcquireOptions,
        earlier: Settlement,
    ) -> Result<Settled, Error> {
        self.take(options, Some(earlier)).await
    }

    async fn take(&self, options: AcquireOptions, earlier: Option<Settlement>) -> Result<Settled, Error> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Error::Closed);
        }
        // The call runs in a task of its own, because a caller that stops waiting must not lose a
        // lease: when nobody receives it here, its drop reports that it was not sent.
        let (mut sender, receiver) = oneshot::channel();
        let shared = Arc::clone(&self.shared);
        tokio::spawn(trace::carry(async move {
            let call = acquire(shared, options, earlier);
            pin!(call);
            let result = select! {
                result = &mut call => Some(result),
                () = sender.closed() => timeout(AFTER_CANCEL, call).await.ok(),
            };
            if let Some(result) = result {
                drop(sender.send(result));
            }
        }));
        receiver.await.unwrap_or(Err(Error::Closed))
    }

    /// Waits until every report is delivered, those in the background included.
    ///
    /// # Errors
    /// [`Error::Undelivered`] once the flush timeout has passed; delivery goes on.
    pub async fn flush(&self) -> Result<(), Error> {
        match self.shared.reporter.get() {
            Some(reporter) => reporter.flush(self.shared.settings.flush_timeout).await,
            None => Ok(()),
        }
    }

    /// Refuses new leases on every clone, then [flushes](Self::flush). Leases already held can
    /// still be reported.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub async fn close(&self) -> Result<(), Error> {
        self.shared.closed.store(true, Ordering::Release);
        self.flush().await
    }

    /// How many reports are not delivered yet.
    pub fn unreported(&self) -> usize {
        self.shared.reporter.get().map_or(0, Reporter::outstanding)
    }

    /// How many reports were given up since the start: the queue was full, or the broker was away
    /// for longer than the report patience. Their leases stay charged until they expire.
    pub fn reports_lost(&self) -> u64 {
        self.shared.reporter.get().map_or(0, Reporter::lost)
    }
}

impl Shared {
    /// The reporter, started at the first call from within a runtime.
    pub(crate) fn reporter(&self) -> &Reporter {
        self.reporter.get_or_init(|| Reporter::spawn(Arc::clone(&self.rpc), self.settings.reporter))
    }
}

async fn acquire(
    shared: Arc<Shared>,
    options: AcquireOptions,
    earlier: Option<Settlement>,
) -> Result<Settled, Error> {
    // The reporter starts before there is a lease: a drop may happen where there is no runtime.
    shared.reporter();
    let request = options.into_proto(earlier.as_ref().and_then(Settlement::report));
    let (response, asked_at) = shared.rpc.acquire(request).await?;
    let advice = match (earlier, response.settled) {
        (Some(earlier), Some(result)) => {
            earlier.delivered();
            Some(Advice::from_proto(result))
        }
        // Not answered: the settlement reports by itself when it is dropped here.
        _ => None,
    };
    let lease: v1::Lease = response
        .lease
        .ok_or_else(|| Error::Contract { message: "AcquireResponse holds no lease".to_owned() })?;
    Ok(Settled { lease: Lease::new(shared, lease, asked_at), advice })
}
