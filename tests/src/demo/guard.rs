//! Ends the processes of the demo when the demo itself was killed and could not.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// Takes process ids, one a line. `end` means that all is well; if the input closes without it, the demo is
/// gone, and so must be what it started.
const SCRIPT: &str = r#"pids=
while read -r line; do
  [ "$line" = end ] && exit 0
  pids="$pids $line"
done
[ -z "$pids" ] || kill -KILL $pids 2>/dev/null"#;

/// A small shell that waits for the demo's end.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
}

impl Guard {
    /// Starts it, out of reach of the terminal's Ctrl-C.
    ///
    /// # Errors
    /// If there is no `sh`.
    pub fn start() -> io::Result<Self> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self { shell: command.process_group(0).spawn()? })
    }

    /// Puts a process under guard.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn watch(&mut self, process: u32) -> io::Result<()> {
        self.say(&process.to_string())
    }

    fn say(&mut self, line: &str) -> io::Result<()> {
        let input = self.shell.stdin.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        writeln!(input, "{line}")?;
        input.flush()
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // If the guard is gone already, there is nothing to call off.
        let _ = self.say("end");
        let _ = self.shell.wait();
    }
}
