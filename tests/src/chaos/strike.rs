//! A fault comes over a fleet, and is healed.

use std::{
    io::{self, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use redis::cmd;

use super::{
    clock::Clock,
    fault::Fault,
    fleet::Fleet,
    interrupt,
    member::Member,
    plan::{Plan, Strike},
    quota::{Edition, POOLS},
    topology::Topology,
    worker::now,
};

/// How many connections a storm opens at a time.
const STORM: usize = 300;
/// How often a clock that runs wrong is moved.
const SLEW_STEP: Duration = Duration::from_millis(100);
/// How long replicas are frozen under load before the primary is killed.
const FROZEN: Duration = Duration::from_millis(1_500);
/// Memory that is less than any Redis has in use.
const NO_MEMORY: &str = "1";

/// What came of a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Struck {
    /// When it began.
    pub from: i64,
    /// When it was healed, or left to heal by itself: from then on recovery is measured.
    pub healed: i64,
    /// From this instant on the limits of the second edition hold.
    pub deployed: Option<i64>,
}

impl Fleet {
    /// Lets a fault happen and heals it.
    ///
    /// # Errors
    /// If the fault cannot be brought about, or what was killed cannot be started again.
    pub fn suffer(&mut self, strike: &Strike) -> io::Result<Struck> {
        let from = now();
        let (target, lasts) = (strike.target, strike.lasts);
        let broker = target % self.brokers.len();
        let worker = target % self.workers.len();
        let mut deployed = None;
        match strike.fault {
            Fault::KillBroker => {
                self.brokers[broker].member.kill();
                interrupt::sleep(lasts)?;
                self.start_broker(broker)?;
            }
            Fault::FreezeBroker => froze(&self.brokers[broker].member, lasts)?,
            Fault::KillWorker => {
                self.workers[worker].kill();
                interrupt::sleep(lasts)?;
                self.start_worker(worker)?;
            }
            Fault::FreezeWorker => froze(&self.workers[worker], lasts)?,
            Fault::KillPrimary => self.kill_node(one_of(self.store.primaries(), target)?, lasts)?,
            Fault::KillReplica => self.kill_node(one_of(self.store.replicas(), target)?, lasts)?,
            Fault::RestartPrimary => {
                let node = one_of(self.store.primaries(), target)?;
                self.node(node).member.stop();
                interrupt::sleep(lasts)?;
                self.start_node(node)?;
            }
            Fault::FreezePrimary => {
                let node = one_of(self.store.primaries(), target)?;
                froze(&self.node(node).member, lasts)?;
            }
            Fault::FreezeReplica => {
                let node = one_of(self.store.replicas(), target)?;
                froze(&self.node(node).member, lasts)?;
            }
            Fault::KillSentinel => {
                let sentinel = target % self.store.sentinels.len();
                let member = &mut self.store.sentinels[sentinel].member;
                member.kill();
                interrupt::sleep(lasts)?;
                member.start()?;
            }
            Fault::FreezeSentinel => {
                let sentinel = target % self.store.sentinels.len();
                froze(&self.store.sentinels[sentinel].member, lasts)?;
            }
            Fault::Failover => self.store.fail_over(target)?,
            Fault::Partition | Fault::Delay => self.trouble_cable(strike)?,
            Fault::FullMemory => {
                let set = |fleet: &Self, memory: &str| {
                    fleet.on_each_primary(cmd("CONFIG").arg("SET").arg("maxmemory").arg(memory))
                };
                set(self, NO_MEMORY)?;
                interrupt::sleep(lasts)?;
                set(self, "0")?;
            }
            Fault::ScriptFlush => self.on_each_primary(cmd("SCRIPT").arg("FLUSH"))?,
            Fault::BrokerClockStep | Fault::BrokerClockSlew => {
                let clocks: Vec<Clock> = self.brokers[broker].member.clock.iter().cloned().collect();
                turn(&clocks, strike)?;
            }
            Fault::RedisClockStep | Fault::RedisClockSlew => {
                let clocks: Vec<Clock> =
                    self.store.members().filter_map(|member| member.clock.clone()).collect();
                turn(&clocks, strike)?;
            }
            Fault::RollingDeploy => {
                for broker in 0..self.brokers.len() {
                    self.configure(broker, Edition::Second)?;
                    self.brokers[broker].member.stop();
                    self.start_broker(broker)?;
                }
                deployed = Some(now());
            }
            Fault::ConnectionStorm => self.storm(lasts)?,
            Fault::Reshard => self.store.reshard(POOLS[target % POOLS.len()], target)?,
        }
        Ok(Struck { from, healed: now(), deployed })
    }

    /// The fault of the control `fast-frozen-replica`: the workers begin while no replica listens, so that what the
    /// primary grants them is lost with it.
    ///
    /// # Errors
    /// As [`Fleet::suffer`].
    pub fn begin_with_frozen_replicas(&mut self, plan: &Plan) -> io::Result<Struck> {
        let replicas = self.store.replicas();
        let primary = one_of(self.store.primaries(), 0)?;
        replicas.iter().for_each(|node| self.store.nodes[*node].member.freeze());
        let from = now();
        self.begin(plan)?;
        interrupt::sleep(FROZEN)?;
        self.node(primary).member.kill();
        replicas.iter().for_each(|node| self.store.nodes[*node].member.thaw());
        // Sentinel promotes one of them.
        interrupt::sleep(Duration::from_secs(5))?;
        self.start_node(primary)?;
        Ok(Struck { from, healed: now(), deployed: None })
    }

    fn kill_node(&mut self, node: usize, lasts: Duration) -> io::Result<()> {
        self.node(node).member.kill();
        interrupt::sleep(lasts)?;
        self.start_node(node)
    }

    fn start_node(&mut self, node: usize) -> io::Result<()> {
        if self.store.topology == Topology::StandaloneEmpty {
            // It keeps nothing; a snapshot that it wrote when it was stopped is none either.
            let _ = std::fs::remove_file(self.hosts.folder().join(format!("redis-{node}/dump.rdb")));
        }
        self.node(node).member.start()?;
        self.store.wait_for(node)
    }

    fn on_each_primary(&self, order: &redis::Cmd) -> io::Result<()> {
        let primaries = self.store.primaries();
        primaries.into_iter().try_for_each(|node| self.store.ask(&self.store.nodes[node], order))
    }

    fn trouble_cable(&self, strike: &Strike) -> io::Result<()> {
        let cable = self.hosts.cable().ok_or_else(|| io::Error::other("there is no cable to trouble"))?;
        match strike.fault {
            Fault::Partition => cable.cut(),
            _ => cable.delay(Duration::from_millis(strike.amount.unsigned_abs())),
        }
        let slept = interrupt::sleep(strike.lasts);
        cable.mend();
        slept
    }

    /// Opens and drops connections to every broker and every Redis; every other one says nonsense first.
    fn storm(&self, lasts: Duration) -> io::Result<()> {
        let brokers = self
            .brokers
            .iter()
            .map(|broker| SocketAddr::from((self.hosts.door(broker.member.side), broker.port)));
        let nodes = self.store.nodes.iter();
        let nodes = nodes.map(|node| SocketAddr::from((self.hosts.door(node.member.side), node.port)));
        let addresses: Vec<SocketAddr> = brokers.chain(nodes).collect();
        let until = Instant::now() + lasts;
        while Instant::now() < until {
            let mut open = Vec::with_capacity(STORM);
            for (number, address) in addresses.iter().cycle().take(STORM).enumerate() {
                // A connection that is refused in a storm is as good as one that is dropped.
                if let Ok(mut line) = TcpStream::connect_timeout(address, Duration::from_millis(200)) {
                    if number % 2 == 0 {
                        let _ = line.write_all(b"PRI * nonsense\r\n");
                    }
                    open.push(line);
                }
            }
            drop(open);
            interrupt::sleep(Duration::from_millis(50))?;
        }
        Ok(())
    }
}

fn one_of(those: Vec<usize>, target: usize) -> io::Result<usize> {
    let found = those.get(target % those.len().max(1)).copied();
    found.ok_or_else(|| io::Error::other("there is none of the servers that should be struck"))
}

fn froze(member: &Member, lasts: Duration) -> io::Result<()> {
    member.freeze();
    let slept = interrupt::sleep(lasts);
    member.thaw();
    slept
}

/// Turns clocks. A step may be taken back, as when somebody sets a clock wrongly and then right; otherwise clocks stay
/// where they are then.
fn turn(clocks: &[Clock], strike: &Strike) -> io::Result<()> {
    let before: Vec<i64> = clocks.iter().map(Clock::ahead_millis).collect();
    let by =
        |millis: i64| clocks.iter().zip(&before).try_for_each(|(clock, ahead)| clock.set(ahead + millis));
    if matches!(strike.fault, Fault::BrokerClockStep | Fault::RedisClockStep) {
        by(strike.amount)?;
        interrupt::sleep(strike.lasts)?;
        return if strike.is_taken_back() { by(0) } else { Ok(()) };
    }
    let began = Instant::now();
    while began.elapsed() < strike.lasts {
        let passed = i64::try_from(began.elapsed().as_millis()).unwrap_or(i64::MAX);
        by(passed * strike.amount / 1_000)?;
        thread::sleep(SLEW_STEP);
    }
    Ok(())
}
