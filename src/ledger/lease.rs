//! A payment in the hands of one request, up to its settlement.

use std::fmt;
use std::sync::Arc;

use super::claim::SOON;
use super::outbox::{Errand, What};
use super::write::Written;
use super::{Claimed, Delivering, Entry, Event, LEASE, Ledger, Sale, State, StoreError, Swap, Version, Versioned};
use crate::payment::{PaymentKey, Receipt, TransactionHash};
use crate::primitives::Timestamp;

/// Why a settlement may not begin. Nothing was asked for and nobody is charged.
#[derive(Debug, thiserror::Error)]
pub enum BeginError {
    /// The hold had lapsed and another request took the payment over.
    #[error("the reservation lapsed and another request holds the payment")]
    Lost,
    /// It could not be written down beforehand (S21, S66).
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The hold lapsed before it was used, so another request may be at work under the payment by now (S2).
#[derive(Debug, thiserror::Error)]
#[error("the reservation lapsed before the request was forwarded")]
pub struct Lapsed {
    /// When the payment may be presented again.
    pub again: Timestamp,
}

/// Why a receipt is not on file. The money has moved all the same.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The store failed. The receipt is queued; until it is written the entry stays in settlement.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The receipt rests on a transaction of another payment (S5): the entry stays in settlement.
    #[error("the transaction already settled payment {0}")]
    ClaimedBy(PaymentKey),
    /// Reconciliation has taken the settlement up or ended it; if it ended it as declined and a receipt was to be
    /// filed, somebody was wrong about money.
    #[error("the settlement is in somebody else's hands")]
    Overtaken,
}

/// A reserved payment. Dropping it queues its release, counted if its request was forwarded (S73).
#[must_use]
pub struct Lease {
    ledger: Arc<Ledger>,
    key: PaymentKey,
    seen: Versioned,
    forwarded: bool,
    /// Whether the settlement may have been written.
    begun: bool,
    /// Whether somebody else answers for the payment by now.
    over: bool,
}

impl Lease {
    pub(super) fn new(ledger: Arc<Ledger>, key: PaymentKey, seen: Versioned) -> Self {
        Self { ledger, key, seen, forwarded: false, begun: false, over: false }
    }

    /// What the ledger remembers the payment by.
    pub fn key(&self) -> PaymentKey {
        self.key
    }

    /// What it was presented for.
    pub fn sale(&self) -> &Arc<Sale> {
        &self.seen.entry.sale
    }

    /// When the payment was first reserved: a transfer found on chain counts only if it came later (S18).
    pub fn reserved_at(&self) -> Timestamp {
        self.seen.entry.created
    }

    /// A byte of the request is about to reach the backend: from now on a release counts.
    ///
    /// # Errors
    /// When its process stood still for so long that the hold has lapsed. Then the request must not be forwarded.
    pub fn mark_forwarded(&mut self) -> Result<(), Lapsed> {
        let now = self.ledger.clock.now();
        if let State::Reserved { until } = self.seen.entry.state
            && until <= now
        {
            return Err(Lapsed { again: now.after(SOON) });
        }
        self.forwarded = true;
        Ok(())
    }

    /// Lets go; nobody was charged. If the store fails, the release is queued.
    pub async fn release(mut self) {
        if self.ledger.run(&self.errand()).await.is_ok() {
            self.over = true;
        }
    }

    /// Writes down that settlement is about to be asked for. Only what this returns may ask (S21).
    ///
    /// `check_at` is when reconciliation may look: later than the facilitator can possibly answer.
    ///
    /// # Errors
    /// When another request has taken the payment over, or when it cannot be written. Nothing must be asked for.
    pub async fn begin(
        mut self,
        facilitator: &str,
        transaction: Option<TransactionHash>,
        check_at: Timestamp,
    ) -> Result<InSettlement, BeginError> {
        let event = Event::Begin { facilitator: facilitator.into(), transaction, check_at };
        let held = Some((self.seen.entry.clone(), self.seen.version));
        self.begun = true;
        let ended = self.ledger.advance(self.key, held, event, &[]).await?;
        self.over = true;
        match ended {
            Some((entry, Swap::Applied(version))) => Ok(InSettlement::new(&self, entry, version)),
            Some((_, Swap::Stale(_) | Swap::Claimed(_) | Swap::Overspent)) | None => Err(BeginError::Lost),
        }
    }

    fn errand(&self) -> Errand {
        let what = What::Release { counted: self.forwarded, begun: self.begun };
        Errand { key: self.key, seen: self.seen.clone(), what }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if !self.over {
            self.ledger.outbox.post(self.errand());
        }
    }
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("key", &self.key).field("forwarded", &self.forwarded).finish_non_exhaustive()
    }
}

/// A payment whose settlement is on disk and is being asked for. Dropping it leaves that to reconciliation.
#[must_use]
pub struct InSettlement {
    ledger: Arc<Ledger>,
    key: PaymentKey,
    seen: Versioned,
    since: Timestamp,
    forwarded: bool,
    /// What is known of the outcome and not yet written. A drop queues it, so it is not lost with its request (S22).
    outcome: Option<(Event, Vec<Claimed>)>,
}

impl InSettlement {
    fn new(lease: &Lease, entry: Entry, version: Version) -> Self {
        let since = entry.updated;
        Self {
            ledger: lease.ledger.clone(),
            key: lease.key,
            seen: Versioned { entry, version },
            since,
            forwarded: lease.forwarded,
            outcome: None,
        }
    }

    /// What the ledger remembers the payment by.
    pub fn key(&self) -> PaymentKey {
        self.key
    }

    /// What it was presented for.
    pub fn sale(&self) -> &Arc<Sale> {
        &self.seen.entry.sale
    }

    /// When the payment was first reserved (S18).
    pub fn reserved_at(&self) -> Timestamp {
        self.seen.entry.created
    }

    /// When settlement was written down.
    pub fn since(&self) -> Timestamp {
        self.since
    }

    /// The money moved: files the receipt. With `delivering`, the request goes on to deliver the answer and no copy
    /// can collect it meanwhile; without, the answer waits to be collected, or a refund is due.
    ///
    /// `claims` are facts that no other payment may rest on (S5).
    ///
    /// # Errors
    /// When the receipt is not on file: then nothing of the answer may be delivered (I2).
    pub async fn settled(
        mut self,
        receipt: Receipt,
        claims: &[Claimed],
        delivering: bool,
    ) -> Result<Option<Delivering>, FileError> {
        let now = self.ledger.clock.now();
        let limits = self.ledger.limits;
        let receipt = Arc::new(receipt);
        let collect_by = now.after(limits.redeem_for);
        let event = Event::Settle { receipt: receipt.clone(), delivering: None, collect_by };
        self.outcome = Some((event, claims.to_vec()));
        let file = |found: &Versioned| match &found.entry.state {
            State::Settling { .. } => Some(Event::Settle {
                receipt: receipt.clone(),
                delivering: delivering.then(|| now.after(LEASE)),
                collect_by,
            }),
            // Reconciliation was faster; the answer is still this request's to collect. Unless it found another
            // transaction: then ours is no proof of anything and must not be claimed.
            State::Settled { receipt: filed, .. } if delivering && filed.transaction == receipt.transaction => {
                Some(Event::Redeem { until: now.after(LEASE), max_redemptions: limits.max_redemptions })
            }
            _ => None,
        };
        let written = self.ledger.write(self.key, self.seen.clone(), claims, file).await?;
        self.outcome = None;
        match written {
            Written::Applied(seen) if delivering => {
                Ok(Some(Delivering::new(self.ledger.clone(), self.key, seen, receipt, self.forwarded)))
            }
            Written::Applied(_) => Ok(None),
            Written::Claimed(owner) => Err(FileError::ClaimedBy(owner)),
            Written::Unfit => Err(FileError::Overtaken),
        }
    }

    /// Nothing moved by what was asked: the payment may be presented again. `why` goes on record. Where that is not proven
    /// but somebody's word, `watch_from` is when to look at the chain (S16).
    ///
    /// # Errors
    /// When that could not be written, and is queued. Or when reconciliation has taken the question up: it may have
    /// asked for the settlement again, so it alone can say how that ended.
    pub async fn declined(self, why: &str, watch_from: Option<Timestamp>) -> Result<(), FileError> {
        let max_releases = self.ledger.limits.max_releases;
        match self.conclude(Event::Decline { why: why.to_owned(), max_releases, watch_from }).await? {
            Written::Applied(_) => Ok(()),
            Written::Unfit | Written::Claimed(_) => Err(FileError::Overtaken),
        }
    }

    /// Nobody knows: copies hear so from now on, and reconciliation looks at `check_at`.
    ///
    /// # Errors
    /// When that could not be written; it is queued.
    pub async fn unknown(self, transaction: Option<TransactionHash>, check_at: Timestamp) -> Result<(), StoreError> {
        self.conclude(Event::StillUnknown { transaction, check_at }).await.map(|_| ())
    }

    /// The client has left: whoever signs again for what it asked is not charged, at any replica (I4). It is queued, so
    /// nobody waits for the store; the settlement stays in these hands.
    pub fn client_left(&self) {
        let what = What::Departure { since: self.since };
        self.ledger.outbox.post(Errand { key: self.key, seen: self.seen.clone(), what });
    }

    /// Writes down how it ended under the rule by which it would be written later.
    async fn conclude(mut self, event: Event) -> Result<Written, StoreError> {
        self.outcome = Some((event.clone(), Vec::new()));
        let errand = self.errand(event, Vec::new());
        let max_releases = self.ledger.limits.max_releases;
        let still_ours = |found: &Versioned| errand.event(found, max_releases);
        let written = self.ledger.write(self.key, self.seen.clone(), &[], still_ours).await?;
        self.outcome = None;
        Ok(written)
    }

    fn errand(&self, event: Event, claims: Vec<Claimed>) -> Errand {
        let what = What::Settlement { since: self.since, event, claims };
        Errand { key: self.key, seen: self.seen.clone(), what }
    }
}

impl Drop for InSettlement {
    fn drop(&mut self) {
        if let Some((event, claims)) = self.outcome.take() {
            self.ledger.outbox.post(self.errand(event, claims));
        }
    }
}

impl fmt::Debug for InSettlement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InSettlement").field("key", &self.key).field("since", &self.since).finish_non_exhaustive()
    }
}
