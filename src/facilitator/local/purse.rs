//! What the gas key has left, and whether that is enough.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::U256;

use super::transaction::Fees;
use crate::facilitator;
use crate::primitives::{Timestamp, TransferMethod};

/// What a settlement burns, for a look ahead. `transferWithAuthorization` of USDC needs somewhat less; one by a contract
/// wallet may need more, and nobody knows who will pay.
pub const USUAL_GAS: u64 = 100_000;
/// The same for a transfer through Permit2 by x402's proxy: two contracts more, and nonces at random, so that nearly each
/// is in a new word of Permit2's. That needs 90,000 to 106,000 with USDC.
const USUAL_GAS_OF_PERMIT2: u64 = 120_000;
/// Without `alarm_below`, the alarm is raised when this many settlements are left.
const LAST_SETTLEMENTS: u64 = 100;
/// How often the balance is looked at; sooner when it does not suffice.
const EVERY: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

/// What a settlement with this method burns, for a look ahead.
pub const fn usual_gas(method: TransferMethod) -> u64 {
    match method {
        TransferMethod::Eip3009 => USUAL_GAS,
        TransferMethod::Permit2 => USUAL_GAS_OF_PERMIT2,
    }
}

/// The settlement costs more than the key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the gas key holds {balance} wei, and {needed} may be needed; send it some of the network's coin")]
pub(super) struct TooPoor {
    balance: U256,
    needed: U256,
}

/// What is known of the balance.
pub(super) struct Purse {
    /// Below this the alarm is raised, in wei.
    alarm_below: Option<u128>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    balance: U256,
    /// What a usual settlement costs at most, in wei.
    price: U256,
    is_low: bool,
    at: Timestamp,
}

impl Purse {
    pub(super) fn new(alarm_below: Option<u128>) -> Self {
        Self { alarm_below, seen: Mutex::new(None) }
    }

    /// Notes a balance at these fees. Returns whether the alarm is to be raised or ended, if that changed.
    pub(super) fn note(&self, balance: U256, fees: Fees, now: Timestamp) -> Option<bool> {
        let price = U256::from(fees.most()).saturating_mul(U256::from(USUAL_GAS));
        let threshold = match self.alarm_below {
            Some(wei) => U256::from(wei),
            None => price.saturating_mul(U256::from(LAST_SETTLEMENTS)),
        };
        let is_low = balance < threshold;
        let before = self.seen().replace(Seen { balance, price, is_low, at: now });
        (before.is_some_and(|before| before.is_low) != is_low).then_some(is_low)
    }

    /// Whether it is time for another look.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        match *self.seen() {
            Some(seen) => now.since(seen.at) >= if seen.balance < seen.price { SOON } else { EVERY },
            None => true,
        }
    }

    /// Whether one more settlement can be paid for, as far as is known.
    pub(super) fn suffices(&self) -> Result<(), TooPoor> {
        match *self.seen() {
            Some(Seen { balance, price, .. }) if balance < price => Err(TooPoor { balance, needed: price }),
            _ => Ok(()),
        }
    }

    /// For the metrics.
    pub(super) fn shown(&self, in_flight: usize) -> Option<facilitator::Purse> {
        let seen = (*self.seen())?;
        Some(facilitator::Purse { balance: seen.balance, is_low: seen.is_low, in_flight })
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a balance pays for a transaction, when as many others are in the air and may cost as much.
pub(super) fn affords(balance: U256, gas_limit: u64, fees: Fees, in_flight: usize) -> Result<(), TooPoor> {
    let each = U256::from(gas_limit).saturating_mul(U256::from(fees.most()));
    let needed = each.saturating_mul(U256::from(in_flight).saturating_add(U256::ONE));
    if balance < needed { Err(TooPoor { balance, needed }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEES: Fees = Fees::Legacy { price: 10 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    #[test]
    fn s30_a_low_balance_raises_the_alarm_once_and_ends_it_once() {
        let purse = Purse::new(Some(500));
        assert_eq!(purse.note(U256::from(500), FEES, at(0)), None);
        assert_eq!(purse.note(U256::from(499), FEES, at(1)), Some(true));
        assert_eq!(purse.note(U256::from(1), FEES, at(2)), None);
        assert_eq!(purse.note(U256::from(900), FEES, at(3)), Some(false));
    }

    #[test]
    fn s30_without_a_threshold_a_hundred_settlements_are_left() {
        let purse = Purse::new(None);
        assert_eq!(purse.note(U256::from(100_u64 * 1_000_000), FEES, at(0)), None);
        assert_eq!(purse.note(U256::from(100_u64 * 1_000_000 - 1), FEES, at(0)), Some(true));
    }

    #[test]
    fn s30_what_cannot_pay_for_one_more_is_looked_at_more_often() {
        let purse = Purse::new(None);
        assert!(purse.is_due(at(0)) && purse.suffices().is_ok(), "nothing is known yet");
        purse.note(U256::from(999_999), FEES, at(0));
        assert!(purse.suffices().is_err());
        assert!(!purse.is_due(at(4)) && purse.is_due(at(5)));
        purse.note(U256::from(1_000_000), FEES, at(5));
        assert!(purse.suffices().is_ok() && !purse.is_due(at(64)) && purse.is_due(at(65)));
    }

    #[test]
    fn s30_what_is_in_the_air_is_counted() {
        assert!(affords(U256::from(300), 10, FEES, 2).is_ok());
        assert!(affords(U256::from(299), 10, FEES, 2).is_err());
    }
}
