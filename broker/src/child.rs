//! Programs that the broker starts.

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Child;

/// The program and what it started; killed when this is dropped, unless it ended by itself.
pub(crate) struct Group(Option<Pid>);

impl Group {
    pub(crate) fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?)))
    }

    /// The program ended: its number may soon be another's, so nothing is killed by it any more.
    pub(crate) fn keep(mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            // It may have ended at this very moment.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}
