//! The map in front of the store. It knows only what can never change again (SAFETY, "Memory").

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use dashmap::DashMap;

use super::entry::MARGIN;
use super::{Delivery, Entry, Sale, State};
use crate::payment::{PaymentKey, Receipt};
use crate::primitives::Timestamp;

/// How many payments the front remembers; the oldest gives way, and the store still knows it.
const CAPACITY: usize = 65_536;

/// A payment that opens nothing any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// What it was presented for.
    pub sale: Arc<Sale>,
    /// What it bought; `None` when it was released too often (S73).
    pub receipt: Option<Receipt>,
}

#[derive(Debug, Default)]
pub(super) struct Front {
    known: DashMap<PaymentKey, Line>,
    oldest_first: Mutex<VecDeque<PaymentKey>>,
}

#[derive(Debug)]
struct Line {
    what: Remembered,
    /// From then on the authorization is refused before anyone asks here.
    until: Timestamp,
}

impl Front {
    pub(super) fn get(&self, key: &PaymentKey, now: Timestamp) -> Option<Remembered> {
        let line = self.known.get(key)?;
        (now <= line.until).then(|| line.what.clone())
    }

    /// Remembers the entry if it is final. A kept answer is still something to get, so it is not.
    pub(super) fn notice(&self, key: PaymentKey, entry: &Entry) {
        let receipt = match &entry.state {
            State::Exhausted => None,
            State::Settled { receipt, delivery, .. } => match delivery {
                Delivery::Partial
                | Delivery::Done { answer: None }
                | Delivery::RefundDue
                | Delivery::Refunded { .. } => Some(receipt.clone()),
                Delivery::Pending | Delivery::Leased { .. } | Delivery::Done { answer: Some(_) } => return,
            },
            State::Reserved { .. } | State::Released | State::Settling { .. } => return,
        };
        let what = Remembered { sale: Arc::clone(&entry.sale), receipt };
        let until = Timestamp::from_secs(entry.sale.payment.authorization.valid_before()).after(MARGIN);
        if self.known.insert(key, Line { what, until }).is_none() {
            self.make_room(key);
        }
    }

    fn make_room(&self, newest: PaymentKey) {
        let mut oldest_first = self.oldest_first.lock().unwrap_or_else(PoisonError::into_inner);
        oldest_first.push_back(newest);
        if oldest_first.len() > CAPACITY
            && let Some(oldest) = oldest_first.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}
