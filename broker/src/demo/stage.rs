//! What the demo runs on: the stand-in for Gemini, the brokers, and what they keep.

use std::{fmt::Write, net::SocketAddr, sync::Arc, time::Duration};

use keybroker_fake_gemini::{
    FakeGemini, FakeGeminiConfig, Fault as Mishap, FaultRule, Limits, Millis, config::ANY,
};
use tempfile::TempDir;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

use super::{DemoArgs, Fault, redis::PrivateRedis};
use crate::{
    access::Access,
    broker::Broker,
    config::{self, Sources},
    fleet::Fleet,
    ledger::{
        Ledger,
        embedded::{EmbeddedLedger, Reach},
        redis::{Durability, RedisLedger},
    },
    metrics::Export,
    redis_servers::{Servers, Target, TlsFiles},
    registry::{
        Registry,
        embedded::EmbeddedRegistry,
        redis::RedisRegistry,
        seal::{self, MasterKeys},
    },
    server::{self, Limits as ServerLimits, Listeners, Outlets},
};

/// How long an answer takes, so that there is something in flight.
const LATENCY: Millis = Millis { min_ms: 200, max_ms: Some(900) };
/// How long brokers drain.
const GRACE: Duration = Duration::from_secs(1);
/// How long a call to Redis may take.
const REDIS_DEADLINE: Duration = Duration::from_secs(2);

/// Where brokers count, and what they share beside it.
type Stores = (Arc<dyn Ledger>, Arc<dyn Registry>);

/// All that runs beside the workers.
pub(super) struct Stage {
    pub(super) gemini: FakeGemini,
    pub(super) brokers: Vec<RunningBroker>,
    pub(super) projects: u64,
    stop: watch::Sender<bool>,
    redis: Option<PrivateRedis>,
    // Last, since the others work in it.
    folder: TempDir,
}

/// A broker of this process.
pub(super) struct RunningBroker {
    broker: Arc<Broker>,
    pub(super) grpc: SocketAddr,
    pub(super) http: SocketAddr,
    running: JoinHandle<()>,
}

/// A project, the id of its key and its text; nobody could take the text for a real one.
pub(super) fn project(number: u64) -> [String; 3] {
    [format!("project-{number}"), format!("key-{number}"), format!("fake-demo-key-{number:04}")]
}

impl Stage {
    /// Starts all of it.
    pub(super) async fn set(args: &DemoArgs) -> Result<Self, Fault> {
        let folder = TempDir::with_prefix("keybroker-demo")?;
        let gemini = FakeGemini::start(gemini_config(args)).await?;
        gemini.add_fault(FaultRule::always(Mishap::Latency(LATENCY)));
        let redis = if args.redis { Some(PrivateRedis::start(folder.path()).await?) } else { None };
        let (stop, _) = watch::channel(false);
        let mut stage = Self { gemini, brokers: Vec::new(), projects: args.projects, stop, redis, folder };
        let file = stage.folder.path().join("keybroker.toml");
        std::fs::write(&file, broker_config(args, &stage.gemini.base_url))?;
        let export = Arc::new(Export::begin()?);
        let master_key = seal::generate_master_key();
        for number in 0..args.broker_count() {
            // What the environment of the user says is for brokers of the user's.
            let env = |name: &str| match name {
                seal::MASTER_KEY => Some(master_key.to_string()),
                _ => None,
            };
            let loaded = config::load(&Sources::new(Some(file.clone()), &env))?;
            let addresses = (number == 0).then_some([args.grpc_addr, args.http_addr]);
            let keys = MasterKeys::read(&env)?;
            let broker = stage.start(loaded, keys, addresses, export.clone()).await?;
            stage.brokers.push(broker);
        }
        Ok(stage)
    }

    async fn start(
        &self,
        loaded: config::Loaded,
        keys: Option<MasterKeys>,
        addresses: Option<[SocketAddr; 2]>,
        export: Arc<Export>,
    ) -> Result<RunningBroker, Fault> {
        let [grpc, http] = addresses.map_or([None, None], |[grpc, http]| [Some(grpc), Some(http)]);
        let listeners = Listeners { grpc: bind(grpc).await?, http: bind(http).await? };
        let (grpc, http) = (listeners.grpc.local_addr()?, listeners.http.local_addr()?);
        let (ledger, registry) = self.stores()?;
        let fleet = Arc::new(Fleet::open(ledger.clone(), registry, keys, loaded.catalogue).await?);
        let mut stopped = self.stop.subscribe();
        let broker = fleet.broker().clone();
        let running = tokio::spawn(async move {
            let _probing = fleet.broker().probe();
            let following = tokio::spawn(fleet.clone().watch());
            let limits =
                ServerLimits { max_connections: 1000, max_connection_age: Duration::from_secs(1800) };
            let stop = async move {
                // The sender outlives the brokers.
                let _ = stopped.wait_for(|stopped| *stopped).await;
            };
            let access = Access::new(loaded.access);
            // A server that fails is seen by its workers.
            let _ = server::run(
                fleet,
                access,
                Outlets { export: Some(export), ..Outlets::default() },
                listeners,
                limits,
                stop,
                GRACE,
            )
            .await;
            following.abort();
            let _ = ledger.leave().await;
        });
        Ok(RunningBroker { grpc, http, broker, running })
    }

    /// From now on nothing more is leased, and those who wait are told so.
    pub(super) fn drain(&self) {
        self.brokers.iter().for_each(|running| running.broker.drain());
    }

    fn stores(&self) -> Result<Stores, Fault> {
        let Some(redis) = &self.redis else {
            let data = self.folder.path().join("data");
            let ledger = EmbeddedLedger::open(&data, Reach::System)?;
            return Ok((Arc::new(ledger), Arc::new(EmbeddedRegistry::open(&data)?)));
        };
        let servers = || {
            let target = Target::parse(&redis.url, &TlsFiles::default())?;
            Ok::<_, Fault>(Servers::new(target, REDIS_DEADLINE))
        };
        let ledger = RedisLedger::on(servers()?, Durability::Strict);
        Ok((Arc::new(ledger), Arc::new(RedisRegistry::on(servers()?))))
    }

    /// Ends all of it in good order.
    pub(super) async fn end(self) {
        self.stop.send_replace(true);
        for broker in self.brokers {
            // One that panicked has ended as well.
            let _ = broker.running.await;
        }
        self.gemini.shutdown().await;
    }
}

/// The address that is wanted, or one that is free.
async fn bind(wanted: Option<SocketAddr>) -> std::io::Result<TcpListener> {
    if let Some(wanted) = wanted
        && let Ok(listener) = TcpListener::bind(wanted).await
    {
        return Ok(listener);
    }
    TcpListener::bind("127.0.0.1:0").await
}

fn gemini_config(args: &DemoArgs) -> FakeGeminiConfig {
    let limits = Limits { rpm: Some(args.rpm), input_tpm: None, rpd: None };
    let config = FakeGeminiConfig::default().with_limits(ANY, ANY, limits);
    (1..=args.projects).fold(config, |config, number| {
        let [project, _, key] = project(number);
        config.with_key(&key, &project)
    })
}

/// The brokers' configuration: the same limits as the stand-in's, spread over each minute so that there is
/// always something to see. The limit in flight is never reached; it has the ledger count what is in flight.
fn broker_config(args: &DemoArgs, gemini: &str) -> String {
    let DemoArgs { rpm, .. } = args;
    let mut text = format!(
        "[probing]\nbase_url = \"{gemini}\"\nfirst = \"10s\"\n\n[[pools]]\nname = \"default\"\nsmooth_bursts = true\n\
         learn_limits = \"off\"\nlimits = [{{ model = \"*\", requests_per_minute = {rpm}, in_flight = 100000 }}]\n\n"
    );
    for number in 1..=args.projects {
        let [project, id, secret] = project(number);
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "[[projects]]\nid = \"{project}\"\ntier = \"free\"\nkeys = [{{ id = \"{id}\", secret = \"{secret}\" }}]\n\n"
        );
    }
    text
}
