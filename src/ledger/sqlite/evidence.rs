//! The chain of a file: one, because whoever writes to the file waits for its turn anyway.
//!
//! A record names the one before it of the same payment (`prior`), and an entry its latest. That is a way through the
//! table without another index, and no part of what is hashed.

use alloy::primitives::B256;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::super::columns::{Columns, version};
use super::super::evidence::{
    ADOPTED, Agreement, Author, Body, ChainId, Content, Extent, Head, Record, Standing, Step, sum,
};
use super::super::{StoreError, Version};
use crate::payment::PaymentKey;
use crate::primitives::Timestamp;

/// The chain's extent, its records, and the way from an entry to its latest record.
const TABLES: &str = "
    CREATE TABLE chain (
        id BLOB PRIMARY KEY CHECK (length(id) = 16),
        base INTEGER NOT NULL,
        base_hash BLOB NOT NULL CHECK (length(base_hash) = 32),
        number INTEGER NOT NULL,
        hash BLOB NOT NULL CHECK (length(hash) = 32)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE evidence (
        number INTEGER PRIMARY KEY,
        hash BLOB NOT NULL CHECK (length(hash) = 32),
        prior INTEGER,
        body TEXT,
        digest BLOB,
        CHECK ((body IS NULL) <> (digest IS NULL))
    ) STRICT;
    ALTER TABLE entries ADD COLUMN evidence INTEGER;
    INSERT INTO chain (id, base, base_hash, number, hash) VALUES (randomblob(16), 0, zeroblob(32), 0, zeroblob(32));
";

/// How many records one step forgets altogether.
const CUT_AT_ONCE: i64 = 1000;

/// Gives a file its chain, and puts what it already remembers on record.
pub(super) fn begin(db: &Connection) -> rusqlite::Result<()> {
    db.execute_batch(TABLES)?;
    let author = Author::process("upgrade");
    let mut select = db.prepare("SELECT key, version, entry, updated FROM entries ORDER BY created, key")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (key, entry) = (PaymentKey::from_bytes(row.get(0)?), row.get_ref(2)?.as_str()?);
        let at = Timestamp::from_millis(row.get::<_, i64>(3)?.unsigned_abs());
        let step = Step::named(ADOPTED, at, &author);
        let content = Body::of(&step, key, version(row.get(1)?), entry, &[]).map_err(unwritable)?;
        let number = append(db, content, None)?;
        db.prepare_cached("UPDATE entries SET evidence = ?2 WHERE key = ?1")?
            .execute(params![key.as_bytes(), number])?;
    }
    Ok(())
}

/// Puts one more record on the chain; returns its number.
pub(super) fn append(db: &Connection, content: Content, prior: Option<i64>) -> rusqlite::Result<i64> {
    let extent = extent(db)?;
    let record = extent.head.append(extent.chain, content);
    let (body, digest) = match &record.content {
        Content::Said(body) => (Some(body), None),
        Content::Forgotten(digest) => (None, Some(digest.as_slice())),
    };
    let (number, hash) = (record.head.number.cast_signed(), record.head.hash.as_slice());
    db.prepare_cached("INSERT INTO evidence (number, hash, prior, body, digest) VALUES (?1, ?2, ?3, ?4, ?5)")?
        .execute(params![number, hash, prior, body, digest])?;
    db.prepare_cached("UPDATE chain SET number = ?1, hash = ?2")?.execute(params![number, hash])?;
    Ok(number)
}

/// The chain and how far it reaches.
pub(super) fn extent(db: &Connection) -> rusqlite::Result<Extent> {
    db.prepare_cached("SELECT id, base, base_hash, number, hash FROM chain")?.query_row([], |row| {
        let head = |number, hash| -> rusqlite::Result<Head> {
            Ok(Head { number: row.get::<_, i64>(number)?.unsigned_abs(), hash: B256::new(row.get(hash)?) })
        };
        Ok(Extent { chain: ChainId(row.get(0)?), base: head(1, 2)?, head: head(3, 4)? })
    })
}

/// Records from behind this number on.
pub(super) fn records(db: &Connection, chain: ChainId, after: u64, limit: usize) -> rusqlite::Result<Vec<Record>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    db.prepare_cached(
        "SELECT number, hash, body, digest FROM evidence
         WHERE number > ?1 AND EXISTS (SELECT 1 FROM chain WHERE id = ?2) ORDER BY number LIMIT ?3",
    )?
    .query_map(params![after, chain.0, limit], |row| record(chain, row))?
    .collect()
}

/// The hash of one record; `None` when there is none.
pub(super) fn hash_of(db: &Connection, number: u64) -> rusqlite::Result<Option<B256>> {
    db.prepare_cached("SELECT hash FROM evidence WHERE number = ?1")?
        .query_row([i64::try_from(number).unwrap_or(i64::MAX)], |row| row.get(0).map(B256::new))
        .optional()
}

/// What is on record of one payment: from its latest record back to the first.
pub(super) fn story(db: &Connection, key: PaymentKey) -> rusqlite::Result<Vec<Record>> {
    let chain = extent(db)?.chain;
    let mut next = latest(db, key)?;
    let mut records = Vec::new();
    while let Some(number) = next {
        let mut select =
            db.prepare_cached("SELECT number, hash, body, digest, prior FROM evidence WHERE number = ?1")?;
        let found =
            select.query_row([number], |row| Ok((record(chain, row)?, row.get::<_, Option<i64>>(4)?))).optional()?;
        let Some((record, prior)) = found else { break };
        // A way that was bent leads to another payment, whose records are not this one's to tell, or to forget.
        if record.content.body().is_ok_and(|body| body.is_none_or(|body| body.payment != Some(key))) {
            break;
        }
        records.push(record);
        // Whatever was done to the file, the way leads back and ends.
        next = prior.filter(|prior| *prior < number);
    }
    records.reverse();
    Ok(records)
}

/// Entries in the order of their keys.
pub(super) fn standing(db: &Connection, after: Option<PaymentKey>, limit: usize) -> rusqlite::Result<Vec<Standing>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let after = after.map(|key| *key.as_bytes());
    db.prepare_cached(
        "SELECT key, version, entry, state, route, payer, network, asset, amount, transaction_hash, created, updated, due,
             forget_after
         FROM entries WHERE ?1 IS NULL OR key > ?1 ORDER BY key LIMIT ?2",
    )?
    .query_map(params![after, limit], |row| {
        Ok(Standing {
            key: PaymentKey::from_bytes(row.get(0)?),
            version: version(row.get(1)?),
            entry: sum(row.get_ref(2)?.as_bytes()?),
            columns: columns(row).map_or(Agreement::Unreadable, |columns| columns.agreement()),
        })
    })?
    .collect()
}

/// From `entry` and the columns beside it, from the third on. Not everything that can stand there is text.
fn columns(row: &Row<'_>) -> rusqlite::Result<Columns> {
    Ok(Columns {
        entry: row.get(2)?,
        state: row.get::<_, String>(3)?.into(),
        route: row.get(4)?,
        payer: row.get(5)?,
        network: row.get(6)?,
        asset: row.get(7)?,
        amount: row.get(8)?,
        transaction: row.get(9)?,
        created: row.get(10)?,
        updated: row.get(11)?,
        due: row.get(12)?,
        forget_after: row.get(13)?,
    })
}

/// Whether the latest record of a payment is the one of this writing of its entry.
pub(super) fn stands(db: &Connection, key: PaymentKey, version: Version, entry: &str) -> rusqlite::Result<bool> {
    let Some(number) = latest(db, key)? else { return Ok(false) };
    let chain = extent(db)?.chain;
    let mut select = db.prepare_cached("SELECT number, hash, body, digest FROM evidence WHERE number = ?1")?;
    let record = select.query_row([number], |row| record(chain, row)).optional()?;
    Ok(record.is_some_and(|record| record.content.is_of(key, version, entry)))
}

/// Facts that are claimed, in their order, and by whom.
pub(super) fn claims(
    db: &Connection,
    after: Option<Vec<u8>>,
    limit: usize,
) -> rusqlite::Result<Vec<(Vec<u8>, PaymentKey)>> {
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    db.prepare_cached("SELECT fact, key FROM claims WHERE ?1 IS NULL OR fact > ?1 ORDER BY fact LIMIT ?2")?
        .query_map(params![after, limit], |row| Ok((row.get(0)?, PaymentKey::from_bytes(row.get(1)?))))?
        .collect()
}

/// The latest record of a payment.
pub(super) fn latest(db: &Connection, key: PaymentKey) -> rusqlite::Result<Option<i64>> {
    db.prepare_cached("SELECT evidence FROM entries WHERE key = ?1")?
        .query_row([key.as_bytes()], |row| row.get(0))
        .optional()
        .map(Option::flatten)
}

/// Forgets what the records of a payment say; the hash of it stays, so the chain holds (S67).
pub(super) fn forget(db: &Connection, key: PaymentKey) -> rusqlite::Result<()> {
    for record in story(db, key)? {
        let digest = record.content.digest();
        db.prepare_cached("UPDATE evidence SET body = NULL, digest = ?2, prior = NULL WHERE number = ?1")?
            .execute(params![record.head.number.cast_signed(), digest.as_slice()])?;
    }
    Ok(())
}

/// Drops forgotten records from the beginning of the chain, which then begins behind the last one dropped.
pub(super) fn cut(db: &Connection) -> rusqlite::Result<()> {
    let kept: Option<i64> = db
        .prepare_cached("SELECT number FROM evidence WHERE body IS NOT NULL ORDER BY number LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    let extent = extent(db)?;
    let base = extent.base.number.cast_signed();
    let last = kept.map_or(extent.head.number.cast_signed(), |kept| kept - 1).min(base + CUT_AT_ONCE);
    if last <= base {
        return Ok(());
    }
    db.prepare_cached("UPDATE chain SET base = ?1, base_hash = (SELECT hash FROM evidence WHERE number = ?1)")?
        .execute([last])?;
    db.prepare_cached("DELETE FROM evidence WHERE number <= ?1")?.execute([last])?;
    Ok(())
}

/// From `number, hash, body, digest`.
fn record(chain: ChainId, row: &Row<'_>) -> rusqlite::Result<Record> {
    let content = match (row.get::<_, Option<String>>(2)?, row.get::<_, Option<[u8; 32]>>(3)?) {
        (Some(body), _) => Content::Said(body),
        (None, digest) => Content::Forgotten(digest.map(B256::new).unwrap_or_default()),
    };
    let head = Head { number: row.get::<_, i64>(0)?.unsigned_abs(), hash: B256::new(row.get(1)?) };
    Ok(Record { chain, head, content })
}

fn unwritable(error: StoreError) -> rusqlite::Error {
    rusqlite::Error::ToSqlConversionFailure(error.0)
}
