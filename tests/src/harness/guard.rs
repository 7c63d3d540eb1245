//! Removes what a run made when whoever runs it was killed and could not.

use std::{
    io::{self, Write},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
};

/// Takes one thing a line. `end` means that all is well; if the input closes without it, whoever runs it is
/// gone, and so must be what it made.
const SCRIPT: &str = r#"pids= spaces= folders= devices=
while read -r kind what; do
  case "$kind" in
    end) exit 0 ;;
    process) pids="$pids $what" ;;
    ended) pids=$(printf '%s ' $pids | sed "s/\b$what\b//") ;;
    space) spaces="$spaces $what" ;;
    folder) folders="$folders $what" ;;
    device) devices="$devices $what" ;;
  esac
done
[ -z "${pids# }" ] || kill -KILL $pids 2>/dev/null
for space in $spaces; do
  inside=$(ip netns pids "$space" 2>/dev/null)
  [ -z "$inside" ] || kill -KILL $inside 2>/dev/null
  ip netns del "$space" 2>/dev/null
done
for device in $devices; do ip link del "$device" 2>/dev/null; done
for folder in $folders; do rm -rf -- "$folder"; done"#;

/// A small shell that waits for the end of whoever started it.
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

    /// A process was started.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn process(&mut self, id: u32) -> io::Result<()> {
        self.say(&format!("process {id}"))
    }

    /// A process has ended, and its number may be given to another.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn ended(&mut self, id: u32) -> io::Result<()> {
        self.say(&format!("ended {id}"))
    }

    /// A network namespace was made.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn space(&mut self, name: &str) -> io::Result<()> {
        self.say(&format!("space {name}"))
    }

    /// A network device was made.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn device(&mut self, name: &str) -> io::Result<()> {
        self.say(&format!("device {name}"))
    }

    /// A folder was made.
    ///
    /// # Errors
    /// If the guard is gone.
    pub fn folder(&mut self, path: &std::path::Path) -> io::Result<()> {
        self.say(&format!("folder {}", path.display()))
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
