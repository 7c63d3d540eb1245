//! A changed configuration takes effect without a restart: on SIGHUP, and when a file that it was
//! read from changes. A bad new one is named in the log, and the old one stays.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    access::Access,
    config::{self, Sources},
    fleet::Fleet,
};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How files stood: when they were last written, and how long they were.
pub type Stamps = Vec<Option<(SystemTime, u64)>>;

/// Watches until it is dropped. `seen` is how the files stood right after they were read: what
/// changed since then, while the broker started, is news.
pub async fn watch(
    fleet: Arc<Fleet>,
    access: Access,
    config: Option<PathBuf>,
    files: Vec<PathBuf>,
    seen: Stamps,
) {
    let (mut files, mut seen) = (files, seen);
    let Ok(mut hangup) = signal(SignalKind::hangup()) else {
        tracing::warn!(
            "SIGHUP cannot be listened for; the configuration is reloaded on changes of its files alone"
        );
        return;
    };
    let mut look = tokio::time::interval(LOOK_EVERY);
    loop {
        let asked = tokio::select! {
            _ = hangup.recv() => true,
            _ = look.tick() => false,
        };
        let now = stamps(&files);
        if !asked && now == seen {
            continue;
        }
        seen = now;
        if let Some(read) = reload(&fleet, &access, config.clone()).await {
            // The same files keep the stamps from before they were read.
            if read != files {
                files = read;
                seen = stamps(&files);
            }
        }
    }
}

async fn reload(fleet: &Fleet, access: &Access, config: Option<PathBuf>) -> Option<Vec<PathBuf>> {
    let loaded = match config::load(&Sources::of_process(config)) {
        Ok(loaded) => loaded,
        Err(error) => {
            tracing::error!("the new configuration is not used, the old one stays:\n{error}");
            return None;
        }
    };
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    if let Err(why) = access.may_become(&loaded.access) {
        tracing::error!("the new configuration is not used, the old one stays: {why}");
        return None;
    }
    if fleet.stands(&loaded.catalogue) {
        access.replace(loaded.access);
        tracing::info!("the configuration was read again; certificates, tokens and identities are in place");
        return Some(loaded.files);
    }
    let summary = config::summary(&loaded);
    if let Err(error) = fleet.configure(loaded.catalogue).await {
        tracing::error!(%error, "the new configuration is not used, the old one stays");
        return None;
    }
    access.replace(loaded.access);
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
