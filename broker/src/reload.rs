//! A changed configuration takes effect without a restart: on SIGHUP, and when a file that it was
//! read from changes. A bad new one is named in the log, and the old one stays.

use std::{
    collections::BTreeSet,
    future::pending,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::{JoinHandle, spawn_blocking},
    time::{Instant, MissedTickBehavior},
};

use crate::{
    access::Access,
    broker::Broker,
    config::{self, ConfigError, FailedSource, Loaded, Sources},
    events::{Event, EventKind, Redactor, Subject},
    fleet::Fleet,
    lease_log::LeaseLog,
    ledger::calendar::wall_clock,
    log::Levels,
    secret_sources::LastValues,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How files stood: when they were last written, and how long they were.
pub type Stamps = Vec<Option<(SystemTime, u64)>>;

/// What is read again, and how it stood when it was read last.
pub(crate) struct Watched {
    /// The levels of the log.
    pub(crate) levels: Levels,
    /// The lease log, which is opened anew on SIGHUP.
    pub(crate) lease_log: Option<Arc<LeaseLog>>,
    /// The configuration file, if the command line named it.
    pub(crate) config: Option<PathBuf>,
    /// All files that were read.
    pub(crate) files: Vec<PathBuf>,
    /// How they stood right after that: what changed since then, while the broker started, is news.
    pub(crate) seen: Stamps,
    /// How often to read again in any case, because of secrets that lie where no change is seen.
    pub(crate) refresh_every: Option<Duration>,
    /// What secrets were when they could last be had.
    pub(crate) last: Arc<LastValues>,
}

/// Watches until it is dropped.
pub(crate) async fn watch(fleet: Arc<Fleet>, access: Access, watched: Watched) {
    let Watched { levels, lease_log, config, files, seen, refresh_every, last } = watched;
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!(
            "SIGHUP cannot be listened for; the configuration is reloaded on changes of its files alone"
        );
        return;
    };
    let places = Places { fleet, access, levels };
    let mut reading = Reading { config, last, under_way: None };
    let mut standing = Standing { files, seen, refresh_every, failing: BTreeSet::new(), waiting: None };
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut read_at = Instant::now();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick() => false,
            (loaded, of) = reading.done() => {
                read_at = Instant::now();
                // What was read from files that have changed since is not news any more.
                if of.seen == standing.seen {
                    standing.take(&places, loaded, of.worth_a_line).await;
                }
                continue;
            }
        };
        if let Some(lease_log) = lease_log.as_ref().filter(|_| asked) {
            lease_log.reopen();
        }
        let now = stamps(&standing.files);
        let changed = now != standing.seen;
        let due = standing.refresh_every.is_some_and(|every| read_at.elapsed() >= every);
        if !asked && !changed && (!due || reading.under_way.is_some()) {
            standing.try_again(&places).await;
            continue;
        }
        standing.seen = now;
        let mut worth_a_line = asked || changed;
        if worth_a_line {
            // Who may call, certificates and limits wait for no source of secrets. If this reads nothing, the whole
            // reading that follows says why.
            if let Some(loaded) = reading.at_once().await {
                let whole = loaded.fetched;
                standing.take(&places, Ok(loaded), true).await;
                if whole {
                    reading.under_way = None;
                    read_at = Instant::now();
                    continue;
                }
                worth_a_line = false;
            }
        }
        reading.begin(standing.seen.clone(), worth_a_line);
    }
}

/// Where what was read is put.
struct Places {
    fleet: Arc<Fleet>,
    access: Access,
    levels: Levels,
}

/// Reads the configuration.
struct Reading {
    config: Option<PathBuf>,
    last: Arc<LastValues>,
    under_way: Option<(JoinHandle<Result<Loaded, ConfigError>>, ReadOf)>,
}

/// What a reading was begun for.
#[derive(Clone)]
struct ReadOf {
    seen: Stamps,
    worth_a_line: bool,
}

impl Reading {
    fn load(&self, fetches: bool) -> JoinHandle<Result<Loaded, ConfigError>> {
        let (config, last) = (self.config.clone(), self.last.clone());
        spawn_blocking(move || {
            config::load(&Sources { fetches, ..Sources::of_process(config).keeping(&last) })
        })
    }

    /// With secrets that lie elsewhere as they were last; nothing if that cannot be.
    async fn at_once(&self) -> Option<Loaded> {
        self.load(false).await.ok()?.ok()
    }

    /// The same with all that has to be fetched, which takes its time. One that is under way is let go.
    fn begin(&mut self, seen: Stamps, worth_a_line: bool) {
        self.under_way = Some((self.load(true), ReadOf { seen, worth_a_line }));
    }

    /// Resolves when the reading that is under way has ended.
    async fn done(&mut self) -> (Result<Loaded, ConfigError>, ReadOf) {
        loop {
            let Some((handle, of)) = &mut self.under_way else { return pending().await };
            let loaded = handle.await;
            let of = of.clone();
            self.under_way = None;
            if let Ok(loaded) = loaded {
                return (loaded, of);
            }
        }
    }
}

/// How what is in place was read.
struct Standing {
    files: Vec<PathBuf>,
    seen: Stamps,
    refresh_every: Option<Duration>,
    /// Sources of secrets that were told of as failing.
    failing: BTreeSet<String>,
    /// What was read and could not be put in place, since the ledger did not answer.
    waiting: Option<Loaded>,
}

impl Standing {
    /// Puts what was read in place.
    async fn take(&mut self, places: &Places, loaded: Result<Loaded, ConfigError>, worth_a_line: bool) {
        self.waiting = None;
        let loaded = match loaded {
            Ok(loaded) => loaded,
            Err(error) => {
                tracing::error!("the new configuration is not used, the old one stays:\n{error}");
                return;
            }
        };
        self.refresh_every = loaded.refresh_every;
        if loaded.fetched {
            tell_of_sources(places.fleet.broker(), &loaded.failed_sources, &mut self.failing);
        }
        self.put(places, loaded, worth_a_line).await;
    }

    /// Tries once more what could not be put in place.
    async fn try_again(&mut self, places: &Places) {
        if let Some(loaded) = self.waiting.take() {
            self.put(places, loaded, false).await;
        }
    }

    async fn put(&mut self, places: &Places, loaded: Loaded, worth_a_line: bool) {
        match put_in_place(places, &loaded, worth_a_line).await {
            Put::Done => {
                // The same files keep the stamps from before they were read.
                if loaded.files != self.files {
                    self.files = loaded.files;
                    self.seen = stamps(&self.files);
                }
            }
            Put::Refused => {}
            Put::Later => self.waiting = Some(loaded),
        }
    }
}

/// Tells of sources of secrets that fail, and of those that do so no more; once each.
fn tell_of_sources(broker: &Broker, failed: &[FailedSource], failing: &mut BTreeSet<String>) {
    let keys = broker.catalogue();
    let redactor = Redactor::new(keys.keys().map(|(_, key)| key.secret.clone()));
    let tell = |kind, place: &str, why: &str| {
        let subject = Subject { name: redactor.text(place), ..Subject::default() };
        broker.events().emit(Event { reason: redactor.text(why), ..Event::new(kind, wall_clock(), subject) });
    };
    for FailedSource { place, why } in failed {
        if failing.insert(place.clone()) {
            tell(EventKind::SecretSourceFailed, place, why);
        }
    }
    failing.retain(|place| {
        let fails = failed.iter().any(|failed| failed.place == *place);
        if !fails {
            tell(EventKind::SecretSourceRecovered, place, "");
        }
        fails
    });
}

enum Put {
    Done,
    Refused,
    /// The ledger does not answer.
    Later,
}

/// Puts what was read in place. What nobody asked for and changes nothing is not worth a line.
async fn put_in_place(places: &Places, loaded: &Loaded, worth_a_line: bool) -> Put {
    let Places { fleet, access, levels } = places;
    let stands = fleet.stands(&loaded.catalogue);
    if worth_a_line {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
    }
    if let Err(why) = access.may_become(&loaded.access) {
        tracing::error!("the new configuration is not used, the old one stays: {why}");
        return Put::Refused;
    }
    if stands {
        access.replace(loaded.access.clone());
        levels.apply(&loaded.log);
        if worth_a_line {
            tracing::info!(
                "the configuration was read again; certificates, tokens and identities are in place"
            );
        }
        return Put::Done;
    }
    if let Err(error) = fleet.configure(loaded.catalogue.clone()).await {
        if worth_a_line {
            tracing::error!(%error, "the new configuration is not used yet, the old one stays; it is tried again");
        }
        return Put::Later;
    }
    access.replace(loaded.access.clone());
    levels.apply(&loaded.log);
    tracing::info!("a new configuration is in place");
    config::summary(loaded).iter().for_each(|line| tracing::info!("{line}"));
    Put::Done
}

/// How files stand.
pub fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.iter().map(stamp).collect()
}
