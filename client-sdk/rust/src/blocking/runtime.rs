//! The runtime behind the blocking client.

use std::{future::Future, io, sync::Arc, thread};

use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};

use crate::{broker::Broker, error::Error};

/// A client, and the thread in which it works.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) broker: Broker,
    runtime: Background,
}

/// A runtime that may be dropped anywhere: dropped as it is, it would wait, and panic where that is not allowed.
#[derive(Debug)]
struct Background(Option<Runtime>);

impl Worker {
    pub(crate) fn start(broker: Broker) -> Result<Arc<Self>, Error> {
        let failed = |error: io::Error| Error::NoThreads { message: error.to_string() };
        let mut builder = Builder::new_multi_thread();
        let runtime = builder.worker_threads(1).thread_name("keybroker").enable_all().build();
        Ok(Arc::new(Self { broker, runtime: Background(Some(runtime.map_err(failed)?)) }))
    }

    /// Waits for what a call gives.
    pub(crate) fn wait<F: Future>(&self, call: F) -> Result<F::Output, Error> {
        match &self.runtime.0 {
            Some(_) if is_within_runtime() => Err(Error::WithinRuntime),
            Some(runtime) => Ok(runtime.block_on(call)),
            None => Err(Error::Closed),
        }
    }

    /// For what starts a task of its own.
    pub(crate) fn enter(&self) -> Option<EnterGuard<'_>> {
        self.runtime.0.as_ref().map(Runtime::enter)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let runtime = Background(self.runtime.0.take());
        let broker = self.broker.clone();
        let end = move || {
            if let Some(Err(error)) = runtime.0.as_ref().map(|runtime| runtime.block_on(broker.flush())) {
                tracing::warn!(%error, "a client ended before all was reported");
            }
        };
        if is_within_runtime() {
            if let Err(error) = thread::Builder::new().name("keybroker-end".to_owned()).spawn(end) {
                tracing::warn!(%error, "a client ended before all was reported");
            }
        } else {
            end();
        }
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

fn is_within_runtime() -> bool {
    Handle::try_current().is_ok()
}
