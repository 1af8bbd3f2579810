//! A ledger in one file of this machine. Two processes may share it, so that one can take over from another (S68).
//!
//! Writes go through one thread that groups them into a commit; reads through another, on a connection of their
//! own. Neither ever runs on a thread of the async runtime.

mod copies;
mod evidence;
mod place;
mod row;
mod schema;
mod witness;
mod worker;
mod writing;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use super::columns::{moment, payer};
use super::evidence::{ChainId, Extent, Head, Record, Standing};
use super::store::LEFT_OPEN;
use super::{Archive, CellSwap, Census, Chore, Filter, Store, StoreError, Swap, Version, Versioned, Write};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Secret, Timestamp};
pub use copies::{CopyError, Restored};
use row::Row;
use worker::Worker;
use writing::Pruned;

/// What a ledger file is for. Play money and real money never meet in one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Play money.
    Sandbox,
    /// Money.
    Real,
}

impl Purpose {
    /// The word in the file.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sandbox => "sandbox",
            Self::Real => "real",
        }
    }
}

/// Why a file cannot be the ledger. All of them are the operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The folder it should stand in does not exist.
    #[error("{}: there is no folder {} to keep the ledger in", path.display(), folder.display())]
    NoFolder {
        /// The ledger's path.
        path: PathBuf,
        /// The missing folder.
        folder: PathBuf,
    },
    /// Something else is kept there.
    #[error("{}: this file is not a tollhouse ledger", .0.display())]
    Foreign(PathBuf),
    /// A later version of tollhouse wrote it.
    #[error("{}: this ledger has schema {found}; this version of tollhouse knows {known}", path.display())]
    Newer {
        /// The ledger's path.
        path: PathBuf,
        /// What it says.
        found: i64,
        /// What we know.
        known: i64,
    },
    /// It remembers the other kind of money.
    #[error("{}: this ledger is for {found} payments, not for {} ones", path.display(), wanted.as_str())]
    WrongPurpose {
        /// The ledger's path.
        path: PathBuf,
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: Purpose,
    },
    /// It stands somewhere else than on this machine (S66).
    #[error(
        "{}: this is on a network file system ({system}), where locks do not hold; put the ledger on a disk of this \
         machine, or share one: ledger: {{postgres: …}}",
        path.display()
    )]
    Network {
        /// The ledger's path.
        path: PathBuf,
        /// The file system's name.
        system: &'static str,
    },
    /// It would be forgotten while money depends on it (S5).
    #[error(
        "{}: this is {place}, and the money is real; put the ledger on a volume that stays, or use ledger: \
         {{postgres: …}}",
        path.display()
    )]
    Fleeting {
        /// The ledger's path.
        path: PathBuf,
        /// Where that is.
        place: &'static str,
    },
    /// It is an older copy of the ledger that stood here (S66).
    #[error(
        "{path}: this ledger ends with record {reaches}, but record {noted} is noted in {path}-head: it is an older copy, \
         or its end was cut off. Payments it has forgotten could be served again. Put the newest copy here with \
         `tollhouse ledger restore`, which explains what to do about the rest",
        path = path.display()
    )]
    OlderCopy {
        /// The ledger's path.
        path: PathBuf,
        /// Its last record.
        reaches: u64,
        /// The record that is known to have existed.
        noted: u64,
    },
    /// It is not the ledger that stood here.
    #[error(
        "{path}: this is not the ledger that is noted in {path}-head: its record {number} is another one. If that is \
         meant, remove {path}-head",
        path = path.display()
    )]
    Another {
        /// The ledger's path.
        path: PathBuf,
        /// The record that differs.
        number: u64,
    },
    /// The note of how far a ledger has come cannot be read.
    #[error("{path}: this note cannot be read; run `tollhouse ledger verify`, then remove it", path = note.display())]
    Unnoted {
        /// The note's path.
        note: PathBuf,
    },
    /// It cannot be opened, read or written.
    #[error("{}: the ledger cannot be opened", path.display())]
    Unavailable {
        /// The ledger's path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A ledger in a file.
#[derive(Debug)]
pub struct Sqlite {
    path: PathBuf,
    writer: Worker,
    reader: Worker,
    /// Whether it keeps evidence. A file of an earlier version that was opened for a look does not.
    on_record: bool,
}

impl Sqlite {
    /// Opens a ledger that exists for a look inside; whatever writes through it fails.
    ///
    /// # Errors
    /// When there is no such file, or it is not a ledger, or is too new.
    pub fn inspect(path: &Path) -> Result<Self, OpenError> {
        let unavailable = |source| OpenError::Unavailable { path: path.to_owned(), source };
        let (writing, reading) = (schema::existing(path)?, schema::existing(path)?);
        let on_record = schema::keeps_evidence(&reading).map_err(|error| unavailable(error.into()))?;
        // Whatever is read from now on is one state of the file.
        reading.execute_batch("BEGIN").map_err(|error| unavailable(error.into()))?;
        Ok(Self {
            path: path.to_owned(),
            writer: Worker::reader(writing).map_err(|error| unavailable(error.into()))?,
            reader: Worker::reader(reading).map_err(|error| unavailable(error.into()))?,
            on_record,
        })
    }

    /// Opens the ledger in this file for real money, as [`Self::open`] does, if the file stays where it is.
    ///
    /// # Errors
    /// Those of [`Self::open`], and when the file would be gone with the container, the pod or the machine's next start.
    pub fn open_to_stay(path: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        place::refuse_fleeting(path)?;
        Self::open(path, purpose)
    }

    /// Opens the ledger in this file; makes it, readable by its owner only, when there is none.
    ///
    /// # Errors
    /// When the file is not a ledger, is for the other kind of money, is too new, is not on this machine, or cannot be
    /// used.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        place::refuse_network(path)?;
        let unavailable = |source| OpenError::Unavailable { path: path.to_owned(), source };
        let noted = witness::read(path)?;
        let writing = schema::open(path, purpose)?;
        if let Some(noted) = noted {
            witness::check(path, &writing, &noted)?;
        }
        let reading = schema::connect(path).map_err(|error| unavailable(error.into()))?;
        note(path, &reading);
        let noted = path.to_owned();
        let at_last = move |db: &Connection| note(&noted, db);
        Ok(Self {
            path: path.to_owned(),
            writer: Worker::writer(writing, at_last).map_err(|error| unavailable(error.into()))?,
            reader: Worker::reader(reading).map_err(|error| unavailable(error.into()))?,
            on_record: true,
        })
    }

    /// Opens a ledger that exists for writing, whatever kind of money it remembers.
    ///
    /// # Errors
    /// As `open`, and when there is no such file.
    pub fn open_existing(path: &Path) -> Result<Self, OpenError> {
        let found = schema::purpose(&schema::existing(path)?);
        let found = found.map_err(|error| OpenError::Unavailable { path: path.to_owned(), source: error.into() })?;
        let purpose =
            [Purpose::Sandbox, Purpose::Real].into_iter().find(|purpose| found.as_deref() == Some(purpose.as_str()));
        Self::open(path, purpose.ok_or_else(|| OpenError::Foreign(path.to_owned()))?)
    }

    /// How far the ledger in this file is noted to have come, where it is noted.
    ///
    /// # Errors
    /// When there is a note that cannot be read.
    pub fn noted(path: &Path) -> Result<Option<(ChainId, Head)>, OpenError> {
        Ok(witness::read(path)?.map(|noted| (noted.chain, noted.head)))
    }

    fn on_record(&self) -> Result<&Worker, StoreError> {
        let why = "an earlier version wrote this ledger and kept no evidence; `tollhouse run` brings it up to date";
        if self.on_record { Ok(&self.reader) } else { Err(StoreError(why.into())) }
    }
}

/// Notes how far the file has come. Without a note an older copy would go unnoticed; nothing else depends on it.
fn note(path: &Path, db: &Connection) {
    let noted = evidence::extent(db).map_err(io::Error::other).and_then(|extent| witness::note(path, &extent));
    if let Err(error) = noted {
        tracing::warn!(%error, "how far the ledger has come could not be noted beside it");
    }
}

#[async_trait]
impl Store for Sqlite {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        self.reader
            .ask(move |db| {
                let mut select = db.prepare_cached("SELECT version, entry FROM entries WHERE key = ?1")?;
                let row = select.query_row([key.as_bytes()], Row::read).optional()?;
                Ok(row.map(Row::decode).transpose())
            })
            .await?
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        let swap = writing::Swapping::of(&write)?;
        self.writer.ask(move |db| swap.run(db)).await?
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let (payer, request) = (self::payer(payer), format!("{request:#x}"));
        self.reader
            .ask(move |db| {
                let mut select = db.prepare_cached(
                    "SELECT key, version, entry FROM entries
                     WHERE payer = ?1 AND state IN ('settling', 'undelivered')
                         AND json_extract(entry, '$.sale.request') = ?2
                     ORDER BY created, key LIMIT ?3",
                )?;
                row::page(select.query(params![payer, request, LEFT_OPEN as i64])?)
            })
            .await
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        self.reader
            .ask(move |db| {
                let mut select = db.prepare_cached(match chore {
                    Chore::Settlements => {
                        "SELECT key, version, entry FROM entries
                         WHERE due <= ?1 AND state = 'settling' ORDER BY due LIMIT ?2"
                    }
                    Chore::Declined => {
                        "SELECT key, version, entry FROM entries
                         WHERE due <= ?1 AND state IN ('reserved', 'released', 'exhausted') ORDER BY due LIMIT ?2"
                    }
                    Chore::Deliveries => {
                        "SELECT key, version, entry FROM entries
                         WHERE due <= ?1 AND state NOT IN ('settling', 'reserved', 'released', 'exhausted')
                         ORDER BY due LIMIT ?2"
                    }
                })?;
                row::page(select.query(params![moment(now), limit])?)
            })
            .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let path = self.path.clone();
        // First, so that the chain never begins behind its note: such a note could not be held against it.
        self.reader
            .ask(move |db| {
                note(&path, db);
                Ok(())
            })
            .await?;
        let (mut forgotten, mut step) = (0, Pruned::nothing());
        // In steps, so that no request waits for all of it.
        loop {
            step = self.writer.ask(move |db| writing::prune(db, before, step)).await?;
            forgotten += step.forgotten;
            if step.seen < writing::PRUNED_AT_ONCE {
                step.withheld.tell();
                return Ok(forgotten);
            }
        }
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let payer = filter.payer.map(payer);
        let (route, state) = (filter.route.clone(), filter.state.clone());
        let from = filter.from.map_or(0, moment);
        let to = filter.to.map_or(i64::MAX, moment);
        let (at, last) = filter.behind.map(|(at, key)| (moment(at), *key.as_bytes())).unzip();
        self.reader
            .ask(move |db| {
                let mut select = db.prepare_cached(
                    "SELECT key, version, entry FROM entries
                     WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR payer = ?2) AND (?3 IS NULL OR state = ?3)
                         AND created >= ?4 AND created < ?5
                         AND (?6 IS NULL OR created < ?6 OR (created = ?6 AND key > ?7))
                     ORDER BY created DESC, key LIMIT ?8",
                )?;
                row::page(select.query(params![route, payer, state, from, to, at, last, limit])?)
            })
            .await
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        self.reader
            .ask(move |db| {
                let mut count = db.prepare_cached("SELECT state, count(*) FROM entries GROUP BY state")?;
                let counts = count.query_map([], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.unsigned_abs())))?;
                let mut census = Census { entries: counts.collect::<rusqlite::Result<_>>()?, ..Census::default() };
                let mut open = db.prepare_cached("SELECT key, version, entry FROM entries WHERE state = 'settling'")?;
                let open = row::page(open.query([])?)?;
                open.iter().for_each(|(_, found)| census.weigh(&found.entry, now));
                Ok(census)
            })
            .await
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        // Made before it is known to be needed: of several processes that find none, the first to write decides.
        let fresh = super::memory::fresh_secret()?;
        let name = name.to_owned();
        self.writer.ask(move |db| writing::secret(db, &name, &fresh)).await
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        let name = name.to_owned();
        self.reader.ask(move |db| row::cell(db, &name)).await
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        let (name, value) = (name.to_owned(), value.to_vec());
        self.writer.ask(move |db| writing::swap_cell(db, &name, expected, &value)).await
    }
}

#[async_trait]
impl Archive for Sqlite {
    async fn chains(&self) -> Result<Vec<Extent>, StoreError> {
        self.on_record()?.ask(|db| evidence::extent(db).map(|extent| vec![extent])).await
    }

    async fn records(&self, chain: ChainId, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        self.on_record()?.ask(move |db| evidence::records(db, chain, after, limit)).await
    }

    async fn story(&self, key: PaymentKey) -> Result<Vec<Record>, StoreError> {
        self.on_record()?.ask(move |db| evidence::story(db, key)).await
    }

    async fn standing(&self, after: Option<PaymentKey>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        self.on_record()?.ask(move |db| evidence::standing(db, after, limit)).await
    }

    async fn claims(&self, after: Option<Vec<u8>>, limit: usize) -> Result<Vec<(Vec<u8>, PaymentKey)>, StoreError> {
        self.on_record()?.ask(move |db| evidence::claims(db, after, limit)).await
    }
}
