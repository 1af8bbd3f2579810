//! An entry as columns, and back.

use rusqlite::{Connection, OptionalExtension, Rows};

use super::super::{Entry, StoreError, Version, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Timestamp};

/// What is written of an entry.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) state: &'static str,
    pub(super) route: String,
    pub(super) payer: String,
    pub(super) network: String,
    pub(super) asset: String,
    pub(super) amount: String,
    pub(super) transaction: Option<String>,
    pub(super) created: i64,
    pub(super) updated: i64,
    pub(super) due: Option<i64>,
    pub(super) forget_after: Option<i64>,
    pub(super) entry: String,
}

impl Columns {
    pub(super) fn of(entry: &Entry) -> Result<Self, StoreError> {
        let payment = &entry.sale.payment;
        Ok(Self {
            state: entry.state.name(),
            route: entry.sale.route.clone(),
            payer: payer(payment.payer()),
            network: payment.offer.network.id.as_str().to_owned(),
            asset: format!("{:#x}", payment.offer.asset.address),
            amount: payment.offer.amount.to_string(),
            transaction: entry.transaction().map(|hash| format!("{hash:#x}")),
            created: moment(entry.created),
            updated: moment(entry.updated),
            due: entry.due().map(moment),
            forget_after: entry.forget_after().map(moment),
            entry: serde_json::to_string(entry).map_err(|error| StoreError(error.into()))?,
        })
    }
}

/// What is read of an entry.
pub(super) struct Row {
    version: i64,
    entry: String,
}

impl Row {
    /// From `version, entry`.
    pub(super) fn read(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self { version: row.get(0)?, entry: row.get(1)? })
    }

    pub(super) fn decode(self) -> Result<Versioned, StoreError> {
        let entry = serde_json::from_str(&self.entry).map_err(|error| StoreError(error.into()))?;
        Ok(Versioned { entry, version: version(self.version) })
    }
}

/// Every row of `key, version, entry`. One that cannot be read does not hide the others; it is logged.
pub(super) fn page(mut rows: Rows<'_>) -> rusqlite::Result<Vec<(PaymentKey, Versioned)>> {
    let mut page = Vec::new();
    while let Some(row) = rows.next()? {
        let key = PaymentKey::from_bytes(row.get(0)?);
        match (Row { version: row.get(1)?, entry: row.get(2)? }).decode() {
            Ok(found) => page.push((key, found)),
            Err(StoreError(error)) => tracing::error!(payment = %key, %error, "a ledger entry cannot be read"),
        }
    }
    Ok(page)
}

/// What stands in a cell.
pub(super) fn cell(db: &Connection, name: &str) -> rusqlite::Result<Option<(Version, Vec<u8>)>> {
    db.prepare_cached("SELECT version, value FROM cells WHERE name = ?1")?
        .query_row([name], |row| Ok((version(row.get(0)?), row.get(1)?)))
        .optional()
}

/// A moment as SQLite holds it. One beyond its range is still later than any real one.
pub(super) fn moment(moment: Timestamp) -> i64 {
    i64::try_from(moment.as_millis()).unwrap_or(i64::MAX)
}

/// An account as people type it: lower-case hex.
pub(super) fn payer(payer: Payer) -> String {
    format!("{:#x}", payer.0)
}

/// Versions count up from one, so they are never negative.
pub(super) fn version(stored: i64) -> Version {
    Version::try_from(stored).unwrap_or_default()
}
