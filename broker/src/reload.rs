//! A changed configuration takes effect without a restart: on SIGHUP, and when a file that it was
//! read from changes. A bad new one is named in the log, and the old one stays.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{SignalKind, signal},
    task::spawn_blocking,
    time::Instant,
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
    let Watched { levels, lease_log, config, mut files, mut seen, mut refresh_every, last } = watched;
    let mut failing = BTreeSet::new();
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!(
            "SIGHUP cannot be listened for; the configuration is reloaded on changes of its files alone"
        );
        return;
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    let mut read_at = Instant::now();
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick() => false,
        };
        if let Some(lease_log) = lease_log.as_ref().filter(|_| asked) {
            lease_log.reopen();
        }
        let now = stamps(&files);
        let changed = now != seen;
        if !asked && !changed && refresh_every.is_none_or(|every| read_at.elapsed() < every) {
            continue;
        }
        seen = now;
        // Secrets may be fetched from elsewhere, which takes its time.
        let (config, values) = (config.clone(), last.clone());
        let loading = spawn_blocking(move || config::load(&Sources::of_process(config).keeping(&values)));
        let Ok(loaded) = loading.await else { continue };
        read_at = Instant::now();
        if let Ok(loaded) = &loaded {
            refresh_every = loaded.refresh_every;
            tell_of_sources(fleet.broker(), &loaded.failed_sources, &mut failing);
        }
        if let Some(read) = put_in_place(&fleet, &access, &levels, loaded, asked || changed).await {
            // The same files keep the stamps from before they were read.
            if read != files {
                files = read;
                seen = stamps(&files);
            }
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

/// Puts what was read in place. What nobody asked for and changes nothing is not worth a line.
async fn put_in_place(
    fleet: &Fleet,
    access: &Access,
    levels: &Levels,
    loaded: Result<Loaded, ConfigError>,
    worth_a_line: bool,
) -> Option<Vec<PathBuf>> {
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the new configuration is not used, the old one stays:\n{error}");
            return None;
        }
    };
    let stands = fleet.stands(&loaded.catalogue);
    if worth_a_line || !stands {
        for warning in &loaded.warnings {
            tracing::warn!("{warning}");
        }
    }
    if let Err(why) = access.may_become(&loaded.access) {
        tracing::error!("the new configuration is not used, the old one stays: {why}");
        return None;
    }
    if stands {
        access.replace(loaded.access);
        levels.apply(&loaded.log);
        if worth_a_line {
            tracing::info!(
                "the configuration was read again; certificates, tokens and identities are in place"
            );
        }
        return Some(loaded.files);
    }
    let summary = config::summary(&loaded);
    if let Err(error) = fleet.configure(loaded.catalogue).await {
        tracing::error!(%error, "the new configuration is not used, the old one stays");
        return None;
    }
    access.replace(loaded.access);
    levels.apply(&loaded.log);
    tracing::info!("a new configuration is in place");
    summary.iter().for_each(|line| tracing::info!("{line}"));
    Some(loaded.files)
}

/// How files stand.
pub fn stamps(files: &[PathBuf]) -> Stamps {
    let stamp = |file: &PathBuf| {
        let data = std::fs::metadata(file).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.iter().map(stamp).collect()
}
