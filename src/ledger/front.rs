//! The map in front of the store. It knows only what can never change again (SAFETY, "Memory").

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use alloy::primitives::B256;
use dashmap::DashMap;

use super::entry::MARGIN;
use super::{Delivery, Entry, State};
use crate::payment::{Authorization, Payment, PaymentKey, Receipt, TransactionHash};
use crate::primitives::{AtomicAmount, Timestamp};

/// How many payments the front remembers; the oldest gives way, and the store still knows it.
const CAPACITY: usize = 65_536;

/// A payment that opens nothing any more. Only what whoever presents it does not bring along, since many are remembered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Remembered {
    /// A digest of the authorization, signature and all.
    authorization: B256,
    /// What it bought; `None` when it was released too often (S73).
    bought: Option<Bought>,
}

/// A receipt without what is the same for every payment of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Bought {
    amount: AtomicAmount,
    transaction: TransactionHash,
    block: Option<u64>,
    settled_at: Timestamp,
}

impl Remembered {
    /// Whether it is this very authorization, whose signature was checked when it was taken.
    pub fn is_of(&self, authorization: &Authorization) -> bool {
        self.authorization == authorization.digest()
    }

    /// The receipt of what it bought, told to whoever presents it again: its key names the same chain and payer.
    pub fn receipt(&self, presented: &Payment) -> Option<Receipt> {
        let Bought { amount, transaction, block, settled_at } = self.bought.clone()?;
        Some(Receipt { amount, block, ..Receipt::of(presented, transaction, settled_at) })
    }
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
        let bought = match &entry.state {
            // Whoever declined it may have settled it all the same (S16).
            State::Exhausted if entry.declined.is_some() => return,
            State::Exhausted => None,
            State::Settled { receipt, delivery, .. } => match delivery {
                Delivery::Partial
                | Delivery::Done { answer: None }
                | Delivery::RefundDue
                | Delivery::Refunded { .. } => Some(Bought {
                    amount: receipt.amount,
                    transaction: receipt.transaction,
                    block: receipt.block,
                    settled_at: receipt.settled_at,
                }),
                Delivery::Pending | Delivery::Leased { .. } | Delivery::Done { answer: Some(_) } => return,
            },
            State::Reserved { .. } | State::Released | State::Settling { .. } => return,
        };
        let what = Remembered { authorization: entry.sale.payment.authorization.digest(), bought };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_what_is_remembered_of_a_spent_payment_is_small() {
        // A map that has just grown is half empty, and so is a queue.
        let line = size_of::<(PaymentKey, Line)>() + size_of::<PaymentKey>();
        assert!(line * 3 / 2 <= 300, "{line} bytes");
    }
}
