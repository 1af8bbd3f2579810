//! What presenting, crashing, leaving and coming back gets a client, on the memory store.

mod earlier;
mod faults;

use std::sync::Mutex;

use alloy::primitives::{Address, B256, keccak256};
use bytes::Bytes;

use super::*;
use crate::payment::{Authorization, Receipt, Replay, SettleMode};
use crate::primitives::Timestamp;
use crate::testing::ManualClock;
use crate::testing::sales::{receipt, sale};

const START: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOLD: Duration = Duration::from_secs(60);

/// A ledger, its clock, and the states the watcher was told of.
struct Desk {
    ledger: Arc<Ledger>,
    clock: ManualClock,
    told: Arc<Mutex<Vec<&'static str>>>,
}

impl Desk {
    fn new() -> Self {
        Self::over(Arc::new(Memory::new()), ManualClock::at(START))
    }

    fn over(store: Arc<dyn Store>, clock: ManualClock) -> Self {
        let ledger = Ledger::new(store, Arc::new(clock.clone()), Limits::default());
        let told = Arc::new(Mutex::new(Vec::new()));
        let heard = told.clone();
        ledger.watch(move |_, entry| heard.lock().unwrap().push(entry.state.name()));
        Self { ledger, clock, told }
    }

    /// The same ledger after its process was killed and started again.
    fn restarted(&self) -> Self {
        Self::over(self.ledger.store.clone(), self.clock.clone())
    }

    async fn claim(&self, sale: &Sale) -> Claim {
        self.claim_with(sale, Replay::SameAnswer).await
    }

    async fn claim_with(&self, sale: &Sale, replay: Replay) -> Claim {
        self.ledger.claim(Arc::new(sale.clone()), HOLD, replay).await.expect("memory does not fail")
    }

    async fn claim_earlier(&self, fresh: &Sale) -> Option<Claim> {
        self.ledger
            .claim_earlier(&Arc::new(fresh.clone()).into(), Replay::Redeliver)
            .await
            .expect("memory does not fail")
    }

    async fn lease(&self, sale: &Sale) -> Lease {
        match self.claim(sale).await {
            Claim::Granted(lease) => lease,
            other => panic!("not granted: {other:?}"),
        }
    }

    async fn in_settlement(&self, sale: &Sale) -> InSettlement {
        let check_at = self.clock.now().after(Duration::from_secs(30));
        self.lease(sale).await.begin("cdp", None, check_at).await.expect("the lease is held")
    }

    async fn delivering(&self, sale: &Sale) -> Delivering {
        let receipt = receipt(sale, self.clock.now());
        let settled = self.in_settlement(sale).await.settled(receipt, &[], true).await;
        settled.expect("memory does not fail").expect("a request waits for it")
    }

    async fn state(&self, sale: &Sale) -> &'static str {
        self.ledger.flush().await;
        self.ledger.store.load(sale.payment.key()).await.unwrap().expect("it is remembered").entry.state.name()
    }
}

fn answer(until: Timestamp) -> Answer {
    Answer { status: 200, fields: vec![], body: Bytes::from_static(b"sunny"), request_body: B256::ZERO, until }
}

#[tokio::test]
async fn s3_one_signature_in_two_dialects_is_one_payment() {
    let desk = Desk::new();
    let _lease = desk.lease(&sale(1)).await;
    let mut v1 = sale(1);
    v1.payment.dialect = crate::payment::Dialect::V1;
    v1.quote = None;
    assert!(matches!(desk.claim(&v1).await, Claim::InFlight { .. }));
}

#[tokio::test]
async fn a_dropped_lease_is_released_and_the_payment_is_good_again() {
    let desk = Desk::new();
    drop(desk.lease(&sale(1)).await);
    assert_eq!(desk.ledger.queued(), 1);
    assert_eq!(desk.state(&sale(1)).await, "released");
    assert_eq!(desk.ledger.queued(), 0);
    assert_eq!(*desk.told.lock().unwrap(), ["released"]);
    desk.lease(&sale(1)).await.release().await;
    assert_eq!(desk.state(&sale(1)).await, "released");
}

#[tokio::test]
async fn s2_a_request_whose_hold_has_lapsed_is_not_forwarded() {
    let desk = Desk::new();
    let mut late = desk.lease(&sale(1)).await;
    desk.clock.advance(HOLD);
    let mut next = desk.lease(&sale(1)).await;
    assert!(late.mark_forwarded().is_err(), "another request holds it");
    next.mark_forwarded().expect("it is held");
    drop(late);
    desk.ledger.flush().await;
    assert!(next.begin("cdp", None, desk.clock.now()).await.is_ok(), "what came late lets go of nothing but its own");
}

#[tokio::test]
async fn s73_a_payment_that_made_the_backend_work_three_times_is_exhausted() {
    let desk = Desk::new();
    for _ in 0..5 {
        desk.lease(&sale(1)).await.release().await;
    }
    for _ in 0..3 {
        let mut lease = desk.lease(&sale(1)).await;
        lease.mark_forwarded().expect("it is held");
        drop(lease);
        desk.ledger.flush().await;
    }
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Exhausted));
    let remembered = desk.ledger.spent(&sale(1).payment.key()).expect("it is over");
    assert_eq!(remembered.receipt(&sale(1).payment), None);
}

#[tokio::test]
async fn s73_an_authorization_that_never_settles_makes_the_backend_work_three_times_at_most() {
    let desk = Desk::new();
    let mut upfront = sale(2);
    upfront.payment.offer.settle = SettleMode::BeforeForward;
    for _ in 0..3 {
        desk.in_settlement(&sale(1)).await.declined("refused", None).await.unwrap();
        desk.in_settlement(&upfront).await.declined("refused", None).await.unwrap();
    }
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Exhausted));
    assert!(matches!(desk.claim(&upfront).await, Claim::Granted(_)), "its backend was never asked");
}

#[tokio::test]
async fn s73_a_payment_whose_holds_only_ever_lapse_is_exhausted_too() {
    let desk = Desk::new();
    let mut holders = Vec::new();
    for _ in 0..3 {
        holders.push(desk.lease(&sale(1)).await);
        desk.clock.advance(HOLD);
    }
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Exhausted));
}

#[tokio::test]
async fn s73_a_third_hold_that_lapses_exhausts_a_payment() {
    let desk = Desk::new();
    for _ in 0..2 {
        let mut lease = desk.lease(&sale(1)).await;
        lease.mark_forwarded().expect("it is held");
        drop(lease);
        desk.ledger.flush().await;
    }
    let late = desk.lease(&sale(1)).await;
    desk.clock.advance(HOLD);
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Exhausted));
    assert_eq!(desk.state(&sale(1)).await, "exhausted");
    let begun = late.begin("cdp", None, desk.clock.now()).await;
    assert!(matches!(begun, Err(BeginError::Lost)), "what was called exhausted was settled");
}

#[tokio::test]
async fn a_hold_lapses_and_its_late_holder_may_not_settle() {
    let desk = Desk::new();
    let late = desk.lease(&sale(1)).await;
    desk.clock.advance(HOLD);
    let lease = desk.lease(&sale(1)).await;
    let begun = late.begin("cdp", None, desk.clock.now()).await;
    assert!(matches!(begun, Err(BeginError::Lost)));
    assert_eq!(desk.state(&sale(1)).await, "reserved", "the late holder took the payment from its new one");
    assert!(lease.begin("cdp", None, desk.clock.now()).await.is_ok());
}

#[tokio::test]
async fn s13_an_unknown_settlement_is_neither_spent_nor_payable() {
    let desk = Desk::new();
    let settling = desk.in_settlement(&sale(1)).await;
    assert!(matches!(desk.claim(&sale(1)).await, Claim::InFlight { .. }), "its facilitator is still being asked");
    let check_at = desk.clock.now().after(Duration::from_secs(300));
    settling.unknown(Some(B256::repeat_byte(7)), check_at).await.unwrap();
    desk.clock.advance(HOLD * 1000);
    let Claim::Unresolved { entry } = desk.claim(&sale(1)).await else { panic!("money may have moved") };
    assert_eq!(entry.transaction(), Some(B256::repeat_byte(7)));
}

#[tokio::test]
async fn s13_a_declined_settlement_frees_the_payment() {
    let desk = Desk::new();
    desk.in_settlement(&sale(1)).await.declined("refused", None).await.unwrap();
    desk.lease(&sale(1)).await.release().await;
}

#[tokio::test]
async fn s16_what_was_declined_on_somebodys_word_is_looked_at_by_one_at_a_time_and_settles_by_proof() {
    let desk = Desk::new();
    let in_a_minute = || Some(desk.clock.now().after(Duration::from_secs(60)));
    for _ in 0..3 {
        desk.in_settlement(&sale(1)).await.declined("refused", in_a_minute()).await.unwrap();
    }
    assert_eq!(desk.state(&sale(1)).await, "exhausted");
    assert!(desk.ledger.spent(&sale(1).payment.key()).is_none(), "it may turn out to be paid");
    assert!(desk.ledger.overdue_declined(9).await.unwrap().is_empty(), "not before its time");

    desk.clock.advance(Duration::from_secs(60));
    let due = desk.ledger.overdue_declined(9).await.unwrap().remove(0);
    let next = desk.clock.now().after(HOLD);
    let looking = desk.ledger.recheck(due.clone(), next).await.unwrap().expect("nobody was faster");
    assert!(desk.ledger.recheck(due, next).await.unwrap().is_none(), "one looks at a time");
    assert!(desk.ledger.overdue_declined(9).await.unwrap().is_empty());

    desk.ledger.file(looking, receipt(&sale(1), START), &[]).await.unwrap().expect("the transfer is there");
    let Claim::Redeem(delivering) = desk.claim(&sale(1)).await else { panic!("it is paid") };
    assert_eq!(delivering.receipt(), &receipt(&sale(1), START));
}

#[tokio::test]
async fn s16_a_declined_payment_that_is_presented_again_is_left_to_its_holder() {
    let desk = Desk::new();
    let soon = Some(desk.clock.now().after(Duration::from_secs(1)));
    desk.in_settlement(&sale(1)).await.declined("refused", soon).await.unwrap();
    desk.clock.advance(Duration::from_secs(1));
    let due = desk.ledger.overdue_declined(9).await.unwrap().remove(0);
    let lease = desk.lease(&sale(1)).await;

    assert!(desk.ledger.overdue_declined(9).await.unwrap().is_empty());
    assert!(desk.ledger.recheck(due, desk.clock.now()).await.unwrap().is_none(), "its holder was faster");
    lease.release().await;

    let due = desk.ledger.overdue_declined(9).await.unwrap().remove(0);
    let ended = desk.ledger.end_watch(due, "it lapsed unused").await.unwrap().expect("nobody was faster");
    assert_eq!((ended.declined, ended.state), (None, State::Released));
}

#[tokio::test]
async fn s13_a_no_proves_nothing_once_somebody_has_set_out_to_ask_again() {
    let desk = Desk::new();
    let slow = desk.in_settlement(&sale(1)).await;
    desk.clock.advance(Duration::from_secs(30));
    let unsettled = desk.ledger.overdue_settlements(9).await.unwrap().remove(0);
    let until = desk.clock.now().after(HOLD);
    let looking = desk.ledger.look(unsettled.clone(), until).await.unwrap().expect("nobody was faster");
    assert!(desk.ledger.look(unsettled, until).await.unwrap().is_none(), "one asks at a time");
    assert!(desk.ledger.overdue_settlements(9).await.unwrap().is_empty());

    assert!(
        matches!(slow.declined("refused", None).await, Err(FileError::Overtaken)),
        "the other may have moved money by now"
    );
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Unresolved { .. }));
    desk.ledger.file(looking, receipt(&sale(1), START), &[]).await.unwrap().expect("it knows");
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
}

#[tokio::test]
async fn s21_a_settlement_left_behind_waits_for_reconciliation() {
    let desk = Desk::new();
    drop(desk.in_settlement(&sale(1)).await);
    assert_eq!(desk.state(&sale(1)).await, "settling");
    desk.clock.advance(Duration::from_secs(30));
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Unresolved { .. }));
    let unsettled = desk.ledger.overdue_settlements(9).await.unwrap().remove(0);
    let later = desk.clock.now().after(HOLD);
    let looked = desk.ledger.still_unknown(unsettled.clone(), None, later).await.unwrap();
    assert!(looked.is_some());
    assert!(desk.ledger.overdue_settlements(9).await.unwrap().is_empty());
    assert!(desk.ledger.decline(unsettled, "refused").await.unwrap().is_none(), "it rested on an older version");
    desk.clock.set(later);
    let unsettled = desk.ledger.overdue_settlements(9).await.unwrap().remove(0);
    let filed = desk.ledger.file(unsettled, receipt(&sale(1), later), &[]).await.unwrap().expect("nobody was faster");
    assert_eq!(filed.state.name(), "undelivered");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Redeem(_)));
}

#[tokio::test]
async fn s23_a_copy_waits_while_the_answer_is_delivered_and_then_hears_what_it_bought() {
    let desk = Desk::new();
    let delivering = desk.delivering(&sale(1)).await;
    assert!(matches!(desk.claim(&sale(1)).await, Claim::InFlight { .. }));
    delivering.end(Delivered::Done(None));
    assert_eq!(desk.state(&sale(1)).await, "delivered");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Spent { receipt: Some(_) }));
    let remembered = desk.ledger.spent(&sale(1).payment.key()).expect("it is over");
    assert_eq!(remembered.receipt(&sale(1).payment), Some(receipt(&sale(1), START)));
    assert!(remembered.is_of(&sale(1).payment.authorization));
    let mut forged = sale(1).payment.authorization;
    let crate::payment::Authorization::Eip3009(signed) = &mut forged else { panic!("it is an EIP-3009 payment") };
    signed.value = crate::primitives::AtomicAmount::default();
    assert!(!remembered.is_of(&forged), "a signature counts only for what it signed");
}

#[tokio::test]
async fn s74_a_client_that_got_a_byte_gets_no_more() {
    let desk = Desk::new();
    let mut delivering = desk.delivering(&sale(1)).await;
    delivering.touch();
    drop(delivering);
    assert_eq!(desk.state(&sale(1)).await, "partial");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Spent { .. }));

    let mut delivering = desk.delivering(&sale(2)).await;
    delivering.touch();
    delivering.end(Delivered::Nothing { untouched: true });
    assert_eq!(desk.state(&sale(2)).await, "partial", "a word of nothing beat the mark of a byte");
}

#[tokio::test]
async fn s75_whoever_lacks_the_quote_hears_that_it_is_spent() {
    let desk = Desk::new();
    drop(desk.delivering(&sale(1)).await);
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
    let observer = Sale { quote: None, ..sale(1) };
    let other_quote = Sale { quote: sale(2).quote, ..sale(1) };
    let other_request = Sale { request: keccak256("GET /v1/secrets"), ..sale(1) };
    for presented in [observer, other_quote, other_request] {
        assert!(matches!(desk.claim(&presented).await, Claim::Spent { receipt: Some(_) }));
    }
    assert!(matches!(desk.claim_with(&sale(1), Replay::Refuse).await, Claim::Spent { .. }));
    assert_eq!(desk.ledger.spent(&sale(1).payment.key()), None, "the buyer can still collect it");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Redeem(_)));
}

#[tokio::test]
async fn s25_what_may_not_be_sent_twice_is_redeemed_only_if_it_was_never_sent() {
    let desk = Desk::new();
    let post = |number| Sale { redeemable: false, ..sale(number) };
    drop(desk.delivering(&post(1)).await);
    assert_eq!(desk.state(&post(1)).await, "undelivered", "no byte of it reached the backend");
    let mut delivering = desk.delivering(&post(2)).await;
    delivering.mark_forwarded();
    drop(delivering);
    assert_eq!(desk.state(&post(2)).await, "refund_due");

    let mut lease = desk.lease(&post(3)).await;
    lease.mark_forwarded().expect("it is held");
    let settling = lease.begin("cdp", None, desk.clock.now()).await.unwrap();
    drop(settling.settled(receipt(&post(3), desk.clock.now()), &[], true).await.unwrap());
    assert_eq!(desk.state(&post(3)).await, "refund_due", "it was forwarded before it was settled");
}

#[tokio::test]
async fn s24_a_settlement_before_forwarding_that_nobody_waits_for_is_still_collectable() {
    let desk = Desk::new();
    let mut post = Sale { redeemable: false, ..sale(1) };
    post.payment.offer.settle = SettleMode::BeforeForward;
    let settling = desk.in_settlement(&post).await;
    let none = settling.settled(receipt(&post, desk.clock.now()), &[], false).await.unwrap();
    assert!(none.is_none());
    assert_eq!(desk.state(&post).await, "undelivered");

    let post = Sale { redeemable: false, ..sale(2) };
    let settling = desk.in_settlement(&post).await;
    settling.settled(receipt(&post, desk.clock.now()), &[], false).await.unwrap();
    assert_eq!(desk.state(&post).await, "refund_due", "with on_response the backend has done it already");
}

#[tokio::test]
async fn s24_an_answer_is_collected_three_times_or_within_the_hour_and_then_paid_back() {
    let desk = Desk::new();
    drop(desk.delivering(&sale(1)).await);
    for _ in 0..3 {
        desk.ledger.flush().await;
        let Claim::Redeem(again) = desk.claim(&sale(1)).await else { panic!("it may be collected three times") };
        drop(again);
    }
    desk.ledger.flush().await;
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Spent { .. }));
    assert_eq!(desk.state(&sale(1)).await, "refund_due");

    drop(desk.delivering(&sale(2)).await);
    assert_eq!(desk.state(&sale(2)).await, "undelivered");
    desk.clock.advance(Limits::default().redeem_for);
    desk.ledger.round().await.unwrap();
    assert_eq!(desk.state(&sale(2)).await, "refund_due");
}

#[tokio::test]
async fn i3_after_a_crash_while_delivering_the_answer_can_be_collected() {
    let desk = Desk::new();
    std::mem::forget(desk.delivering(&sale(1)).await);
    let desk = desk.restarted();
    assert!(matches!(desk.claim(&sale(1)).await, Claim::InFlight { .. }));
    desk.clock.advance(LEASE);
    desk.ledger.round().await.unwrap();
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Redeem(_)));

    let post = Sale { redeemable: false, ..sale(2) };
    std::mem::forget(desk.delivering(&post).await);
    let desk = desk.restarted();
    desk.clock.advance(LEASE);
    assert!(matches!(desk.claim(&post).await, Claim::Spent { .. }));
    assert_eq!(desk.state(&post).await, "refund_due");
}

#[tokio::test]
async fn a_long_delivery_is_renewed_while_its_process_lives() {
    let desk = Desk::new();
    let neighbour = desk.restarted();
    let delivering = desk.delivering(&sale(1)).await;
    for _ in 0..20 {
        desk.clock.advance(LEASE / 3);
        desk.ledger.round().await.unwrap();
        neighbour.ledger.round().await.unwrap();
        assert!(matches!(neighbour.claim(&sale(1)).await, Claim::InFlight { .. }));
    }
    // Nobody made the rounds for a while; who delivers it still knows.
    desk.clock.advance(LEASE * 2);
    assert!(matches!(desk.claim(&sale(1)).await, Claim::InFlight { .. }));
    delivering.end(Delivered::Done(None));
    assert_eq!(desk.state(&sale(1)).await, "delivered");
    assert!(desk.ledger.live.is_empty());
}

#[tokio::test]
async fn s74_a_holder_that_was_thought_dead_still_ends_the_matter() {
    let desk = Desk::new();
    let neighbour = desk.restarted();
    let mut slow = desk.delivering(&sale(1)).await;
    desk.clock.advance(LEASE);
    neighbour.ledger.round().await.unwrap();
    let Claim::Redeem(second) = neighbour.claim(&sale(1)).await else { panic!("it had lapsed") };
    drop(desk.claim(&sale(1)).await);
    slow.touch();
    drop(slow);
    assert_eq!(desk.state(&sale(1)).await, "partial");
    drop(second);
    assert_eq!(neighbour.state(&sale(1)).await, "partial", "a later nothing undid an earlier something");
}

#[tokio::test]
async fn a_stranger_to_a_turn_cannot_say_that_nothing_was_delivered() {
    let desk = Desk::new();
    let neighbour = desk.restarted();
    let slow = desk.delivering(&sale(1)).await;
    desk.clock.advance(LEASE);
    neighbour.ledger.round().await.unwrap();
    let Claim::Redeem(_second) = neighbour.claim(&sale(1)).await else { panic!("it had lapsed") };
    drop(slow);
    assert_eq!(desk.state(&sale(1)).await, "delivering", "a third could collect while the second delivers");
}

#[tokio::test]
async fn a_kept_answer_is_repeated_until_its_time_is_over() {
    let desk = Desk::new();
    let until = desk.clock.now().after(HOLD);
    desk.delivering(&sale(1)).await.end(Delivered::Done(Some(answer(until).into())));
    assert_eq!(desk.state(&sale(1)).await, "delivered");
    assert_eq!(desk.ledger.spent(&sale(1).payment.key()), None);
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Repeat { answer: kept, .. } if kept == answer(until)));
    assert!(matches!(desk.claim_with(&sale(1), Replay::Redeliver).await, Claim::Spent { .. }));
    let observer = Sale { quote: None, ..sale(1) };
    assert!(matches!(desk.claim(&observer).await, Claim::Spent { .. }));
    desk.clock.set(until);
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Spent { .. }));
    desk.ledger.round().await.unwrap();
    let found = desk.ledger.store.load(sale(1).payment.key()).await.unwrap().unwrap().entry;
    let State::Settled { delivery, .. } = found.state else { panic!("it is settled") };
    assert_eq!(delivery, Delivery::Done { answer: None });
}

#[tokio::test]
async fn s5_a_transaction_settles_one_payment() {
    let desk = Desk::new();
    let claims = [Claimed::alone(receipt(&sale(1), START).transaction.to_vec())];
    let first = desk.in_settlement(&sale(1)).await;
    let _delivering = first.settled(receipt(&sale(1), START), &claims, true).await.unwrap();
    let second = desk.in_settlement(&sale(2)).await;
    let filed = second.settled(receipt(&sale(1), START), &claims, true).await;
    assert!(matches!(filed, Err(FileError::ClaimedBy(owner)) if owner == sale(1).payment.key()), "{filed:?}");
    assert_eq!(desk.state(&sale(2)).await, "settling");
}

#[tokio::test]
async fn s5_a_receipt_that_differs_from_the_filed_one_claims_nothing() {
    let desk = Desk::new();
    let late = desk.in_settlement(&sale(1)).await;
    desk.clock.advance(HOLD);
    let unsettled = desk.ledger.overdue_settlements(1).await.unwrap().remove(0);
    desk.ledger.file(unsettled, receipt(&sale(1), START), &[]).await.unwrap();
    let foreign = receipt(&sale(2), START);
    let claims = [Claimed::alone(foreign.transaction.to_vec())];
    let told = late.settled(Receipt { transaction: foreign.transaction, ..receipt(&sale(1), START) }, &claims, true);
    assert!(matches!(told.await, Err(FileError::Overtaken)));
    let robbed = desk.in_settlement(&sale(2)).await.settled(foreign, &claims, true).await;
    assert!(matches!(robbed, Ok(Some(_))), "its transaction was claimed by a lie about another payment");
}

#[tokio::test]
async fn a_receipt_that_comes_after_reconciliation_filed_it_delivers_all_the_same() {
    let desk = Desk::new();
    let settling = desk.in_settlement(&sale(1)).await;
    desk.clock.advance(HOLD);
    let unsettled = desk.ledger.overdue_settlements(1).await.unwrap().remove(0);
    desk.ledger.file(unsettled, receipt(&sale(1), START), &[]).await.unwrap();
    let delivering = settling.settled(receipt(&sale(1), START), &[], true).await.unwrap();
    assert!(delivering.is_some());
    assert_eq!(desk.state(&sale(1)).await, "delivering");
}

#[tokio::test]
async fn tend_writes_what_was_dropped() {
    let desk = Desk::new();
    let tending = tokio::spawn(desk.ledger.clone().tend());
    for number in 0..500 {
        drop(desk.lease(&sale(number)).await);
    }
    desk.ledger.flush().await;
    assert_eq!(desk.ledger.queued(), 0);
    let released = Filter { state: Some("released".into()), limit: 1000, ..Filter::default() };
    assert_eq!(desk.ledger.store.list(&released).await.unwrap().len(), 500);
    tending.abort();
}
