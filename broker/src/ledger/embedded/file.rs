//! The file under redb, with a choice of how far a commit reaches.

use std::{fs::File, io, ops::Bound, path::Path};

use redb::{BackendError, StorageBackend, backends::FileBackend};

/// The file in the data directory.
pub(super) const FILE: &str = "ledger.redb";

/// How far a commit reaches before a lease is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// To the operating system: survives the end of the process, however it ends, and not the end
    /// of the machine.
    System,
    /// To the disk: survives a power failure too, at the price of a disk flush for each batch.
    Disk,
}

/// Whether a process has the ledger of a folder open. A folder without one is in nobody's use.
///
/// # Errors
/// If there is one that cannot be opened.
pub(crate) fn in_use(folder: &Path) -> io::Result<bool> {
    let path = folder.join(FILE);
    let file = match File::options().read(true).write(true).open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        opened => opened?,
    };
    let file = FileBackend::new(file).map_err(io::Error::other)?;
    file.query_lock_range(Bound::Unbounded, Bound::Unbounded).map_err(io::Error::other)
}

/// redb's own file backend, which flushes only if asked to.
#[derive(Debug)]
pub(super) struct LedgerFile {
    file: FileBackend,
    reach: Reach,
}

impl LedgerFile {
    pub(super) fn new(file: File, reach: Reach) -> Result<Self, redb::DatabaseError> {
        Ok(Self { file: FileBackend::new(file)?, reach })
    }
}

impl StorageBackend for LedgerFile {
    fn len(&self) -> Result<u64, io::Error> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> Result<(), io::Error> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> Result<(), io::Error> {
        match self.reach {
            Reach::System => Ok(()),
            Reach::Disk => self.file.sync_data(),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        self.file.write(offset, data)
    }

    fn close(&self) -> Result<(), io::Error> {
        self.file.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }
}
