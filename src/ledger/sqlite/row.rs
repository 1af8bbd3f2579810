//! An entry as it is read from a row.

use rusqlite::{Connection, OptionalExtension, Rows};

use super::super::columns::{decode, version};
use super::super::{StoreError, Version, Versioned};
use crate::payment::PaymentKey;

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
        decode(self.version, &self.entry)
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
