//! Whom we ask the node about, and whose transactions we pay gas for (S30, S32).
//!
//! Strangers share a ration of questions ([`Strangers`]). And whoever made us pay for transactions that reverted, again
//! and again, is not served for an hour.
//!
//! All of it is kept in memory and bounded: it saves work and gas, and decides nothing about money that moved.

use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, U256};

use crate::facilitator::budget::Recent;
use crate::facilitator::strangers::{self, Asked, Asking, Ration, Strangers};
use crate::primitives::Timestamp;

/// What strangers may have asked of our node. A payment takes several questions, and a node's plan few a second.
const RATION: Ration = Ration { at_once: 64, per_second: 50, burst: 200 };
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

impl From<strangers::Turned> for Turned {
    fn from(turned: strangers::Turned) -> Self {
        match turned {
            strangers::Turned::Empty => Self::Empty,
            strangers::Turned::Busy => Self::Busy,
        }
    }
}

/// What is known of payers.
pub(super) struct Barrier {
    strangers: Strangers,
    reverts: Mutex<Reverts>,
}

#[derive(Default)]
struct Reverts {
    of_payers: Recent<Address, u32>,
    of_wallets: Recent<(), u32>,
}

impl Default for Barrier {
    fn default() -> Self {
        Self { strangers: Strangers::sharing(RATION), reverts: Mutex::default() }
    }
}

impl Barrier {
    /// Whether the node may be asked about a payment of so much of a token.
    pub(super) fn pass(&self, payer: Address, token: Address, value: U256, now: Timestamp) -> Result<Asking, Turned> {
        self.check_reverts(payer, now)?;
        Ok(self.strangers.pass(Asked { payer, token, value }, now)?)
    }

    /// Whether `pass` would turn this away, without taking anything.
    pub(super) fn turns_away(&self, asked: Asked, now: Timestamp) -> Option<Turned> {
        match self.check_reverts(asked.payer, now) {
            Ok(()) => self.strangers.turns_away(asked, now).map(Turned::from),
            Err(turned) => Some(turned),
        }
    }

    /// The payer can pay.
    pub(super) fn welcome(&self, payer: Address, now: Timestamp) {
        self.strangers.welcome(payer, now);
    }

    /// The chain refuses what the payer signed, for whatever reason.
    pub(super) fn unwelcome(&self, payer: Address) {
        self.strangers.unwelcome(payer);
    }

    /// The payer has only so much of a token.
    pub(super) fn saw_balance(&self, payer: Address, token: Address, balance: U256, now: Timestamp) {
        self.strangers.saw_balance(payer, token, balance, now);
    }

    /// Whether contract wallets have made us pay for nothing too often to be paid for at present.
    pub(super) fn has_closed_to_wallets(&self, now: Timestamp) -> bool {
        self.reverts().of_wallets.get(&(), now).is_some_and(|reverts| *reverts >= MOST_REVERTS_OF_WALLETS)
    }

    /// A transaction for this payer reverted, and moved no money.
    pub(super) fn saw_revert(&self, payer: Address, is_wallet: bool, now: Timestamp) {
        self.strangers.unwelcome(payer);
        let reverts = &mut *self.reverts();
        reverts.of_payers.count(payer, now);
        if is_wallet {
            reverts.of_wallets.count((), now);
        }
    }

    fn check_reverts(&self, payer: Address, now: Timestamp) -> Result<(), Turned> {
        match self.reverts().of_payers.get(&payer, now).is_some_and(|reverts| *reverts >= MOST_REVERTS) {
            true => Err(Turned::Suspended),
            false => Ok(()),
        }
    }

    fn reverts(&self) -> MutexGuard<'_, Reverts> {
        self.reverts.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn s30_whoever_lets_transactions_revert_is_not_served_for_an_hour() {
        let barrier = Barrier::default();
        barrier.welcome(PAYER, at(0));
        for _ in 0..MOST_REVERTS {
            assert!(barrier.pass(PAYER, TOKEN, price(), at(0)).is_ok());
            barrier.saw_revert(PAYER, false, at(0));
        }
        assert_eq!(barrier.pass(PAYER, TOKEN, price(), at(1)).err(), Some(Turned::Suspended));
        let asked = Asked { payer: PAYER, token: TOKEN, value: price() };
        assert_eq!(barrier.turns_away(asked, at(1)), Some(Turned::Suspended));
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
