//! `keybroker completions`.

use std::process::ExitCode;

use clap::Command;
use clap_complete::{Shell, generate};

use crate::operate::{print, run};

/// Prints the script by which a shell completes commands.
pub fn completions(shell: Shell, command: &mut Command) -> ExitCode {
    // Written whole first: whoever reads only its beginning makes no panic.
    let mut script = Vec::new();
    generate(shell, command, "keybroker", &mut script);
    run(async move {
        print::line(String::from_utf8_lossy(&script).trim_end())?;
        Ok(ExitCode::SUCCESS)
    })
}
