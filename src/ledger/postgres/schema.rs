//! The tables: how they are made, recognised and refused. Nothing here that CockroachDB does not know as well.

use tokio_postgres::error::SqlState;

use super::super::Purpose;
use super::connections::{Connections, Lent, Tries};
use super::evidence;
use super::failure::Failure;

/// The schema this code reads and writes: a database of schema n has taken the first n steps.
pub(super) const SCHEMA: i64 = STEPS.len() as i64;

/// How an empty database becomes a ledger, and an older ledger a current one. A step is never changed once released.
///
/// Each only adds, so replicas of the version before may go on while the first new one starts.
const STEPS: [&str; 3] = [TABLES, evidence::TABLES, SPENT];

/// The step that gives a ledger its chains.
const CHAINS: i64 = 2;

/// What each payer spends in a day, in millionths of a dollar. The day comes first, so that old ones lie together.
const SPENT: &str = "
    CREATE TABLE tollhouse_spent (
        day BIGINT NOT NULL,
        payer TEXT NOT NULL,
        amount BIGINT NOT NULL,
        PRIMARY KEY (day, payer)
    );
";

/// Names begin with `tollhouse_`, so that the database may hold other things. The entry itself stands in `entry` as
/// JSON; the other columns repeat what people and chores look for. Moments are milliseconds since the epoch.
///
/// The partial indexes are those of `overdue`; `state` is also what the census counts.
const TABLES: &str = "
    CREATE TABLE tollhouse_entries (
        key BYTEA PRIMARY KEY CHECK (octet_length(key) = 32),
        version BIGINT NOT NULL,
        state TEXT NOT NULL,
        route TEXT NOT NULL,
        payer TEXT NOT NULL,
        network TEXT NOT NULL,
        asset TEXT NOT NULL,
        amount TEXT NOT NULL,
        transaction_hash TEXT,
        created BIGINT NOT NULL,
        updated BIGINT NOT NULL,
        due BIGINT,
        forget_after BIGINT,
        entry TEXT NOT NULL
    );
    CREATE INDEX tollhouse_entries_settlements ON tollhouse_entries (due) WHERE state = 'settling';
    CREATE INDEX tollhouse_entries_deliveries ON tollhouse_entries (due) WHERE state <> 'settling' AND due IS NOT NULL;
    CREATE INDEX tollhouse_entries_forget_after ON tollhouse_entries (forget_after) WHERE forget_after IS NOT NULL;
    CREATE INDEX tollhouse_entries_left_open ON tollhouse_entries (payer) WHERE state IN ('settling', 'undelivered');
    CREATE INDEX tollhouse_entries_state ON tollhouse_entries (state);
    CREATE INDEX tollhouse_entries_created ON tollhouse_entries (created DESC, key);
    CREATE INDEX tollhouse_entries_payer ON tollhouse_entries (payer, created DESC, key);
    CREATE TABLE tollhouse_claims (fact BYTEA PRIMARY KEY, key BYTEA NOT NULL);
    CREATE INDEX tollhouse_claims_key ON tollhouse_claims (key);
    CREATE TABLE tollhouse_secrets (name TEXT PRIMARY KEY, value BYTEA NOT NULL CHECK (octet_length(value) = 32));
    CREATE TABLE tollhouse_cells (name TEXT PRIMARY KEY, version BIGINT NOT NULL, value BYTEA NOT NULL);
";

/// What a database says about itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct About {
    pub(super) schema: i64,
    pub(super) purpose: String,
}

/// What the database says about itself; `None` when no ledger was ever made in it.
pub(super) async fn look(db: &Connections) -> Result<Option<About>, Failure> {
    let rows = match db.query("SELECT name, value FROM tollhouse_meta", &[]).await {
        Ok(rows) => rows,
        Err(failure) if failure.is(&[SqlState::UNDEFINED_TABLE]) => return Ok(None),
        Err(failure) => return Err(failure),
    };
    let (mut schema, mut purpose) = (None, None);
    for row in rows {
        let value: String = row.try_get(1)?;
        match row.try_get(0)? {
            "schema" => schema = value.parse().ok(),
            "purpose" => purpose = Some(value),
            _ => {}
        }
    }
    match (schema, purpose) {
        (Some(schema), Some(purpose)) => Ok(Some(About { schema, purpose })),
        _ => Err(Failure::other("its table tollhouse_meta is not of a tollhouse ledger")),
    }
}

/// Makes a ledger of a database that holds none, and brings an older one up to date. What is newer or for the other
/// kind of money stays as it is. Any number of replicas may do this at once.
pub(super) async fn prepare(db: &Connections, purpose: Purpose) -> Result<About, Failure> {
    loop {
        match look(db).await? {
            None => begin(db, purpose).await?,
            Some(about) if about.schema < SCHEMA && about.purpose == purpose.as_str() => take_steps(db).await?,
            Some(about) => return Ok(about),
        }
    }
}

/// Writes that there is a ledger, of no schema yet.
async fn begin(db: &Connections, purpose: Purpose) -> Result<(), Failure> {
    let sql = format!(
        "CREATE TABLE IF NOT EXISTS tollhouse_meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
         INSERT INTO tollhouse_meta (name, value) VALUES ('schema', '0'), ('purpose', '{}')
             ON CONFLICT (name) DO NOTHING",
        purpose.as_str()
    );
    let mut tries = Tries::default();
    loop {
        let mut lent = db.lend().await?;
        let begun = match lent.client().batch_execute(&sql).await.map_err(Failure::from) {
            // Another replica is beginning it at this moment: despite IF NOT EXISTS, PostgreSQL then says that a name
            // is taken. What it has made is looked at next.
            Err(failure) if failure.is(&NAME_TAKEN) => Ok(()),
            begun => begun,
        };
        if lent.judge(begun, &mut tries)?.is_some() {
            return Ok(());
        }
    }
}

const NAME_TAKEN: [SqlState; 3] = [SqlState::DUPLICATE_TABLE, SqlState::DUPLICATE_OBJECT, SqlState::UNIQUE_VIOLATION];

async fn take_steps(db: &Connections) -> Result<(), Failure> {
    let mut tries = Tries::default();
    loop {
        let mut lent = db.lend().await?;
        let taken = take_steps_on(&mut lent).await;
        if lent.judge(taken, &mut tries)?.is_some() {
            return Ok(());
        }
    }
}

/// All steps that are missing, or none. The row that says how many were taken is locked meanwhile, so replicas that
/// start together take turns; an advisory lock would do the same and CockroachDB has none.
async fn take_steps_on(lent: &mut Lent) -> Result<(), Failure> {
    let taking = lent.client().transaction().await?;
    // An index on a large table takes longer than a request may wait, and so does the turn of another replica.
    taking.batch_execute("SET LOCAL statement_timeout = '10min'").await?;
    let row = taking.query_one("SELECT value FROM tollhouse_meta WHERE name = 'schema' FOR UPDATE", &[]).await?;
    let taken: i64 = row.try_get::<_, &str>(0)?.parse().map_err(Failure::other)?;
    for step in STEPS.iter().skip(usize::try_from(taken).unwrap_or(usize::MAX)) {
        taking.batch_execute(step).await?;
    }
    if taken < CHAINS {
        evidence::begin(&taking).await?;
    }
    if taken < SCHEMA {
        let schema = SCHEMA.to_string();
        taking.execute("UPDATE tollhouse_meta SET value = $1 WHERE name = 'schema'", &[&schema]).await?;
    }
    Ok(taking.commit().await?)
}
