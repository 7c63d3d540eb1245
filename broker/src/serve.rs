//! The command `serve`: configuration, ledger, listeners, signals.

use std::{
    io::Write,
    net::SocketAddr,
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{net::TcpListener, signal::unix::SignalKind};

use crate::{
    access::{Access, Rules},
    calls,
    cli::{DataSync, ServeArgs},
    config::{self, Loaded, Sources},
    fleet::Fleet,
    lease_log::LeaseLog,
    ledger::{
        Ledger, LedgerError,
        embedded::{EmbeddedLedger, Reach},
        redis::RedisLedger,
    },
    log::Levels,
    metrics::Export,
    redis_servers::{BadRedisUrl, Servers, Target, TlsFiles},
    registry::{Registry, RegistryError, embedded::EmbeddedRegistry, redis::RedisRegistry, seal::MasterKeys},
    reload::{self, Watched},
    secret_sources::LastValues,
    server::{self, Limits, Listeners, Outlets, descriptors},
};

/// How long a call to Redis may take.
const REDIS_DEADLINE: Duration = Duration::from_secs(2);
/// How long it may take to tell the ledger that this broker ends.
const LEAVE_WITHIN: Duration = Duration::from_millis(500);
/// How long Redis may take to come up at the start.
const REDIS_PATIENCE: Duration = Duration::from_secs(10);

/// Runs a broker.
pub fn serve(args: &ServeArgs) -> ExitCode {
    serve_altered(args, |ledger| ledger)
}

/// Runs a broker whose ledger on Redis is altered: so tests are tested with rules that are known to be bad.
pub fn serve_altered(args: &ServeArgs, alter: fn(RedisLedger) -> RedisLedger) -> ExitCode {
    let Err(failure) = try_serve(args, alter) else { return ExitCode::SUCCESS };
    // Standard error may be closed; there is nowhere else to say it.
    let _ = writeln!(std::io::stderr(), "keybroker: {}", failure.text);
    ExitCode::from(failure.code)
}

struct Failure {
    text: String,
    code: u8,
}

impl Failure {
    fn usage(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: 2 }
    }

    fn failed(text: impl ToString) -> Self {
        Self { text: text.to_string(), code: 1 }
    }
}

fn try_serve(args: &ServeArgs, alter: fn(RedisLedger) -> RedisLedger) -> Result<(), Failure> {
    let levels = Levels::start(&args.log, args.log_format).map_err(|why| {
        Failure::usage(format!("--log or KEYBROKER_LOG is not a level or directive: {why}"))
    })?;
    let last = Arc::new(LastValues::default());
    let sources = Sources::of_process(args.config.config.clone());
    let loaded = config::load(&sources.keeping(&last)).map_err(Failure::usage)?;
    levels.apply(&loaded.log);
    let master_keys = MasterKeys::read(Sources::of_process(None).env).map_err(Failure::usage)?;
    let seen = reload::stamps(&loaded.files);
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::failed)?;
    let outcome = runtime.block_on(run(args, alter, loaded, levels, master_keys, (seen, last)));
    // What is still waiting for Redis would hold the process up.
    runtime.shutdown_timeout(Duration::from_millis(100));
    outcome
}

async fn run(
    args: &ServeArgs,
    alter: fn(RedisLedger) -> RedisLedger,
    loaded: Loaded,
    levels: Levels,
    master_keys: Option<MasterKeys>,
    (seen, last): (reload::Stamps, Arc<LastValues>),
) -> Result<(), Failure> {
    let limits =
        Limits { max_connections: args.max_connections, max_connection_age: args.max_connection_age };
    descriptors::raise_limit(limits.max_connections);
    for (addr, setting) in [(args.grpc_addr, "--grpc-addr"), (args.http_addr, "--http-addr")] {
        refuse_to_be_open(addr, setting, &loaded.access, args.insecure)?;
    }
    let summary = config::summary(&loaded);
    let access = Access::new(loaded.access);
    let listeners = Listeners {
        grpc: bind(args.grpc_addr, "--grpc-addr or KEYBROKER_GRPC_ADDR").await?,
        http: bind(args.http_addr, "--http-addr or KEYBROKER_HTTP_ADDR").await?,
    };
    let export = Arc::new(Export::begin().map_err(Failure::usage)?);
    let traces = calls::Export::begin().map_err(Failure::usage)?;
    let lease_log = args.lease_log.clone().map(open_lease_log).transpose()?;
    let ledger = open_ledger(args, alter).await.map_err(Failure::failed)?;
    let registry = open_registry(args).map_err(Failure::failed)?;
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    for line in summary {
        tracing::info!("{line}");
    }
    let fleet = Fleet::open(ledger.clone(), registry, master_keys, loaded.catalogue).await;
    let fleet = Arc::new(fleet.map_err(Failure::failed)?);
    let _probing = fleet.broker().probe().map_err(Failure::failed)?;
    let grpc = listeners.grpc.local_addr().map_err(Failure::failed)?;
    let http = listeners.http.local_addr().map_err(Failure::failed)?;
    let reloading = tokio::spawn(reload::watch(
        fleet.clone(),
        access.clone(),
        Watched {
            levels,
            lease_log: lease_log.clone(),
            config: args.config.config.clone(),
            files: loaded.files,
            seen,
            refresh_every: loaded.refresh_every,
            last,
        },
    ));
    let following = tokio::spawn(fleet.clone().watch());
    tracing::info!(%grpc, %http, "serving");
    let outcome = server::run(
        fleet,
        access,
        Outlets { export: Some(export.clone()), lease_log },
        listeners,
        limits,
        stop_signal()?,
        args.drain_grace,
    )
    .await;
    reloading.abort();
    following.abort();
    outcome.map_err(Failure::failed)?;
    if let Ok(Err(error)) = tokio::time::timeout(LEAVE_WITHIN, ledger.leave()).await {
        tracing::warn!(%error, "the ledger was not told that this broker ends");
    }
    // The last is pushed by a thread of its own, over a connection that lives here.
    let finishing = tokio::task::spawn_blocking(move || {
        traces.finish();
        export.finish();
    });
    let _ = tokio::time::timeout(LEAVE_WITHIN, finishing).await;
    tracing::info!("stopped");
    Ok(())
}

/// What an address lacks to be open to other hosts; nothing if it may be, or is not.
pub(crate) fn missing_to_be_open(addr: SocketAddr, access: &Rules) -> Option<&'static str> {
    match (access.tls.is_some(), access.are_closed()) {
        _ if addr.ip().is_loopback() => None,
        (true, true) => None,
        (false, false) => {
            Some("without [tls] and [[identities]] in the configuration, whoever reaches it has the keys")
        }
        (false, true) => Some("without [tls] in the configuration, keys and tokens can be read on their way"),
        (true, false) => Some("without [[identities]] in the configuration, whoever reaches it has the keys"),
    }
}

/// Beyond this host nobody listens without encryption and without asking who calls, unless that was said.
fn refuse_to_be_open(addr: SocketAddr, setting: &str, access: &Rules, insecure: bool) -> Result<(), Failure> {
    let Some(missing) = missing_to_be_open(addr, access) else { return Ok(()) };
    if insecure {
        tracing::warn!("{setting} {addr} is open to other hosts: {missing}");
        return Ok(());
    }
    Err(Failure::usage(format!(
        "{setting} {addr} is open to other hosts: {missing}; add what is missing, listen on 127.0.0.1, or say --insecure"
    )))
}

fn open_lease_log(path: PathBuf) -> Result<Arc<LeaseLog>, Failure> {
    let shown = path.display().to_string();
    let opened = LeaseLog::open(path).map(Arc::new);
    opened.map_err(|error| {
        Failure::usage(format!(
            "--lease-log or KEYBROKER_LEASE_LOG {shown} cannot be written: {error}; name a file that can be"
        ))
    })
}

async fn bind(addr: std::net::SocketAddr, setting: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(addr).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {addr}: {error}; choose another with {setting}"))
    })
}

async fn open_ledger(
    args: &ServeArgs,
    alter: fn(RedisLedger) -> RedisLedger,
) -> Result<Arc<dyn Ledger>, LedgerError> {
    if let Some(url) = &args.redis_url {
        let servers = redis_servers(args, url).map_err(|error| LedgerError::Unusable(error.to_string()))?;
        let ledger = alter(RedisLedger::on(servers, args.durability));
        let started = Instant::now();
        loop {
            match ledger.check().await {
                Ok(()) => break,
                Err(LedgerError::Unavailable(why)) if started.elapsed() < REDIS_PATIENCE => {
                    tracing::warn!(why, "waiting for Redis");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                Err(LedgerError::Unavailable(why)) => {
                    let of_tls = if url.trim().starts_with("rediss") {
                        ", or --redis-ca, --redis-cert and --redis-key"
                    } else {
                        ""
                    };
                    return Err(LedgerError::Unusable(format!(
                        "Redis cannot be reached: {why}; start it, or correct --redis-url or KEYBROKER_REDIS_URL{of_tls}"
                    )));
                }
                Err(other) => return Err(other),
            }
        }
        tracing::info!(durability = ?args.durability, "the ledger is on Redis, shared with all brokers there");
        return Ok(Arc::new(ledger));
    }
    let folder = data_dir(args);
    let reach = match args.data_sync {
        DataSync::System => Reach::System,
        DataSync::Disk => Reach::Disk,
    };
    let ledger = EmbeddedLedger::open(&folder, reach)?;
    tracing::info!(folder = %folder.display(), "the ledger is embedded, for this broker alone");
    Ok(Arc::new(ledger))
}

/// The registry lies where the ledger does.
fn open_registry(args: &ServeArgs) -> Result<Arc<dyn Registry>, RegistryError> {
    Ok(match &args.redis_url {
        Some(url) => {
            let servers =
                redis_servers(args, url).map_err(|error| RegistryError::Unusable(error.to_string()))?;
            Arc::new(RedisRegistry::on(servers))
        }
        None => Arc::new(EmbeddedRegistry::open(&data_dir(args))?),
    })
}

pub(crate) fn redis_servers(args: &ServeArgs, url: &str) -> Result<Servers, BadRedisUrl> {
    let files =
        TlsFiles { ca: args.redis_ca.clone(), cert: args.redis_cert.clone(), key: args.redis_key.clone() };
    let target =
        Target::parse(url, &files).map_err(|error| error.of_option("--redis-url or KEYBROKER_REDIS_URL"))?;
    Ok(Servers::new(target, REDIS_DEADLINE))
}

pub(crate) fn data_dir(args: &ServeArgs) -> PathBuf {
    args.data_dir.clone().unwrap_or_else(default_data_dir)
}

fn default_data_dir() -> PathBuf {
    let state = std::env::var_os("XDG_STATE_HOME").map(PathBuf::from);
    let of_home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".local/state"));
    state.or_else(of_home).unwrap_or_else(|| PathBuf::from("/var/lib")).join("keybroker")
}

fn stop_signal() -> Result<impl Future<Output = ()>, Failure> {
    let mut terminate = tokio::signal::unix::signal(SignalKind::terminate()).map_err(Failure::failed)?;
    let mut interrupt = tokio::signal::unix::signal(SignalKind::interrupt()).map_err(Failure::failed)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM"),
            _ = interrupt.recv() => tracing::info!("SIGINT"),
        }
    })
}
