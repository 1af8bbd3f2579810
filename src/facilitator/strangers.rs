//! Whose payments are asked about at once, and who shares a ration (S32): one rule for our own node and for
//! facilitators over HTTP.
//!
//! A valid signature costs a stranger nothing, and an empty account can make as many as it likes. So strangers share a
//! number of questions per second and a number at once; whoever was seen to have the money is no stranger for a while.
//! Whoever was seen to have too little is refused without asking again for a few seconds.
//!
//! All of it is kept in memory and bounded: it saves questions, and decides nothing about money that moved.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, U256};

use super::budget::{Bucket, Recent};
use crate::payment::Payment;
use crate::primitives::Timestamp;

/// How long an empty account counts as empty.
const EMPTY: Duration = Duration::from_secs(5);
/// How long somebody with money is no stranger.
const WELCOME: Duration = Duration::from_secs(600);

/// What all strangers together may have asked on their account.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ration {
    /// How many questions may be open at once.
    pub(super) at_once: usize,
    /// How many may be asked in a second.
    pub(super) per_second: u64,
    /// How many in a burst.
    pub(super) burst: u64,
}

impl Ration {
    /// How many strangers can become known before the first of them is one again. All are remembered: whoever is
    /// forgotten shares the ration with the flood it is there for.
    fn most_welcome(&self) -> usize {
        usize::try_from(self.burst + self.per_second * WELCOME.as_secs()).unwrap_or(usize::MAX)
    }
}

/// Why nobody is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Turned {
    /// The payer had less than this a moment ago.
    #[error("the payer did not have that much a moment ago")]
    Empty,
    /// Too many strangers.
    #[error("too many payers that are not known yet ask at once")]
    Busy,
}

/// What a question would be about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) payer: Address,
    pub(super) token: Address,
    pub(super) value: U256,
}

impl Asked {
    /// By what was signed.
    pub(super) fn about(payment: &Payment) -> Self {
        let (token, value) = (payment.offer.asset.address, payment.authorization.value().units());
        Self { payer: payment.payer().0, token, value }
    }
}

/// What is known of the payers on one network, and what strangers among them have left.
pub(super) struct Strangers {
    ration: Ration,
    book: Mutex<Book>,
    asking: Arc<AtomicUsize>,
}

struct Book {
    /// What a payer had of a token.
    empty: Recent<(Address, Address), U256>,
    welcome: Recent<Address, ()>,
    bucket: Bucket,
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

impl Strangers {
    /// Nobody is known yet.
    pub(super) fn sharing(ration: Ration) -> Self {
        let bucket = Bucket::of(ration.burst, ration.per_second);
        let welcome = Recent::of(ration.most_welcome());
        let book = Book { empty: Recent::default(), welcome, bucket };
        Self { ration, book: Mutex::new(book), asking: Arc::default() }
    }

    /// Whether somebody may be asked about this payer now. Takes from the ration where it is a stranger.
    pub(super) fn pass(&self, asked: Asked, now: Timestamp) -> Result<Asking, Turned> {
        let book = &mut *self.book();
        if book.knows(asked, now)? {
            return Ok(Asking(None));
        }
        if self.is_full() || !book.bucket.take(now) {
            return Err(Turned::Busy);
        }
        Ok(self.count())
    }

    /// Whether `pass` would turn this away, without taking anything.
    pub(super) fn turns_away(&self, asked: Asked, now: Timestamp) -> Option<Turned> {
        let book = &mut *self.book();
        match book.knows(asked, now) {
            Ok(true) => None,
            Ok(false) => (self.is_full() || book.bucket.is_empty(now)).then_some(Turned::Busy),
            Err(turned) => Some(turned),
        }
    }

    /// Counts a question that is asked in any case.
    pub(super) fn count_in(&self, payer: Address, now: Timestamp) -> Asking {
        match self.book().welcome.get(&payer, now) {
            Some(()) => Asking(None),
            None => self.count(),
        }
    }

    /// The payer can pay.
    pub(super) fn welcome(&self, payer: Address, now: Timestamp) {
        self.book().welcome.put(payer, (), now.after(WELCOME), now);
    }

    /// What the payer signed is refused, for whatever reason.
    pub(super) fn unwelcome(&self, payer: Address) {
        self.book().welcome.forget(&payer);
    }

    /// The payer has no more than this of a token.
    pub(super) fn saw_balance(&self, payer: Address, token: Address, most: U256, now: Timestamp) {
        let book = &mut *self.book();
        book.welcome.forget(&payer);
        book.empty.put((token, payer), most, now.after(EMPTY), now);
    }

    fn is_full(&self) -> bool {
        self.asking.load(Ordering::Acquire) >= self.ration.at_once
    }

    fn count(&self) -> Asking {
        self.asking.fetch_add(1, Ordering::AcqRel);
        Asking(Some(Arc::clone(&self.asking)))
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Book {
    /// Whether the payer is no stranger.
    fn knows(&self, Asked { payer, token, value }: Asked, now: Timestamp) -> Result<bool, Turned> {
        if self.empty.get(&(token, payer), now).is_some_and(|balance| *balance < value) {
            return Err(Turned::Empty);
        }
        Ok(self.welcome.get(&payer, now).is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAYER: Address = Address::repeat_byte(1);
    const TOKEN: Address = Address::repeat_byte(2);
    const RATION: Ration = Ration { at_once: 64, per_second: 50, burst: 200 };

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn by(payer: Address) -> Asked {
        Asked { payer, token: TOKEN, value: U256::from(10) }
    }

    fn stranger(number: u64) -> Asked {
        by(Address::left_padding_from(&number.to_be_bytes()))
    }

    #[test]
    fn s32_strangers_share_a_number_of_questions_and_known_payers_do_not() {
        let strangers = Strangers::sharing(RATION);
        strangers.welcome(PAYER, at(0));
        for number in 0..RATION.burst {
            assert_eq!(strangers.turns_away(stranger(number), at(0)), None);
            assert!(strangers.pass(stranger(number), at(0)).is_ok());
        }
        assert_eq!(strangers.turns_away(stranger(999), at(0)), Some(Turned::Busy));
        assert_eq!(strangers.pass(stranger(999), at(0)).err(), Some(Turned::Busy));
        assert_eq!(strangers.turns_away(by(PAYER), at(0)), None);
        assert!(strangers.pass(by(PAYER), at(0)).is_ok());
        let passed = |seconds| (0..1000).filter(|_| strangers.pass(stranger(1), at(seconds)).is_ok()).count() as u64;
        assert_eq!(passed(1), RATION.per_second);
        assert!(strangers.pass(by(PAYER), at(600)).is_ok(), "a stranger again, in a full bucket");
        assert_eq!(passed(700), RATION.burst, "a pause saves up no more than a burst");
    }

    #[test]
    fn s32_a_shop_with_many_new_buyers_forgets_none_of_them_while_they_are_known() {
        let strangers = Strangers::sharing(RATION);
        let mut known = 0;
        for second in 0..WELCOME.as_secs() {
            while strangers.pass(stranger(known), at(second)).is_ok() {
                strangers.welcome(stranger(known).payer, at(second));
                known += 1;
            }
        }
        assert_eq!(known, RATION.burst + RATION.per_second * (WELCOME.as_secs() - 1));
        let last = at(WELCOME.as_secs() - 1);
        assert!((0..known).all(|number| strangers.turns_away(stranger(number), last).is_none()));
        assert_eq!(strangers.turns_away(stranger(u64::MAX), last), Some(Turned::Busy));
    }

    #[test]
    fn s32_only_so_many_strangers_are_asked_about_at_once() {
        let strangers = Strangers::sharing(RATION);
        let asking: Vec<_> = (0..RATION.at_once as u64)
            .map(|number| strangers.pass(stranger(number), at(0)).expect("there is room"))
            .collect();
        assert_eq!(strangers.turns_away(stranger(999), at(0)), Some(Turned::Busy));
        assert_eq!(strangers.pass(stranger(999), at(0)).err(), Some(Turned::Busy));
        drop(asking);
        let settling = strangers.count_in(PAYER, at(0));
        assert_eq!(strangers.asking.load(Ordering::Relaxed), 1);
        drop(settling);
        assert!(strangers.pass(stranger(999), at(0)).is_ok());
    }

    #[test]
    fn s32_an_empty_wallet_is_not_asked_about_again_for_a_moment() {
        let strangers = Strangers::sharing(RATION);
        strangers.welcome(PAYER, at(0));
        strangers.saw_balance(PAYER, TOKEN, U256::from(9), at(0));
        assert_eq!(strangers.turns_away(by(PAYER), at(4)), Some(Turned::Empty));
        assert_eq!(strangers.pass(by(PAYER), at(4)).err(), Some(Turned::Empty));
        let less = Asked { value: U256::from(9), ..by(PAYER) };
        assert!(strangers.pass(less, at(4)).is_ok(), "it has as much as that");
        assert!(strangers.pass(Asked { token: Address::ZERO, ..by(PAYER) }, at(4)).is_ok(), "another token");
        assert!(strangers.pass(by(PAYER), at(5)).is_ok());
    }
}
