//! What a settlement costs us, and which prices cover it (S31).
//!
//! Gas is paid in the network's coin and prices are in dollars, so nothing can be compared before the operator says what the
//! coin costs. The gas price is the one last seen in passing by; no request waits for a look.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::purse::{USUAL_GAS, usual_gas};
use super::transaction::Fees;
use crate::payment::Offer;
use crate::primitives::{Dollars, Timestamp};

/// How often the gas price is looked at.
const EVERY: Duration = Duration::from_secs(10);
/// How long a look counts. With nodes that are silent for longer nobody knows what gas costs, and prices are taken for
/// good, as before the first look.
const GOOD_FOR: Duration = Duration::from_secs(600);

/// What is known of the cost of a settlement.
pub(super) struct Dues {
    /// What one whole coin of the network costs. Without it nothing is compared.
    coin_price: Option<Dollars>,
    seen: Mutex<Option<Seen>>,
}

#[derive(Clone, Copy)]
struct Seen {
    /// What a unit of gas costs, in wei.
    gas: u128,
    /// What an offer has to pay for a unit of gas to be taken, in wei.
    least: u128,
    at: Timestamp,
}

impl Dues {
    /// Nothing is known yet.
    pub(super) fn new(coin_price: Option<Dollars>) -> Self {
        Self { coin_price, seen: Mutex::new(None) }
    }

    /// Whether it is time for another look.
    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        self.coin_price.is_some() && self.seen().is_none_or(|seen| now.since(seen.at) >= EVERY)
    }

    /// Notes what gas costs. A price that no longer covers it is turned away at once, and taken again when the cost has
    /// fallen to four fifths of it: a gas price that wavers must not open and close a route with every block.
    pub(super) fn note(&self, fees: Fees, now: Timestamp) {
        let gas = fees.expected();
        let seen = &mut *self.seen();
        let before = current(*seen, now).map_or(gas, |seen| seen.least);
        let least = before.min(gas.saturating_add(gas.div_ceil(4))).max(gas);
        *seen = Some(Seen { gas, least, at: now });
    }

    /// Whether an offer brings in what its settlement costs, as far as is known. One that is not in dollars does.
    pub(super) fn covered_by(&self, offer: &Offer, now: Timestamp) -> bool {
        let Some(coin_price) = self.coin_price else { return true };
        let (Some(price), Some(seen)) = (Dollars::of(offer.amount, &offer.asset), current(*self.seen(), now)) else {
            return true;
        };
        price >= cost(coin_price, seen.least, usual_gas(offer.asset.method))
    }

    /// What a settlement without Permit2 costs, if anybody knows.
    pub(super) fn cost(&self, now: Timestamp) -> Option<Dollars> {
        let seen = current(*self.seen(), now)?;
        Some(cost(self.coin_price?, seen.gas, USUAL_GAS))
    }

    fn seen(&self) -> MutexGuard<'_, Option<Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What so much gas costs at a price in wei, rounded up.
fn cost(coin_price: Dollars, wei: u128, gas: u64) -> Dollars {
    coin_price.of_coin(wei.saturating_mul(u128::from(gas)))
}

fn current(seen: Option<Seen>, now: Timestamp) -> Option<Seen> {
    seen.filter(|seen| now.since(seen.at) < GOOD_FOR)
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U256;

    use super::*;
    use crate::primitives::{AtomicAmount, TransferMethod};
    use crate::testing::vectors::eip3009_base_sepolia;

    const GWEI: u128 = 1_000_000_000;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn dues() -> Dues {
        Dues::new(Some(Dollars::from_decimal("1000").expect("an amount")))
    }

    /// An offer of so many millionths of a dollar.
    fn asking(millionths: u64) -> Offer {
        Offer { amount: AtomicAmount::new(U256::from(millionths)), ..eip3009_base_sepolia().offer }
    }

    fn gas_at(price: u128) -> Fees {
        Fees::Legacy { price }
    }

    #[test]
    fn s31_a_price_covers_what_it_costs_to_settle_it_to_the_last_millionth() {
        let dues = dues();
        assert!(dues.covered_by(&asking(1), at(0)), "nobody has looked yet");
        // 100,000 gas at 0.1 gwei are 0.00001 coins, at $1,000 each.
        dues.note(gas_at(GWEI / 10), at(0));
        assert_eq!(dues.cost(at(0)).map(|cost| cost.to_string()).as_deref(), Some("$0.01"));
        assert!(dues.covered_by(&asking(10_000), at(0)));
        assert!(!dues.covered_by(&asking(9_999), at(0)));
    }

    #[test]
    fn s31_a_transfer_through_permit2_needs_a_fifth_more_gas() {
        let dues = dues();
        dues.note(gas_at(GWEI / 10), at(0));
        let through_permit2 = |millionths| {
            let offer = asking(millionths);
            let asset = crate::primitives::Asset { method: TransferMethod::Permit2, ..(*offer.asset).clone() };
            Offer { asset: asset.into(), ..offer }
        };
        assert!(dues.covered_by(&asking(10_000), at(0)));
        assert!(!dues.covered_by(&through_permit2(11_999), at(0)));
        assert!(dues.covered_by(&through_permit2(12_000), at(0)));
    }

    #[test]
    fn s31_a_price_that_was_turned_away_is_taken_again_at_four_fifths_of_it() {
        let dues = dues();
        let offer = asking(10_000);
        let looks =
            [(80, true), (100, true), (101, false), (100, false), (81, false), (80, true), (99, true), (120, false)];
        for (second, (price, covered)) in (0..).zip(looks) {
            dues.note(gas_at(GWEI / 1000 * price), at(second));
            assert_eq!(dues.covered_by(&offer, at(second)), covered, "at {price} thousandths of a gwei");
        }
    }

    #[test]
    fn s31_what_was_seen_long_ago_turns_nobody_away() {
        let dues = dues();
        dues.note(gas_at(GWEI), at(0));
        assert!(!dues.is_due(at(9)) && dues.is_due(at(10)));
        assert!(!dues.covered_by(&asking(10_000), at(599)));
        assert!(dues.covered_by(&asking(10_000), at(600)));
        assert_eq!(dues.cost(at(600)), None);
    }

    #[test]
    fn s31_without_a_price_of_the_coin_nothing_is_compared() {
        let dues = Dues::new(None);
        dues.note(gas_at(u128::MAX), at(0));
        assert!(dues.covered_by(&asking(1), at(0)));
        assert!(!dues.is_due(at(100)), "nor looked at");
    }

    #[test]
    fn s31_gas_that_costs_more_than_can_be_counted_is_covered_by_nothing() {
        let dues = dues();
        dues.note(gas_at(u128::MAX), at(0));
        assert!(!dues.covered_by(&asking(u64::MAX), at(0)));
    }

    #[test]
    fn s31_what_is_no_dollar_is_not_compared() {
        let dues = dues();
        dues.note(gas_at(GWEI), at(0));
        let offer = asking(1);
        let asset = crate::primitives::Asset { peg: None, ..(*offer.asset).clone() };
        assert!(dues.covered_by(&Offer { asset: asset.into(), ..offer }, at(0)));
    }
}
