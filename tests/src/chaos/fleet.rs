//! Everything of one run: hosts, Redis servers, brokers, workers and the fake Gemini.

use std::{
    io,
    net::TcpStream,
    path::PathBuf,
    sync::Arc,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use redis::cmd;
use tokio::{net::TcpListener, runtime::Handle};

use super::{
    control::Control,
    hosts::Hosts,
    member::Member,
    plan::Plan,
    quota::{self, Edition},
    record::Record,
    side::Side,
    store::{Node, Store},
    topology::Topology,
};
use crate::{
    fake_gemini::{FakeGemini, Fault as GeminiFault, FaultRule, Millis},
    harness::broker::binary,
};

/// How long a broker may take until it serves: it waits for Redis at the start.
const START_PATIENCE: Duration = Duration::from_secs(40);

/// A broker and where it listens.
#[derive(Debug)]
pub struct BrokerMember {
    /// Its process.
    pub member: Member,
    /// Its port for gRPC.
    pub port: u16,
    config: PathBuf,
}

/// All of it. Dropping it ends it: workers first, hosts last.
#[derive(Debug)]
pub struct Fleet {
    /// The workers.
    pub workers: Vec<Member>,
    /// The brokers.
    pub brokers: Vec<BrokerMember>,
    /// The Redis servers.
    pub store: Store,
    /// The judge.
    pub gemini: FakeGemini,
    /// What the workers said.
    pub record: Arc<Record>,
    /// Where it runs.
    pub hosts: Arc<Hosts>,
    listeners: Vec<JoinHandle<()>>,
}

impl Fleet {
    /// Starts all but the workers, and waits until every broker serves.
    ///
    /// # Errors
    /// If a part does not start; the text holds its last words.
    pub fn start(runtime: &Handle, hosts: Hosts, plan: &Plan, control: Option<Control>) -> io::Result<Self> {
        let mut hosts = hosts;
        // Ports are asked for first, as the hosts are shared from then on.
        let mut ports = (0..40).map(|_| hosts.port()).collect::<io::Result<Vec<_>>>()?.into_iter();
        let mut port = || ports.next().ok_or_else(|| io::Error::other("too few ports were asked for"));
        let hosts = Arc::new(hosts);
        let gemini = runtime.block_on(async {
            let listener = TcpListener::bind("0.0.0.0:0").await?;
            FakeGemini::start_on(listener, quota::gemini(plan.workers, plan.seed))
        })?;
        // Leases are held for a while, so that there is always something to lose.
        let takes = Millis { min_ms: 10, max_ms: Some(120) };
        gemini.add_fault(FaultRule::always(GeminiFault::Latency(takes)));
        if control == Some(Control::FastFrozenReplica) {
            hosts.shrink_buffers()?;
        }
        let store = Store::start(&hosts, plan, &mut port)?;
        let mut fleet = Self {
            workers: Vec::new(),
            brokers: Vec::new(),
            store,
            gemini,
            record: Arc::default(),
            hosts,
            listeners: Vec::new(),
        };
        for number in 0..plan.brokers {
            let broker = fleet.new_broker(plan, control, number, [port()?, port()?])?;
            fleet.brokers.push(broker);
            fleet.wait_for_broker(number)?;
        }
        Ok(fleet)
    }

    fn new_broker(
        &self,
        plan: &Plan,
        control: Option<Control>,
        number: usize,
        [grpc, http]: [u16; 2],
    ) -> io::Result<BrokerMember> {
        let name = format!("broker-{number}");
        let side = if number == 0 { plan.primary } else { Side::BOTH[number % 2] };
        // With two brokers, one is on each host.
        let side = if number == 1 { plan.primary.across() } else { side };
        let config = self.hosts.folder().join(format!("{name}.toml"));
        std::fs::write(&config, quota::broker_file(Edition::First, plan.workers))?;
        let (program, first) = match control.and_then(Control::variant) {
            Some(variant) => ("known-bad-broker", vec![variant]),
            None => ("keybroker", vec!["serve"]),
        };
        let mut member = Member::new(&self.hosts, name.clone(), side, binary(program))
            .args(first)
            .args(["--config", &config.display().to_string(), "--drain-grace", "2"])
            .args(["--insecure", "--grpc-addr", &format!("0.0.0.0:{grpc}")])
            .args(["--http-addr", &format!("0.0.0.0:{http}")]);
        member = if plan.topology == Topology::Embedded {
            let folder = Member::own_folder(&self.hosts, &format!("{name}-ledger"))?;
            member.args(["--data-dir", &folder.display().to_string()])
        } else {
            member.args(["--redis-url", &self.store.url()])
        };
        member = member.args(control.map(Control::broker_arguments).unwrap_or_default());
        if plan.has(super::fault::Fault::turns_broker_clock) {
            member.with_clock()?;
        }
        member.start()?;
        Ok(BrokerMember { member, port: grpc, config })
    }

    /// Starts the workers.
    ///
    /// # Errors
    /// If one cannot be started.
    pub fn begin(&mut self, plan: &Plan) -> io::Result<()> {
        for number in 0..plan.workers {
            let side = Side::BOTH[number % 2];
            let gemini = format!("http://{}:{}", self.hosts.outside(side), self.gemini.addr.port());
            let brokers = self.brokers.iter().flat_map(|broker| {
                let address = self.hosts.address(broker.member.side);
                ["--broker".to_owned(), format!("http://{address}:{}", broker.port)]
            });
            let member = Member::new(&self.hosts, format!("worker-{number}"), side, binary("chaos-worker"))
                .args(brokers.collect::<Vec<_>>())
                .args(["--gemini", &gemini, "--model", &quota::model_of(number)])
                .talking();
            self.workers.push(member);
            self.start_worker(number)?;
        }
        Ok(())
    }

    /// Starts a worker, for the first time or again.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_worker(&mut self, number: usize) -> io::Result<()> {
        if let Some(output) = self.workers[number].start()? {
            self.listeners.push(self.record.listen(output));
        }
        Ok(())
    }

    /// Starts a broker again and waits until it serves.
    ///
    /// # Errors
    /// If it does not.
    pub fn start_broker(&mut self, number: usize) -> io::Result<()> {
        self.brokers[number].member.start()?;
        self.wait_for_broker(number)
    }

    /// Gives a broker another configuration file.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn configure(&self, broker: usize, edition: Edition) -> io::Result<()> {
        let fresh = self.brokers[broker].config.with_extension("fresh");
        std::fs::write(&fresh, quota::broker_file(edition, self.workers.len()))?;
        std::fs::rename(fresh, &self.brokers[broker].config)
    }

    fn wait_for_broker(&mut self, number: usize) -> io::Result<()> {
        let until = Instant::now() + START_PATIENCE;
        let broker = &mut self.brokers[number];
        let address = (self.hosts.door(broker.member.side), broker.port).into();
        while TcpStream::connect_timeout(&address, Duration::from_millis(500)).is_err() {
            if !broker.member.is_running() || Instant::now() > until {
                let words = broker.member.last_words(8);
                return Err(io::Error::other(format!("{} does not serve:\n{words}", broker.member.name)));
            }
            thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Saves a snapshot where the plan's Redis has nothing but snapshots.
    pub fn save_snapshot(&self) {
        if self.store.topology == Topology::StandaloneRdb {
            // A server that saves already does not begin again.
            let _ = self.store.ask::<String>(&self.store.nodes[0], &cmd("BGSAVE"));
        }
    }

    /// The URL by which this program reaches a broker.
    pub fn broker_url(&self, number: usize) -> String {
        let broker = &self.brokers[number];
        format!("http://{}:{}", self.hosts.door(broker.member.side), broker.port)
    }

    /// Lets the workers report what they hold, and ends them.
    pub fn end_workers(&mut self) {
        let ends: Vec<_> = self.workers.iter_mut().map(|worker| move || worker.stop()).collect();
        thread::scope(|scope| ends.into_iter().for_each(|end| drop(scope.spawn(end))));
        self.listeners.drain(..).for_each(|listener| drop(listener.join()));
    }

    /// Those that should run and do not, with their last words.
    pub fn fallen(&mut self) -> Vec<String> {
        let brokers = self.brokers.iter_mut().map(|broker| &mut broker.member);
        let members = self.workers.iter_mut().chain(brokers).chain(self.store.members());
        let fallen = members.filter(|member| member.wanted).filter_map(|member| {
            (!member.is_running()).then(|| format!("{} has ended:\n{}", member.name, member.last_words(6)))
        });
        fallen.collect()
    }

    /// What brokers wrote of panics.
    pub fn panics(&self) -> Vec<String> {
        let logs = self.brokers.iter().map(|broker| &broker.member).chain(&self.workers);
        let texts = logs.filter_map(|member| {
            let log = std::fs::read_to_string(member.log_file()).unwrap_or_default();
            let line = log.lines().find(|line| line.contains("panicked"))?;
            Some(format!("{}: {line}", member.name))
        });
        texts.collect()
    }

    /// A server that keeps data.
    pub fn node(&mut self, number: usize) -> &mut Node {
        &mut self.store.nodes[number]
    }
}
