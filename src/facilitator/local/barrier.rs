//! Whom we ask the node about, and whose transactions we pay gas for (S30, S32).
//!
//! A valid signature costs a stranger nothing, and an empty wallet can make as many as it likes. So strangers share a
//! number of questions per second; whoever was seen to have the money does not count as one for a while. Whoever was
//! seen to have too little is refused without asking again for a few seconds. And whoever made us pay for transactions
//! that reverted, again and again, is not served for an hour.
//!
//! All of it is kept in memory and bounded: it saves work and gas, and decides nothing about money that moved.

use std::hash::Hash;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, U256};

use crate::facilitator::budget::{Bucket, Recent};
use crate::primitives::Timestamp;

/// How many strangers may be asked about at once.
const MOST_AT_ONCE: usize = 64;
/// How many strangers may be asked about in a second, and how many in a burst.
const PER_SECOND: u64 = 50;
const BURST: u64 = 200;
/// How long an empty wallet counts as empty.
const EMPTY: Duration = Duration::from_secs(5);
/// How long somebody with money is no stranger.
const WELCOME: Duration = Duration::from_secs(600);
/// How many reverted transactions of a payer we pay for within an hour.
const MOST_REVERTS: u32 = 3;
const PENANCE: Duration = Duration::from_secs(3600);
/// The same of all contract wallets together. A wallet costs next to nothing, and one that accepts a signature when it is
/// asked and not when it is paid could be made again and again.
const MOST_REVERTS_OF_WALLETS: u32 = 20;

/// Why the node is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Turned {
    /// The payer's transactions reverted too often.
    #[error("transactions of this payer reverted too often")]
    Suspended,
    /// The payer had less than this a moment ago.
    #[error("the payer did not have that much a moment ago")]
    Empty,
    /// Transactions of contract wallets reverted too often, whoever they were.
    #[error("transactions of contract wallets reverted too often")]
    Wallets,
    /// Too many strangers.
    #[error("too many payers that are not known yet ask at once")]
    Busy,
}

/// What is known of payers.
#[derive(Default)]
pub(super) struct Barrier {
    book: Mutex<Known>,
    asking: Arc<AtomicUsize>,
}

struct Known {
    /// What a payer had of a token.
    empty: Recent<(Address, Address), U256>,
    welcome: Recent<Address, ()>,
    reverts: Recent<Address, u32>,
    reverts_of_wallets: Recent<(), u32>,
    bucket: Bucket,
}

impl Default for Known {
    fn default() -> Self {
        Self {
            empty: Recent::default(),
            welcome: Recent::default(),
            reverts: Recent::default(),
            reverts_of_wallets: Recent::default(),
            bucket: Bucket::of(BURST, PER_SECOND),
        }
    }
}

/// Counts as a question until dropped.
pub(super) struct Asking(Option<Arc<AtomicUsize>>);

impl Drop for Asking {
    fn drop(&mut self) {
        if let Some(asking) = &self.0 {
            asking.fetch_sub(1, Ordering::AcqRel);
        }
    }
}

impl Barrier {
    /// Whether the node may be asked about a payment of so much of a token.
    pub(super) fn pass(&self, payer: Address, token: Address, value: U256, now: Timestamp) -> Result<Asking, Turned> {
        let known = &mut *self.known();
        if known.reverts.get(&payer, now).is_some_and(|reverts| *reverts >= MOST_REVERTS) {
            return Err(Turned::Suspended);
        }
        if known.empty.get(&(token, payer), now).is_some_and(|balance| *balance < value) {
            return Err(Turned::Empty);
        }
        if known.welcome.get(&payer, now).is_some() {
            return Ok(Asking(None));
        }
        if self.asking.load(Ordering::Acquire) >= MOST_AT_ONCE || !known.bucket.take(now) {
            return Err(Turned::Busy);
        }
        self.asking.fetch_add(1, Ordering::AcqRel);
        Ok(Asking(Some(Arc::clone(&self.asking))))
    }

    /// The payer can pay.
    pub(super) fn welcome(&self, payer: Address, now: Timestamp) {
        self.known().welcome.put(payer, (), now.after(WELCOME), now);
    }

    /// The chain refuses what the payer signed, for whatever reason.
    pub(super) fn unwelcome(&self, payer: Address) {
        self.known().welcome.forget(&payer);
    }

    /// The payer has only so much of a token.
    pub(super) fn saw_balance(&self, payer: Address, token: Address, balance: U256, now: Timestamp) {
        let known = &mut *self.known();
        known.welcome.forget(&payer);
        known.empty.put((token, payer), balance, now.after(EMPTY), now);
    }

    /// Whether contract wallets have made us pay for nothing too often to be paid for at present.
    pub(super) fn has_closed_to_wallets(&self, now: Timestamp) -> bool {
        self.known().reverts_of_wallets.get(&(), now).is_some_and(|reverts| *reverts >= MOST_REVERTS_OF_WALLETS)
    }

    /// A transaction for this payer reverted, and moved no money.
    pub(super) fn saw_revert(&self, payer: Address, is_wallet: bool, now: Timestamp) {
        let known = &mut *self.known();
        known.welcome.forget(&payer);
        known.reverts.count(payer, now);
        if is_wallet {
            known.reverts_of_wallets.count((), now);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq + Clone> Recent<K, u32> {
    /// One more within the hour that begins anew with each.
    fn count(&mut self, key: K, now: Timestamp) {
        let times = self.get(&key, now).copied().unwrap_or_default().saturating_add(1);
        self.put(key, times, now.after(PENANCE), now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYER: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn stranger(number: u64) -> Address {
        Address::left_padding_from(&number.to_be_bytes())
    }

    fn price() -> U256 {
        U256::from(10)
    }

    #[test]
    fn s32_strangers_share_a_number_of_questions_and_known_payers_do_not() {
        let barrier = Barrier::default();
        barrier.welcome(PAYER, at(0));
        for number in 0..BURST {
            assert!(barrier.pass(stranger(number), TOKEN, price(), at(0)).is_ok());
        }
        assert_eq!(barrier.pass(stranger(999), TOKEN, price(), at(0)).err(), Some(Turned::Busy));
        assert!(barrier.pass(PAYER, TOKEN, price(), at(0)).is_ok());
        assert_eq!(barrier.pass(PAYER, TOKEN, price(), at(600)).err(), None, "a stranger again, in a full bucket");
        let passed = (0..1000).filter(|_| barrier.pass(stranger(1), TOKEN, price(), at(601)).is_ok()).count() as u64;
        assert_eq!(passed, BURST, "a pause saves up no more than a burst");
    }

    #[test]
    fn s32_only_so_many_strangers_are_asked_about_at_once() {
        let barrier = Barrier::default();
        let asking: Vec<_> = (0..MOST_AT_ONCE as u64)
            .map(|number| barrier.pass(stranger(number), TOKEN, price(), at(0)).expect("there is room"))
            .collect();
        assert_eq!(barrier.pass(stranger(999), TOKEN, price(), at(0)).err(), Some(Turned::Busy));
        drop(asking);
        assert!(barrier.pass(stranger(999), TOKEN, price(), at(0)).is_ok());
    }

    #[test]
    fn s32_an_empty_wallet_is_not_asked_about_again_for_a_moment() {
        let barrier = Barrier::default();
        barrier.saw_balance(PAYER, TOKEN, U256::from(9), at(0));
        assert_eq!(barrier.pass(PAYER, TOKEN, price(), at(4)).err(), Some(Turned::Empty));
        assert!(barrier.pass(PAYER, TOKEN, U256::from(9), at(4)).is_ok(), "it has as much as that");
        assert!(barrier.pass(PAYER, Address::ZERO, price(), at(4)).is_ok(), "another token");
        assert!(barrier.pass(PAYER, TOKEN, price(), at(5)).is_ok());
    }

    #[test]
    fn s30_whoever_lets_transactions_revert_is_not_served_for_an_hour() {
        let barrier = Barrier::default();
        barrier.welcome(PAYER, at(0));
        for _ in 0..MOST_REVERTS {
            assert!(barrier.pass(PAYER, TOKEN, price(), at(0)).is_ok());
            barrier.saw_revert(PAYER, false, at(0));
        }
        assert_eq!(barrier.pass(PAYER, TOKEN, price(), at(1)).err(), Some(Turned::Suspended));
        assert!(barrier.pass(stranger(1), TOKEN, price(), at(1)).is_ok());
        assert!(barrier.pass(PAYER, TOKEN, price(), at(3600)).is_ok());
        assert!(!barrier.has_closed_to_wallets(at(0)));
    }

    #[test]
    fn s30_wallets_that_let_transactions_revert_are_not_served_for_an_hour_however_many_they_are() {
        let barrier = Barrier::default();
        for number in 1..=u64::from(MOST_REVERTS_OF_WALLETS) {
            assert!(!barrier.has_closed_to_wallets(at(0)));
            barrier.saw_revert(stranger(number), true, at(0));
        }
        assert!(barrier.has_closed_to_wallets(at(3599)));
        assert!(barrier.pass(PAYER, TOKEN, price(), at(1)).is_ok(), "nobody else is turned away");
        assert!(!barrier.has_closed_to_wallets(at(3600)));
    }
}
