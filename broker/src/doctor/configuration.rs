//! The configuration: every fault and warning, and what is legal but unwise.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use super::finding::Check;
use crate::{
    catalogue::{Catalogue, HookAction},
    config::{ConfigError, Loaded},
};

/// A request counts for so much longer than its window.
const LONG_SEND_WITHIN: Duration = Duration::from_secs(10);

pub(super) fn check(loaded: &Result<Loaded, ConfigError>) -> Check {
    let mut check = Check::of("configuration");
    let warnings = match loaded {
        Ok(loaded) => {
            let catalogue = &loaded.catalogue;
            let (pools, projects) = (catalogue.pools.len(), catalogue.projects().count());
            check.seen = format!("pools {pools}, projects {projects}, keys {}", catalogue.keys().count());
            look(catalogue, &mut check);
            &loaded.warnings
        }
        Err(error) => {
            check.seen = format!("faults {}", error.faults.len());
            for fault in &error.faults {
                check.error("config-fault", &fault.place, &fault.problem, &fault.fix);
            }
            &error.warnings
        }
    };
    // Certificates are looked at with the other files.
    for warning in warnings.iter().filter(|warning| !warning.place.ends_with("tls.cert_file")) {
        let fix = "keybroker config show prints what holds; docs/configuration.md says what can be written";
        check.warning("config-warning", &warning.place, &warning.text, fix);
    }
    check
}

fn look(catalogue: &Catalogue, check: &mut Check) {
    for pool in catalogue.pools.values() {
        let place = format!("pool {}", pool.name);
        if pool.projects.iter().all(|project| project.keys.is_empty()) {
            let fix = "give it keys in the configuration, or add some with keybroker keys add";
            check.warning("pool-without-keys", &place, "has no keys, so nothing is leased from it", fix);
        }
        if pool.send_within > LONG_SEND_WITHIN {
            let what =
                format!("send_within is {:?}, and each request is counted so much longer", pool.send_within);
            let fix = "set send_within to what workers need from the lease to the first byte, such as 1";
            check.warning("send-within-long", &place, what, fix);
        }
        if pool.lease_ttl <= pool.send_within {
            let what =
                format!("leases live {:?}, no longer than a request may still be sent", pool.lease_ttl);
            let fix = "set lease_ttl to the longest that an answer takes, such as 60";
            check.warning("lease-ttl-short", &place, what, fix);
        }
    }
    for hook in &catalogue.hooks {
        let place = format!("hook {}", hook.name);
        match &hook.action {
            HookAction::Post { url, .. } => {
                let url = url::Url::parse(url.expose()).ok();
                let open =
                    url.filter(|url| url.scheme() == "http" && !crate::config::is_this_host(url.host_str()));
                if open.is_some() {
                    let what = "posts without encryption to another host";
                    check.warning("hook-not-encrypted", place, what, "use https");
                }
            }
            HookAction::Run { command } => {
                let program = command.first().map_or("", String::as_str);
                let runs = fs::metadata(Path::new(program))
                    .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0);
                if !runs {
                    let what = format!("{program} is no program that can be run here");
                    check.error(
                        "hook-program",
                        place,
                        what,
                        "install it, make it executable, or correct `command`",
                    );
                }
            }
        }
    }
}
