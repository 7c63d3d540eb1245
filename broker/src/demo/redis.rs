//! A private redis-server, which ends with the demo however that ends.

use std::{
    io,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use tokio::{net::TcpStream, time::sleep};

/// Ends the server when its input closes: that is when the demo ends, or is killed.
const SCRIPT: &str = "redis-server \"$@\" >/dev/null 2>&1 & pid=$!; cat >/dev/null; kill $pid 2>/dev/null";
/// How often it is looked whether the server is there, and how often at most.
const LOOKS: (Duration, u32) = (Duration::from_millis(50), 200);

pub(super) struct PrivateRedis {
    guard: Child,
    pub(super) url: String,
}

impl PrivateRedis {
    pub(super) async fn start(folder: &Path) -> io::Result<Self> {
        if Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_err() {
            return Err(io::Error::other(
                "redis-server is not installed; without --redis the demo needs none",
            ));
        }
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", SCRIPT, "sh", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no", "--dir"]).arg(folder);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        // A Ctrl-C at the terminal is for the demo alone, which then ends it in good order.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let redis = Self { guard: command.spawn()?, url: format!("redis://127.0.0.1:{port}") };
        for _ in 0..LOOKS.1 {
            if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
                return Ok(redis);
            }
            sleep(LOOKS.0).await;
        }
        Err(io::Error::other("redis-server does not answer"))
    }
}

impl Drop for PrivateRedis {
    fn drop(&mut self) {
        drop(self.guard.stdin.take());
        let _ = self.guard.wait();
    }
}
