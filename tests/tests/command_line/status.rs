//! `keybroker status`: once, and live on a terminal.

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use keybroker_tests::harness::{
    broker::binary,
    process::wait_until,
    rig::{Backing, Rig},
};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

use super::{at, json, run};

const CONFIG: &str = r#"
[[projects]]
id = "team-a"
tier = "free"
limits = [{ model = "*", requests_per_minute = 2 }]
keys = [{ id = "a1", secret = "fake-key-of-status-0001" }]
"#;
const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread")]
async fn how_a_pool_stands_is_told_once_to_pipes() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    let broker = rig.broker.grpc.as_str();
    rig.api.lease().await;
    rig.api.lease().await;
    for arguments in [&["status"][..], &["status", "--watch", "--pool", "default"]] {
        let text = run(&mut at(broker, arguments), 0);
        for part in [
            "pool default   1 of 1 keys available",
            "granted 2",
            "a1  team-a  free     available",
            "2/2  free in",
            "[████",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        assert!(!text.contains('\x1b'), "{text}");
    }
    let told = json(&mut at(broker, &["status", "--json"]));
    assert_eq!((&told[0]["pool"], &told[0]["counters"]["granted"]), (&"default".into(), &2.into()));
    assert_eq!((&told[0]["keys"][0]["key_id"], &told[0]["keys"][0]["health"]), (&"a1".into(), &100.into()));
    assert_eq!((&told[0]["limits"][0]["used"], &told[0]["limits"][0]["left"]), (&2.into(), &0.into()));
    assert!(run(&mut at(broker, &["status", "--pool", "nowhere"]), 1).contains("nowhere"));
}

/// `keybroker status --watch` on a terminal of its own.
struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    /// All that was written to it.
    written: Arc<Mutex<Vec<u8>>>,
    size: PtySize,
}

impl Terminal {
    fn start(broker: &str, columns: u16, env: &[(&str, &str)]) -> Self {
        let size = PtySize { rows: 24, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(binary("keybroker"));
        command.args(["status", "--watch"]);
        command.env_clear();
        command.env("KEYBROKER_BROKER", broker);
        command.env("TERM", "xterm-256color");
        env.iter().for_each(|(name, value)| command.env(name, value));
        let child = pair.slave.spawn_command(command).unwrap();
        let mut reader = pair.master.try_clone_reader().unwrap();
        let written = Arc::new(Mutex::new(Vec::new()));
        std::thread::spawn({
            let written = written.clone();
            move || {
                let mut piece = [0; 4096];
                while let Ok(read) = reader.read(&mut piece) {
                    if read == 0 {
                        return;
                    }
                    written.lock().unwrap().extend_from_slice(&piece[..read]);
                }
            }
        });
        Self { child, master: pair.master, written, size }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// What is to be seen on it.
    fn screen(&self) -> String {
        let mut parser = vt100::Parser::new(self.size.rows, self.size.cols, 0);
        parser.process(&self.written.lock().unwrap());
        parser.screen().contents()
    }

    fn shows(&self, part: &str) {
        assert!(
            wait_until(PATIENCE, || self.screen().contains(part)),
            "{part:?} is not in\n{}",
            self.screen()
        );
    }

    /// Presses a key, after which it ends and gives the terminal back.
    fn ends_by(mut self, key: &[u8]) {
        // Its end would send a line end, which a terminal that was given back echoes.
        let mut writer = self.master.take_writer().unwrap();
        writer.write_all(key).unwrap();
        assert!(wait_until(PATIENCE, || self.child.try_wait().unwrap().is_some()));
        assert!(self.child.wait().unwrap().success());
        let given_back = || self.text().ends_with("\x1b[?25h\x1b[?1049l");
        assert!(wait_until(PATIENCE, given_back), "{:?}", self.text());
        assert!(self.text().contains("\x1b[?1049h"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminal_shows_it_live_and_is_given_back() {
    let rig = Rig::start(Backing::Embedded, CONFIG).await;
    let wide = Terminal::start(&rig.broker.grpc, 90, &[]);
    let narrow = Terminal::start(&rig.broker.grpc, 44, &[("NO_COLOR", "1")]);
    wide.shows("1 of 1 keys available");
    narrow.shows("1 of 1 keys available");
    rig.api.lease().await;
    wide.shows("1/2");
    rig.api.lease().await;
    wide.shows("2/2  free in");
    narrow.shows("2/2  ");
    assert!(wide.screen().contains("[███") && wide.text().contains("\x1b[32m"), "{}", wide.screen());
    let screen = narrow.screen();
    assert!(!narrow.text().contains("\x1b[32m") && !screen.contains('█'), "{:?}", narrow.text());
    assert!(screen.contains("requests per minute"), "{screen}");
    wide.ends_by(b"q");
    narrow.ends_by(b"\x03");
}
