//! Open files: as many as the system lets a process have.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a broker needs beside connections: listeners, the ledger, its files, hooks.
const BESIDE_CONNECTIONS: u64 = 256;

/// Raises the limit of open files as far as it goes, and says so if that is not enough for so many connections.
pub(crate) fn raise_limit(connections: usize) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
    let open_files = getrlimit(Resource::Nofile).current;
    let needed = (connections as u64).saturating_add(BESIDE_CONNECTIONS);
    if let Some(open_files) = open_files.filter(|most| *most < needed) {
        tracing::warn!(
            open_files,
            connections,
            "fewer files may be open than connections are allowed; raise the limit (ulimit -n), or lower \
             --max-connections"
        );
    }
}
