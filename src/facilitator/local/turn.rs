//! One account nonce at a time: whose turn it is to send from our key (S34).
//!
//! A turn lasts from signing to the node's answer to the broadcast. So a nonce is taken only by a transaction that was
//! really sent; one that was prepared and never submitted gives its nonce back and leaves no gap in which later
//! transactions would wait for ever.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OwnedMutexGuard;
use tokio::time::Instant;

use crate::payment::TransactionHash;
use crate::primitives::Timestamp;

/// How long a turn waits between signing and sending while others queue. In between lies one write to the ledger.
const PATIENCE: Duration = Duration::from_secs(2);

/// The queue in front of our key.
#[derive(Default)]
pub(super) struct Turns {
    /// The next nonce as far as is known; `None` sends the holder to the node.
    next: Arc<tokio::sync::Mutex<Option<u64>>>,
    signed: Mutex<Option<Signed>>,
    in_flight: Arc<AtomicUsize>,
    /// One above the highest nonce that was seen in a block: a node that lags behind is not believed (S27).
    mined: AtomicU64,
}

/// The right to send the next transaction. Holds the queue until dropped.
pub(super) struct Turn {
    next: OwnedMutexGuard<Option<u64>>,
}

/// A transaction that was signed and not yet sent.
pub(super) struct Signed {
    /// The turn it was signed in.
    pub(super) turn: Turn,
    /// Its nonce.
    pub(super) nonce: u64,
    /// Its hash.
    pub(super) hash: TransactionHash,
    /// When it was signed.
    pub(super) at: Timestamp,
    since: Instant,
}

/// A transaction that may be on its way; counted until dropped.
pub(super) struct InFlight(Arc<AtomicUsize>);

impl Turns {
    /// Waits for a turn. A transaction that was signed a while ago and not sent loses its own.
    pub(super) async fn wait(&self) -> Turn {
        let lock = self.next.clone().lock_owned();
        tokio::pin!(lock);
        loop {
            match tokio::time::timeout(PATIENCE, &mut lock).await {
                Ok(next) => return Turn { next },
                Err(_) => drop(self.signed().take_if(|signed| signed.since.elapsed() >= PATIENCE)),
            }
        }
    }

    /// The nonce to sign with, when it need not be asked for. While nothing is in flight it is, since a node may have
    /// dropped what it once took.
    pub(super) fn known_nonce(&self, turn: &Turn) -> Option<u64> {
        turn.next.filter(|_| self.in_flight.load(Ordering::Acquire) > 0)
    }

    /// The nonce to sign with, given how many transactions of ours the node knows.
    pub(super) fn nonce_from(&self, count: u64) -> u64 {
        count.max(self.mined.load(Ordering::Acquire))
    }

    /// Keeps a turn for the transaction that was signed in it.
    pub(super) fn keep(&self, turn: Turn, nonce: u64, hash: TransactionHash, at: Timestamp) {
        *self.signed() = Some(Signed { turn, nonce, hash, at, since: Instant::now() });
    }

    /// The transaction's turn, unless it has passed.
    pub(super) fn take(&self, hash: TransactionHash) -> Option<Signed> {
        self.signed().take_if(|signed| signed.hash == hash)
    }

    /// Counts a transaction as on its way.
    pub(super) fn depart(&self) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
        InFlight(self.in_flight.clone())
    }

    /// A transaction with this nonce is in a block.
    pub(super) fn mined(&self, nonce: u64) {
        self.mined.fetch_max(nonce + 1, Ordering::AcqRel);
    }

    /// Whoever panicked while holding this left a whole value behind.
    fn signed(&self) -> MutexGuard<'_, Option<Signed>> {
        self.signed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Turn {
    /// Forgets the next nonce: from here on the node may or may not have taken one.
    pub(super) fn forget(&mut self) {
        *self.next = None;
    }

    /// The nonce is taken; the turn is over.
    pub(super) fn taken(mut self, nonce: u64) {
        *self.next = Some(nonce + 1);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::B256;

    use super::*;

    const FIRST: TransactionHash = B256::repeat_byte(1);

    #[tokio::test]
    async fn s34_a_transaction_that_was_never_sent_gives_its_nonce_back() {
        let turns = Turns::default();
        let turn = turns.wait().await;
        let nonce = turns.nonce_from(7);
        turns.keep(turn, nonce, FIRST, Timestamp::EPOCH);

        let next = turns.wait().await;

        assert_eq!((turns.known_nonce(&next), turns.nonce_from(7)), (None, nonce));
        assert!(turns.take(FIRST).is_none(), "its turn has passed, so it must not be sent any more");
    }

    #[tokio::test]
    async fn s34_nonces_are_counted_on_while_transactions_are_in_flight() {
        let turns = Turns::default();
        turns.keep(turns.wait().await, 7, FIRST, Timestamp::EPOCH);
        let sent = turns.take(FIRST).expect("it is its turn");
        let flight = turns.depart();
        sent.turn.taken(sent.nonce);

        assert_eq!(turns.known_nonce(&turns.wait().await), Some(8));
        drop(flight);
        assert_eq!(turns.known_nonce(&turns.wait().await), None, "with nothing in flight the node is asked");
    }

    #[test]
    fn s27_a_node_that_lags_behind_does_not_bring_a_nonce_back() {
        let turns = Turns::default();
        turns.mined(7);
        assert_eq!((turns.nonce_from(6), turns.nonce_from(9)), (8, 9));
    }
}
