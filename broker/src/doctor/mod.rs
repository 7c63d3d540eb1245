//! `keybroker doctor`: what a broker that is started here would meet, looked at without starting one. Nothing is
//! changed and nothing is leased.

mod args;
mod brokers;
mod clock;
mod configuration;
mod environment;
mod files;
mod finding;
mod here;
mod keys;
mod redis;
mod show;

use std::process::ExitCode;

pub use args::DoctorArgs;
use finding::Check;

use crate::{
    config::{self, Sources},
    operate::{Failure, run},
};

/// Looks at everything, and tells what was found.
pub fn doctor(args: &DoctorArgs) -> ExitCode {
    run(examine(args))
}

async fn examine(args: &DoctorArgs) -> Result<ExitCode, Failure> {
    let loaded = config::load(&Sources::of_process(args.serve.config.config.clone()));
    let mut checks = vec![configuration::check(&loaded), environment::check(&loaded)];
    let loaded = loaded.ok();
    checks.push(files::check(args, loaded.as_ref()));
    let brokers = brokers::ask(args).await;
    checks.extend(here::check(args, loaded.as_ref(), &brokers).await);
    let mut clocks = Vec::new();
    if let Some(url) = &args.serve.redis_url {
        let pools = loaded.as_ref().map(|loaded| loaded.catalogue.pools.keys().cloned().collect());
        checks.push(redis::check(args, url, pools.unwrap_or_default(), &mut clocks).await);
    }
    checks.push(brokers::check(args, &brokers, &mut clocks));
    checks.push(clock::check(&clocks));
    checks.push(match &loaded {
        Some(loaded) if !args.offline => keys::check(&loaded.catalogue).await,
        Some(_) => Check::skipped("keys", "not probed, as --offline says"),
        None => Check::skipped("keys", "not probed, since the configuration has faults"),
    });
    show::show(&checks, args.json)
}
