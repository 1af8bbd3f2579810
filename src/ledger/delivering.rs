//! A paid answer on its way to one client.

use std::fmt;
use std::sync::Arc;

use super::outbox::{Errand, What};
use super::{Delivered, Entry, Ledger, Response, Sale, Versioned};
use crate::payment::{PaymentKey, Receipt};

/// A paid answer that one request delivers. While it lives, `tend` renews its lease.
///
/// Dropping it records what is known: `Partial` if a byte was about to be written, else `Nothing`.
#[must_use]
pub struct Delivering {
    ledger: Arc<Ledger>,
    key: PaymentKey,
    seen: Versioned,
    receipt: Arc<Receipt>,
    forwarded: bool,
    touched: bool,
    response: Option<Response>,
    ended: bool,
}

impl Delivering {
    pub(super) fn new(
        ledger: Arc<Ledger>,
        key: PaymentKey,
        seen: Versioned,
        receipt: Arc<Receipt>,
        forwarded: bool,
    ) -> Self {
        ledger.live.insert(key, seen.clone());
        Self { ledger, key, seen, receipt, forwarded, touched: false, response: None, ended: false }
    }

    /// What the ledger remembers the payment by.
    pub fn key(&self) -> PaymentKey {
        self.key
    }

    /// The proof.
    pub fn receipt(&self) -> &Receipt {
        &self.receipt
    }

    /// What was bought.
    pub fn sale(&self) -> &Arc<Sale> {
        &self.seen.entry.sale
    }

    /// Whether its payer can still collect the answer if this ends with nothing delivered.
    pub fn collectable(&self) -> bool {
        !self.touched && self.sale().collectable(!self.forwarded)
    }

    /// A byte of the request is about to reach the backend.
    pub fn mark_forwarded(&mut self) {
        self.forwarded = true;
    }

    /// A byte of the answer is about to be written to the client: from now on nothing is delivered again (S74).
    pub fn touch(&mut self) {
        self.touched = true;
    }

    /// What was written to the client, for the record.
    pub fn wrote(&mut self, response: Response) {
        self.response = Some(response);
    }

    /// Queues how it ended. What was marked here wins over a better-sounding word.
    pub fn end(mut self, delivered: Delivered) {
        self.finish(delivered);
    }

    fn finish(&mut self, delivered: Delivered) {
        let delivered = match delivered {
            Delivered::Nothing { .. } if self.touched => Delivered::Partial,
            Delivered::Nothing { untouched } => Delivered::Nothing { untouched: untouched && !self.forwarded },
            other => other,
        };
        self.ended = true;
        let what = What::Delivery { turn: self.seen.entry.redemptions, delivered, response: self.response };
        self.ledger.outbox.post(Errand { key: self.key, seen: self.seen.clone(), what });
    }
}

impl Ledger {
    /// Whether this process is delivering it right now, renewed in time or not.
    pub(super) fn delivers(&self, key: PaymentKey, entry: &Entry) -> bool {
        self.live.get(&key).is_some_and(|live| live.entry.redemptions == entry.redemptions)
    }
}

impl Drop for Delivering {
    fn drop(&mut self) {
        if !self.ended {
            self.finish(Delivered::Nothing { untouched: true });
        }
    }
}

impl fmt::Debug for Delivering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivering")
            .field("key", &self.key)
            .field("forwarded", &self.forwarded)
            .field("touched", &self.touched)
            .finish_non_exhaustive()
    }
}
