//! A clock that one process sees instead of its host's: libfaketime, led by a file.

use std::{
    io,
    path::{Path, PathBuf},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
};

/// Where Debian and others put the library, for programs with threads.
const LIBRARIES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
];

/// A clock that can be set while it runs. Monotonic clocks are left as they are, as when an operator or NTP
/// sets the time of a host.
#[derive(Debug, Clone)]
pub struct Clock {
    file: PathBuf,
    library: PathBuf,
    ahead_millis: Arc<AtomicI64>,
}

impl Clock {
    /// A clock that goes right, led by this file.
    ///
    /// # Errors
    /// If libfaketime is not installed or the file cannot be written.
    pub fn new(file: &Path) -> io::Result<Self> {
        let library = Self::library().ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "libfaketime is not installed; scripts/setup installs it, or leave out faults of clocks",
            )
        })?;
        let clock = Self { file: file.to_owned(), library, ahead_millis: Arc::default() };
        clock.set(0)?;
        Ok(clock)
    }

    /// The library, if it is installed.
    pub fn library() -> Option<PathBuf> {
        LIBRARIES.iter().map(PathBuf::from).find(|path| path.is_file())
    }

    /// Puts the clock this far ahead of its host's, or behind.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn set(&self, ahead_millis: i64) -> io::Result<()> {
        // A reader never sees half a line: the new file takes the old one's place.
        let fresh = self.file.with_extension("fresh");
        let sign = if ahead_millis < 0 { '-' } else { '+' };
        let (seconds, millis) = (ahead_millis.unsigned_abs() / 1000, ahead_millis.unsigned_abs() % 1000);
        std::fs::write(&fresh, format!("{sign}{seconds}.{millis:03}\n"))?;
        std::fs::rename(fresh, &self.file)?;
        self.ahead_millis.store(ahead_millis, Ordering::Relaxed);
        Ok(())
    }

    /// How far it is ahead of its host's.
    pub fn ahead_millis(&self) -> i64 {
        self.ahead_millis.load(Ordering::Relaxed)
    }

    /// Has a command see this clock.
    pub fn put_into(&self, command: &mut Command) {
        command.envs(self.variables());
    }

    /// The variables by which a process sees this clock.
    pub fn variables(&self) -> [(&'static str, String); 5] {
        // An allocator of the program's own, such as that of redis-server, may ask for the time before the library
        // is ready to tell it; the system's allocator does not.
        let preload = format!("{} libc.so.6", self.library.display());
        [
            ("LD_PRELOAD", preload),
            ("FAKETIME_TIMESTAMP_FILE", self.file.display().to_string()),
            ("FAKETIME_NO_CACHE", "1".to_owned()),
            ("DONT_FAKE_MONOTONIC", "1".to_owned()),
            ("FAKETIME_DONT_RESET", "1".to_owned()),
        ]
    }
}
