//! Keeps a lease alive while a long stream runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use keybroker_proto::v1::RenewRequest;
use tokio::{runtime::Handle, task::AbortHandle, time::sleep};

use crate::{error::Error, rpc::Rpc, wire};

/// No renewal is closer than this to the one before, also when little time remains.
const SHORTEST_PAUSE: Duration = Duration::from_millis(50);

/// When a lease expires, by the local monotonic clock.
pub(crate) struct Expiry(Mutex<Instant>);

impl Expiry {
    pub(crate) fn new(at: Instant) -> Self {
        Self(Mutex::new(at))
    }

    pub(crate) fn remaining(&self) -> Duration {
        let at = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        at.saturating_duration_since(Instant::now())
    }

    pub(crate) async fn renew(&self, rpc: &Rpc, lease_id: &str, ttl: Duration) -> Result<Duration, Error> {
        let request = RenewRequest { lease_id: lease_id.to_owned(), ttl: Some(wire::to_proto(ttl)) };
        let (response, asked_at) = rpc.renew(request).await?;
        let expires_in = response
            .expires_in
            .map(wire::from_proto)
            .ok_or_else(|| Error::Contract { message: "RenewResponse holds no expires_in".to_owned() })?;
        let until = wire::instant_after(asked_at, expires_in);
        let mut at = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *at = until.max(*at);
        Ok(at.saturating_duration_since(Instant::now()))
    }
}

/// Renews a lease for as long as it lives; made by [`Lease::auto_renew`](crate::Lease::auto_renew).
#[derive(Debug)]
#[must_use = "the lease is renewed only while the guard is held"]
pub struct AutoRenew {
    task: Option<AbortHandle>,
}

impl AutoRenew {
    pub(crate) fn start(expiry: Arc<Expiry>, rpc: Arc<Rpc>, lease_id: String, ttl: Duration) -> Self {
        let task = Handle::try_current()
            .map(|runtime| runtime.spawn(keep(expiry, rpc, lease_id, ttl)).abort_handle())
            .inspect_err(|error| tracing::warn!(%error, "a lease is not renewed"))
            .ok();
        Self { task }
    }

    /// Renews nothing.
    pub(crate) fn none() -> Self {
        Self { task: None }
    }

    /// Whether the lease is still being renewed; false once the broker refused to.
    pub fn is_active(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }
}

impl Drop for AutoRenew {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn keep(expiry: Arc<Expiry>, rpc: Arc<Rpc>, lease_id: String, ttl: Duration) {
    loop {
        let remaining = expiry.remaining();
        sleep((remaining / 2).max(SHORTEST_PAUSE)).await;
        // After a failure the pauses halve with what remains; once it is over, only the broker
        // knows whether the lease still lives, so the last word is its answer.
        match expiry.renew(&rpc, &lease_id, ttl).await {
            Ok(_) => {}
            Err(error) if error.is_retryable() && !remaining.is_zero() => {
                tracing::debug!(%lease_id, %error, "a renewal failed and is tried again");
            }
            Err(error) => {
                tracing::warn!(%lease_id, %error, "a lease is no longer renewed");
                return;
            }
        }
    }
}
