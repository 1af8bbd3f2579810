//! An entry as the columns of a database, and back. SQLite and Postgres keep the same.

use std::borrow::Cow;

use super::evidence::Agreement;
use super::{Entry, StoreError, Version, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Timestamp};

/// What is written of an entry. `verify` derives it again of entries that are years old: whoever changes what a column says
/// has to write it anew wherever it stands.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) state: Cow<'static, str>,
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
            state: entry.state.name().into(),
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

    /// Whether columns as they were found say what the entry beside them says. Its text is not compared: another version
    /// may write the same entry in other words.
    pub(super) fn agreement(&self) -> Agreement {
        let said = serde_json::from_str::<Entry>(&self.entry).ok().and_then(|entry| Self::of(&entry).ok());
        let Some(said) = said else { return Agreement::Unreadable };
        let same = [
            ("state", self.state == said.state),
            ("route", self.route == said.route),
            ("payer", self.payer == said.payer),
            ("network", self.network == said.network),
            ("asset", self.asset == said.asset),
            ("amount", self.amount == said.amount),
            ("transaction_hash", self.transaction == said.transaction),
            ("created", self.created == said.created),
            ("updated", self.updated == said.updated),
            ("due", self.due == said.due),
            ("forget_after", self.forget_after == said.forget_after),
        ];
        same.into_iter().find(|(_, same)| !same).map_or(Agreement::Whole, |(name, _)| Agreement::Differs(name))
    }
}

/// Entries whose column says that they may be forgotten, and which stay.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Withheld {
    first: Option<PaymentKey>,
    count: u64,
}

impl Withheld {
    pub(super) fn add(&mut self, key: PaymentKey) {
        self.first.get_or_insert(key);
        self.count += 1;
    }

    /// One line, however many there are (I7).
    pub(super) fn tell(self) {
        if let Some(first) = self.first {
            let (payment, entries) = (first.to_string(), self.count);
            tracing::error!(
                payment,
                entries,
                "entries are not what was put on record, so they are not forgotten: run `tollhouse ledger verify`"
            );
        }
    }
}

/// Whether an entry may be forgotten by what it says itself. The column that finds it is only a hint: whoever can write
/// to the database could have had it forgotten with all that is on record of it.
pub(super) fn forgettable(entry: &str, before: Timestamp) -> bool {
    let after = serde_json::from_str::<Entry>(entry).ok().and_then(|entry| entry.forget_after());
    after.is_some_and(|after| after < before)
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
