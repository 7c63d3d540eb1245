//! This host: addresses to listen on, the data directory, how many files may be open.

use std::{fs, io::ErrorKind, net::SocketAddr, path::Path};

use rustix::{
    fs::{Access, access, statvfs},
    process::{Resource, getrlimit},
};
use tokio::net::TcpListener;

use super::{
    args::DoctorArgs,
    brokers::Asked,
    finding::{Check, Severity},
};
use crate::{access::Rules, config::Loaded, ledger::embedded, serve};

/// With less space than this, in bytes, an embedded ledger soon cannot write.
const LITTLE_SPACE: u64 = 64 << 20;

pub(super) async fn check(args: &DoctorArgs, loaded: Option<&Loaded>, brokers: &[Asked]) -> Vec<Check> {
    let runs = brokers.iter().any(Asked::runs_here);
    let mut checks = vec![listeners(args, loaded, runs).await];
    if args.serve.redis_url.is_none() {
        checks.push(data_directory(args, runs));
    }
    checks
}

async fn listeners(args: &DoctorArgs, loaded: Option<&Loaded>, runs: bool) -> Check {
    let mut check = Check::of("addresses");
    let (grpc, http) = (args.serve.grpc_addr, args.serve.http_addr);
    check.seen = format!("gRPC {grpc}, HTTP {http}{}", if runs { "; a broker runs there" } else { "" });
    if grpc == http && grpc.port() != 0 {
        let fix = "give --grpc-addr and --http-addr different ports";
        check.error("addresses-equal", grpc, "is meant for gRPC and for HTTP", fix);
        return check;
    }
    let nobody = Rules::default();
    let rules = loaded.map_or(&nobody, |loaded| &loaded.access);
    for (address, setting) in [(grpc, "--grpc-addr"), (http, "--http-addr")] {
        if let (true, Some(missing)) = (loaded.is_some(), serve::missing_to_be_open(address, rules)) {
            let (severity, id) = match args.serve.insecure {
                true => (Severity::Warning, "listener-insecure"),
                false => (Severity::Error, "listener-open"),
            };
            let what = format!("{setting} is open to other hosts: {missing}");
            check.add(severity, id, address, what, "add what is missing, or listen on 127.0.0.1");
        }
        bindable(address, setting, runs, &mut check).await;
    }
    open_files(args, &mut check);
    check
}

async fn bindable(address: SocketAddr, setting: &str, runs: bool, check: &mut Check) {
    let Err(error) = TcpListener::bind(address).await else { return };
    match error.kind() {
        ErrorKind::AddrInUse if runs => {}
        ErrorKind::AddrInUse => {
            let fix = format!(
                "end what listens there or choose another {setting}; if it is a broker, say how to reach it with \
                 --tls-ca and --token-file"
            );
            check.error("port-in-use", address, "something listens there already", &fix);
        }
        ErrorKind::AddrNotAvailable => {
            let fix = format!("choose an address of this host with {setting}, or 0.0.0.0 for all");
            check.error("address-not-here", address, "is no address of this host", &fix);
        }
        ErrorKind::PermissionDenied => {
            let fix = format!("choose a port from 1024 on with {setting}");
            check.error("port-not-permitted", address, "may not be listened on", &fix);
        }
        _ => {
            let fix = format!("choose another with {setting}");
            check.error("address-unusable", address, format!("cannot be listened on: {error}"), &fix);
        }
    }
}

fn open_files(args: &DoctorArgs, check: &mut Check) {
    let needed = args.serve.max_connections as u64;
    if let Some(most) = getrlimit(Resource::Nofile).maximum.filter(|most| *most < needed) {
        let what = format!("at most {most} files may be open, and {needed} connections are allowed");
        check.warning(
            "open-files",
            "--max-connections",
            what,
            "raise the limit (ulimit -Hn), or lower --max-connections",
        );
    }
}

fn data_directory(args: &DoctorArgs, runs: bool) -> Check {
    let mut check = Check::of("data");
    let folder = serve::data_dir(&args.serve);
    let shown = folder.display().to_string();
    check.seen.clone_from(&shown);
    // What is not there yet will be made in the nearest folder that is.
    let Some(there) = folder.ancestors().find(|path| fs::symlink_metadata(path).is_ok()) else {
        return check;
    };
    let place = if there.as_os_str().is_empty() { Path::new(".") } else { there };
    let fix = "choose a folder that the user of the broker may write with --data-dir or KEYBROKER_DATA_DIR";
    if !place.is_dir() {
        check.error("data-dir-unusable", &shown, format!("{} is no folder", place.display()), fix);
        return check;
    }
    if access(place, Access::WRITE_OK | Access::EXEC_OK).is_err() {
        check.error("data-dir-unusable", &shown, format!("{} cannot be written", place.display()), fix);
        return check;
    }
    if let Ok(space) = statvfs(place)
        && space.f_bavail.saturating_mul(space.f_frsize) < LITTLE_SPACE
    {
        let free = space.f_bavail.saturating_mul(space.f_frsize) >> 20;
        check.warning(
            "disk-full",
            &shown,
            format!("{free} MiB are free"),
            "make room, or choose another --data-dir",
        );
    }
    match embedded::in_use(&folder) {
        Ok(true) if !runs => {
            let fix = "end the process that uses it, or choose another --data-dir for this broker";
            check.error("data-dir-in-use", &shown, "another process has the ledger open", fix);
        }
        Ok(_) => {}
        Err(error) => {
            check.error("data-dir-unusable", &shown, format!("the ledger cannot be opened: {error}"), fix)
        }
    }
    check
}
