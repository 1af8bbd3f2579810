//! What takes more than one statement, and so a transaction.

use deadpool_postgres::Transaction;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use super::super::columns::{Columns, Withheld, forgettable, moment, version};
use super::super::evidence::{Body, Content};
use super::super::{Claimed, Spending, StoreError, Version, Write};
use super::connections::{Connections, Lent, Tries, within};
use super::evidence;
use super::failure::Failure;
use crate::payment::PaymentKey;
use crate::primitives::Timestamp;

/// How many entries one step of pruning forgets.
pub(super) const PRUNED_AT_ONCE: u64 = 1000;

/// Of several who insert one key, one writes a row. The others wait for its commit and write none.
const INSERT: &str = "
    INSERT INTO tollhouse_entries (key, version, state, route, payer, network, asset, amount, transaction_hash, created,
        updated, due, forget_after, entry)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
    ON CONFLICT (key) DO NOTHING";

/// Of several who update one version, one writes a row. The others wait for its commit, and then their `WHERE` is held
/// against the row as it stands by then, which is what READ COMMITTED means. A database that knows only stricter levels
/// undoes them instead, and they try again.
const UPDATE: &str = "
    UPDATE tollhouse_entries
    SET version = $2, state = $3, route = $4, payer = $5, network = $6, asset = $7, amount = $8, transaction_hash = $9,
        created = $10, updated = $11, due = $12, forget_after = $13, entry = $14
    WHERE key = $1 AND version = $15";

/// How a write ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Written {
    Applied,
    /// What it expected does not stand, or did not at that moment.
    Beaten,
    Claimed(PaymentKey),
    /// Its payer has no room left on that day.
    Overspent,
}

/// An entry about to be written.
pub(super) struct Writing<'w> {
    key: PaymentKey,
    bytes: &'w [u8],
    expected: Option<i64>,
    version: i64,
    next: Columns,
    claims: &'w [Claimed],
    spending: Option<Spending>,
    /// What goes on record.
    said: Content,
}

impl<'w> Writing<'w> {
    /// Everything that needs no database is done here.
    pub(super) fn of(write: &'w Write<'_>) -> Result<Self, StoreError> {
        let Write { key, expected, claims, spending, .. } = write;
        let version = expected.map_or(1, |version| version + 1);
        let next = Columns::of(write.next)?;
        let said = Body::of(write.step, *key, version, &next.entry, claims)?;
        let (bytes, expected, version) = (key.as_bytes(), expected.map(Version::cast_signed), version.cast_signed());
        Ok(Self { key: *key, bytes, expected, version, next, claims, spending: *spending, said })
    }

    /// The version that it gets.
    pub(super) fn version(&self) -> Version {
        self.version.unsigned_abs()
    }

    /// Writes it if what it expects stands, claims its facts and puts it on record: all of it or nothing.
    pub(super) async fn write(&self, db: &Connections) -> Result<Written, Failure> {
        let mut tries = Tries::default();
        loop {
            let mut lent = db.lend().await?;
            let written = within(self.write_on(&mut lent)).await;
            if let Some(written) = lent.judge(written, &mut tries)? {
                return Ok(written);
            }
        }
    }

    /// One attempt. A transaction that is dropped is rolled back.
    async fn write_on(&self, lent: &mut Lent) -> Result<Written, Failure> {
        let transaction = lent.client().transaction().await?;
        let statement = transaction.prepare_cached(self.sql()).await?;
        if transaction.execute(&statement, &self.values()).await? == 0 {
            transaction.rollback().await?;
            return Ok(Written::Beaten);
        }
        if let Some(spending) = &self.spending
            && !self.spend(&transaction, spending).await?
        {
            transaction.rollback().await?;
            return Ok(Written::Overspent);
        }
        let ended = if self.claims.is_empty() { Written::Applied } else { self.take_facts(&transaction).await? };
        match ended {
            Written::Applied => {
                evidence::append(&transaction, self.key, self.version, &self.said).await?;
                transaction.commit().await?;
            }
            Written::Beaten | Written::Claimed(_) | Written::Overspent => transaction.rollback().await?,
        }
        Ok(ended)
    }

    /// Takes room of a day, and frees room of another one; whether there was room. Payments of one payer take turns here
    /// until their transactions end: what the later one sees is what the earlier one left.
    async fn spend(&self, transaction: &Transaction<'_>, spending: &Spending) -> Result<bool, Failure> {
        let payer = &self.next.payer;
        if let Some(used) = &spending.used {
            let Some(so_far) = used.so_far() else { return Ok(false) };
            let take = transaction
                .prepare_cached(
                    "INSERT INTO tollhouse_spent AS stands (day, payer, amount) VALUES ($1, $2, $3)
                     ON CONFLICT (day, payer) DO UPDATE SET amount = stands.amount + excluded.amount
                     WHERE stands.amount <= $4",
                )
                .await?;
            let (day, amount, so_far) = (used.day.number(), used.amount.cast_signed(), so_far.cast_signed());
            if transaction.execute(&take, &[&day, payer, &amount, &so_far]).await? == 0 {
                return Ok(false);
            }
        }
        if let Some((day, amount)) = spending.freed {
            let free = "UPDATE tollhouse_spent SET amount = GREATEST(amount - $3, 0) WHERE day = $1 AND payer = $2";
            let free = transaction.prepare_cached(free).await?;
            transaction.execute(&free, &[&day.number(), payer, &amount.cast_signed()]).await?;
        }
        Ok(true)
    }

    async fn take_facts(&self, transaction: &Transaction<'_>) -> Result<Written, Failure> {
        let mut facts: Vec<&[u8]> = self.claims.iter().map(|claim| &claim.fact[..]).collect();
        // In one order for everybody: two that claim the same facts then wait for each other and never crosswise.
        facts.sort_unstable();
        facts.dedup();
        let take = transaction
            .prepare_cached(
                "INSERT INTO tollhouse_claims (fact, key) SELECT fact, $2 FROM unnest($1::BYTEA[]) AS fact
                 ON CONFLICT (fact) DO NOTHING",
            )
            .await?;
        if transaction.execute(&take, &[&facts, &self.bytes]).await? == facts.len() as u64 {
            return Ok(Written::Applied);
        }
        let owners = transaction.prepare_cached("SELECT key, fact FROM tollhouse_claims WHERE fact = ANY($1)").await?;
        let owners = transaction.query(&owners, &[&facts]).await?;
        for row in &owners {
            let (owner, fact): (_, &[u8]) = (key_of(row)?, row.try_get(1)?);
            if owner != self.key && self.claims.iter().any(|claim| claim.alone && claim.fact == fact) {
                return Ok(Written::Claimed(owner));
            }
        }
        // One that stood in the way may have been forgotten since; then it is free, and nobody's yet.
        Ok(if owners.len() == facts.len() { Written::Applied } else { Written::Beaten })
    }

    fn sql(&self) -> &'static str {
        if self.expected.is_none() { INSERT } else { UPDATE }
    }

    fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        let next = &self.next;
        #[rustfmt::skip]
        let mut values: Vec<&(dyn ToSql + Sync)> = vec![
            &self.bytes, &self.version, &next.state, &next.route, &next.payer, &next.network, &next.asset,
            &next.amount, &next.transaction, &next.created, &next.updated, &next.due, &next.forget_after, &next.entry,
        ];
        if let Some(expected) = &self.expected {
            values.push(expected);
        }
        values
    }
}

/// Where a step of pruning ended.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Pruned {
    /// How many entries it looked at.
    pub(super) seen: u64,
    /// How many it forgot.
    pub(super) forgotten: u64,
    /// What stays, in this step and those before.
    pub(super) withheld: Withheld,
    /// The column and the key of the last one: the next step begins behind it.
    last: Option<(i64, PaymentKey)>,
}

/// One step of pruning, behind the one before.
pub(super) async fn prune(db: &Connections, before: Timestamp, behind: &Pruned) -> Result<Pruned, Failure> {
    let mut tries = Tries::default();
    loop {
        let mut lent = db.lend().await?;
        let forgotten = within(prune_on(&mut lent, before, behind)).await;
        if let Some(forgotten) = lent.judge(forgotten, &mut tries)? {
            return Ok(forgotten);
        }
    }
}

/// An entry goes only if it says itself that it may, and its record says that it is the one that was written: the column
/// `forget_after` only finds it. Entries first, as everywhere: whoever writes one holds its row before it touches a claim.
async fn prune_on(lent: &mut Lent, before: Timestamp, behind: &Pruned) -> Result<Pruned, Failure> {
    let (at, last) = behind.last.map_or((i64::MIN, Vec::new()), |(at, key)| (at, key.as_bytes().to_vec()));
    let transaction = lent.client().transaction().await?;
    let select = transaction
        .prepare_cached(
            "SELECT entries.key, entries.forget_after, entries.version, entries.entry, evidence.body
             FROM tollhouse_entries AS entries LEFT JOIN tollhouse_evidence AS evidence
                 ON evidence.payment = entries.key AND evidence.version = entries.version
             WHERE entries.forget_after < $1 AND entries.forget_after >= $2
                 AND (entries.forget_after > $2 OR entries.key > $3)
             ORDER BY entries.forget_after, entries.key LIMIT $4 FOR UPDATE OF entries",
        )
        .await?;
    let page = transaction.query(&select, &[&moment(before), &at, &last, &PRUNED_AT_ONCE.cast_signed()]).await?;
    let mut pruned = Pruned { seen: page.len() as u64, forgotten: 0, ..*behind };
    let mut going = Vec::new();
    for row in &page {
        let key = key_of(row)?;
        pruned.last = Some((row.try_get(1)?, key));
        let (written, entry) = (version(row.try_get(2)?), row.try_get::<_, &str>(3)?);
        let said = row.try_get::<_, Option<String>>(4)?.map(Content::Said);
        if forgettable(entry, before) && said.is_some_and(|said| said.is_of(key, written, entry)) {
            going.push(key);
        } else {
            pruned.withheld.add(key);
        }
    }
    let keys: Vec<&[u8]> = going.iter().map(|key| &key.as_bytes()[..]).collect();
    for forget in
        ["DELETE FROM tollhouse_entries WHERE key = ANY($1)", "DELETE FROM tollhouse_claims WHERE key = ANY($1)"]
    {
        let forget = transaction.prepare_cached(forget).await?;
        transaction.execute(&forget, &[&keys]).await?;
    }
    evidence::forget(&transaction, &keys).await?;
    transaction.commit().await?;
    pruned.forgotten = going.len() as u64;
    Ok(pruned)
}

/// The payment key in the first column.
pub(super) fn key_of(row: &Row) -> Result<PaymentKey, Failure> {
    let bytes: &[u8] = row.try_get(0)?;
    let bytes = bytes.try_into().map_err(|_| Failure::other("a payment key in the database has not 32 bytes"))?;
    Ok(PaymentKey::from_bytes(bytes))
}
