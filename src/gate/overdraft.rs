//! What Permit2 payments in flight draw on one account, held against what there is (S36).
//!
//! A signature for Permit2 holds nothing back: a payer with money for three requests can sign for ten, each good by
//! itself. So each is held against the balance and the allowance together with all that came before it and have not
//! ended. It is put down before the chain is asked: whatever settles in between counts twice for a moment, which may
//! turn one away too many and never lets one pass too many.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use alloy::primitives::U256;

use super::{Event, Gate, Refusal, Visit};
use crate::facilitator::{ALLOWANCE_REQUIRED, Facilitator, Means};
use crate::payment::{Payment, PaymentKey};
use crate::primitives::{Address, Caip2, Timestamp, explain};

/// How many payments are counted (I7). Beyond it nobody pays through Permit2 until some have ended.
const MOST: usize = 10_000;
const INSUFFICIENT_BALANCE: &str = "permit2_insufficient_balance";

/// What is drawn on whom.
#[derive(Debug, Default)]
pub(super) struct Overdraft {
    books: Mutex<Books>,
    /// Whether anybody has ever paid through Permit2 here.
    used: AtomicBool,
}

#[derive(Debug, Default)]
struct Books {
    accounts: HashMap<Account, HashMap<PaymentKey, Draw>>,
    open: HashMap<PaymentKey, Account>,
}

/// One owner's money of one token.
type Account = (Caip2, Address, Address);

#[derive(Debug, Clone, Copy)]
struct Draw {
    amount: U256,
    /// From then on Permit2 does not take the signature.
    until: Timestamp,
    /// Whether this process serves it; the others are what the ledger has as settling.
    here: bool,
}

/// A payment counts until this is dropped.
#[derive(Debug)]
pub(super) struct Hold {
    overdraft: Arc<Overdraft>,
    key: PaymentKey,
    kept: bool,
}

impl Hold {
    /// Nobody knows how it ended, so it counts until that is known or its signature has lapsed.
    pub(super) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if !self.kept {
            self.overdraft.books().leave(self.key);
        }
    }
}

impl Gate {
    /// Counts a Permit2 payment, if its payer can pay for it and for all that is in flight.
    pub(super) async fn hold_back(
        &self,
        visit: &Visit<'_>,
        key: PaymentKey,
        payment: &Payment,
        candidates: &[Arc<dyn Facilitator>],
    ) -> Result<Hold, Refusal> {
        let dialect = payment.dialect;
        let unavailable = Err(Refusal::FacilitatorUnavailable(Some(dialect)));
        let Some((hold, drawn)) = Overdraft::enter(&self.overdraft, key, payment, self.clock.now()) else {
            return unavailable;
        };
        let mut silent = false;
        for facilitator in candidates {
            match facilitator.means(payment).await {
                // What is left may be what this very payment left. Whoever is asked next finds out (S18, I4).
                Ok(Some(means)) if means.used => return Ok(hold),
                Ok(Some(means)) => {
                    let Some(code) = lacking(means, drawn) else { return Ok(hold) };
                    let (route, code) = (visit.route.key.clone(), code.to_owned());
                    self.observe(&Event::Declined { route, key, code: code.clone() });
                    return Err(Refusal::Declined { dialect, code, settlement: None });
                }
                Ok(None) => {}
                Err(cause) => {
                    silent = true;
                    tracing::warn!(facilitator = facilitator.name(), cause = %explain(&*cause), "no node tells a balance");
                }
            }
        }
        if silent { unavailable } else { Ok(hold) }
    }
}

/// What there is too little of, for so much drawn.
fn lacking(means: Means, drawn: U256) -> Option<&'static str> {
    if means.balance < drawn {
        Some(INSUFFICIENT_BALANCE)
    } else if means.allowance < drawn {
        Some(ALLOWANCE_REQUIRED)
    } else {
        None
    }
}

impl Overdraft {
    /// Counts a payment. Returns what is drawn on its account now, by it and by all before it; `None` when there are
    /// too many payments to count.
    fn enter(this: &Arc<Self>, key: PaymentKey, payment: &Payment, now: Timestamp) -> Option<(Hold, U256)> {
        this.used.store(true, Ordering::Release);
        let drawn = this.books().enter(key, payment, true, now)?;
        Some((Hold { overdraft: Arc::clone(this), key, kept: false }, drawn))
    }

    /// Whether there is anything to count.
    pub(super) fn is_used(&self) -> bool {
        self.used.load(Ordering::Acquire)
    }

    /// Payments that end no longer count.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::Released { key, .. } | Event::Settled { key, .. } | Event::Declined { key, .. } = event
            && self.is_used()
        {
            self.books().leave(*key);
        }
    }

    /// Takes over what the ledger has as settling, of other processes too.
    pub(super) fn take_over<'p>(&self, settling: impl Iterator<Item = (PaymentKey, &'p Payment)>, now: Timestamp) {
        let books = &mut *self.books();
        let known: Vec<_> =
            books.accounts.values().flatten().filter(|(_, draw)| !draw.here || draw.until <= now).collect();
        let gone: Vec<_> = known.into_iter().map(|(key, _)| *key).collect();
        for key in gone {
            books.leave(key);
        }
        for (key, payment) in settling {
            if payment.authorization.permit2().is_some() && !books.open.contains_key(&key) {
                books.enter(key, payment, false, now);
            }
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Books {
    fn enter(&mut self, key: PaymentKey, payment: &Payment, here: bool, now: Timestamp) -> Option<U256> {
        self.leave(key);
        if self.open.len() >= MOST {
            return None;
        }
        let offer = &payment.offer;
        let account = (offer.network.id.clone(), offer.asset.address, payment.payer().0);
        let draws = self.accounts.entry(account.clone()).or_default();
        let lapsed: Vec<_> = draws.iter().filter(|(_, draw)| draw.until <= now).map(|(key, _)| *key).collect();
        for key in lapsed {
            draws.remove(&key);
            self.open.remove(&key);
        }
        let until = Timestamp::from_secs(payment.authorization.valid_before());
        draws.insert(key, Draw { amount: payment.authorization.value().units(), until, here });
        self.open.insert(key, account);
        Some(draws.values().fold(U256::ZERO, |sum, draw| sum.saturating_add(draw.amount)))
    }

    fn leave(&mut self, key: PaymentKey) {
        let Some(account) = self.open.remove(&key) else { return };
        if let Some(draws) = self.accounts.get_mut(&account) {
            draws.remove(&key);
            if draws.is_empty() {
                self.accounts.remove(&account);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::payment::{Authorization, Permit2, SignatureBytes};
    use crate::primitives::AtomicAmount;
    use crate::testing::sales::sale;

    const NOW: Timestamp = Timestamp::from_secs(1_000);
    const PAYER: Address = Address::repeat_byte(1);

    /// A payment of ten by this payer, good until this second.
    fn payment(nonce: u64, from: Address, deadline: u64) -> Payment {
        let mut payment = sale(1).payment;
        payment.authorization = Authorization::Permit2(Box::new(Permit2 {
            from,
            token: payment.offer.asset.address,
            amount: AtomicAmount::new(U256::from(10)),
            spender: Address::ZERO,
            nonce: U256::from(nonce),
            deadline: U256::from(deadline),
            to: payment.offer.pay_to.0,
            valid_after: U256::ZERO,
            signature: SignatureBytes(Default::default()),
        }));
        payment
    }

    fn enter(overdraft: &Arc<Overdraft>, payment: &Payment, now: Timestamp) -> (Hold, u64) {
        let (hold, drawn) = Overdraft::enter(overdraft, payment.key(), payment, now).expect("there is room");
        (hold, drawn.to())
    }

    #[test]
    fn s36_what_came_before_counts_and_what_ended_does_not() {
        let overdraft = Arc::new(Overdraft::default());
        let [one, two, three] = [1, 2, 3].map(|nonce| payment(nonce, PAYER, 2_000));
        let (first, drawn) = enter(&overdraft, &one, NOW);
        assert_eq!(drawn, 10);
        let (second, drawn) = enter(&overdraft, &two, NOW);
        assert_eq!(drawn, 20);
        drop(first);
        assert_eq!(enter(&overdraft, &three, NOW).1, 20, "the first has ended, the second has not");
        second.keep();
        assert_eq!(enter(&overdraft, &one, NOW).1, 20, "nobody knows how the second ended");
        overdraft.take_over(std::iter::empty(), NOW);
        assert_eq!(enter(&overdraft, &one, NOW).1, 20, "it is not in the ledger's list yet");
        overdraft.hear(&Event::Declined {
            route: crate::tariff::RouteKey("GET /".into()),
            key: two.key(),
            code: String::new(),
        });
        assert_eq!(enter(&overdraft, &one, NOW).1, 10);
    }

    #[test]
    fn s36_other_accounts_and_lapsed_signatures_do_not_count() {
        let overdraft = Arc::new(Overdraft::default());
        enter(&overdraft, &payment(1, PAYER, 2_000), NOW).0.keep();
        let (_other, drawn) = enter(&overdraft, &payment(1, Address::repeat_byte(2), 2_000), NOW);
        assert_eq!(drawn, 10);
        let two = payment(2, PAYER, 9_000);
        assert_eq!(
            enter(&overdraft, &two, Timestamp::from_secs(2_000)).1,
            20,
            "Permit2 takes the second of the deadline"
        );
        assert_eq!(enter(&overdraft, &two, Timestamp::from_secs(2_001)).1, 10);
    }

    #[test]
    fn s36_what_other_processes_are_settling_counts_until_the_ledger_says_it_is_over() {
        let overdraft = Arc::new(Overdraft::default());
        let theirs = payment(1, PAYER, 2_000);
        overdraft.take_over([(theirs.key(), &theirs)].into_iter(), NOW);
        let mine = payment(2, PAYER, 2_000);
        assert_eq!(enter(&overdraft, &mine, NOW).1, 20);
        let eip3009 = sale(1).payment;
        overdraft.take_over([(eip3009.key(), &eip3009)].into_iter(), NOW);
        assert_eq!(enter(&overdraft, &mine, NOW).1, 10);
    }
}
