//! A connection to one primary, and what it says of itself.

use std::time::Duration;

use redis::{
    ErrorKind, FromRedisValue, Pipeline, RedisError, RedisResult, Value, aio::MultiplexedConnection,
};

use super::Address;

/// A connection to one primary. Calls on it are pipelined.
#[derive(Clone)]
pub struct Line {
    /// Where it leads.
    pub address: Address,
    /// What the server said when the connection was made.
    pub server: ServerState,
    /// The connection.
    pub connection: MultiplexedConnection,
}

/// What a server says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerState {
    /// Which run of which server this is, and whose history it continues: it changes when the process is another
    /// one, and when a replica is promoted.
    pub run: String,
    /// Replicas that receive all writes.
    pub replicas: i64,
    /// Whether it writes an append-only file.
    pub appends: bool,
    /// Since when the process runs.
    pub uptime: Duration,
    /// Its version.
    pub version: String,
}

impl Line {
    /// What the server says of itself now.
    ///
    /// # Errors
    /// If it does not answer, or is not a primary.
    pub async fn state(&self) -> Result<ServerState, RedisError> {
        state(&mut self.connection.clone()).await
    }
}

/// Sends several commands in one round trip. The error is that of the first command that failed, with its code;
/// that of a pipeline as a whole has none.
pub(super) async fn ask<T: FromRedisValue>(
    commands: &mut Pipeline,
    connection: &mut MultiplexedConnection,
) -> Result<T, RedisError> {
    let answers: Vec<RedisResult<Value>> = commands.ignore_errors().query_async(connection).await?;
    let answers = answers.into_iter().collect::<RedisResult<Vec<Value>>>()?;
    Ok(redis::from_redis_value(Value::Array(answers))?)
}

/// Asks a server what it is.
pub(super) async fn state(connection: &mut MultiplexedConnection) -> Result<ServerState, RedisError> {
    let mut sections = redis::pipe();
    for section in ["server", "replication", "persistence"] {
        sections.cmd("INFO").arg(section);
    }
    let info: Vec<String> = ask(&mut sections, connection).await?;
    read(&info.join("\n"))
}

fn read(info: &str) -> Result<ServerState, RedisError> {
    let field = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.unwrap_or_default().trim()
    };
    if field("role") == "slave" {
        return Err((ErrorKind::Client, "the server is a replica, not a primary").into());
    }
    // Such as slave0:ip=10.0.0.2,port=6379,state=online,offset=1,lag=0
    let online = |line: &&str| {
        line.strip_prefix("slave").is_some_and(|rest| rest.starts_with(|digit: char| digit.is_ascii_digit()))
            && line.contains("state=online")
    };
    Ok(ServerState {
        run: format!("{}:{}", field("run_id"), field("master_replid")),
        appends: field("aof_enabled") == "1",
        replicas: i64::try_from(info.lines().filter(online).count()).unwrap_or(i64::MAX),

        uptime: Duration::from_secs(field("uptime_in_seconds").parse().unwrap_or(0)),
        version: field("redis_version").to_owned(),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use super::*;

    const INFO: &str = "# Server\r\nredis_version:7.0.15\r\nrun_id:aa\r\nuptime_in_seconds:12\r\n\
        # Replication\r\nrole:master\r\nconnected_slaves:2\r\n\
        slave0:ip=10.0.0.2,port=1,state=online,offset=1,lag=0\r\n\
        slave1:ip=10.0.0.3,port=1,state=wait_bgsave,offset=0,lag=0\r\n\
        slave_read_only:1\r\nmaster_replid:bb\r\n\
        # Persistence\r\naof_enabled:1\r\n";

    #[test]
    fn what_a_primary_says_is_read() {
        let state = read(INFO).unwrap();
        assert_eq!((state.run.as_str(), state.replicas, state.appends), ("aa:bb", 1, true));
        assert_eq!((state.version.as_str(), state.uptime.as_secs()), ("7.0.15", 12));
    }

    #[test]
    fn a_replica_is_no_primary() {
        assert!(read(&INFO.replace("role:master", "role:slave")).is_err());
    }
}
