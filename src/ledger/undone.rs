//! Settled payments that the chain took back (S26): written down as such, so that every process on the ledger knows.
//!
//! What is found out about one later is written as for a settlement whose end is unknown ([`Unsettled`]).

use super::write::Written;
use super::{Chore, Entry, Event, Ledger, State, StoreError, Undone, Unsettled, Versioned};
use crate::payment::{PaymentKey, TransactionHash};
use crate::primitives::Timestamp;

impl Ledger {
    /// The transaction that settled the payment is on the chain no more. `None` when the ledger does not say that it
    /// settled in this one, or knows already.
    ///
    /// # Errors
    /// When the store fails. Then nobody else knows.
    pub async fn undo(
        &self,
        key: PaymentKey,
        transaction: TransactionHash,
        check_at: Timestamp,
    ) -> Result<Option<Entry>, StoreError> {
        let Some(found) = self.store.load(key).await? else { return Ok(None) };
        let undo = |found: &Versioned| match &found.entry.state {
            State::Settled { receipt, undone: None, .. } if receipt.transaction == transaction => {
                Some(Event::Undo { transaction, check_at })
            }
            _ => None,
        };
        Ok(match self.write(key, found, &[], undo).await? {
            Written::Applied(seen) => Some(seen.entry),
            Written::Unfit | Written::Claimed(_) => None,
        })
    }

    /// Payments that are undone and should be looked for before then, the longest overdue first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn undone(&self, before: Timestamp, limit: usize) -> Result<Vec<Unsettled>, StoreError> {
        let undone = self.store.overdue(Chore::Undone, before, limit).await?;
        Ok(undone
            .into_iter()
            .filter(|(_, found)| is_missed(&found.entry))
            .map(|(key, found)| Unsettled { key, version: found.version, entry: found.entry })
            .collect())
    }

    /// This payment, if it is undone.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn missed(&self, key: PaymentKey) -> Result<Option<Unsettled>, StoreError> {
        let found = self.store.load(key).await?.filter(|found| is_missed(&found.entry));
        Ok(found.map(|found| Unsettled { key, version: found.version, entry: found.entry }))
    }

    /// Writes down that the payment is about to be sent again. Before it is: a crash in between must not let it be sent
    /// without bound. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails. Then nothing may be sent.
    pub async fn send_again(
        &self,
        undone: Unsettled,
        transaction: Option<TransactionHash>,
        check_at: Timestamp,
    ) -> Result<Option<Unsettled>, StoreError> {
        self.take_up(undone, Event::SendAgain { transaction, check_at }).await
    }
}

fn is_missed(entry: &Entry) -> bool {
    matches!(entry.state, State::Settled { undone: Some(Undone::Missed { .. }), .. })
}
