//! Which server is the primary, and how many of its replicas are there, by those who decide it.

use std::{collections::HashMap, time::Duration};

use futures_util::future::join_all;
use redis::{FromRedisValue, RedisError, Value};
use tokio::time::timeout;

use super::{Address, CallError, Line, Servers, Topology, line::ask, refuses_user, unreachable};

/// How long a sentinel or a node may take to say where the primary is.
const ASK_WITHIN: Duration = Duration::from_millis(500);

impl Servers {
    /// Where the primary is that has `key`.
    pub(super) async fn find_primary(&self, key: &str) -> Result<Address, CallError> {
        match self.topology() {
            Topology::Standalone(address) => Ok(address.clone()),
            Topology::Sentinel { sentinels, name } => {
                let answers = self.ask_sentinels(sentinels, "GET-MASTER-ADDR-BY-NAME", name).await;
                elect(&answers, sentinels.len(), name)
            }
            Topology::Cluster(seeds) => self.find_node(seeds, key).await,
        }
    }

    /// Asks all sentinels at once; answers come in their order, errors as text.
    async fn ask_sentinels(
        &self,
        sentinels: &[Address],
        question: &str,
        name: &str,
    ) -> Vec<Result<Value, String>> {
        let ask = async |sentinel: &Address| {
            let info = self.target.sentinel(sentinel).map_err(|error| error.to_string())?;
            let mut line = self.connect(sentinel, info).await.map_err(|error| error.to_string())?;
            let mut command = redis::cmd("SENTINEL");
            command.arg(question).arg(name);
            command.query_async(&mut line).await.map_err(|error: RedisError| error.to_string())
        };
        join_all(sentinels.iter().map(async |sentinel| {
            let late = |_| Err(format!("{sentinel}: no answer in {ASK_WITHIN:?}"));
            timeout(ASK_WITHIN, ask(sentinel)).await.unwrap_or_else(late)
        }))
        .await
    }

    async fn find_node(&self, seeds: &[Address], key: &str) -> Result<Address, CallError> {
        let mut nodes: Vec<Address> = seeds.to_vec();
        let turn = {
            let known = self.known();
            nodes.extend(known.lines.keys().filter(|node| !seeds.contains(node)).cloned());
            known.turn
        };
        let mut why = CallError::Unreachable("no node of the cluster is known".to_owned());
        for step in 0..nodes.len() {
            let node = &nodes[(turn + step) % nodes.len()];
            match self.ask_node(node, key).await {
                Ok(Some(address)) => return Ok(address),
                Ok(None) => why = CallError::Unreachable(format!("{node}: no node has the slot of {key}")),
                Err(error) => why = error,
            }
        }
        Err(why)
    }

    async fn ask_node(&self, node: &Address, key: &str) -> Result<Option<Address>, CallError> {
        let info = self.target.server(node).map_err(|error| unreachable(&error))?;
        let mut line = self.connect(node, info).await?;
        let mut pipeline = redis::pipe();
        pipeline.cmd("CLUSTER").arg("KEYSLOT").arg(key).cmd("CLUSTER").arg("SLOTS");
        let (slot, ranges): (i64, Vec<Value>) = timeout(ASK_WITHIN, ask(&mut pipeline, &mut line))
            .await
            .map_err(|_| CallError::Unreachable(format!("{node}: no answer in {ASK_WITHIN:?}")))?
            .map_err(
                |error| if refuses_user(&error) { CallError::Answered(error) } else { unreachable(&error) },
            )?;
        Ok(ranges.into_iter().find_map(|range| primary_of(range, slot, node)))
    }

    /// How many replicas of this primary there are to be reckoned with, by those who could promote one of them: a
    /// majority of the sentinels, or the cluster. None if they cannot be asked, or say that the primary is another.
    pub async fn replicas_in_being(&self, line: &Line) -> Option<i64> {
        match self.topology() {
            Topology::Standalone(_) => None,
            Topology::Sentinel { sentinels, name } => {
                let primaries = self.ask_sentinels(sentinels, "GET-MASTER-ADDR-BY-NAME", name).await;
                let replicas = self.ask_sentinels(sentinels, "REPLICAS", name).await;
                let agree = primaries.iter().zip(replicas).filter_map(|(primary, replicas)| {
                    let here = primary.as_ref().ok().and_then(address_in)? == line.address;
                    here.then_some(in_being(replicas.ok()?)?)
                });
                let counts: Vec<i64> = agree.collect();
                // Whoever sees more of them is believed.
                if counts.len() > sentinels.len() / 2 { counts.into_iter().max() } else { None }
            }
            Topology::Cluster(_) => {
                let mut pipeline = redis::pipe();
                pipeline.cmd("CLUSTER").arg("INFO").cmd("CLUSTER").arg("NODES");
                let asked = timeout(self.deadline, ask(&mut pipeline, &mut line.connection.clone())).await;
                let (info, nodes): (String, String) = asked.ok()?.ok()?;
                info.contains("cluster_state:ok").then(|| replicas_of_myself(&nodes))?
            }
        }
    }
}

/// The address most sentinels name, if a majority of all does.
fn elect(answers: &[Result<Value, String>], all: usize, name: &str) -> Result<Address, CallError> {
    let mut votes: HashMap<Address, usize> = HashMap::new();
    for answer in answers.iter().flatten() {
        if let Some(address) = address_in(answer) {
            *votes.entry(address).or_default() += 1;
        }
    }
    let best = votes.into_iter().max_by_key(|(_, count)| *count);
    match best {
        Some((address, count)) if count > all / 2 => Ok(address),
        Some((address, count)) => Err(CallError::Unreachable(format!(
            "only {count} of {all} sentinels name {address} as the primary {name}; a majority has to"
        ))),
        None => {
            let why = answers.iter().find_map(|answer| answer.as_ref().err());
            let why = why.map_or("none of them knows it", String::as_str);
            Err(CallError::Unreachable(format!("no sentinel names the primary {name}: {why}")))
        }
    }
}

fn address_in(answer: &Value) -> Option<Address> {
    let (host, port): (String, u16) = FromRedisValue::from_redis_value(answer.clone()).ok()?;
    Some(Address { host, port })
}

/// How many of a sentinel's replicas it does not hold for down.
fn in_being(replicas: Value) -> Option<i64> {
    let replicas: Vec<HashMap<String, String>> = FromRedisValue::from_redis_value(replicas).ok()?;
    let is_up = |replica: &&HashMap<String, String>| {
        replica.get("flags").is_none_or(|flags| !flags.contains("s_down") && !flags.contains("o_down"))
    };
    i64::try_from(replicas.iter().filter(is_up).count()).ok()
}

/// In what a node says of all nodes, the replicas of itself that the cluster has not found to have failed.
fn replicas_of_myself(nodes: &str) -> Option<i64> {
    let rows = || nodes.lines().map(|line| line.split(' ').collect::<Vec<_>>()).filter(|row| row.len() > 3);
    let has = |row: &[&str], flag: &str| row[2].split(',').any(|known| known == flag);
    let myself = rows().find(|row| has(row, "myself"))?;
    let replicas = rows().filter(|row| row[3] == myself[0] && !has(row, "fail")).count();
    i64::try_from(replicas).ok()
}

/// The primary of a range of slots, if `slot` lies in it: first slot, last slot, nodes, the primary first.
fn primary_of(range: Value, slot: i64, asked: &Address) -> Option<Address> {
    let Value::Array(mut parts) = range else { return None };
    if parts.len() < 3 {
        return None;
    }
    let node = parts.swap_remove(2);
    let last: i64 = FromRedisValue::from_redis_value(parts.swap_remove(1)).ok()?;
    let first: i64 = FromRedisValue::from_redis_value(parts.swap_remove(0)).ok()?;
    if slot < first || slot > last {
        return None;
    }
    let Value::Array(node) = node else { return None };
    let mut node = node.into_iter();
    // A node that does not know its own address means the one by which it was asked.
    let host: Option<String> = FromRedisValue::from_redis_value(node.next()?).ok()?;
    let port: u16 = FromRedisValue::from_redis_value(node.next()?).ok()?;
    let host = host.filter(|host| !host.is_empty() && host != "?").unwrap_or_else(|| asked.host.clone());
    Some(Address { host, port })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that fails panics")]
mod tests {
    use super::*;

    fn at(port: u16) -> Address {
        Address { host: "10.0.0.1".to_owned(), port }
    }

    fn named(port: &str) -> Result<Value, String> {
        Ok(Value::Array(vec![
            Value::BulkString(b"10.0.0.1".to_vec()),
            Value::BulkString(port.as_bytes().to_vec()),
        ]))
    }

    #[test]
    fn a_primary_is_believed_in_if_a_majority_of_all_sentinels_names_it() {
        let gone = || Err("refused".to_owned());
        assert_eq!(elect(&[named("1"), named("1"), gone()], 3, "main").unwrap(), at(1));
        assert_eq!(elect(&[named("2"), named("1"), named("1")], 3, "main").unwrap(), at(1));
        for answers in
            [[named("1"), gone(), gone()], [named("1"), named("2"), gone()], [gone(), gone(), gone()]]
        {
            assert!(elect(&answers, 3, "main").is_err());
        }
    }

    #[test]
    fn a_replica_counts_until_the_cluster_has_found_it_to_have_failed() {
        let nodes = "a 10.0.0.1:1@2 myself,master - 0 0 1 connected 0-5461\n\
                     b 10.0.0.2:1@2 slave a 0 0 1 connected\n\
                     c 10.0.0.3:1@2 slave,fail a 0 0 1 disconnected\n\
                     d 10.0.0.4:1@2 slave,fail? a 0 0 1 disconnected\n\
                     e 10.0.0.5:1@2 slave f 0 0 1 connected\n";
        assert_eq!(replicas_of_myself(nodes), Some(2));
    }

    #[test]
    fn the_primary_of_a_slot_is_the_first_of_its_nodes() {
        let range = |host: Value| {
            let node = Value::Array(vec![host, Value::Int(7), Value::BulkString(b"id".to_vec())]);
            Value::Array(vec![Value::Int(10), Value::Int(20), node])
        };
        let known = || range(Value::BulkString(b"10.0.0.1".to_vec()));
        assert_eq!(primary_of(known(), 20, &at(1)), Some(at(7)));
        assert_eq!(primary_of(known(), 21, &at(1)), None);
        assert_eq!(primary_of(range(Value::Nil), 10, &at(1)), Some(at(7)));
    }
}
