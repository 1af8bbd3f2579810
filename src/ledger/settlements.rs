//! Settlements whose end nobody knows, and those that were declined on somebody's word, for reconciliation.
//!
//! Each write rests on the version that was looked at. Losing a race is no error: whoever was faster knew more.

use super::{Chore, Claimed, Entry, Event, FileError, Ledger, State, StoreError, Swap, Version};
use crate::payment::{PaymentKey, Receipt, TransactionHash};
use crate::primitives::Timestamp;

/// A settlement whose end is not known, or not for certain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsettled {
    /// The payment.
    pub key: PaymentKey,
    /// Which writing of it was read.
    pub version: Version,
    /// What is remembered: its state is `Settling`, or it was declined.
    pub entry: Entry,
}

impl Ledger {
    /// Settlements that are due for a look, the longest overdue first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn overdue_settlements(&self, limit: usize) -> Result<Vec<Unsettled>, StoreError> {
        let overdue = self.store.overdue(Chore::Settlements, self.clock.now(), limit).await?;
        Ok(overdue
            .into_iter()
            .filter(|(_, found)| matches!(found.entry.state, State::Settling { .. }))
            .map(|(key, found)| Unsettled { key, version: found.version, entry: found.entry })
            .collect())
    }

    /// Payments whose settlement was declined and that are due for a look at the chain (S16), the longest overdue first.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn overdue_declined(&self, limit: usize) -> Result<Vec<Unsettled>, StoreError> {
        let overdue = self.store.overdue(Chore::Declined, self.clock.now(), limit).await?;
        Ok(overdue
            .into_iter()
            .map(|(key, found)| Unsettled { key, version: found.version, entry: found.entry })
            .collect())
    }

    /// Sets out to look at the chain for what was declined; nobody else does before `check_at`. `None` when somebody was
    /// faster, or the payment is being presented again.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn recheck(&self, declined: Unsettled, check_at: Timestamp) -> Result<Option<Unsettled>, StoreError> {
        self.take_up(declined, Event::Recheck { check_at }).await
    }

    /// What was declined is looked at no more; `why` goes on record. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn end_watch(&self, declined: Unsettled, why: &str) -> Result<Option<Entry>, StoreError> {
        let event = Event::EndWatch { why: why.to_owned() };
        self.resolve(declined, event, &[]).await.map(Result::unwrap_or_default)
    }

    /// Takes the question over until then. Before anyone is asked: whoever asked before must be able to see that their
    /// answer is no longer the last word. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails. Then nobody may be asked.
    pub async fn look(&self, unsettled: Unsettled, until: Timestamp) -> Result<Option<Unsettled>, StoreError> {
        self.take_up(unsettled, Event::Look { until }).await
    }

    async fn take_up(&self, unsettled: Unsettled, event: Event) -> Result<Option<Unsettled>, StoreError> {
        let Unsettled { key, version, entry } = unsettled;
        match self.advance(key, Some((entry, version)), event, &[]).await? {
            Some((entry, Swap::Applied(version))) => Ok(Some(Unsettled { key, version, entry })),
            Some((_, Swap::Stale(_) | Swap::Claimed(_) | Swap::Overspent)) | None => Ok(None),
        }
    }

    /// The money moved: files the receipt, for whoever collects the answer. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails, or when the receipt rests on another payment's transaction (S5).
    pub async fn file(
        &self,
        unsettled: Unsettled,
        receipt: Receipt,
        claims: &[Claimed],
    ) -> Result<Option<Entry>, FileError> {
        let collect_by = self.clock.now().after(self.limits.redeem_for);
        let event = Event::Settle { receipt: receipt.into(), delivering: None, collect_by };
        self.resolve(unsettled, event, claims).await?.map_err(FileError::ClaimedBy)
    }

    /// It is proven that nothing moved and nothing will; `why` goes on record. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn decline(&self, unsettled: Unsettled, why: &str) -> Result<Option<Entry>, StoreError> {
        let max_releases = self.limits.max_releases;
        let event = Event::Decline { why: why.to_owned(), max_releases, watch_from: None };
        self.resolve(unsettled, event, &[]).await.map(Result::unwrap_or_default)
    }

    /// Nobody can tell yet: look again at `check_at`. `None` when somebody was faster.
    ///
    /// # Errors
    /// When the store fails.
    pub async fn still_unknown(
        &self,
        unsettled: Unsettled,
        transaction: Option<TransactionHash>,
        check_at: Timestamp,
    ) -> Result<Option<Entry>, StoreError> {
        let event = Event::StillUnknown { transaction, check_at };
        self.resolve(unsettled, event, &[]).await.map(Result::unwrap_or_default)
    }

    /// `Ok(Err(_))` names the payment that owns one of the claims; without claims there is none.
    async fn resolve(
        &self,
        unsettled: Unsettled,
        event: Event,
        claims: &[Claimed],
    ) -> Result<Result<Option<Entry>, PaymentKey>, StoreError> {
        let Unsettled { key, version, entry } = unsettled;
        match self.advance(key, Some((entry, version)), event, claims).await? {
            Some((entry, Swap::Applied(_))) => {
                self.front.notice(key, &entry);
                Ok(Ok(Some(entry)))
            }
            Some((_, Swap::Stale(_) | Swap::Overspent)) | None => Ok(Ok(None)),
            Some((_, Swap::Claimed(owner))) => Ok(Err(owner)),
        }
    }
}
