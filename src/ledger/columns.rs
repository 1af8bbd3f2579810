//! An entry as the columns of a database, and back. SQLite and Postgres keep the same.

use super::{Entry, StoreError, Version, Versioned};
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
            route: entry.sale.route.to_string(),
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

/// An entry from its two columns that matter; the others only repeat what is looked for.
pub(super) fn decode(stored: i64, entry: &str) -> Result<Versioned, StoreError> {
    let entry = serde_json::from_str(entry).map_err(|error| StoreError(error.into()))?;
    Ok(Versioned { entry, version: version(stored) })
}

/// A moment as databases hold it. One beyond its range is still later than any real one.
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
