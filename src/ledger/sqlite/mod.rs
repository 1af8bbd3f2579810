//! A ledger in one file of this machine. Two processes may share it, so that one can take over from another (S68).
//!
//! Writes go through one thread that groups them into a commit; reads through another, on a connection of their
//! own. Neither ever runs on a thread of the async runtime.

mod row;
mod schema;
mod worker;
mod writing;

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use alloy::primitives::B256;
use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use super::store::LEFT_OPEN;
use super::{Census, Chore, Claimed, Entry, Filter, Store, StoreError, Swap, Version, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Secret, Timestamp};
use row::Row;
use worker::Worker;

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
    writer: Worker,
    reader: Worker,
}

impl Sqlite {
    /// Opens a ledger that exists for a look inside; whatever writes through it fails.
    ///
    /// # Errors
    /// When there is no such file, or it is not a ledger, or is too new.
    pub fn inspect(path: &Path) -> Result<Self, OpenError> {
        let unavailable = |source| OpenError::Unavailable { path: path.to_owned(), source };
        Ok(Self {
            writer: Worker::reader(schema::existing(path)?).map_err(|error| unavailable(error.into()))?,
            reader: Worker::reader(schema::existing(path)?).map_err(|error| unavailable(error.into()))?,
        })
    }

    /// Opens the ledger in this file; makes it, readable by its owner only, when there is none.
    ///
    /// # Errors
    /// When the file is not a ledger, is for the other kind of money, is too new, or cannot be used.
    pub fn open(path: &Path, purpose: Purpose) -> Result<Self, OpenError> {
        let unavailable = |source| OpenError::Unavailable { path: path.to_owned(), source };
        let writing = schema::open(path, purpose)?;
        let reading = schema::connect(path).map_err(|error| unavailable(error.into()))?;
        Ok(Self {
            writer: Worker::writer(writing).map_err(|error| unavailable(error.into()))?,
            reader: Worker::reader(reading).map_err(|error| unavailable(error.into()))?,
        })
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

    async fn swap(
        &self,
        key: PaymentKey,
        expected: Option<Version>,
        next: &Entry,
        claims: &[Claimed],
    ) -> Result<Swap, StoreError> {
        let row = row::Columns::of(next)?;
        let claims = claims.to_vec();
        self.writer.ask(move |db| writing::swap(db, key, expected, &row, &claims)).await?
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let (payer, request) = (row::payer(payer), format!("{request:#x}"));
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
                let mut select = db.prepare_cached(
                    "SELECT key, version, entry FROM entries
                     WHERE due <= ?1 AND (state = 'settling') = ?2 ORDER BY due LIMIT ?3",
                )?;
                let settlements = chore == Chore::Settlements;
                row::page(select.query(params![row::moment(now), settlements, limit])?)
            })
            .await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let mut forgotten = 0;
        // In steps, so that no request waits for all of it.
        loop {
            let step = self.writer.ask(move |db| writing::prune(db, before)).await?;
            forgotten += step;
            if step < writing::PRUNED_AT_ONCE {
                return Ok(forgotten);
            }
        }
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let limit = i64::try_from(filter.limit).unwrap_or(i64::MAX);
        let payer = filter.payer.map(row::payer);
        let (route, state) = (filter.route.clone(), filter.state.clone());
        self.reader
            .ask(move |db| {
                let mut select = db.prepare_cached(
                    "SELECT key, version, entry FROM entries
                     WHERE (?1 IS NULL OR route = ?1) AND (?2 IS NULL OR payer = ?2) AND (?3 IS NULL OR state = ?3)
                     ORDER BY created DESC, key LIMIT ?4",
                )?;
                row::page(select.query(params![route, payer, state, limit])?)
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
}
