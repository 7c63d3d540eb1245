//! Starting and stopping a fake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::answer::{self, Answer};
use super::bodies;
use super::client::ControlClient;
use super::config::FakeGeminiConfig;
use super::connection::{CuttableListener, Line};
use super::fault::FaultRule;
use super::journal::LogPage;
use super::shared::Shared;
use super::verdict::Verdict;
use super::{api, control, files};

/// A running fake. Dropping it closes it, and every connection with it, at once.
#[derive(Debug)]
pub struct FakeGemini {
    /// Where it is, such as `http://127.0.0.1:4000`, without a version and without a slash at the end.
    pub base_url: String,
    /// The address it listens on.
    pub addr: SocketAddr,
    shared: Arc<Shared>,
    closing: CancellationToken,
    server: JoinHandle<io::Result<()>>,
}

impl FakeGemini {
    /// Starts a fake on a free port of the loopback interface.
    ///
    /// # Errors
    /// If the configuration has faults or no port can be had.
    pub async fn start(config: FakeGeminiConfig) -> io::Result<Self> {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await?, config)
    }

    /// Starts a fake on a listener of the caller's.
    ///
    /// # Errors
    /// If the configuration has faults or the listener has no address.
    pub fn start_on(listener: TcpListener, config: FakeGeminiConfig) -> io::Result<Self> {
        config.validate().map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::new(config));
        let closing = CancellationToken::new();
        let listener = CuttableListener { inner: listener, closing: closing.clone() };
        let service = router(Arc::clone(&shared)).into_make_service_with_connect_info::<Line>();
        let serve = axum::serve(listener, service).with_graceful_shutdown(closing.clone().cancelled_owned());
        let server = tokio::spawn(serve.into_future());
        Ok(Self { base_url: format!("http://{addr}"), addr, shared, closing, server })
    }

    /// A client of this fake's control endpoint.
    pub fn control(&self) -> ControlClient {
        ControlClient::new(&self.base_url)
    }

    /// What the judge has to say so far.
    pub fn verdict(&self) -> Verdict {
        self.shared.verdict()
    }

    /// The log entries numbered above `since`.
    pub fn log(&self, since: u64) -> LogPage {
        self.shared.journal.page(since)
    }

    /// Adds a fault rule after those in force.
    ///
    /// # Panics
    /// If the rule makes no sense (a probability above 1, a status that is no error).
    pub fn add_fault(&self, rule: FaultRule) {
        if let Some(complaint) = rule.complaint() {
            panic!("{complaint}: {rule:?}");
        }
        self.shared.faults.add(vec![rule]);
    }

    /// Drops all fault rules.
    pub fn clear_faults(&self) {
        self.shared.faults.clear();
    }

    /// Forgets every arrival, log entry and count; keys and fault rules stay.
    pub fn reset(&self) {
        self.shared.reset();
    }

    /// Closes the port and cuts every connection, hanging ones too, and waits until that is done.
    pub async fn shutdown(mut self) {
        self.closing.cancel();
        // Nothing can be done about a server that failed while it was being closed.
        let _ = (&mut self.server).await;
    }
}

impl Drop for FakeGemini {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

fn router(shared: Arc<Shared>) -> Router {
    let lost = async |axum::extract::ConnectInfo(line): axum::extract::ConnectInfo<Line>| {
        answer::send(Answer::Error(bodies::unknown_path()), &line).await
    };
    Router::new()
        .nest("/v1", api::routes("v1").merge(files::routes("v1")))
        .nest("/v1beta", api::routes("v1beta").merge(files::routes("v1beta")))
        .nest("/upload/v1", files::uploads("v1"))
        .nest("/upload/v1beta", files::uploads("v1beta"))
        .nest("/control", control::routes())
        .fallback(lost)
        .with_state(shared)
}
