//! What has been let through and is not known to be settled, and the caps on it.
//!
//! Two sources are put together by payment key, so that nothing counts twice: what this process has confirmed and not
//! seen the end of, and what the ledger had as *settling* when it was last asked. Arithmetic only: time is an argument.

use std::collections::HashMap;

use crate::payment::{Offer, Payment, PaymentKey};
use crate::primitives::{Dollars, Payer, Rate, Timestamp};

/// How much may be unsettled at a time, and spent in a day, of what is pegged to the dollar; and how many prices may be
/// asked for in vain.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Caps {
    /// Of everybody together.
    pub total: Option<Dollars>,
    /// Of one payer.
    pub per_payer: Option<Dollars>,
    /// What one payer may spend in a day of UTC. The ledger counts it, because replicas share it.
    pub per_payer_per_day: Option<Dollars>,
    /// How many prices one client may ask for without paying.
    pub unpaid_per_client: Option<Rate>,
}

/// Which cap has no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cap {
    /// That on everybody together.
    Total,
    /// That on one payer.
    Payer,
}

/// A payment that is not known to be settled.
#[derive(Debug, Clone, Copy)]
struct Open {
    payer: Payer,
    worth: Dollars,
    /// Until when it counts although the ledger does not have it as settling: it is being served here.
    here: Option<Timestamp>,
}

/// All of them, and their sums.
#[derive(Debug, Default)]
pub(super) struct Exposure {
    open: HashMap<PaymentKey, Open>,
    total: Dollars,
    payers: HashMap<Payer, Dollars>,
    /// There are more than the ledger was asked for, so the sums say too little.
    overflowing: bool,
}

impl Caps {
    /// Whether any amount may be unsettled.
    pub(super) fn is_none(&self) -> bool {
        self.total.is_none() && self.per_payer.is_none()
    }
}

impl Exposure {
    /// The cap that has no room for another payment of this worth, if one has not.
    pub(super) fn full(&self, caps: &Caps, payer: Option<Payer>, worth: Dollars) -> Option<Cap> {
        let exceeds =
            |sum: Dollars, cap: Option<Dollars>| cap.is_some_and(|cap| self.overflowing || sum.plus(worth) > cap);
        if exceeds(self.total, caps.total) {
            return Some(Cap::Total);
        }
        let of = self.payers.get(&payer?).copied().unwrap_or_default();
        exceeds(of, caps.per_payer).then_some(Cap::Payer)
    }

    /// Counts a payment that is being served here, unless a cap has no room for it.
    pub(super) fn enter(
        &mut self,
        caps: &Caps,
        key: PaymentKey,
        payment: &Payment,
        until: Timestamp,
    ) -> Result<(), Cap> {
        let Some(worth) = price(&payment.offer) else { return Ok(()) };
        self.leave(key);
        match self.full(caps, Some(payment.payer()), worth) {
            Some(cap) => Err(cap),
            None => {
                self.add(key, Open { payer: payment.payer(), worth, here: Some(until) });
                Ok(())
            }
        }
    }

    /// It is over, one way or the other.
    pub(super) fn leave(&mut self, key: PaymentKey) {
        let Some(Open { payer, worth, .. }) = self.open.remove(&key) else { return };
        self.total = self.total.minus(worth);
        if let Some(sum) = self.payers.get_mut(&payer) {
            *sum = sum.minus(worth);
            if sum.is_zero() {
                self.payers.remove(&payer);
            }
        }
    }

    /// Takes over what the ledger has as settling. What is served here stays, until its time is over.
    pub(super) fn take_over<'p>(
        &mut self,
        settling: impl Iterator<Item = (PaymentKey, &'p Payment)>,
        overflowing: bool,
        now: Timestamp,
    ) {
        let here = |open: &Open| open.here.is_some_and(|until| now < until);
        let before = std::mem::take(self);
        self.overflowing = overflowing;
        for (key, open) in before.open.into_iter().filter(|(_, open)| here(open)) {
            self.add(key, open);
        }
        for (key, payment) in settling {
            if let (false, Some(worth)) = (self.open.contains_key(&key), price(&payment.offer)) {
                self.add(key, Open { payer: payment.payer(), worth, here: None });
            }
        }
    }

    fn add(&mut self, key: PaymentKey, open: Open) {
        self.total = self.total.plus(open.worth);
        let sum = self.payers.entry(open.payer).or_default();
        *sum = sum.plus(open.worth);
        self.open.insert(key, open);
    }
}

/// What an offer asks, in dollars; `None` in a token that is not pegged to them.
pub(super) fn price(offer: &Offer) -> Option<Dollars> {
    Dollars::of(offer.amount, &offer.asset)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sales::sale;

    const LATER: Timestamp = Timestamp::from_secs(60);

    fn payment(number: u64) -> (PaymentKey, Payment) {
        let payment = sale(number).payment;
        (payment.key(), payment)
    }

    /// Room for this many of the payments above, of everybody or of one payer.
    fn room(count: u8) -> (Caps, Caps) {
        let one = price(&payment(1).1.offer).expect("it is paid in dollars");
        let most = (0..count).fold(Dollars::default(), |sum, _| sum.plus(one));
        (Caps { total: Some(most), ..Caps::default() }, Caps { per_payer: Some(most), ..Caps::default() })
    }

    #[test]
    fn a_payment_counts_once_wherever_it_is_seen() {
        let (total, per_payer) = room(1);
        let ((key, paid), (other, second)) = (payment(1), payment(2));
        let mut exposure = Exposure::default();
        assert_eq!(exposure.enter(&total, key, &paid, LATER), Ok(()));
        assert_eq!(exposure.enter(&total, key, &paid, LATER), Ok(()), "it is the same one");
        exposure.take_over([(key, &paid)].into_iter(), false, Timestamp::EPOCH);
        assert_eq!(exposure.enter(&total, other, &second, LATER), Err(Cap::Total));
        assert_eq!(exposure.enter(&per_payer, other, &second, LATER), Err(Cap::Payer));
        exposure.leave(key);
        exposure.leave(key);
        assert_eq!(exposure.enter(&total, other, &second, LATER), Ok(()));
    }

    #[test]
    fn what_nobody_hears_the_end_of_does_not_count_for_ever() {
        let (total, _) = room(1);
        let ((key, paid), (other, second)) = (payment(1), payment(2));
        let mut exposure = Exposure::default();
        assert_eq!(exposure.enter(&total, key, &paid, LATER), Ok(()));
        exposure.take_over(std::iter::empty(), false, Timestamp::EPOCH);
        assert_eq!(exposure.enter(&total, other, &second, LATER), Err(Cap::Total), "it is being served here");
        exposure.take_over(std::iter::empty(), false, LATER);
        assert_eq!(exposure.enter(&total, other, &second, LATER.after(std::time::Duration::from_secs(60))), Ok(()));
    }

    #[test]
    fn more_than_can_be_added_up_leaves_no_room() {
        let (total, per_payer) = room(200);
        let (key, paid) = payment(1);
        let mut exposure = Exposure::default();
        exposure.take_over(std::iter::empty(), true, Timestamp::EPOCH);
        assert_eq!(exposure.enter(&total, key, &paid, LATER), Err(Cap::Total));
        assert_eq!(exposure.enter(&per_payer, key, &paid, LATER), Err(Cap::Payer));
    }
}
