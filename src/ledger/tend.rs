//! What the ledger does by itself.

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::write::Written;
use super::{Chore, Delivered, Delivery, Entry, Event, LEASE, Ledger, State, StoreError, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::Timestamp;

/// How many overdue deliveries are read at once, and how many renewals are written at once.
const PAGE: usize = 256;

/// How many pages one round works through; the next round takes up the rest.
const PAGES: usize = 40;

/// How many rounds lie between two prunings.
const ROUNDS_TO_PRUNE: u32 = 12;

impl Ledger {
    /// Writes what dropped handles left behind, renews the deliveries of this process, ends those that lapsed
    /// elsewhere, and forgets what may be forgotten. Runs until it is dropped.
    pub async fn tend(self: Arc<Self>) {
        tokio::join!(self.run_errands(), self.make_rounds());
    }

    async fn make_rounds(self: &Arc<Self>) {
        let mut round = tokio::time::interval(LEASE / 3);
        round.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for count in 0_u32.. {
            round.tick().await;
            if let Err(error) = self.round().await {
                tracing::warn!(error = &error as &dyn std::error::Error, "the ledger could not be tended");
            }
            if count.is_multiple_of(ROUNDS_TO_PRUNE)
                && let Err(error) = self.store.prune(self.clock.now()).await
            {
                tracing::warn!(error = &error as &dyn std::error::Error, "the ledger could not be pruned");
            }
        }
    }

    /// One round of `tend`: renews what lives here, then ends what lapsed.
    ///
    /// # Errors
    /// When the store fails; the next round tries again.
    pub async fn round(self: &Arc<Self>) -> Result<(), StoreError> {
        self.renew().await?;
        self.end_overdue().await
    }

    /// Renews the leases of deliveries in this process that have lived for a third of their time.
    async fn renew(self: &Arc<Self>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut ageing: Vec<(PaymentKey, Versioned)> = self
            .live
            .iter()
            .filter(|live| leased_until(&live.entry).is_some_and(|until| until.since(now) <= LEASE * 2 / 3))
            .map(|live| (*live.key(), live.value().clone()))
            .collect();
        // The map has an order of its own in each process, and a simulated one has to do the same each time.
        ageing.sort_unstable_by_key(|(key, _)| *key);
        let mut failure = None;
        for page in ageing.chunks(PAGE) {
            let mut renewals = JoinSet::new();
            for (key, seen) in page.iter().cloned() {
                let ledger = self.clone();
                // One write that hangs must not let the leases of all others lapse.
                renewals.spawn(tokio::time::timeout(LEASE / 3, async move { ledger.renew_one(key, seen).await }));
            }
            while let Some(renewed) = renewals.join_next().await {
                match renewed {
                    Ok(Ok(Err(error))) => failure = Some(error),
                    Ok(Err(late)) => failure = Some(StoreError(Box::new(late))),
                    Ok(Ok(Ok(()))) | Err(_) => {}
                }
            }
        }
        failure.map_or(Ok(()), Err)
    }

    async fn renew_one(&self, key: PaymentKey, seen: Versioned) -> Result<(), StoreError> {
        let turn = seen.entry.redemptions;
        let until = self.clock.now().after(LEASE);
        match self.write(key, seen, &[], |_| Some(Event::Renew { turn, until })).await? {
            Written::Applied(now) => {
                if let Some(mut live) = self.live.get_mut(&key)
                    && live.entry.redemptions == turn
                {
                    *live = now;
                }
            }
            // Somebody else ended it, or holds it now.
            Written::Unfit | Written::Claimed(_) => {
                self.live.remove_if(&key, |_, live| live.entry.redemptions == turn);
            }
        }
        Ok(())
    }

    /// Ends deliveries whose process vanished, gives up answers nobody collected, drops answers kept long enough.
    async fn end_overdue(&self) -> Result<(), StoreError> {
        for _ in 0..PAGES {
            let now = self.clock.now();
            let page = self.store.overdue(Chore::Deliveries, now, PAGE).await?;
            let full = page.len() == PAGE;
            for (key, seen) in page {
                let event = |found: &Versioned| self.overdue_event(key, &found.entry, now);
                if let Written::Applied(ended) = self.write(key, seen, &[], event).await? {
                    self.tell(key, &ended.entry);
                }
            }
            if !full {
                break;
            }
        }
        Ok(())
    }

    fn overdue_event(&self, key: PaymentKey, entry: &Entry, now: Timestamp) -> Option<Event> {
        let State::Settled { delivery, .. } = &entry.state else { return None };
        if entry.due().is_none_or(|due| now < due) {
            return None;
        }
        match delivery {
            // Its holder lives here and is only late to renew.
            Delivery::Leased { .. } if self.delivers(key, entry) => None,
            // Its holder vanished and took with it whether the backend was asked.
            Delivery::Leased { .. } => {
                let delivered = Delivered::Nothing { untouched: false };
                Some(Event::Deliver { turn: entry.redemptions, delivered, response: None })
            }
            Delivery::Pending => Some(Event::GiveUp),
            Delivery::Done { .. } => Some(Event::DropAnswer),
            Delivery::Partial | Delivery::RefundDue | Delivery::Refunded { .. } => None,
        }
    }
}

fn leased_until(entry: &Entry) -> Option<Timestamp> {
    match entry.state {
        State::Settled { delivery: Delivery::Leased { until }, .. } => Some(until),
        _ => None,
    }
}
