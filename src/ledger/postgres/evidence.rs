//! The chains of a database: a few, so that writers seldom wait for one another.
//!
//! A chain is a row that says where it ends. Whoever writes an entry takes the first chain that nobody holds, and holds
//! it to the end of its transaction. Which one that is does not matter: a payment's records are in order by the versions
//! they name, wherever they stand.

use alloy::primitives::B256;
use deadpool_postgres::Transaction;
use ring::rand::{SecureRandom, SystemRandom};
use tokio_postgres::Row;

use super::super::columns::{Columns, version};
use super::super::evidence::{ChainId, Content, Extent, Head, Record, Standing, sum};
use super::connections::{Connections, Lent, Tries, Values, within};
use super::failure::Failure;
use super::writing::key_of;
use crate::payment::PaymentKey;

/// How many chains there are: more than the connections of a replica or two write at once.
const CHAINS: usize = 32;

/// How many records one step drops from the beginning of a chain.
const CUT_AT_ONCE: i64 = 1000;

/// A record's number, hash, and what it says, which is nothing once it was forgotten; then its digest stays.
pub(super) const TABLES: &str = "
    CREATE TABLE tollhouse_chains (
        id BYTEA PRIMARY KEY CHECK (octet_length(id) = 16),
        base BIGINT NOT NULL,
        base_hash BYTEA NOT NULL CHECK (octet_length(base_hash) = 32),
        number BIGINT NOT NULL,
        hash BYTEA NOT NULL CHECK (octet_length(hash) = 32)
    );
    CREATE TABLE tollhouse_evidence (
        chain BYTEA NOT NULL,
        number BIGINT NOT NULL,
        hash BYTEA NOT NULL CHECK (octet_length(hash) = 32),
        digest BYTEA NOT NULL CHECK (octet_length(digest) = 32),
        body TEXT,
        payment BYTEA,
        version BIGINT,
        PRIMARY KEY (chain, number)
    );
    CREATE INDEX tollhouse_evidence_payment ON tollhouse_evidence (payment, version) WHERE payment IS NOT NULL;
";

/// Begins the chains.
pub(super) async fn begin(taking: &Transaction<'_>) -> Result<(), Failure> {
    let mut ids = [[0; 16]; CHAINS];
    SystemRandom::new().fill(ids.as_flattened_mut()).map_err(|_| Failure::other("the system has no randomness"))?;
    let ids: Vec<&[u8]> = ids.iter().map(|id| &id[..]).collect();
    let insert = "INSERT INTO tollhouse_chains (id, base, base_hash, number, hash)
                  SELECT id, 0, $2, 0, $2 FROM unnest($1::BYTEA[]) AS id";
    taking.execute(insert, &[&ids, &B256::ZERO.as_slice()]).await?;
    Ok(())
}

/// Puts one more record on a chain. The last thing a transaction does: whoever holds a chain waits for nothing else.
pub(super) async fn append(
    writing: &Transaction<'_>,
    key: PaymentKey,
    version: i64,
    content: &Content,
) -> Result<(), Failure> {
    let chain = take_chain(writing, key).await?;
    let record = chain.head.append(chain.chain, content.clone());
    let Content::Said(body) = content else { return Err(Failure::other("a record that says nothing")) };
    let (id, number, hash) = (&chain.chain.0[..], record.head.number.cast_signed(), record.head.hash.as_slice());
    let (digest, payment) = (content.digest(), &key.as_bytes()[..]);
    let digest = digest.as_slice();
    let insert = writing
        .prepare_cached(
            "INSERT INTO tollhouse_evidence (chain, number, hash, digest, body, payment, version)
             VALUES ($1, $2, $3, $4, $5, $6, $7)",
        )
        .await?;
    let update = writing.prepare_cached("UPDATE tollhouse_chains SET number = $2, hash = $3 WHERE id = $1").await?;
    let (said, end): (Values<'_>, Values<'_>) =
        (&[&id, &number, &hash, &digest, body, &payment, &version], &[&id, &number, &hash]);
    // Both are sent before either is answered. What the first one fails of is why the second does.
    let (said, ended) = tokio::join!(writing.execute(&insert, said), writing.execute(&update, end));
    said?;
    ended?;
    Ok(())
}

/// A chain that nobody else can write to before this transaction ends.
async fn take_chain(writing: &Transaction<'_>, key: PaymentKey) -> Result<Extent, Failure> {
    let free = "SELECT id, base, base_hash, number, hash FROM tollhouse_chains LIMIT 1 FOR UPDATE SKIP LOCKED";
    let free = writing.prepare_cached(free).await?;
    if let Some(row) = writing.query_opt(&free, &[]).await? {
        return extent(&row);
    }
    // All are held: waits for one of them, a different one for most payments.
    let turn = i64::from(key.as_bytes()[0]) % CHAINS as i64;
    let held = "SELECT id, base, base_hash, number, hash FROM tollhouse_chains
                WHERE id = (SELECT id FROM tollhouse_chains ORDER BY id LIMIT 1 OFFSET $1) FOR UPDATE";
    let held = writing.prepare_cached(held).await?;
    extent(&writing.query_one(&held, &[&turn]).await?)
}

/// Forgets what the records of these payments say; the hash of it stays, so the chains hold (S67).
pub(super) async fn forget(pruning: &Transaction<'_>, keys: &[&[u8]]) -> Result<(), Failure> {
    let forget = "UPDATE tollhouse_evidence SET body = NULL, payment = NULL, version = NULL WHERE payment = ANY($1)";
    let forget = pruning.prepare_cached(forget).await?;
    pruning.execute(&forget, &[&keys]).await?;
    Ok(())
}

/// Drops forgotten records from the beginning of every chain, which then begins behind the last one dropped.
pub(super) async fn cut(db: &Connections) -> Result<(), Failure> {
    for chain in chains(db).await? {
        let mut tries = Tries::default();
        loop {
            let mut lent = db.lend().await?;
            let ended = within(cut_on(&mut lent, chain.chain)).await;
            if lent.judge(ended, &mut tries)?.is_some() {
                break;
            }
        }
    }
    Ok(())
}

async fn cut_on(lent: &mut Lent, chain: ChainId) -> Result<(), Failure> {
    let id = &chain.0[..];
    let cutting = lent.client().transaction().await?;
    let held = "SELECT id, base, base_hash, number, hash FROM tollhouse_chains WHERE id = $1 FOR UPDATE";
    let base = extent(&cutting.query_one(held, &[&id]).await?)?.base.number.cast_signed();
    let page = "SELECT number, hash, body IS NULL FROM tollhouse_evidence
                WHERE chain = $1 AND number > $2 ORDER BY number LIMIT $3";
    let mut last = None;
    for row in cutting.query(page, &[&id, &base, &CUT_AT_ONCE]).await? {
        if !row.try_get::<_, bool>(2)? {
            break;
        }
        last = Some((row.try_get::<_, i64>(0)?, row.try_get::<_, Vec<u8>>(1)?));
    }
    if let Some((number, hash)) = last {
        let begin = "UPDATE tollhouse_chains SET base = $2, base_hash = $3 WHERE id = $1";
        cutting.execute(begin, &[&id, &number, &hash]).await?;
        cutting.execute("DELETE FROM tollhouse_evidence WHERE chain = $1 AND number <= $2", &[&id, &number]).await?;
    }
    Ok(cutting.commit().await?)
}

/// Every chain that holds anything, and how far it reaches.
pub(super) async fn chains(db: &Connections) -> Result<Vec<Extent>, Failure> {
    let select = "SELECT id, base, base_hash, number, hash FROM tollhouse_chains WHERE number > 0 ORDER BY id";
    db.query(select, &[]).await?.iter().map(extent).collect()
}

/// Records of one chain from behind this number on.
pub(super) async fn records(db: &Connections, chain: ChainId, after: u64, limit: i64) -> Result<Vec<Record>, Failure> {
    let after = i64::try_from(after).unwrap_or(i64::MAX);
    let select = "SELECT chain, number, hash, digest, body FROM tollhouse_evidence
                  WHERE chain = $1 AND number > $2 ORDER BY number LIMIT $3";
    db.query(select, &[&&chain.0[..], &after, &limit]).await?.iter().map(record).collect()
}

/// What is on record of one payment.
pub(super) async fn story(db: &Connections, key: PaymentKey) -> Result<Vec<Record>, Failure> {
    let select = "SELECT chain, number, hash, digest, body FROM tollhouse_evidence
                  WHERE payment = $1 AND payment IS NOT NULL ORDER BY version, chain, number";
    db.query(select, &[&&key.as_bytes()[..]]).await?.iter().map(record).collect()
}

/// Entries in the order of their keys.
pub(super) async fn standing(
    db: &Connections,
    after: Option<PaymentKey>,
    limit: i64,
) -> Result<Vec<Standing>, Failure> {
    let select = "SELECT key, version, entry, state, route, payer, network, asset, amount, transaction_hash, created,
                      updated, due, forget_after
                  FROM tollhouse_entries WHERE $1::BYTEA IS NULL OR key > $1 ORDER BY key LIMIT $2";
    let after = after.map(|key| key.as_bytes().to_vec());
    let standing = |row: &Row| {
        let columns = columns(row)?;
        Ok(Standing {
            key: key_of(row)?,
            version: version(row.try_get(1)?),
            entry: sum(columns.entry.as_bytes()),
            columns: columns.agreement(),
        })
    };
    db.query(select, &[&after, &limit]).await?.iter().map(standing).collect()
}

/// From `entry` and the columns beside it, from the third on.
fn columns(row: &Row) -> Result<Columns, Failure> {
    Ok(Columns {
        entry: row.try_get(2)?,
        state: row.try_get::<_, String>(3)?.into(),
        route: row.try_get(4)?,
        payer: row.try_get(5)?,
        network: row.try_get(6)?,
        asset: row.try_get(7)?,
        amount: row.try_get(8)?,
        transaction: row.try_get(9)?,
        created: row.try_get(10)?,
        updated: row.try_get(11)?,
        due: row.try_get(12)?,
        forget_after: row.try_get(13)?,
    })
}

/// Facts that are claimed, in their order, and by whom.
pub(super) async fn claims(
    db: &Connections,
    after: Option<Vec<u8>>,
    limit: i64,
) -> Result<Vec<(Vec<u8>, PaymentKey)>, Failure> {
    let select = "SELECT key, fact FROM tollhouse_claims WHERE $1::BYTEA IS NULL OR fact > $1 ORDER BY fact LIMIT $2";
    let claim = |row: &Row| Ok((row.try_get(1)?, key_of(row)?));
    db.query(select, &[&after, &limit]).await?.iter().map(claim).collect()
}

/// From `id, base, base_hash, number, hash`.
fn extent(row: &Row) -> Result<Extent, Failure> {
    Ok(Extent { chain: chain_of(row)?, base: head(row, 1)?, head: head(row, 3)? })
}

/// From `chain, number, hash, digest, body`.
fn record(row: &Row) -> Result<Record, Failure> {
    let content = match row.try_get(4)? {
        Some(body) => Content::Said(body),
        None => Content::Forgotten(hash(row, 3)?),
    };
    Ok(Record { chain: chain_of(row)?, head: head(row, 1)?, content })
}

fn chain_of(row: &Row) -> Result<ChainId, Failure> {
    let id: &[u8] = row.try_get(0)?;
    id.try_into().map(ChainId).map_err(|_| Failure::other("a chain's name in the database has not 16 bytes"))
}

/// A number, and the hash in the column behind it.
fn head(row: &Row, at: usize) -> Result<Head, Failure> {
    Ok(Head { number: row.try_get::<_, i64>(at)?.unsigned_abs(), hash: hash(row, at + 1)? })
}

fn hash(row: &Row, at: usize) -> Result<B256, Failure> {
    let bytes: &[u8] = row.try_get(at)?;
    B256::try_from(bytes).map_err(|_| Failure::other("a hash in the database has not 32 bytes"))
}
