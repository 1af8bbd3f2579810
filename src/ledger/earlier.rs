//! A buyer who signs again for what an earlier payment of theirs has bought, or may have.
//!
//! Stock clients do not send a payment again after a 503. Their caller tries once more without one, is offered the
//! price and signs a fresh authorization: charged, it would have paid twice (I4). Only the payer can sign one, so it
//! proves as much as the quote of the first presentation would (S75).

use std::sync::Arc;

use super::write::Written;
use super::{Claim, Delivery, Entry, Event, Keyed, LEASE, Ledger, State, StoreError, Versioned};
use crate::payment::{PaymentKey, Replay};
use crate::primitives::Timestamp;

impl Ledger {
    /// What an earlier payment of the same payer for the identical request opens: its answer, if it was paid for and
    /// never arrived, or the word that nobody knows yet whether it was. The fresh payment stays unused.
    ///
    /// `None` when nothing was left open, or when the payment presented is not a fresh one. Two clients that wait are
    /// two purchases, so what is in flight bars nobody here; and no earlier payment does for longer than its answer may be
    /// collected.
    ///
    /// # Errors
    /// When the store fails. Then nothing may be granted (I6).
    pub async fn claim_earlier(self: &Arc<Self>, fresh: &Keyed, replay: Replay) -> Result<Option<Claim>, StoreError> {
        let open = self.store.left_open(fresh.sale.payment.payer(), fresh.sale.request).await?;
        if open.is_empty() {
            return Ok(None);
        }
        // Boxed: hardly any payment has an earlier one, and all others need no room for this.
        Box::pin(self.claim_open(open, fresh, replay)).await
    }

    async fn claim_open(
        self: &Arc<Self>,
        mut open: Vec<(PaymentKey, Versioned)>,
        fresh: &Keyed,
        replay: Replay,
    ) -> Result<Option<Claim>, StoreError> {
        let Keyed { key, sale: fresh } = fresh;
        let now = self.clock.now();
        // On another network the same address may be somebody else's wallet.
        open.retain(|(earlier, found)| {
            let same_network = found.entry.sale.payment.offer.network.id == fresh.payment.offer.network.id;
            earlier == key
                || (same_network && (self.owed(&found.entry, replay, now) || self.doubtful(&found.entry, now)))
        });
        if open.is_empty() || self.store.load(*key).await?.is_some() {
            return Ok(None);
        }
        for (earlier, found) in open.iter().filter(|(_, found)| self.owed(&found.entry, replay, now)) {
            if let Some(claim) = self.redeem_earlier(*earlier, found.clone(), replay, now).await? {
                return Ok(Some(claim));
            }
        }
        let doubtful = open.into_iter().find(|(_, found)| self.doubtful(&found.entry, now));
        Ok(doubtful.map(|(_, found)| Claim::Unresolved { entry: found.entry }))
    }

    /// Begins a turn at collecting it. `None` when somebody else was faster.
    async fn redeem_earlier(
        self: &Arc<Self>,
        key: PaymentKey,
        found: Versioned,
        replay: Replay,
        now: Timestamp,
    ) -> Result<Option<Claim>, StoreError> {
        let redeem = Event::Redeem { until: now.after(LEASE), max_redemptions: self.limits.max_redemptions };
        let event = |found: &Versioned| self.owed(&found.entry, replay, now).then(|| redeem.clone());
        Ok(match self.write(key, found, &[], event).await? {
            Written::Applied(seen) => Some(self.granted(key, seen)),
            Written::Unfit | Written::Claimed(_) => None,
        })
    }

    /// Whether it is paid for and its answer can be collected now.
    fn owed(&self, entry: &Entry, replay: Replay, now: Timestamp) -> bool {
        let State::Settled { delivery: Delivery::Pending, collect_by, undone: None, .. } = &entry.state else {
            return false;
        };
        replay != Replay::Refuse && now < *collect_by && entry.redemptions < self.limits.max_redemptions
    }

    /// Whether nobody knows how it ended, and nobody waits to hear it: the client has left, at whichever replica;
    /// somebody has looked in vain; whoever asked has had all their time, or asked before this process began and has
    /// probably died.
    fn doubtful(&self, entry: &Entry, now: Timestamp) -> bool {
        let State::Settling { since, check_at, checks, left, .. } = &entry.state else { return false };
        (*left || *checks > 0 || *check_at <= now || *since < self.opened) && now < since.after(self.limits.redeem_for)
    }
}
