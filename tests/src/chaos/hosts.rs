//! Two hosts for one run: network namespaces joined by a cable where that is possible, or loopback.
//!
//! Each namespace has two interfaces. By `fleet` the two hosts reach each other, over the cable. By `door` each
//! reaches this program, where the fake Gemini is, and is reached by it: that way is never cut.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::runtime::Handle;

use super::{cable::Cable, side::Side};
use crate::harness::guard::Guard;
use crate::harness::process::free_port;

/// How many runs may go on at the same time on one machine.
const MOST_RUNS: u8 = 64;
/// The first port that is given out where every host has all ports to itself.
const FIRST_PORT: u16 = 7100;

/// Bytes that a connection may hold back in a host with little room.
const SMALL_BUFFER: u32 = 2304;

/// The hosts of one run. Dropping them ends whatever runs there and removes them.
#[derive(Debug)]
pub struct Hosts {
    spaces: Option<Spaces>,
    next_port: u16,
    guard: Mutex<Guard>,
    folder: TempDir,
}

#[derive(Debug)]
struct Spaces {
    number: u8,
    cable: Option<Cable>,
}

impl Hosts {
    /// Makes two hosts: in namespaces if `network` is given, else both on loopback.
    ///
    /// # Errors
    /// If they cannot be made; the text says what is missing.
    pub fn open(network: Option<&Handle>) -> io::Result<Self> {
        let mut guard = Guard::start()?;
        let folder = TempDir::with_prefix("keybroker-chaos")?;
        let _ = guard.folder(folder.path());
        let spaces = network.map(|runtime| Spaces::open(runtime, &mut guard)).transpose()?;
        Ok(Self { spaces, next_port: FIRST_PORT, guard: Mutex::new(guard), folder })
    }

    /// Why there can be no namespaces here; none if there can.
    pub fn obstacle() -> Option<String> {
        if !rustix::process::geteuid().is_root() {
            return Some("network namespaces need root: run as root, or with --network loopback".to_owned());
        }
        let name = format!("kb-probe-{}", std::process::id());
        let made = ip(&["netns", "add", &name]).and_then(|()| ip(&["netns", "del", &name]));
        let tap = Path::new("/dev/net/tun").exists();
        match made {
            Err(error) => {
                Some(format!("{error}; install iproute2 (scripts/setup does), or use --network loopback"))
            }
            Ok(()) if !tap => {
                Some("/dev/net/tun is missing: load the module tun, or use --network loopback".to_owned())
            }
            Ok(()) => None,
        }
    }

    /// The cable, if there is one.
    pub fn cable(&self) -> Option<&Cable> {
        self.spaces.as_ref()?.cable.as_ref()
    }

    /// Where a host is reached by the other one, and by itself.
    pub fn address(&self, side: Side) -> IpAddr {
        let on_cable = |spaces: &Spaces| Ipv4Addr::new(10, 214, spaces.number, 1 + side.number());
        self.spaces.as_ref().map_or(Ipv4Addr::LOCALHOST, on_cable).into()
    }

    /// Where a host is reached by this program.
    pub fn door(&self, side: Side) -> IpAddr {
        self.spaces.as_ref().map_or(Ipv4Addr::LOCALHOST, |spaces| spaces.door(side, 2)).into()
    }

    /// Where this program is reached by a host.
    pub fn outside(&self, side: Side) -> IpAddr {
        self.spaces.as_ref().map_or(Ipv4Addr::LOCALHOST, |spaces| spaces.door(side, 1)).into()
    }

    /// A port that is free on both hosts.
    ///
    /// # Errors
    /// If there is none.
    pub fn port(&mut self) -> io::Result<u16> {
        if self.spaces.is_none() {
            return free_port();
        }
        self.next_port += 1;
        Ok(self.next_port)
    }

    /// Runs a program on a host.
    pub fn command(&self, side: Side, program: &Path) -> Command {
        let Some(spaces) = &self.spaces else { return Command::new(program) };
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &spaces.name(side)]).arg(program);
        command
    }

    /// Leaves the hosts so little room for what is on its way that whatever a process does not read is still with
    /// the process that sent it.
    ///
    /// # Errors
    /// If the hosts are no namespaces: the setting would be one of the whole machine.
    pub fn shrink_buffers(&self) -> io::Result<()> {
        let spaces = self.spaces.as_ref();
        let spaces = spaces.ok_or_else(|| io::Error::other("this needs --network namespaces"))?;
        for side in Side::BOTH {
            for setting in ["tcp_rmem", "tcp_wmem"] {
                let order = format!(
                    "echo {SMALL_BUFFER} {SMALL_BUFFER} {SMALL_BUFFER} > /proc/sys/net/ipv4/{setting}"
                );
                ip(&["netns", "exec", &spaces.name(side), "sh", "-c", &order])?;
            }
        }
        Ok(())
    }

    /// A folder for whatever runs there.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The guard, which is told of every process.
    pub fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Spaces {
    fn open(runtime: &Handle, guard: &mut Guard) -> io::Result<Self> {
        let mut spaces = Self::claim(guard)?;
        let devices = Side::BOTH.map(|side| format!("kbc{}x{}", spaces.number, side.number()));
        spaces.cable = Some(Cable::plug(runtime, [&devices[0], &devices[1]])?);
        for side in Side::BOTH {
            let (name, device) = (spaces.name(side), &devices[usize::from(side.number())]);
            let door = spaces.door_device(side);
            let _ = guard.device(&door);
            // What is left of a run whose number was free again is going away; it is in the way until then.
            let _ = ip(&["link", "del", &door]);
            let inside = |arguments: &[&str]| ip(&[&["-n", &name], arguments].concat());
            ip(&["link", "set", device, "netns", &name])?;
            ip(&["link", "add", &door, "type", "veth", "peer", "name", "door", "netns", &name])?;
            ip(&["addr", "add", &format!("{}/30", spaces.door(side, 1)), "dev", &door])?;
            ip(&["link", "set", &door, "up"])?;
            inside(&["link", "set", "lo", "up"])?;
            inside(&["link", "set", device, "name", "fleet"])?;
            inside(&["addr", "add", &format!("{}/30", spaces.door(side, 2)), "dev", "door"])?;
            inside(&["link", "set", "door", "up"])?;
            let address = Ipv4Addr::new(10, 214, spaces.number, 1 + side.number());
            inside(&["addr", "add", &format!("{address}/24"), "dev", "fleet"])?;
            inside(&["link", "set", "fleet", "up"])?;
        }
        Ok(spaces)
    }

    /// Takes the first number that no other run has. Making the first namespace is what takes it.
    fn claim(guard: &mut Guard) -> io::Result<Self> {
        let mut last = io::Error::other("no number was tried");
        for number in 0..MOST_RUNS {
            match ip(&["netns", "add", &name(number, Side::Left)]) {
                Ok(()) => {
                    // Only now: whoever has such a value removes what has its number when it is dropped.
                    let spaces = Self { number, cable: None };
                    Side::BOTH.into_iter().for_each(|side| drop(guard.space(&spaces.name(side))));
                    ip(&["netns", "add", &spaces.name(Side::Right)])?;
                    return Ok(spaces);
                }
                Err(error) => last = error,
            }
        }
        Err(io::Error::other(format!("{MOST_RUNS} runs go on already: {last}")))
    }

    fn name(&self, side: Side) -> String {
        name(self.number, side)
    }

    /// The end of a host's door that is outside.
    fn door_device(&self, side: Side) -> String {
        format!("kbd{}x{}", self.number, side.number())
    }

    fn door(&self, side: Side, end: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 213, self.number, 4 * side.number() + end)
    }
}

impl Drop for Spaces {
    fn drop(&mut self) {
        // The left one last: the next run takes the number as soon as it is gone.
        for side in [Side::Right, Side::Left] {
            let name = self.name(side);
            for _ in 0..20 {
                let found = Command::new("ip").args(["netns", "pids", &name]).output();
                let pids = found.map(|found| String::from_utf8_lossy(&found.stdout).into_owned());
                let pids = pids.unwrap_or_default();
                if pids.trim().is_empty() {
                    break;
                }
                // They are in a namespace of this run, so this run started them.
                let _ = Command::new("kill").arg("-KILL").args(pids.split_whitespace()).status();
                thread::sleep(Duration::from_millis(25));
            }
            // The namespace itself goes when the system gets round to it; the next run may want the name before.
            let _ = ip(&["link", "del", &self.door_device(side)]);
            let _ = ip(&["netns", "del", &name]);
        }
    }
}

fn name(number: u8, side: Side) -> String {
    format!("kb-chaos-{number}-{side}")
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let done = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let done = done.map_err(|error| io::Error::new(error.kind(), format!("`ip` cannot be run: {error}")))?;
    if done.status.success() {
        return Ok(());
    }
    let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
    Err(io::Error::other(format!("`ip {}` failed: {why}", arguments.join(" "))))
}
