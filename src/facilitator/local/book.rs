//! What the processes that share a gas key agree on: who submits, the next nonce, and what is in the air (S34).
//!
//! Pure: time and the state of the chain are arguments. [`Desk`](super::Desk) reads and writes it.

use std::fmt;
use std::time::Duration;

use alloy::primitives::{B128, Bytes};
use serde::{Deserialize, Serialize};

use super::transaction::Fees;
use crate::facilitator::BoxError;
use crate::payment::{PaymentKey, TransactionHash};
use crate::primitives::Timestamp;

/// How long a submitter is believed to be alive without word from it.
pub(super) const LEASE: Duration = Duration::from_secs(15);
/// How long a submitter may go on while another process waits for its turn.
const QUANTUM: Duration = Duration::from_secs(1);
/// How long a wish for the key counts without being repeated.
const WISH: Duration = Duration::from_secs(3);
/// How many transactions of one key may be in the air (I7). Nodes keep about as many for an account.
pub(super) const MOST_IN_FLIGHT: usize = 64;
/// How many transactions are tried under one nonce: the first, and dearer ones.
pub(super) const MOST_ATTEMPTS: usize = 6;
/// The layout of the text. A process that finds another one does not touch the key.
const FORMAT: u8 = 1;

/// A process, for as long as it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Holder(pub(super) B128);

/// Who may submit with the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Lease {
    holder: Holder,
    since: Timestamp,
    until: Timestamp,
}

/// Who would like to submit next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wish {
    by: Holder,
    until: Timestamp,
}

/// A transaction that was, or was about to be, sent under a nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Attempt {
    pub(super) hash: TransactionHash,
    pub(super) fees: Fees,
    pub(super) at: Timestamp,
}

/// A signed transaction. Holds the payer's signature, so it does not print (I8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Raw(pub(super) Bytes);

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Raw(…)")
    }
}

/// A nonce that is taken, until something under it is in a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Flight {
    pub(super) nonce: u64,
    /// What it settles; `None` when it only fills a gap.
    pub(super) payment: Option<PaymentKey>,
    /// The second from which the payment can no longer settle.
    pub(super) good_until: u64,
    /// Oldest first, never empty, at most [`MOST_ATTEMPTS`].
    pub(super) attempts: Vec<Attempt>,
    /// The latest attempt, to be sent again.
    pub(super) raw: Raw,
    /// Whether the latest attempt moves nothing: it only uses up the nonce.
    pub(super) empty: bool,
}

impl Flight {
    /// The transaction that was sent last.
    pub(super) fn latest(&self) -> &Attempt {
        self.attempts.last().expect("a flight begins with an attempt and never loses one")
    }

    /// Every transaction that may be mined under the nonce, the latest first.
    pub(super) fn hashes(&self) -> impl Iterator<Item = TransactionHash> {
        self.attempts.iter().rev().map(|attempt| attempt.hash)
    }
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// Ours, for a while yet.
    Ours,
    /// Ours to take: nobody has it, or our own is about to end.
    Open,
    /// Another process has it, or is next.
    Theirs,
}

/// Everything about one key on one chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Book {
    format: u8,
    lease: Option<Lease>,
    wish: Option<Wish>,
    /// The next nonce to sign with.
    pub(super) next: u64,
    /// In the order of their nonces.
    pub(super) flights: Vec<Flight>,
}

impl Default for Book {
    fn default() -> Self {
        Self { format: FORMAT, lease: None, wish: None, next: 0, flights: Vec::new() }
    }
}

impl Book {
    /// What a note says.
    pub(super) fn read(text: &[u8]) -> Result<Self, BoxError> {
        let book: Self = serde_json::from_slice(text)?;
        match book.format == FORMAT && book.flights.iter().all(|flight| !flight.attempts.is_empty()) {
            true => Ok(book),
            false => Err("the notes of the gas key were written by another version".into()),
        }
    }

    /// As a note.
    pub(super) fn text(&self) -> Result<Vec<u8>, BoxError> {
        Ok(serde_json::to_vec(self)?)
    }

    /// Whose turn it is, seen from this process.
    pub(super) fn standing(&self, me: Holder, now: Timestamp) -> Standing {
        match &self.lease {
            Some(lease) if now < lease.until && lease.holder != me => return Standing::Theirs,
            Some(lease) if now.after(LEASE / 2) < lease.until => return Standing::Ours,
            _ => {}
        }
        let holds = self.lease.is_some_and(|lease| lease.holder == me && now < lease.until);
        match self.wish_of_others(me, now) && !holds {
            true => Standing::Theirs,
            false => Standing::Open,
        }
    }

    /// Takes or keeps the key.
    pub(super) fn lease_to(&mut self, me: Holder, now: Timestamp) {
        let since = self.lease.filter(|lease| lease.holder == me && now < lease.until).map_or(now, |lease| lease.since);
        self.lease = Some(Lease { holder: me, since, until: now.after(LEASE) });
        self.wish = self.wish.filter(|wish| wish.by != me);
    }

    /// Lets go of the key.
    pub(super) fn let_go(&mut self, me: Holder) {
        self.lease = self.lease.filter(|lease| lease.holder != me);
    }

    /// Asks for the key, unless somebody already does. Returns whether there is something to write.
    pub(super) fn wish_for(&mut self, me: Holder, now: Timestamp) -> bool {
        if self.wish_of_others(me, now) || self.wish.is_some_and(|wish| now.after(WISH / 2) < wish.until) {
            return false;
        }
        self.wish = Some(Wish { by: me, until: now.after(WISH) });
        true
    }

    /// Whether this process has had the key for long enough, and another waits for it.
    pub(super) fn should_yield(&self, me: Holder, now: Timestamp) -> bool {
        let held = self.lease.filter(|lease| lease.holder == me);
        held.is_some_and(|lease| now.since(lease.since) >= QUANTUM) && self.wish_of_others(me, now)
    }

    fn wish_of_others(&self, me: Holder, now: Timestamp) -> bool {
        self.wish.is_some_and(|wish| wish.by != me && now < wish.until)
    }

    /// Whether this process has the key, by this book.
    pub(super) fn is_held_by(&self, me: Holder) -> bool {
        self.lease.is_some_and(|lease| lease.holder == me)
    }

    /// Whether another book differs in nothing but who would like to be next.
    pub(super) fn differs_only_in_wish(&self, other: &Self) -> bool {
        *self == Self { wish: self.wish, ..other.clone() }
    }

    /// The same book with the wish of another.
    pub(super) fn with_wish_of(self, other: &Self) -> Self {
        Self { wish: other.wish, ..self }
    }

    /// The flight that settles a payment.
    pub(super) fn flight_of(&self, payment: &PaymentKey) -> Option<&Flight> {
        self.flights.iter().find(|flight| flight.payment.as_ref() == Some(payment))
    }

    /// The flight under a nonce.
    pub(super) fn under(&self, nonce: u64) -> Option<&Flight> {
        self.flights.iter().find(|flight| flight.nonce == nonce)
    }

    /// Puts a flight in its place, instead of the one under the same nonce.
    pub(super) fn put(&mut self, flight: Flight) {
        self.next = self.next.max(flight.nonce + 1);
        self.flights.retain(|other| other.nonce != flight.nonce);
        self.flights.push(flight);
        self.flights.sort_by_key(|flight| flight.nonce);
    }

    /// Takes back a flight that was certainly not sent. Its nonce is used again if it was the last one.
    pub(super) fn withdraw(&mut self, nonce: u64) {
        self.forget(nonce);
        if self.next == nonce + 1 {
            self.next = nonce;
        }
    }

    /// Drops a flight that is no longer in the air.
    pub(super) fn forget(&mut self, nonce: u64) {
        self.flights.retain(|flight| flight.nonce != nonce);
    }

    /// Nonces from the first one that no block holds up to the next one that nothing was sent under. What was sent
    /// above such a gap waits for it.
    pub(super) fn gaps(&self, mined: u64) -> impl Iterator<Item = u64> {
        (mined..self.next).filter(|nonce| self.under(*nonce).is_none())
    }
}

#[cfg(test)]
#[path = "book/tests.rs"]
mod tests;
