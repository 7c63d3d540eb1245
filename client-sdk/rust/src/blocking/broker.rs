//! The connection to a broker.

use std::{fmt, sync::Arc};

use super::{lease::Lease, runtime::Worker};
use crate::{acquire::AcquireOptions, error::Error};

/// A connection to a broker, as [`crate::Broker`] is one: cheap to clone, and every clone shares the connection.
#[derive(Clone)]
pub struct Broker {
    pub(crate) worker: Arc<Worker>,
}

impl Broker {
    /// Connects as [`crate::Broker::connect`] does, at the first call.
    ///
    /// # Errors
    /// As there, and [`Error::NoThreads`].
    pub fn connect(address: impl Into<String>) -> Result<Self, Error> {
        Self::over(crate::Broker::connect(address)?)
    }

    /// With the settings of a client that made no call yet.
    ///
    /// ```
    /// use std::time::Duration;
    /// use keybroker_client::blocking::Broker;
    ///
    /// let settings = keybroker_client::Broker::builder().call_timeout(Duration::from_secs(5));
    /// let broker = Broker::over(settings.connect("broker-0:50051,broker-1:50051")?)?;
    /// # let _ = broker;
    /// # Ok::<(), keybroker_client::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::NoThreads`].
    pub fn over(broker: crate::Broker) -> Result<Self, Error> {
        Ok(Self { worker: Worker::start(broker)? })
    }

    /// Takes a lease, as [`crate::Broker::acquire`] does.
    ///
    /// # Errors
    /// As there, and [`Error::WithinRuntime`].
    ///
    /// ```no_run
    /// # fn example(broker: keybroker_client::blocking::Broker) -> Result<(), keybroker_client::Error> {
    /// use keybroker_client::{AcquireOptions, ExposeSecret, Usage};
    ///
    /// let mut lease = broker.acquire(AcquireOptions::new("gemini-2.5-flash").input_tokens(1_200))?;
    /// let key = lease.begin_send()?.expose_secret();
    /// // ... send one request with the header `x-goog-api-key: {key}` ...
    /// # let _ = key;
    /// let advice = lease.success(Usage { input_tokens: Some(1_180), ..Usage::default() })?;
    /// # let _ = advice;
    /// # Ok(())
    /// # }
    /// ```
    pub fn acquire(&self, options: AcquireOptions) -> Result<Lease, Error> {
        let lease = self.worker.wait(self.worker.broker.acquire(options))??;
        Ok(Lease::new(lease, Arc::clone(&self.worker)))
    }

    /// Waits until every report is delivered, those in the background included.
    ///
    /// # Errors
    /// [`Error::Undelivered`] once the flush timeout has passed; delivery goes on. [`Error::WithinRuntime`].
    pub fn flush(&self) -> Result<(), Error> {
        self.worker.wait(self.worker.broker.flush())?
    }

    /// Refuses new leases on every clone, then [flushes](Self::flush). Leases already held can still be reported.
    ///
    /// # Errors
    /// As for [`flush`](Self::flush).
    pub fn close(&self) -> Result<(), Error> {
        self.worker.wait(self.worker.broker.close())?
    }

    /// How many reports are not delivered yet.
    pub fn unreported(&self) -> usize {
        self.worker.broker.unreported()
    }

    /// How many reports were given up since the start, as [`crate::Broker::reports_lost`] says.
    pub fn reports_lost(&self) -> u64 {
        self.worker.broker.reports_lost()
    }
}

impl fmt::Debug for Broker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.worker.broker.fmt(f)
    }
}
