//! A broker to be overloaded, with its ledger and its keys.

use std::{
    fmt::Write,
    path::PathBuf,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{Error, Load, Outcome};
use crate::harness::{
    broker::BrokerOptions,
    rig::{Backing, Rig},
};

/// The label of all keys.
pub(super) const LABEL: (&str, &str) = ("use", "load");
const SAMPLE_EVERY: Duration = Duration::from_millis(100);

/// A broker to be overloaded.
pub struct Stage {
    /// The broker and all that it stands on.
    pub rig: Rig,
    program: PathBuf,
}

impl Stage {
    /// Starts a broker with so many keys, under limits that are counted and never reached. `program` is what
    /// puts a load on it: the binary `overload`.
    pub async fn start(backing: Backing, keys: usize, program: PathBuf) -> Self {
        let options = BrokerOptions::default().arg("--log", "error,keybroker::serve=info");
        Self { rig: Rig::start_with(backing, &catalogue(keys), options).await, program }
    }

    /// Puts a load on the broker from a process of its own; and how much memory the broker held at most
    /// meanwhile, in bytes.
    ///
    /// # Errors
    /// If the process fails.
    pub async fn load(&mut self, load: &Load) -> Result<(Outcome, u64), Error> {
        let mut command = Command::new(&self.program);
        command.arg("generate").args(["--url", &load.url, "--rate", &load.rate.to_string()]);
        command.args(["--callers", &load.callers.to_string(), "--seconds", &load.seconds.to_string()]);
        command.args(["--connections", &load.connections.to_string()]);
        command.args(["--outstanding", &load.outstanding.to_string()]);
        if load.by_labels {
            command.arg("--by-labels");
        }
        let child = command.stdout(Stdio::piped()).stderr(Stdio::inherit()).spawn()?;
        let most = Arc::new(AtomicU64::new(0));
        let broker = self.rig.broker.process().id();
        let sampling = tokio::spawn({
            let most = most.clone();
            async move {
                loop {
                    most.fetch_max(resident(broker).unwrap_or_default(), SeqCst);
                    tokio::time::sleep(SAMPLE_EVERY).await;
                }
            }
        });
        let output = tokio::task::spawn_blocking(|| child.wait_with_output()).await??;
        sampling.abort();
        if !output.status.success() {
            return Err(format!("the load ended with {}", output.status).into());
        }
        Ok((serde_json::from_slice(&output.stdout)?, most.load(SeqCst)))
    }

    /// The memory of the broker, in bytes.
    ///
    /// # Errors
    /// If the system does not say.
    pub fn resident(&mut self) -> Result<u64, Error> {
        resident(self.rig.broker.process().id())
    }
}

/// The memory of a process, in bytes.
fn resident(process: u32) -> Result<u64, Error> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).ok_or("no VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
}

fn catalogue(keys: usize) -> String {
    let (name, value) = LABEL;
    let mut text = "default_plan = \"off\"\n\n[[pools]]\nname = \"default\"\nlimits = [ { model = \"*\", \
                    requests_per_minute = 1000000000 } ]\n\n"
        .to_owned();
    for key in 0..keys {
        // Writing to a text cannot fail.
        let _ = write!(
            text,
            "[[projects]]\nid = \"p{key:04}\"\nkeys = [ {{ id = \"k{key:04}\", secret = \
             \"fake-key-for-load-{key:022}\", labels = {{ {name} = \"{value}\" }} }} ]\n\n"
        );
    }
    text
}
