//! The rows in redb.
//!
//! Every batch is one commit of one journal record: the rows it changed, as they are afterwards.
//! Every few seconds a checkpoint folds what changed into tables of its own and drops the journal
//! records that hold no lease any more, a part with each batch; leases live in the journal alone.
//! Restoring is reading the tables and playing the journal over them.

use std::{
    collections::BTreeMap,
    fs::File,
    io::ErrorKind,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Serialize, de::DeserializeOwned};

use super::{
    file::{FILE, LedgerFile, Reach},
    rows::{CandidateRow, PoolRow, Restored, Row, remembered_until, taken_back, whole_accounts},
};
use crate::ledger::{
    LedgerError, Millis, USAGE_LIFETIME, Used,
    kernel::{Changes, Kernel},
};

/// By pool.
const POOLS: TableDefinition<&str, &[u8]> = TableDefinition::new("pools");
/// By pool, kind of row and its ids, with a zero byte between them.
const STATE: TableDefinition<&str, &[u8]> = TableDefinition::new("state");
/// By pool, end of the day and name.
const USAGE: TableDefinition<(&str, i64, &str), &[u8]> = TableDefinition::new("usage");
/// By pool, shard and name, with a zero byte between them.
const CANDIDATES: TableDefinition<&str, &[u8]> = TableDefinition::new("candidates");
/// By sequence number: until when its leases are remembered, pool, rows.
const JOURNAL: TableDefinition<u64, (i64, &str, &[u8])> = TableDefinition::new("journal");
/// Up to which record the journal is folded into the tables, under one name.
const FOLDED: TableDefinition<&str, u64> = TableDefinition::new("folded");

/// In place of an instant, in records of the journal that hold amends.
const AMENDS: Millis = -1;

/// How much memory redb may use for pages, in bytes: all state is in the kernel's memory already,
/// and the file is read at the start alone.
const CACHE: usize = 32 << 20;

/// The open database.
pub(super) struct Store {
    database: Database,
    /// The next record of the journal, and the first that is not folded.
    next: u64,
    folded: u64,
}

/// A part of a checkpoint.
pub(super) struct Part<'a> {
    pub(super) now: Millis,
    /// How many records of the journal may be dropped with it, and how many days' sums.
    pub(super) most: usize,
    /// How what it folds stands, by pool, leases left out.
    pub(super) rows: Vec<(&'a str, Vec<Row>)>,
    /// The first of the records that are for amends of sums; there is one for each sum.
    pub(super) spare: u64,
    /// With the last part: all that changed before this record is folded.
    pub(super) folded: Option<u64>,
}

/// A pool as it was stored.
pub(super) struct StoredPool {
    pub(super) row: PoolRow,
    pub(super) kernel: Kernel,
    /// What no checkpoint has folded yet.
    pub(super) unfolded: Changes,
}

impl Store {
    /// Opens the ledger's file in the folder, and makes both if need be.
    pub(super) fn open(
        folder: &Path,
        reach: Reach,
    ) -> Result<(Self, BTreeMap<String, StoredPool>), LedgerError> {
        let shown = folder.display();
        std::fs::create_dir_all(folder)
            .map_err(|error| unusable(format!("the data directory {shown} cannot be made: {error}")))?;
        let path = folder.join(FILE);
        let file = open_file(&path)?;
        // redb checks the file before it trusts it, and still asserts here and there what a damaged
        // file may break: a panic must end as a refusal to start, not as an end without a word.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            let database = LedgerFile::new(file, reach)
                .and_then(|file| {
                    Database::builder()
                        .set_check_integrity_on_open(true)
                        .set_cache_size(CACHE)
                        .create_with_backend(file)
                })
                .map_err(|error| match error {
                    redb::DatabaseError::DatabaseAlreadyOpen => unusable(format!(
                        "the data directory {shown} is in use by another broker; give each broker one of its own, \
                         or a Redis that they share"
                    )),
                    other => damaged(&path, &other.into()),
                })?;
            let mut store = Self { database, next: 0, folded: 0 };
            let pools = store.restore().map_err(|error| damaged(&path, &error))?;
            Ok((store, pools))
        }));
        opened.unwrap_or_else(|_| {
            Err(damaged(&path, &redb::Error::Corrupted("its structure is broken".to_owned())))
        })
    }

    /// Leaves out so many records of the journal, and says which is the first of them.
    pub(super) fn spare(&mut self, records: u64) -> u64 {
        let first = self.next;
        self.next += records;
        first
    }

    /// Commits what a batch changed.
    pub(super) fn record(&mut self, pool: &str, rows: &[Row]) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        let body = encode(&rows);
        write.open_table(JOURNAL)?.insert(self.next, (remembered_until(rows), pool, body.as_slice()))?;
        write.commit()?;
        self.next += 1;
        Ok(())
    }

    /// Commits what a catalogue changed, with the candidates it brought.
    pub(super) fn record_shard(
        &mut self,
        pool: &str,
        shard: &str,
        candidates: &[(String, CandidateRow)],
        rows: &[Row],
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(CANDIDATES)?;
            for (name, row) in candidates {
                table.insert(key(&[pool, shard, name]).as_str(), encode(row).as_slice())?;
            }
            let body = encode(&rows);
            write.open_table(JOURNAL)?.insert(self.next, (0, pool, body.as_slice()))?;
        }
        write.commit()?;
        self.next += 1;
        Ok(())
    }

    /// Commits a pool's identity and catalogue.
    pub(super) fn record_pool(&mut self, pool: &str, row: &PoolRow) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(POOLS)?.insert(pool, encode(row).as_slice())?;
        write.commit()?;
        Ok(())
    }

    /// Commits what a batch changed, and with it a part of a checkpoint. Whether no more records of the journal can be
    /// dropped.
    pub(super) fn record_with(
        &mut self,
        pool: &str,
        rows: &[Row],
        part: &Part<'_>,
    ) -> Result<bool, redb::Error> {
        let write = self.database.begin_write()?;
        let (mut next, mut spare) = (self.next, part.spare);
        let folded = part.folded.unwrap_or(self.folded);
        let (mut dropped, mut end) = (0, 0);
        {
            let mut journal = write.open_table(JOURNAL)?;
            journal.insert(next, (remembered_until(rows), pool, encode(&rows).as_slice()))?;
            next += 1;
            for (pool, rows) in &part.rows {
                fold(&write, pool, rows)?;
                let accounts = whole_accounts(rows);
                if !accounts.is_empty() {
                    journal.insert(next, (AMENDS, *pool, encode(&accounts).as_slice()))?;
                    next += 1;
                }
                let sums = taken_back(rows);
                if !sums.is_empty() {
                    journal.insert(spare, (AMENDS, *pool, encode(&sums).as_slice()))?;
                    spare += sums.len() as u64;
                }
            }
            if part.folded.is_some() {
                write.open_table(FOLDED)?.insert("next", folded)?;
                let mut usage = write.open_table(USAGE)?;
                for (pool, _) in &part.rows {
                    let (first, last) = ((*pool, i64::MIN, ""), (*pool, part.now - USAGE_LIFETIME, ""));
                    for row in usage.extract_from_if(first..last, |_, _| true)?.take(part.most) {
                        row?;
                    }
                }
            }
            for record in journal.range(..folded)?.take(part.most) {
                let (sequence, record) = record?;
                if record.value().0 > part.now {
                    break;
                }
                dropped += 1;
                end = sequence.value() + 1;
            }
            journal.retain_in(..end, |_, _| false)?;
        }
        write.commit()?;
        (self.next, self.folded) = (next, folded);
        Ok(dropped < part.most)
    }

    /// What was used on the days that end then, as far as it is folded.
    pub(super) fn usage(
        &self,
        pool: &str,
        day_ends: &[Millis],
    ) -> Result<BTreeMap<(Millis, String), Used>, redb::Error> {
        let table = self.database.begin_read()?.open_table(USAGE)?;
        let mut rows = BTreeMap::new();
        for day_end in day_ends {
            for row in table.range((pool, *day_end, "")..(pool, *day_end + 1, ""))? {
                let (key, used) = row?;
                rows.insert((*day_end, key.value().2.to_owned()), decode(used.value())?);
            }
        }
        Ok(rows)
    }

    fn restore(&mut self) -> Result<BTreeMap<String, StoredPool>, redb::Error> {
        let write = self.database.begin_write()?;
        write.open_table(POOLS)?;
        write.open_table(STATE)?;
        write.open_table(USAGE)?;
        write.open_table(CANDIDATES)?;
        write.open_table(JOURNAL)?;
        write.open_table(FOLDED)?;
        write.commit()?;

        let read = self.database.begin_read()?;
        let mut rows: BTreeMap<String, PoolRow> = BTreeMap::new();
        let mut pools: BTreeMap<String, Restored> = BTreeMap::new();
        for entry in read.open_table(POOLS)?.iter()? {
            let (pool, row) = entry?;
            rows.insert(pool.value().to_owned(), decode(row.value())?);
            pools.insert(pool.value().to_owned(), Restored::default());
        }
        for entry in read.open_table(CANDIDATES)?.iter()? {
            let (key, row) = entry?;
            let mut parts = key.value().split('\0');
            if let (Some(pool), Some(shard), Some(name)) = (parts.next(), parts.next(), parts.next())
                && let Some(pool) = pools.get_mut(pool)
            {
                pool.candidate(shard, name, decode(row.value())?);
            }
        }
        for entry in read.open_table(STATE)?.iter()? {
            let (key, row) = entry?;
            let pool = key.value().split('\0').next().unwrap_or_default();
            if let Some(pool) = pools.get_mut(pool) {
                pool.row(decode(row.value())?);
            }
        }
        let folded = read.open_table(FOLDED)?.get("next")?.map_or(0, |next| next.value());
        (self.next, self.folded) = (folded, folded);
        for entry in read.open_table(JOURNAL)?.iter()? {
            let (sequence, record) = entry?;
            let (_, pool, body) = record.value();
            if let Some(pool) = pools.get_mut(pool) {
                let rows: Vec<Row> = decode(body)?;
                if sequence.value() >= folded {
                    rows.into_iter().for_each(|row| pool.unfolded_row(row));
                } else {
                    rows.into_iter()
                        .filter(|row| matches!(row, Row::Lease(..)))
                        .for_each(|row| pool.row(row));
                }
            }
            self.next = self.next.max(sequence.value() + 1);
        }
        let with_row = |(name, restored): (String, Restored)| {
            let row = rows.remove(&name).unwrap_or_default();
            let (kernel, unfolded) = restored.finish();
            (name, StoredPool { row, kernel, unfolded })
        };
        Ok(pools.into_iter().map(with_row).collect())
    }
}

/// Puts rows into the tables.
fn fold(write: &WriteTransaction, pool: &str, rows: &[Row]) -> Result<(), redb::Error> {
    let mut state = write.open_table(STATE)?;
    let mut usage = write.open_table(USAGE)?;
    for row in rows {
        if let Row::Usage(day_end, name, used) = row {
            let key = (pool, *day_end, name.as_str());
            let mut sums = match usage.get(key)? {
                Some(known) => decode(known.value())?,
                None => Used::default(),
            };
            sums += *used;
            usage.insert(key, encode(&sums).as_slice())?;
        }
        let Some(key) = state_key(pool, row) else { continue };
        match row {
            Row::Account(_, None) => drop(state.remove(key.as_str())?),
            row => drop(state.insert(key.as_str(), encode(row).as_slice())?),
        }
    }
    Ok(())
}

fn state_key(pool: &str, row: &Row) -> Option<String> {
    match row {
        Row::Account(id, _) => Some(key(&[pool, "account", id])),
        Row::Place(shard, name, _) => Some(key(&[pool, "place", shard, name])),
        Row::Shard(name, ..) => Some(key(&[pool, "shard", name])),
        Row::Pool(..) => Some(key(&[pool, "pool"])),
        Row::Counts(..) | Row::Lease(..) | Row::Usage(..) => None,
    }
}

fn key(parts: &[&str]) -> String {
    parts.join("\0")
}

fn encode(value: &impl Serialize) -> Vec<u8> {
    postcard::to_stdvec(value).expect("rows are plain data of known sizes")
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, redb::Error> {
    postcard::from_bytes(bytes).map_err(|error| redb::Error::Corrupted(error.to_string()))
}

fn unusable(text: String) -> LedgerError {
    LedgerError::Unusable(text)
}

/// Opens the ledger's file. One that is there and empty had counts that are lost, so it is not
/// taken for a new one.
fn open_file(path: &Path) -> Result<File, LedgerError> {
    let cannot = |error| unusable(format!("{} cannot be opened for writing: {error}", path.display()));
    let mut options = File::options();
    options.read(true).write(true);
    match options.clone().create_new(true).open(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            let file = options.open(path).map_err(cannot)?;
            if file.metadata().map_err(cannot)?.len() == 0 {
                return Err(damaged(path, &redb::Error::Corrupted("it is empty".to_owned())));
            }
            Ok(file)
        }
        opened => opened.map_err(cannot),
    }
}

fn damaged(path: &Path, error: &redb::Error) -> LedgerError {
    unusable(format!(
        "{} cannot be read: {error}; if it is beyond repair, move it away, and wait until all quota \
         windows have passed before you start again",
        path.display()
    ))
}
