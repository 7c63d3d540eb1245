//! The registry on Redis, shared by all brokers there.

pub mod keyspace;

use std::time::Duration;

use deadpool_redis::{Config, Connection, Pool, PoolError, Runtime};
use redis::{AsyncTypedCommands, ExistenceCheck, RedisError, SetExpiry, SetOptions};
use tokio::time::timeout;

use super::{Registry, RegistryError, RegistryFuture};

/// A registry on Redis.
pub struct RedisRegistry {
    pool: Pool,
    deadline: Duration,
}

impl RedisRegistry {
    /// Prepares the registry; nothing is connected yet. `deadline` bounds every call.
    ///
    /// # Errors
    /// If the URL cannot be read.
    pub fn new(url: &str, deadline: Duration) -> Result<Self, RegistryError> {
        let pool = Config::from_url(url)
            .create_pool(Some(Runtime::Tokio1))
            .map_err(|error| RegistryError::Unusable(format!("the Redis URL cannot be used: {error}")))?;
        Ok(Self { pool, deadline })
    }

    async fn call<T>(
        &self,
        ask: impl AsyncFnOnce(&mut Connection) -> Result<T, RedisError>,
    ) -> Result<T, RegistryError> {
        timeout(self.deadline, async {
            // The pool looks at a connection before it gives it out, so one that broke is not met twice.
            let mut connection = self.pool.get().await.map_err(|error| match error {
                PoolError::Backend(error) => unavailable(&error),
                other => RegistryError::Unavailable(other.to_string()),
            })?;
            ask(&mut connection).await.map_err(|error| unavailable(&error))
        })
        .await
        .unwrap_or_else(|_| Err(RegistryError::Unavailable(format!("no answer in {:?}", self.deadline))))
    }
}

impl Registry for RedisRegistry {
    fn claim<'a>(&'a self, name: &'a str, span: Duration) -> RegistryFuture<'a, bool> {
        let millis = u64::try_from(span.as_millis()).unwrap_or(u64::MAX).max(1);
        let options =
            SetOptions::default().conditional_set(ExistenceCheck::NX).with_expiration(SetExpiry::PX(millis));
        Box::pin(self.call(async move |connection| {
            let set = connection.set_options(keyspace::claim(name), 1, options).await?;
            Ok(set.is_some())
        }))
    }
}

fn unavailable(error: &RedisError) -> RegistryError {
    RegistryError::Unavailable(error.to_string())
}
