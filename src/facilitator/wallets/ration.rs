//! How many questions about contract wallets are asked, for whom (S32).
//!
//! Unlike a signature of a key, junk that claims to be a wallet's costs a stranger nothing and us a call. So all
//! strangers share so many questions a second and so many at once, over every network; an answer of no is remembered for
//! a moment; and of identical questions one is asked at a time.
//!
//! Nothing here is held against a payer: whoever presents junk may name any payer he likes, so what would be counted
//! against the name would shut out its owner. What is counted in its favour is small and bounded: a wallet that has
//! paid has a few questions of its own, so that a flood of strangers does not shut it out either.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256};

use super::{Unvouched, Vouched};
use crate::facilitator::budget::{Bucket, Recent};
use crate::primitives::Timestamp;
use crate::scheme::WalletSignature;

/// How many questions of strangers are asked in a second, and how many in a burst.
const PER_SECOND: u64 = 20;
const BURST: u64 = 100;
/// How many of them at once.
const MOST_AT_ONCE: usize = 16;
/// The same for each wallet that has paid. Together such wallets may ask this much at once.
const OWN_PER_SECOND: u64 = 2;
const OWN_BURST: u64 = 10;
const MOST_OWN_AT_ONCE: usize = 64;
/// How long an answer of no is good for. A wallet may come to exist, or change its owners.
const REFUSED: Duration = Duration::from_secs(10);
/// How long somebody who paid is no stranger.
const WELCOME: Duration = Duration::from_secs(600);

/// What is being asked, and what was.
pub(super) struct Ration {
    book: Mutex<Book>,
}

struct Book {
    /// Questions under way, by [`WalletSignature::id`].
    asking: HashSet<B256>,
    strangers: usize,
    regulars: usize,
    bucket: Bucket,
    refused: Recent<B256, Unvouched>,
    /// Wallets that accepted a signature a while ago. They need not have any money.
    vouched: Recent<Address, ()>,
    /// Those of them that paid, with what they may ask on their own.
    paid: Recent<Address, Bucket>,
}

impl Default for Ration {
    fn default() -> Self {
        Self {
            book: Mutex::new(Book {
                asking: HashSet::new(),
                strangers: 0,
                regulars: 0,
                bucket: Bucket::of(BURST, PER_SECOND),
                refused: Recent::default(),
                vouched: Recent::default(),
                paid: Recent::default(),
            }),
        }
    }
}

/// A question under way. Counts until dropped, also when nobody waits for the answer any more.
pub(super) struct Question<'a> {
    ration: &'a Ration,
    id: B256,
    wallet: Address,
    of_stranger: bool,
}

impl Ration {
    /// Whether this may be asked now.
    pub(super) fn begin(&self, presented: &WalletSignature, now: Timestamp) -> Result<Question<'_>, Unvouched> {
        let book = &mut *self.book();
        if let Some(refused) = book.refused.get(&presented.id, now) {
            return Err(refused.again());
        }
        if book.asking.contains(&presented.id) {
            return Err(Unvouched::BeingAsked);
        }
        let own = book.paid.get_mut(&presented.wallet, now);
        let of_stranger = book.regulars >= MOST_OWN_AT_ONCE || !own.is_some_and(|own| own.take(now));
        if of_stranger {
            if book.strangers >= MOST_AT_ONCE || !book.bucket.take(now) {
                return Err(Unvouched::Busy);
            }
            book.strangers += 1;
        } else {
            book.regulars += 1;
        }
        book.asking.insert(presented.id);
        Ok(Question { ration: self, id: presented.id, wallet: presented.wallet, of_stranger })
    }

    /// Money of this payer has moved; only of those whose wallet was asked is it remembered.
    pub(super) fn saw_settled(&self, payer: Address, now: Timestamp) {
        let book = &mut *self.book();
        if book.vouched.get(&payer, now).is_some() && book.paid.get(&payer, now).is_none() {
            book.paid.put(payer, Bucket::of(OWN_BURST, OWN_PER_SECOND), now.after(WELCOME), now);
        }
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Question<'_> {
    /// Remembers the answer.
    pub(super) fn ended(self, answer: &Result<Vouched, Unvouched>, now: Timestamp) {
        let book = &mut *self.ration.book();
        match answer {
            Ok(_) => book.vouched.put(self.wallet, (), now.after(WELCOME), now),
            Err(no @ (Unvouched::Refused | Unvouched::Declined(_))) => {
                book.refused.put(self.id, no.again(), now.after(REFUSED), now);
            }
            Err(_) => {}
        }
    }
}

impl Drop for Question<'_> {
    fn drop(&mut self) {
        let book = &mut *self.ration.book();
        book.asking.remove(&self.id);
        let count = if self.of_stranger { &mut book.strangers } else { &mut book.regulars };
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Bytes;

    use super::*;
    use crate::facilitator::Decline;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(1_000 + seconds)
    }

    fn wallet(number: u64) -> Address {
        Address::left_padding_from(&number.to_be_bytes())
    }

    fn presented(wallet: Address, number: u64) -> WalletSignature {
        let signature = Bytes::copy_from_slice(&number.to_be_bytes());
        WalletSignature::of(wallet, B256::repeat_byte(1), &signature).expect("a wallet may judge it")
    }

    fn begins(ration: &Ration, presented: &WalletSignature, now: Timestamp) -> bool {
        ration.begin(presented, now).is_ok()
    }

    fn begun<'a>(ration: &'a Ration, presented: &WalletSignature, now: Timestamp) -> Question<'a> {
        ration.begin(presented, now).unwrap_or_else(|error| panic!("it may be asked: {error}"))
    }

    fn ends(ration: &Ration, presented: &WalletSignature, answer: Result<Vouched, Unvouched>, now: Timestamp) {
        begun(ration, presented, now).ended(&answer, now);
    }

    #[test]
    fn s32_a_flood_of_junk_asks_no_more_than_the_ration() {
        let ration = Ration::default();
        let asked = |seconds| (0..1_000).filter(|n| begins(&ration, &presented(wallet(*n), *n), at(seconds))).count();
        assert_eq!(asked(0) as u64, BURST);
        assert_eq!(asked(1) as u64, PER_SECOND);
        assert_eq!(asked(3_600) as u64, BURST, "a pause saves up no more than a burst");
    }

    #[test]
    fn s32_only_so_many_questions_are_open_at_once() {
        let ration = Ration::default();
        let questions: Vec<_> =
            (0..MOST_AT_ONCE as u64).map(|n| ration.begin(&presented(wallet(n), n), at(0)).ok()).collect();
        assert!(questions.iter().all(Option::is_some));
        let next = presented(wallet(999), 999);
        assert!(matches!(ration.begin(&next, at(0)), Err(Unvouched::Busy)));
        drop(questions);
        assert!(begins(&ration, &next, at(0)));
    }

    #[test]
    fn s32_one_question_is_asked_once_at_a_time() {
        let ration = Ration::default();
        let (question, other) = (presented(wallet(1), 1), presented(wallet(1), 2));
        let asking = begun(&ration, &question, at(0));
        assert!(matches!(ration.begin(&question, at(0)), Err(Unvouched::BeingAsked)));
        assert!(begins(&ration, &other, at(0)), "junk in the payer's name does not shut the payer out");
        drop(asking);
        assert!(begins(&ration, &question, at(0)), "whoever asked has left without an answer");
    }

    #[test]
    fn s32_an_answer_of_no_is_good_for_a_moment() {
        let ration = Ration::default();
        let declined = || Unvouched::Declined(Decline { code: "invalid_signature".into() });
        ends(&ration, &presented(wallet(1), 1), Err(Unvouched::Refused), at(0));
        ends(&ration, &presented(wallet(1), 2), Err(declined()), at(0));
        ends(&ration, &presented(wallet(1), 3), Err(Unvouched::Unavailable("the node is down".into())), at(0));
        assert!(matches!(ration.begin(&presented(wallet(1), 1), at(9)), Err(Unvouched::Refused)));
        assert!(matches!(ration.begin(&presented(wallet(1), 2), at(9)), Err(Unvouched::Declined(_))));
        assert!(begins(&ration, &presented(wallet(1), 3), at(9)), "nobody has said no");
        assert!(begins(&ration, &presented(wallet(1), 1), at(10)));
    }

    #[test]
    fn s32_a_wallet_that_paid_is_heard_in_a_flood_of_strangers() {
        let ration = Ration::default();
        let (payer, penniless) = (wallet(1), wallet(2));
        for one in [payer, penniless] {
            ends(&ration, &presented(one, 0), Ok(Vouched::BySignature), at(0));
        }
        ration.saw_settled(payer, at(0));
        ration.saw_settled(wallet(3), at(0));
        while begins(&ration, &presented(wallet(9), 9), at(0)) {}
        let asked = |one| (1..100).filter(|n| begins(&ration, &presented(one, *n), at(0))).count() as u64;
        assert_eq!(asked(payer), OWN_BURST, "and its name opens no door to a flood");
        assert_eq!(asked(penniless), 0, "a valid signature proves no money");
        assert_eq!(asked(wallet(3)), 0, "a plain account needs no questions");
    }
}
