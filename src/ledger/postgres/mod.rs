//! A ledger in a PostgreSQL database: the one that several machines share (S5). CockroachDB understands it too.
//!
//! Every rule about payments is in [`Entry::apply`](super::Entry::apply), so all the database has to do is
//! compare-and-swap, and one statement is enough for that; its transaction also holds what goes on record. Every
//! transaction is READ COMMITTED: where two meet, the later one sees what the earlier one left.
//!
//! A write whose connection breaks may have happened: it is an error here, and the trait says what that means. A write
//! that the database says it has undone is tried again.

mod address;
mod connections;
mod evidence;
mod failure;
mod schema;
mod writing;

#[cfg(test)]
mod tests;

use alloy::primitives::B256;
use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use zeroize::Zeroize;

use super::columns::{decode, moment, payer, version};
use super::evidence::{ChainId, Extent, Record, Standing};
use super::store::LEFT_OPEN;
use super::{
    Archive, CellSwap, Census, Chore, Day, Filter, Purpose, Store, StoreError, Swap, Version, Versioned, Write,
};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Secret, Timestamp};
use connections::{Connections, Use};
use failure::Failure;
use schema::About;
use writing::{Pruned, Writing, Written, key_of};

pub use address::{PostgresUrl, UrlError};

/// How often a swap looks again because what stood in its way has gone.
const RACES: usize = 8;

/// Why a database cannot be the ledger. All of them are the operator's to fix.
#[derive(Debug, thiserror::Error)]
pub enum PostgresError {
    /// Nobody ever made a ledger there.
    #[error("{0}: there is no ledger in this database")]
    Empty(PostgresUrl),
    /// A later version of tollhouse wrote it.
    #[error("{at}: this ledger has schema {found}; this version of tollhouse knows {}", schema::SCHEMA)]
    Newer {
        /// The database.
        at: PostgresUrl,
        /// What it says.
        found: i64,
    },
    /// It remembers the other kind of money.
    #[error("{at}: this ledger is for {found} payments, not for {} ones", wanted.as_str())]
    WrongPurpose {
        /// The database.
        at: PostgresUrl,
        /// What it says.
        found: String,
        /// What was asked for.
        wanted: Purpose,
    },
    /// It cannot be reached, read or written.
    #[error("{at}: the ledger cannot be opened")]
    Unavailable {
        /// The database.
        at: PostgresUrl,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// A ledger in a database.
#[derive(Debug)]
pub struct Postgres(Connections);

impl Postgres {
    /// Opens the ledger in this database, and makes it when there is none.
    ///
    /// # Errors
    /// When the database cannot be reached or holds something else, newer, or for the other kind of money.
    pub async fn open(url: &PostgresUrl, purpose: Purpose) -> Result<Self, PostgresError> {
        let unavailable = |failure: Failure| unavailable(url, failure);
        let db = Connections::to(url, Use::Everything).map_err(unavailable)?;
        let About { schema: found, purpose: word } = schema::prepare(&db, purpose).await.map_err(unavailable)?;
        if word != purpose.as_str() {
            return Err(PostgresError::WrongPurpose { at: url.clone(), found: word, wanted: purpose });
        }
        if found > schema::SCHEMA {
            return Err(PostgresError::Newer { at: url.clone(), found });
        }
        Ok(Self(db))
    }

    /// Opens a ledger that exists for writing, whatever kind of money it remembers.
    ///
    /// # Errors
    /// As `open`, and when there is none.
    pub async fn open_existing(url: &PostgresUrl) -> Result<Self, PostgresError> {
        let unavailable = |failure: Failure| unavailable(url, failure);
        let db = Connections::to(url, Use::Looking).map_err(unavailable)?;
        let found = schema::look(&db).await.map_err(unavailable)?.ok_or_else(|| PostgresError::Empty(url.clone()))?;
        let purpose = [Purpose::Sandbox, Purpose::Real].into_iter().find(|purpose| found.purpose == purpose.as_str());
        let purpose = purpose.ok_or_else(|| unavailable(Failure::other("it is for no kind of money we know")))?;
        Self::open(url, purpose).await
    }

    /// Opens a ledger that exists for a look inside; whatever writes through it fails.
    ///
    /// # Errors
    /// When the database cannot be reached, or there is no ledger in it, or one that is too new.
    pub async fn inspect(url: &PostgresUrl) -> Result<Self, PostgresError> {
        let unavailable = |failure: Failure| unavailable(url, failure);
        let db = Connections::to(url, Use::Looking).map_err(unavailable)?;
        match schema::look(&db).await.map_err(unavailable)? {
            None => Err(PostgresError::Empty(url.clone())),
            Some(About { schema: found, .. }) if found > schema::SCHEMA => {
                Err(PostgresError::Newer { at: url.clone(), found })
            }
            Some(_) => Ok(Self(db)),
        }
    }
}

fn unavailable(url: &PostgresUrl, failure: Failure) -> PostgresError {
    let StoreError(source) = failure.into();
    PostgresError::Unavailable { at: url.clone(), source }
}

#[async_trait]
impl Store for Postgres {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        let select = "SELECT key, version, entry FROM tollhouse_entries WHERE key = $1";
        let rows = self.0.query(select, &[&&key.as_bytes()[..]]).await?;
        rows.first().map(versioned).transpose()
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        let writing = Writing::of(&write)?;
        for _ in 0..RACES {
            match writing.write(&self.0).await? {
                Written::Applied => return Ok(Swap::Applied(writing.version())),
                Written::Claimed(owner) => return Ok(Swap::Claimed(owner)),
                Written::Overspent => return Ok(Swap::Overspent),
                Written::Beaten => {}
            }
            let standing = self.load(write.key).await?;
            // What stood in the way may have been forgotten since, and then what was expected stands again.
            if standing.as_ref().map(|found| found.version) != write.expected {
                return Ok(Swap::Stale(standing));
            }
        }
        Err(StoreError("the entry changes too fast to be written".into()))
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let (payer, request) = (self::payer(payer), format!("{request:#x}"));
        let select = "SELECT key, version, entry FROM tollhouse_entries
             WHERE payer = $1 AND state IN ('settling', 'undelivered')
                 AND CAST(entry AS JSONB) #>> '{sale,request}' = $2
             ORDER BY created, key LIMIT $3";
        Ok(page(&self.0.query(select, &[&payer, &request, &at_most(LEFT_OPEN)]).await?)?)
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        // Each in the words of its partial index.
        let select = match chore {
            Chore::Settlements => {
                "SELECT key, version, entry FROM tollhouse_entries
                 WHERE due <= $1 AND state = 'settling' ORDER BY due LIMIT $2"
            }
            // These two share one, which names the first condition.
            Chore::Declined => {
                "SELECT key, version, entry FROM tollhouse_entries
                 WHERE due <= $1 AND due IS NOT NULL AND state <> 'settling'
                     AND state IN ('reserved', 'released', 'exhausted') ORDER BY due LIMIT $2"
            }
            Chore::Deliveries => {
                "SELECT key, version, entry FROM tollhouse_entries
                 WHERE due <= $1 AND due IS NOT NULL AND state <> 'settling'
                     AND state NOT IN ('reserved', 'released', 'exhausted') ORDER BY due LIMIT $2"
            }
        };
        Ok(page(&self.0.query(select, &[&moment(now), &at_most(limit)]).await?)?)
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let (mut forgotten, mut step) = (0, Pruned::default());
        // In steps, so that no request waits for all of it.
        loop {
            step = writing::prune(&self.0, before, &step).await?;
            forgotten += step.forgotten;
            if step.seen < writing::PRUNED_AT_ONCE {
                break;
            }
        }
        step.withheld.tell();
        let old = "DELETE FROM tollhouse_spent WHERE day < $1";
        self.0.execute(old, &[&Day::of(before).before().number()]).await?;
        evidence::cut(&self.0).await?;
        Ok(forgotten)
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let (payer, limit) = (filter.payer.map(payer), at_most(filter.limit));
        let (from, to) = (filter.from.map(moment), filter.to.map(moment));
        let behind = filter.behind.map(|(at, key)| (moment(at), key.as_bytes().to_vec()));
        // Only what is asked for stands in the statement, so that an index of it can be used.
        let mut wanted: Vec<(&str, &(dyn ToSql + Sync))> = Vec::new();
        wanted.extend(filter.route.as_ref().map(|route| ("AND route = ", route as _)));
        wanted.extend(payer.as_ref().map(|payer| ("AND payer = ", payer as _)));
        wanted.extend(filter.state.as_ref().map(|state| ("AND state = ", state as _)));
        wanted.extend(from.as_ref().map(|from| ("AND created >= ", from as _)));
        wanted.extend(to.as_ref().map(|to| ("AND created < ", to as _)));
        if let Some((at, last)) = &behind {
            wanted.extend([("AND created <= ", at as _), ("AND (created < ", at as _), ("OR key > ", last as _)]);
        }
        let mut select = String::from("SELECT key, version, entry FROM tollhouse_entries WHERE true");
        let mut values: Vec<&(dyn ToSql + Sync)> = Vec::new();
        for (condition, value) in wanted {
            values.push(value);
            select += &format!(" {condition}${}", values.len());
        }
        select += if behind.is_some() { ")" } else { "" };
        values.push(&limit);
        select += &format!(" ORDER BY created DESC, key LIMIT ${}", values.len());
        Ok(page(&self.0.query(&select, &values).await?)?)
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        let mut census = Census::default();
        let counts = self.0.query("SELECT state, count(*) FROM tollhouse_entries GROUP BY state", &[]).await?;
        for row in &counts {
            let (state, count): (String, i64) = (row.try_get(0).map_err(unread)?, row.try_get(1).map_err(unread)?);
            census.entries.insert(state, count.unsigned_abs());
        }
        let open = "SELECT key, version, entry FROM tollhouse_entries WHERE state = 'settling'";
        let open = page(&self.0.query(open, &[]).await?)?;
        open.iter().for_each(|(_, found)| census.weigh(&found.entry, now));
        Ok(census)
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        // Made before it is known to be needed: of several processes that find none, the first to write decides.
        let fresh = super::memory::fresh_secret()?;
        let insert = "INSERT INTO tollhouse_secrets (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
        self.0.execute(insert, &[&name, &&fresh.expose()[..]]).await?;
        let rows = self.0.query("SELECT value FROM tollhouse_secrets WHERE name = $1", &[&name]).await?;
        let row = rows.first().ok_or_else(|| StoreError("a secret of the ledger has gone".into()))?;
        let mut value: Vec<u8> = row.try_get(0).map_err(unread)?;
        let secret = <[u8; 32]>::try_from(&value[..]).map(Secret::new);
        value.zeroize();
        secret.map_err(|_| StoreError("a secret of the ledger has not 32 bytes".into()))
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        let rows = self.0.query("SELECT version, value FROM tollhouse_cells WHERE name = $1", &[&name]).await?;
        let cell = |row: &Row| Ok((version(row.try_get(0)?), row.try_get(1)?));
        rows.first().map(cell).transpose().map_err(unread)
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        let written = match expected.map(Version::cast_signed) {
            None => {
                let insert = "INSERT INTO tollhouse_cells (name, version, value) VALUES ($1, 1, $2)
                              ON CONFLICT (name) DO NOTHING";
                self.0.execute(insert, &[&name, &value]).await?
            }
            Some(expected) => {
                let update = "UPDATE tollhouse_cells SET version = version + 1, value = $2
                              WHERE name = $1 AND version = $3";
                self.0.execute(update, &[&name, &value, &expected]).await?
            }
        };
        if written == 1 {
            return Ok(CellSwap::Applied(expected.map_or(1, |version| version + 1)));
        }
        // Cells are never forgotten and their versions only grow, so what is found now is not what was expected.
        Ok(CellSwap::Stale(self.cell(name).await?))
    }
}

#[async_trait]
impl Archive for Postgres {
    async fn chains(&self) -> Result<Vec<Extent>, StoreError> {
        Ok(evidence::chains(&self.0).await?)
    }

    async fn records(&self, chain: ChainId, after: u64, limit: usize) -> Result<Vec<Record>, StoreError> {
        Ok(evidence::records(&self.0, chain, after, at_most(limit)).await?)
    }

    async fn story(&self, key: PaymentKey) -> Result<Vec<Record>, StoreError> {
        Ok(evidence::story(&self.0, key).await?)
    }

    async fn standing(&self, after: Option<PaymentKey>, limit: usize) -> Result<Vec<Standing>, StoreError> {
        Ok(evidence::standing(&self.0, after, at_most(limit)).await?)
    }

    async fn claims(&self, after: Option<Vec<u8>>, limit: usize) -> Result<Vec<(Vec<u8>, PaymentKey)>, StoreError> {
        Ok(evidence::claims(&self.0, after, at_most(limit)).await?)
    }
}

/// An entry from `key, version, entry`.
fn versioned(row: &Row) -> Result<Versioned, StoreError> {
    decode(row.try_get(1).map_err(unread)?, row.try_get(2).map_err(unread)?)
}

/// Every row of `key, version, entry`. One that cannot be read does not hide the others; it is logged.
fn page(rows: &[Row]) -> Result<Vec<(PaymentKey, Versioned)>, Failure> {
    let mut page = Vec::with_capacity(rows.len());
    for row in rows {
        let key = key_of(row)?;
        match versioned(row) {
            Ok(found) => page.push((key, found)),
            Err(StoreError(error)) => tracing::error!(payment = %key, %error, "a ledger entry cannot be read"),
        }
    }
    Ok(page)
}

/// A column is not of the type that it was made with.
fn unread(error: tokio_postgres::Error) -> StoreError {
    Failure::from(error).into()
}

fn at_most(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}
