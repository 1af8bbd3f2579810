//! What the writing thread does inside its transaction.

use rusqlite::{Connection, OptionalExtension, Row as SqlRow, params};

use super::super::columns::{Columns, Withheld, forgettable, moment, payer, version};
use super::super::evidence::{Body, Content};
use super::super::{CellSwap, Claimed, Day, Spending, StoreError, Swap, Version, Write};
use super::evidence;
use super::row::{Row, cell};
use crate::payment::PaymentKey;
use crate::primitives::{Secret, Timestamp};

/// How many entries one step of pruning forgets.
pub(super) const PRUNED_AT_ONCE: u64 = 1000;

/// A swap, ready for the thread: everything that needs no database is done.
#[derive(Debug)]
pub(super) struct Swapping {
    key: PaymentKey,
    expected: Option<Version>,
    next: Columns,
    claims: Vec<Claimed>,
    spending: Option<Spending>,
    /// What goes on record.
    said: Content,
}

impl Swapping {
    pub(super) fn of(write: &Write<'_>) -> Result<Self, StoreError> {
        let next = Columns::of(write.next)?;
        let said = Body::of(write.step, write.key, following(write.expected), &next.entry, write.claims)?;
        let Write { key, expected, claims, spending, .. } = *write;
        Ok(Self { key, expected, next, claims: claims.to_vec(), spending, said })
    }

    /// The swap of the contract. The outer error is the database's and undoes all of it; the inner one says that what
    /// stands there cannot be read.
    pub(super) fn run(self, db: &Connection) -> rusqlite::Result<Result<Swap, StoreError>> {
        let Self { key, expected, next, claims, spending, said } = self;
        let found = db
            .prepare_cached("SELECT version, evidence FROM entries WHERE key = ?1")?
            .query_row([key.as_bytes()], |row| Ok((version(row.get(0)?), row.get(1)?)))
            .optional()?;
        let (found, prior) = found.unzip();
        if found != expected {
            let row = db
                .prepare_cached("SELECT version, entry FROM entries WHERE key = ?1")?
                .query_row([key.as_bytes()], Row::read)
                .optional()?;
            return Ok(row.map(Row::decode).transpose().map(Swap::Stale));
        }
        for claim in claims.iter().filter(|claim| claim.alone) {
            let owner = db
                .prepare_cached("SELECT key FROM claims WHERE fact = ?1")?
                .query_row([&claim.fact], |row| row.get(0))
                .optional()?
                .map(PaymentKey::from_bytes);
            if let Some(owner) = owner.filter(|owner| *owner != key) {
                return Ok(Ok(Swap::Claimed(owner)));
            }
        }
        if let Some(spending) = &spending
            && !spend(db, spending)?
        {
            return Ok(Ok(Swap::Overspent));
        }
        for claim in &claims {
            db.prepare_cached("INSERT OR IGNORE INTO claims (fact, key) VALUES (?1, ?2)")?
                .execute(params![claim.fact, key.as_bytes()])?;
        }
        let written = following(expected);
        let record = evidence::append(db, said, prior.flatten())?;
        db.prepare_cached(
            "INSERT INTO entries (key, version, state, route, payer, network, asset, amount, transaction_hash,
                 created, updated, due, forget_after, entry, evidence)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15)
             ON CONFLICT (key) DO UPDATE SET
                 version = excluded.version, state = excluded.state, route = excluded.route, payer = excluded.payer,
                 network = excluded.network, asset = excluded.asset, amount = excluded.amount,
                 transaction_hash = excluded.transaction_hash, created = excluded.created, updated = excluded.updated,
                 due = excluded.due, forget_after = excluded.forget_after, entry = excluded.entry,
                 evidence = excluded.evidence",
        )?
        .execute(params![
            key.as_bytes(),
            written.cast_signed(),
            next.state,
            next.route,
            next.payer,
            next.network,
            next.asset,
            next.amount,
            next.transaction,
            next.created,
            next.updated,
            next.due,
            next.forget_after,
            next.entry,
            record,
        ])?;
        Ok(Ok(Swap::Applied(written)))
    }
}

/// Takes room of a day, and frees room of another one. Changes nothing when there is none to take.
fn spend(db: &Connection, spending: &Spending) -> rusqlite::Result<bool> {
    let payer = payer(spending.payer);
    if let Some(used) = &spending.used {
        let Some(so_far) = used.so_far() else { return Ok(false) };
        let taken = db
            .prepare_cached(
                "INSERT INTO spent (day, payer, amount) VALUES (?1, ?2, ?3)
                 ON CONFLICT (day, payer) DO UPDATE SET amount = amount + excluded.amount WHERE amount <= ?4",
            )?
            .execute(params![used.day.number(), payer, used.amount.cast_signed(), so_far.cast_signed()])?;
        if taken == 0 {
            return Ok(false);
        }
    }
    if let Some((day, amount)) = spending.freed {
        db.prepare_cached("UPDATE spent SET amount = max(amount - ?3, 0) WHERE day = ?1 AND payer = ?2")?
            .execute(params![day.number(), payer, amount.cast_signed()])?;
    }
    Ok(true)
}

/// The version of an entry that is written over this one.
fn following(expected: Option<Version>) -> Version {
    expected.map_or(1, |version| version + 1)
}

/// The swap of a cell.
pub(super) fn swap_cell(
    db: &Connection,
    name: &str,
    expected: Option<Version>,
    value: &[u8],
) -> rusqlite::Result<CellSwap> {
    let found = cell(db, name)?;
    if found.as_ref().map(|(version, _)| *version) != expected {
        return Ok(CellSwap::Stale(found));
    }
    let written = expected.map_or(1, |version| version + 1);
    db.prepare_cached(
        "INSERT INTO cells (name, version, value) VALUES (?1, ?2, ?3)
         ON CONFLICT (name) DO UPDATE SET version = excluded.version, value = excluded.value",
    )?
    .execute(params![name, written.cast_signed(), value])?;
    Ok(CellSwap::Applied(written))
}

/// Where a step of pruning ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pruned {
    /// How many entries it looked at.
    pub(super) seen: u64,
    /// How many it forgot.
    pub(super) forgotten: u64,
    /// What stays, in this step and those before.
    pub(super) withheld: Withheld,
    /// The column and the row of the last one: the next step begins behind it.
    pub(super) last: (i64, i64),
}

impl Pruned {
    /// Before the first step.
    pub(super) fn nothing() -> Self {
        Self { seen: 0, forgotten: 0, withheld: Withheld::default(), last: (i64::MIN, i64::MIN) }
    }
}

/// One step of pruning, behind the one before. An entry goes only if it says itself that it may, and its record says
/// that it is the one that was written: the column `forget_after` only finds it.
pub(super) fn prune(db: &Connection, before: Timestamp, behind: Pruned) -> rusqlite::Result<Pruned> {
    let mut select = db.prepare_cached(
        "SELECT forget_after, rowid, key, version, entry FROM entries
         WHERE forget_after < ?1 AND (forget_after, rowid) > (?2, ?3) ORDER BY forget_after, rowid LIMIT ?4",
    )?;
    let (at, row) = behind.last;
    let candidate = |row: &SqlRow<'_>| {
        let (key, version) = (PaymentKey::from_bytes(row.get(2)?), version(row.get(3)?));
        // What is no text is no entry either.
        let entry = row.get_ref(4)?.as_str().unwrap_or_default();
        let may_go = forgettable(entry, before) && evidence::stands(db, key, version, entry)?;
        Ok(((row.get(0)?, row.get(1)?), key, may_go))
    };
    let candidates: Vec<_> = select
        .query_map(params![moment(before), at, row, PRUNED_AT_ONCE.cast_signed()], candidate)?
        .collect::<rusqlite::Result<_>>()?;
    let mut pruned = Pruned { seen: candidates.len() as u64, forgotten: 0, ..behind };
    for (place, key, may_go) in candidates {
        pruned.last = place;
        if !may_go {
            pruned.withheld.add(key);
            continue;
        }
        evidence::forget(db, key)?;
        db.prepare_cached("DELETE FROM claims WHERE key = ?1")?.execute([key.as_bytes()])?;
        db.prepare_cached("DELETE FROM entries WHERE key = ?1")?.execute([key.as_bytes()])?;
        pruned.forgotten += 1;
    }
    db.prepare_cached("DELETE FROM spent WHERE day < ?1")?.execute([Day::of(before).before().number()])?;
    evidence::cut(db)?;
    Ok(pruned)
}

/// The secret of this name; `fresh` becomes it when there is none.
pub(super) fn secret(db: &Connection, name: &str, fresh: &Secret<[u8; 32]>) -> rusqlite::Result<Secret<[u8; 32]>> {
    db.prepare_cached("INSERT OR IGNORE INTO secrets (name, value) VALUES (?1, ?2)")?
        .execute(params![name, fresh.expose()])?;
    db.prepare_cached("SELECT value FROM secrets WHERE name = ?1")?.query_row([name], |row| row.get(0).map(Secret::new))
}
