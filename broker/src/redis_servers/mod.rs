//! Redis servers, however they hang together: one, some with sentinels, or a cluster. The primary that has a key
//! is found, connected to and kept; ledger and registry speak to it through here.

mod line;
mod primary;
mod target;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use deadpool_redis::{Connection, Manager, Pool, PoolError, Runtime};
use redis::{AsyncConnectionConfig, ConnectionInfo, ErrorKind, RedisError, ServerErrorKind};
use tokio::time::{Instant, sleep, timeout_at};

pub use line::{Line, ServerState};
pub use target::{Address, BadRedisUrl, Target, TlsFiles, Topology};

/// How long a call rests before it is made again because a slot is on its way to another node.
const SLOT_MOVES: Duration = Duration::from_millis(20);

/// Redis servers that together hold what all brokers share.
pub struct Servers {
    target: Target,
    deadline: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    // Where connections to each server come from.
    pools: HashMap<Address, Pool>,
    // Connections in use; they are dropped when they fail.
    lines: HashMap<Address, Line>,
    // Which server has the slot of a key; the one of an empty key is that of every key.
    routes: HashMap<String, Address>,
    // Held while a route is looked for, so that one call does it for all.
    looking: HashMap<String, Arc<tokio::sync::Mutex<()>>>,
    // Which of the known nodes of a cluster is asked first.
    turn: usize,
}

/// Why a call got no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// A server cannot be reached or did not answer in time; the call may or may not have run.
    #[error("{0}")]
    Unreachable(String),
    /// The server answered with an error: the call did nothing.
    #[error("{0}")]
    Answered(RedisError),
}

impl Servers {
    /// Prepares; nothing is connected yet. `deadline` bounds every call.
    pub fn new(target: Target, deadline: Duration) -> Self {
        Self { target, deadline, known: Mutex::default() }
    }

    /// How long a call may take.
    pub fn deadline(&self) -> Duration {
        self.deadline
    }

    /// How the servers hang together.
    pub fn topology(&self) -> &Topology {
        self.target.topology()
    }

    /// Asks the primary that has `key`. The question is asked again only where the answer says that it did nothing
    /// because the key lives elsewhere.
    ///
    /// # Errors
    /// If there is no answer in time, or if the answer is an error.
    pub async fn call<T, F: Future<Output = Result<T, RedisError>>>(
        &self,
        key: &str,
        ask: impl Fn(Line) -> F,
    ) -> Result<T, CallError> {
        let until = Instant::now() + self.deadline;
        let late = || CallError::Unreachable(format!("no answer in {:?}", self.deadline));
        loop {
            let line = match timeout_at(until, self.line(key)).await {
                Ok(line) => line?,
                Err(_) => return Err(late()),
            };
            let Ok(answer) = timeout_at(until, ask(line.clone())).await else {
                self.distrust(&line.address);
                return Err(late());
            };
            let error = match answer {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            match Fault::of(&error) {
                Fault::None => return Err(CallError::Answered(error)),
                Fault::Broken => {
                    self.distrust(&line.address);
                    return Err(CallError::Unreachable(error.to_string()));
                }
                Fault::Elsewhere if Instant::now() + SLOT_MOVES < until => {
                    let moved = error.kind() == ErrorKind::Server(ServerErrorKind::Moved);
                    self.reroute(key, error.redirect_node().filter(|_| moved).map(|(address, _)| address));
                    sleep(SLOT_MOVES).await;
                }
                Fault::Elsewhere => return Err(CallError::Unreachable(error.to_string())),
            }
        }
    }

    /// The connection to the primary that has `key`.
    ///
    /// # Errors
    /// If it is not known which that is, or if it cannot be reached.
    pub async fn line(&self, key: &str) -> Result<Line, CallError> {
        let route = if self.is_cluster() { key } else { "" };
        if let Some(line) = self.known().line(route) {
            return Ok(line);
        }
        let looking = self.known().looking.entry(route.to_owned()).or_default().clone();
        let _looking = looking.lock().await;
        if let Some(line) = self.known().line(route) {
            return Ok(line);
        }
        let known = self.known().routes.get(route).cloned();
        let address = match known {
            Some(address) => address,
            None => self.find_primary(key).await?,
        };
        let line = self.line_to(&address).await.inspect_err(|_| self.distrust(&address))?;
        let mut known = self.known();
        known.lines.insert(address.clone(), line.clone());
        known.routes.insert(route.to_owned(), address);
        Ok(line)
    }

    /// The connection to a primary, made if there is none.
    async fn line_to(&self, address: &Address) -> Result<Line, CallError> {
        if let Some(line) = self.known().lines.get(address) {
            return Ok(line.clone());
        }
        let server = self.target.server(address).map_err(|error| unreachable(&error))?;
        let mut connection = Connection::take(self.connect(address, server).await?);
        connection.set_response_timeout(self.deadline);
        match line::state(&mut connection).await {
            Ok(server) => Ok(Line { address: address.clone(), server, connection }),
            Err(error) if Fault::of(&error) == Fault::None => Err(CallError::Answered(error)),
            Err(error) => Err(unreachable(&error)),
        }
    }

    /// A connection to a server that is not known to be a primary.
    async fn connect(&self, address: &Address, info: ConnectionInfo) -> Result<Connection, CallError> {
        let pool = self.pool(address, info)?;
        pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) if Fault::of(&error) == Fault::None => CallError::Answered(error),
            other => CallError::Unreachable(format!("{address}: {other}")),
        })
    }

    fn pool(&self, address: &Address, info: ConnectionInfo) -> Result<Pool, CallError> {
        let mut known = self.known();
        if let Some(pool) = known.pools.get(address) {
            return Ok(pool.clone());
        }
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.deadline / 2))
            .set_response_timeout(Some(self.deadline));
        let manager = Manager::new_with_config(info, config).map_err(|error| unreachable(&error))?;
        let pool = Pool::builder(manager)
            .runtime(Runtime::Tokio1)
            .wait_timeout(Some(self.deadline))
            .create_timeout(Some(self.deadline / 2))
            .recycle_timeout(Some(self.deadline / 2))
            .build()
            .map_err(|error| unreachable(&error))?;
        known.pools.insert(address.clone(), pool.clone());
        Ok(pool)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("no holder of this lock panics")
    }

    fn is_cluster(&self) -> bool {
        matches!(self.topology(), Topology::Cluster(_))
    }

    /// A connection that failed once is not trusted again, nor who was thought to be the primary.
    pub fn distrust(&self, address: &Address) {
        let mut known = self.known();
        known.lines.remove(address);
        known.routes.retain(|_, route| route != address);
        known.turn += 1;
    }

    fn reroute(&self, key: &str, to: Option<&str>) {
        let address = to
            .and_then(|to| to.rsplit_once(':'))
            .and_then(|(host, port)| Some(Address { host: host.to_owned(), port: port.parse().ok()? }));
        let mut known = self.known();
        match address {
            Some(address) if !address.host.is_empty() => known.routes.insert(key.to_owned(), address),
            _ => known.routes.remove(key),
        };
    }
}

impl Known {
    fn line(&self, route: &str) -> Option<Line> {
        self.lines.get(self.routes.get(route)?).cloned()
    }
}

/// What an error says of the connection it came by.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The connection is well.
    None,
    /// The key lives elsewhere, or is on its way.
    Elsewhere,
    /// The server cannot serve now, or the connection is gone.
    Broken,
}

impl Fault {
    fn of(error: &RedisError) -> Self {
        match error.kind() {
            ErrorKind::Server(ServerErrorKind::Moved | ServerErrorKind::Ask | ServerErrorKind::TryAgain) => {
                Self::Elsewhere
            }
            ErrorKind::Server(
                ServerErrorKind::BusyLoading
                | ServerErrorKind::ClusterDown
                | ServerErrorKind::MasterDown
                | ServerErrorKind::ReadOnly,
            )
            | ErrorKind::Io
            | ErrorKind::Parse
            | ErrorKind::Client => Self::Broken,
            _ => match error.code() {
                Some("UNBLOCKED" | "NOREPLICAS") => Self::Broken,
                _ => Self::None,
            },
        }
    }
}

/// Whether the server does not take the user or password, or the user may not do what was asked.
pub fn refuses_user(error: &RedisError) -> bool {
    error.kind() == ErrorKind::AuthenticationFailed
        || matches!(error.code(), Some("NOAUTH" | "WRONGPASS" | "NOPERM"))
}

fn unreachable(error: &dyn std::fmt::Display) -> CallError {
    CallError::Unreachable(error.to_string())
}
