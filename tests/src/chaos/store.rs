//! The Redis servers of a fleet: one alone, under Sentinels, or a cluster.

use std::{
    io,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use redis::{Cmd, FromRedisValue, cmd};

use super::{hosts::Hosts, member::Member, plan::Plan, side::Side, topology::Topology};

/// How long a server may take to answer an order of the harness.
const PATIENCE: Duration = Duration::from_millis(1_500);
/// How long servers may take to find each other.
const FORMATION: Duration = Duration::from_secs(30);
/// After this long without an answer a server is held for down by its fellows.
const DOWN_AFTER_MILLIS: &str = "1000";
/// The name under which Sentinels know the primary.
const MASTER: &str = "mymaster";

/// One server.
#[derive(Debug)]
pub struct Node {
    /// Its process.
    pub member: Member,
    /// Its port.
    pub port: u16,
}

/// All servers.
#[derive(Debug)]
pub struct Store {
    /// What they are to each other.
    pub topology: Topology,
    /// Those that keep data; those that begin as primaries stand first.
    pub nodes: Vec<Node>,
    /// Those that watch.
    pub sentinels: Vec<Node>,
    hosts: Arc<Hosts>,
}

impl Store {
    /// Starts them and waits until they serve. `ports` gives a free one each time.
    ///
    /// # Errors
    /// If one does not start, or they do not find each other.
    pub fn start(
        hosts: &Arc<Hosts>,
        plan: &Plan,
        ports: &mut dyn FnMut() -> io::Result<u16>,
    ) -> io::Result<Self> {
        let mut store =
            Self { topology: plan.topology, nodes: Vec::new(), sentinels: Vec::new(), hosts: hosts.clone() };
        let (near, far) = (plan.primary, plan.primary.across());
        let (most, least) = (plan.majority, plan.majority.across());
        let sides: &[Side] = match plan.topology {
            Topology::Embedded => &[],
            Topology::StandaloneAof | Topology::StandaloneRdb | Topology::StandaloneEmpty => &[near],
            Topology::Sentinel => &[near, near, far],
            // Each replica stands on the other host than its primary.
            Topology::Cluster => &[most, most, least, least, least, most],
        };
        for (number, side) in sides.iter().enumerate() {
            let node = store.data_node(plan, number, *side, ports)?;
            store.nodes.push(node);
        }
        for node in 0..store.nodes.len() {
            store.wait_for(node)?;
        }
        match plan.topology {
            Topology::Sentinel => store.watch([most, most, least], ports)?,
            Topology::Cluster => store.join()?,
            _ => {}
        }
        Ok(store)
    }

    fn data_node(
        &self,
        plan: &Plan,
        number: usize,
        side: Side,
        ports: &mut dyn FnMut() -> io::Result<u16>,
    ) -> io::Result<Node> {
        let port = ports()?;
        let name = format!("redis-{number}");
        let folder = Member::own_folder(&self.hosts, &name)?;
        let appends = match plan.topology {
            Topology::StandaloneAof => true,
            Topology::Sentinel | Topology::Cluster => plan.persistent,
            _ => false,
        };
        let address = self.hosts.address(side).to_string();
        let mut member = Member::new(&self.hosts, name, side, "redis-server")
            .args(["--port", &port.to_string(), "--bind", "0.0.0.0", "--protected-mode", "no"])
            .args(["--appendonly", if appends { "yes" } else { "no" }])
            // A snapshot is saved when the harness says so, and by a server that stops in good order.
            .args(["--save", if plan.topology == Topology::StandaloneRdb { "3600 1000000" } else { "" }])
            .args(["--dir", &folder.display().to_string(), "--repl-diskless-sync-delay", "0"]);
        if plan.topology == Topology::Cluster {
            member = member
                .args(["--cluster-enabled", "yes", "--cluster-node-timeout", DOWN_AFTER_MILLIS])
                .args(["--cluster-announce-ip", &address, "--cluster-port", &ports()?.to_string()]);
        }
        if plan.topology == Topology::Sentinel {
            member = member.args(["--replica-announce-ip", &address]);
            if let Some(primary) = self.nodes.first() {
                let primary_address = self.hosts.address(primary.member.side).to_string();
                member = member.args(["--replicaof", &format!("{primary_address} {}", primary.port)]);
            }
        }
        // The host of the first primary is the one whose clock is turned.
        if plan.has(super::fault::Fault::turns_redis_clock) && side == self.first_side().unwrap_or(side) {
            member.with_clock()?;
        }
        member.start()?;
        Ok(Node { member, port })
    }

    fn first_side(&self) -> Option<Side> {
        self.nodes.first().map(|node| node.member.side)
    }

    fn watch(&mut self, sides: [Side; 3], ports: &mut dyn FnMut() -> io::Result<u16>) -> io::Result<()> {
        // Sentinels ask for replicas when they begin, and then only every ten seconds.
        self.until("the replicas follow the primary", |store| store.replicas_in_step(2))?;
        let primary = format!("{} {}", self.hosts.address(self.nodes[0].member.side), self.nodes[0].port);
        for (number, side) in sides.into_iter().enumerate() {
            let (name, port) = (format!("sentinel-{number}"), ports()?);
            let folder = Member::own_folder(&self.hosts, &name)?;
            let file = folder.join("sentinel.conf");
            std::fs::write(
                &file,
                format!(
                    "port {port}\nbind 0.0.0.0\nprotected-mode no\ndir {}\n\
                     sentinel announce-ip {}\nsentinel announce-port {port}\n\
                     sentinel monitor {MASTER} {primary} 2\n\
                     sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MILLIS}\n\
                     sentinel failover-timeout {MASTER} 3000\nsentinel parallel-syncs {MASTER} 2\n",
                    folder.display(),
                    self.hosts.address(side),
                ),
            )?;
            let mut member = Member::new(&self.hosts, name, side, "redis-server")
                .args([file.display().to_string(), "--sentinel".to_owned()]);
            member.start()?;
            self.sentinels.push(Node { member, port });
        }
        self.until("the Sentinels know each other and the replicas", |store| {
            let knows = |node: &Node| {
                let told: Vec<String> =
                    store.ask(node, cmd("SENTINEL").arg("MASTER").arg(MASTER)).unwrap_or_default();
                let field = |name: &str| {
                    told.chunks(2).find(|pair| pair[0] == name).and_then(|pair| pair.get(1)).cloned()
                };
                field("num-other-sentinels").as_deref() == Some("2")
                    && field("num-slaves").as_deref() == Some("2")
                    && field("flags").as_deref() == Some("master")
            };
            store.sentinels.iter().all(knows) && store.replicas_in_step(2)
        })
    }

    fn join(&mut self) -> io::Result<()> {
        let address = |node: &Node| (self.hosts.address(node.member.side).to_string(), node.port);
        for node in &self.nodes[1..] {
            let (host, port) = address(node);
            // In one network namespace each server has a bus port of its own.
            let bus: u16 = self.bus_port(node)?;
            self.ask::<()>(&self.nodes[0], cmd("CLUSTER").arg("MEET").arg(host).arg(port).arg(bus))?;
        }
        for (number, range) in [(0, (0, 5460)), (1, (5461, 10_922)), (2, (10_923, 16_383))] {
            let order = cmd("CLUSTER").arg("ADDSLOTSRANGE").arg(range.0).arg(range.1).clone();
            self.ask::<()>(&self.nodes[number], &order)?;
        }
        self.until("the servers of the cluster know each other", |store| {
            store.nodes.iter().all(|node| {
                let known: String = store.ask(node, cmd("CLUSTER").arg("NODES")).unwrap_or_default();
                known.lines().count() == 6 && !known.contains("handshake") && !known.contains(":0@")
            })
        })?;
        for number in 0..3 {
            let primary: String = self.ask(&self.nodes[number], cmd("CLUSTER").arg("MYID"))?;
            self.ask::<()>(&self.nodes[number + 3], cmd("CLUSTER").arg("REPLICATE").arg(primary))?;
        }
        self.until("the cluster is whole", |store| {
            let whole = |node: &Node| {
                let info: String = store.ask(node, cmd("CLUSTER").arg("INFO")).unwrap_or_default();
                info.contains("cluster_state:ok") && info.contains("cluster_size:3")
            };
            store.nodes.iter().all(whole) && store.replicas_in_step(3)
        })
    }

    fn bus_port(&self, node: &Node) -> io::Result<u16> {
        let found: Vec<String> = self.ask(node, cmd("CONFIG").arg("GET").arg("cluster-port"))?;
        found.get(1).and_then(|port| port.parse().ok()).ok_or_else(|| io::Error::other("no cluster-port"))
    }

    /// Whether as many replicas follow their primaries without lag.
    pub fn replicas_in_step(&self, wanted: usize) -> bool {
        let in_step = |node: &Node| {
            let info: String = self.ask(node, cmd("INFO").arg("replication")).unwrap_or_default();
            info.contains("role:slave") && info.contains("master_link_status:up")
        };
        self.nodes.iter().filter(|node| in_step(node)).count() >= wanted
    }

    fn until(&self, what: &str, asked: impl Fn(&Self) -> bool) -> io::Result<()> {
        let until = Instant::now() + FORMATION;
        while !asked(self) {
            if Instant::now() > until {
                return Err(io::Error::other(format!("not within {FORMATION:?}: {what}")));
            }
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    /// Waits until a server answers.
    ///
    /// # Errors
    /// If it does not in time.
    pub fn wait_for(&self, node: usize) -> io::Result<()> {
        let name = self.nodes[node].member.name.clone();
        self.until(&format!("{name} answers"), |store| {
            store.ask::<String>(&store.nodes[node], &cmd("PING")).is_ok()
        })
    }

    /// The URL by which brokers find it.
    pub fn url(&self) -> String {
        let all = |nodes: &[Node]| {
            let address = |node: &Node| format!("{}:{}", self.hosts.address(node.member.side), node.port);
            nodes.iter().map(address).collect::<Vec<_>>().join(",")
        };
        match self.topology {
            Topology::Sentinel => format!("redis-sentinel://{}#{MASTER}", all(&self.sentinels)),
            Topology::Cluster => format!("redis-cluster://{}", all(&self.nodes)),
            _ => format!("redis://{}", all(&self.nodes)),
        }
    }

    /// The numbers of the servers that take writes now, as far as they can be asked.
    pub fn primaries(&self) -> Vec<usize> {
        let role = |node: &Node| {
            let info: String = self.ask(node, cmd("INFO").arg("replication")).unwrap_or_default();
            info.contains("role:master")
        };
        let found: Vec<usize> = (0..self.nodes.len()).filter(|number| role(&self.nodes[*number])).collect();
        let told = self.told_by_sentinels();
        // A primary of old that nobody follows any more may still think that it is one.
        let told = told.and_then(|port| self.nodes.iter().position(|node| node.port == port));
        told.map_or(found, |primary| vec![primary])
    }

    fn told_by_sentinels(&self) -> Option<u16> {
        let ask = |node: &Node| {
            let order = cmd("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(MASTER).clone();
            let told: Vec<String> = self.ask(node, &order).ok()?;
            told.get(1)?.parse().ok()
        };
        self.sentinels.iter().find_map(ask)
    }

    /// The numbers of the servers that follow another.
    pub fn replicas(&self) -> Vec<usize> {
        let primaries = self.primaries();
        (0..self.nodes.len()).filter(|node| !primaries.contains(node)).collect()
    }

    /// Makes a replica primary on demand.
    ///
    /// # Errors
    /// If none obeys.
    pub fn fail_over(&self, target: usize) -> io::Result<()> {
        if self.topology == Topology::Sentinel {
            let order = cmd("SENTINEL").arg("FAILOVER").arg(MASTER).clone();
            return self.ask(&self.sentinels[target % self.sentinels.len()], &order);
        }
        let replicas = self.replicas();
        let replica = replicas.get(target % replicas.len().max(1));
        let replica = *replica.ok_or_else(|| io::Error::other("there is no replica to take over"))?;
        self.ask(&self.nodes[replica], cmd("CLUSTER").arg("FAILOVER"))
    }

    /// Gives one order to a server.
    ///
    /// # Errors
    /// If it does not answer in time, or refuses.
    pub fn ask<T: FromRedisValue>(&self, node: &Node, order: &Cmd) -> io::Result<T> {
        let host = self.hosts.door(node.member.side);
        let asked = (|| {
            let client = redis::Client::open(format!("redis://{host}:{}", node.port))?;
            let mut line = client.get_connection_with_timeout(PATIENCE)?;
            line.set_read_timeout(Some(PATIENCE))?;
            order.query(&mut line)
        })();
        asked.map_err(|error: redis::RedisError| io::Error::other(format!("{}: {error}", node.member.name)))
    }

    /// Moves the slot of a pool to another primary, with all its keys.
    ///
    /// # Errors
    /// If a server refuses.
    pub fn reshard(&self, pool: &str, target: usize) -> io::Result<()> {
        let primaries = self.primaries();
        let tag = format!("{{{pool}}}");
        let slot: u16 = self.ask(&self.nodes[0], cmd("CLUSTER").arg("KEYSLOT").arg(&tag))?;
        let ids = primaries.iter().map(|node| {
            let id: String = self.ask(&self.nodes[*node], cmd("CLUSTER").arg("MYID"))?;
            let keys: usize =
                self.ask(&self.nodes[*node], cmd("CLUSTER").arg("COUNTKEYSINSLOT").arg(slot))?;
            Ok((*node, id, keys > 0))
        });
        let ids = ids.collect::<io::Result<Vec<_>>>()?;
        let from = ids.iter().find(|(_, _, mine)| *mine);
        let from = from.ok_or_else(|| io::Error::other(format!("no primary has the slot of {pool}")))?;
        let others: Vec<_> = ids.iter().filter(|(_, _, mine)| !mine).collect();
        let to = others.get(target % others.len().max(1));
        let to = to.ok_or_else(|| io::Error::other("there is no other primary"))?;
        self.migrate(slot, from, to)?;
        for (node, ..) in [to, from].into_iter().chain(others.iter().copied()) {
            self.ask::<()>(
                &self.nodes[*node],
                cmd("CLUSTER").arg("SETSLOT").arg(slot).arg("NODE").arg(&to.1),
            )?;
        }
        Ok(())
    }

    fn migrate(&self, slot: u16, from: &(usize, String, bool), to: &(usize, String, bool)) -> io::Result<()> {
        let set = |node: usize, state: &str, other: &str| {
            self.ask::<()>(&self.nodes[node], cmd("CLUSTER").arg("SETSLOT").arg(slot).arg(state).arg(other))
        };
        set(to.0, "IMPORTING", &from.1)?;
        set(from.0, "MIGRATING", &to.1)?;
        let address = self.hosts.address(self.nodes[to.0].member.side).to_string();
        loop {
            let order = cmd("CLUSTER").arg("GETKEYSINSLOT").arg(slot).arg(10).clone();
            let keys: Vec<String> = self.ask(&self.nodes[from.0], &order)?;
            if keys.is_empty() {
                return Ok(());
            }
            let mut order = cmd("MIGRATE");
            order.arg(&address).arg(self.nodes[to.0].port).arg("").arg(0).arg(1_000).arg("KEYS").arg(keys);
            self.ask::<()>(&self.nodes[from.0], &order)?;
        }
    }

    /// All processes.
    pub fn members(&mut self) -> impl Iterator<Item = &mut Member> {
        self.nodes.iter_mut().chain(&mut self.sentinels).map(|node| &mut node.member)
    }
}
