//! Trouble that is played, so that there is something to see: quotas that somebody else spent, and a key that is
//! suspended for a while.

use std::time::Duration;

use keybroker_fake_gemini::{Fault as Mishap, FaultRule, KeyChange, NamedError};

use super::{
    Fault,
    stage::{Stage, project},
};

/// After so long it begins anew, with other projects.
const ROUND: Duration = Duration::from_secs(60);
/// When a project's quota is spent by somebody else, when a key is suspended, and when it works again.
const QUOTA: Duration = Duration::from_secs(3);
const SUSPENDED: Duration = Duration::from_secs(8);
const WELL: Duration = Duration::from_secs(14);

/// How much trouble there was.
#[derive(Default)]
pub(super) struct Trouble {
    steps: u32,
}

impl Trouble {
    /// Plays what is due.
    pub(super) async fn goes_on(&mut self, stage: &Stage, after: Duration) -> Result<(), Fault> {
        let (round, step) = (self.steps / 3, self.steps % 3);
        let due = ROUND * round + [QUOTA, SUSPENDED, WELL][step as usize];
        if after < due {
            return Ok(());
        }
        self.steps += 1;
        let projects = u64::from(round);
        match step {
            0 => {
                let [project, ..] = project(1 + projects % stage.projects);
                let mut rule = FaultRule::always(Mishap::Error { name: NamedError::Minute429 });
                rule.when.method = Some("generateContent".to_owned());
                stage.gemini.add_fault(rule.on_project(&project).times(1));
            }
            step => {
                let [.., key] = project(1 + (projects + 1) % stage.projects);
                let disabled_as = (step == 1).then_some(NamedError::Suspended);
                stage.gemini.control().change_key(&KeyChange { key, project: None, disabled_as }).await?;
            }
        }
        Ok(())
    }
}
