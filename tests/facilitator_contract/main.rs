//! One suite × every facilitator: what the gate may rely on, whoever moves the money.
//!
//! To add an implementation, write its `Stage` and name it in one `contract!` line at the end.

mod guarded;
mod local;
mod remote;
mod sandbox;

/// The same, paid through Permit2.
mod local_permit2 {
    pub type LocalStage = crate::local::OnChain<true>;
}
mod sandbox_permit2 {
    pub type SandboxStage = crate::sandbox::Sandboxed<true>;
}

use std::sync::Arc;

use async_trait::async_trait;
use tollhouse::facilitator::{Facilitator, Outcome, SettleError, Unresolved, VerifyError};
use tollhouse::payment::{Dialect, Offer, Payment, Receipt, TransactionHash};
use tollhouse::primitives::{Caip2, Clock, SystemClock};

/// A facilitator under test and the world it acts on.
#[async_trait]
trait Stage: Sized + Send + Sync {
    async fn set() -> Self;

    fn facilitator(&self) -> Arc<dyn Facilitator>;

    /// A payment that would settle. The same one every time.
    fn payable(&self) -> Payment;

    /// Another payment, of which it is certain that it cannot settle: the payer has no funds.
    async fn unpayable(&self) -> Payment;

    /// How often money has moved for this payment, as the world sees it.
    async fn moved(&self, payment: &Payment) -> usize;

    /// A payment that will settle without its end becoming known at once.
    async fn lost(&mut self) -> Payment;

    /// From here on the end of the lost payment can be known.
    async fn find(&mut self);

    /// Takes away what the facilitator depends on.
    async fn cut(&mut self) -> Cut;
}

/// What there was to take away.
enum Cut {
    /// The counterpart through which it moves money.
    Counterpart,
    /// It depends on nothing outside this process, so it goes on.
    Nothing,
}

async fn settle(facilitator: &dyn Facilitator, payment: &Payment) -> Result<Receipt, SettleError> {
    let prepared = facilitator.prepare(payment).await?;
    facilitator.submit(payment, prepared).await
}

fn unresolved(payment: &Payment, transaction: Option<TransactionHash>) -> Unresolved {
    let now = SystemClock.now();
    Unresolved { payment: payment.clone(), transaction, reserved_at: now, since: now }
}

async fn verifying_confirms_a_payable_payment_and_moves_nothing<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    for _ in 0..3 {
        stage.facilitator().verify(&payment).await.expect("the payment is good");
    }
    assert_eq!(stage.moved(&payment).await, 0);
}

async fn verifying_declines_what_cannot_be_paid<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.unpayable().await;
    let verdict = stage.facilitator().verify(&payment).await;
    let Err(VerifyError::Declined(decline)) = verdict else { panic!("not a decline: {verdict:?}") };
    let printable = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    assert!((1..=64).contains(&decline.code.len()) && decline.code.bytes().all(printable), "{decline}");
}

async fn settling_moves_the_money_once_and_says_what_moved<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    let receipt = settle(&*stage.facilitator(), &payment).await.expect("the payment is good");
    assert_eq!(stage.moved(&payment).await, 1);
    assert_eq!(receipt.payer, payment.payer());
    assert_eq!(receipt.amount, payment.offer.amount);
    assert_eq!(receipt.network, payment.offer.network.id);
    assert_eq!(receipt.network_v1, payment.offer.network.v1_name);
    assert!(!receipt.transaction.is_zero());
}

async fn s21_preparing_moves_nothing_and_a_hash_it_names_is_the_one_that_settles<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    let prepared = stage.facilitator().prepare(&payment).await.expect("the payment is good");
    assert_eq!(stage.moved(&payment).await, 0);
    let named = prepared.transaction;
    let receipt = stage.facilitator().submit(&payment, prepared).await.expect("the payment is good");
    assert!(named.is_none_or(|hash| hash == receipt.transaction), "{named:?} became {}", receipt.transaction);
}

async fn s13_settling_again_moves_nothing_more_and_is_never_a_decline<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    let first = settle(&*stage.facilitator(), &payment).await.expect("the payment is good");
    match settle(&*stage.facilitator(), &payment).await {
        Ok(receipt) => assert_eq!(receipt.transaction, first.transaction),
        Err(SettleError::Unknown { .. }) => {}
        Err(other) => panic!("money has moved, and the answer is {other:?}"),
    }
    assert_eq!(stage.moved(&payment).await, 1);
}

async fn s2_copies_settled_together_move_the_money_once<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    let copies: Vec<_> = (0..8)
        .map(|_| {
            let (facilitator, payment) = (stage.facilitator(), payment.clone());
            tokio::spawn(async move { settle(&*facilitator, &payment).await })
        })
        .collect();
    let mut transactions = Vec::new();
    for copy in copies {
        match copy.await.expect("no copy panics") {
            Ok(receipt) => transactions.push(receipt.transaction),
            Err(SettleError::Unknown { .. }) => {}
            Err(other) => panic!("a copy moves the money, and the answer is {other:?}"),
        }
    }
    transactions.dedup();
    assert_eq!(transactions.len(), 1, "one payment, one transaction");
    assert_eq!(stage.moved(&payment).await, 1);
}

async fn s13_what_cannot_be_paid_is_declined_and_moves_nothing<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.unpayable().await;
    let end = settle(&*stage.facilitator(), &payment).await;
    assert!(matches!(end, Err(SettleError::Declined(_))), "{end:?}");
    assert_eq!(stage.moved(&payment).await, 0);
}

async fn s13_a_lost_answer_is_unknown_until_asked_again<S: Stage>() {
    let mut stage = S::set().await;
    let payment = stage.lost().await;
    let end = settle(&*stage.facilitator(), &payment).await;
    let Err(SettleError::Unknown { transaction, .. }) = end else { panic!("nobody can know, and yet: {end:?}") };
    let early = stage.facilitator().outcome(&unresolved(&payment, transaction)).await;
    assert!(!matches!(early, Outcome::NotSettled(_)), "the money moved, and reconciliation says {early:?}");

    stage.find().await;

    match stage.facilitator().outcome(&unresolved(&payment, transaction)).await {
        Outcome::Settled(receipt) => assert_eq!(receipt.payer, payment.payer()),
        other => panic!("the money moved, and reconciliation says {other:?}"),
    }
    assert_eq!(stage.moved(&payment).await, 1);
}

async fn s16_a_settled_payment_is_never_reported_unsettled<S: Stage>() {
    let stage = S::set().await;
    let payment = stage.payable();
    let receipt = settle(&*stage.facilitator(), &payment).await.expect("the payment is good");
    for transaction in [None, Some(receipt.transaction)] {
        match stage.facilitator().outcome(&unresolved(&payment, transaction)).await {
            Outcome::Settled(found) => assert_eq!(found.transaction, receipt.transaction),
            Outcome::Unknown { .. } => {}
            Outcome::NotSettled(decline) => panic!("the money moved, and reconciliation says {decline:?}"),
        }
    }
    assert_eq!(stage.moved(&payment).await, 1);
}

async fn s65_without_its_counterpart_nobody_is_declined<S: Stage>() {
    let mut stage = S::set().await;
    let payment = stage.payable();
    let cut = stage.cut().await;
    let verdict = stage.facilitator().verify(&payment).await;
    let end = settle(&*stage.facilitator(), &payment).await;
    let outcome = stage.facilitator().outcome(&unresolved(&payment, None)).await;
    match cut {
        Cut::Counterpart => {
            assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
            assert!(matches!(end, Err(SettleError::NotSent(_) | SettleError::Unknown { .. })), "{end:?}");
            assert!(matches!(outcome, Outcome::Unknown { .. }), "{outcome:?}");
        }
        Cut::Nothing => {
            assert!(verdict.is_ok(), "{verdict:?}");
            assert!(end.is_ok(), "{end:?}");
            assert!(matches!(outcome, Outcome::Settled(_)), "{outcome:?}");
        }
    }
}

async fn s9_offers_on_other_networks_are_not_accepted<S: Stage>() {
    let stage = S::set().await;
    let offer = stage.payable().offer;
    let mut network = (*offer.network).clone();
    network.id = Caip2::evm(424_242);
    let foreign = Offer { network: Arc::new(network), ..offer.clone() };
    for dialect in [Dialect::V1, Dialect::V2] {
        assert!(stage.facilitator().accepts(&offer, dialect));
        assert!(!stage.facilitator().accepts(&foreign, dialect));
    }
}

async fn play_money_and_money_are_never_taken_for_each_other<S: Stage>() {
    let stage = S::set().await;
    let offer = stage.payable().offer;
    let other = Offer { sandbox: !offer.sandbox, ..offer };
    for dialect in [Dialect::V1, Dialect::V2] {
        assert!(!stage.facilitator().accepts(&other, dialect));
    }
}

/// The suite as tests of this stage.
macro_rules! contract {
    ($name:ident, $stage:ident) => {
        contract!(@tests $name, $stage:
            verifying_confirms_a_payable_payment_and_moves_nothing
            verifying_declines_what_cannot_be_paid
            settling_moves_the_money_once_and_says_what_moved
            s21_preparing_moves_nothing_and_a_hash_it_names_is_the_one_that_settles
            s13_settling_again_moves_nothing_more_and_is_never_a_decline
            s2_copies_settled_together_move_the_money_once
            s13_what_cannot_be_paid_is_declined_and_moves_nothing
            s13_a_lost_answer_is_unknown_until_asked_again
            s16_a_settled_payment_is_never_reported_unsettled
            s65_without_its_counterpart_nobody_is_declined
            s9_offers_on_other_networks_are_not_accepted
            play_money_and_money_are_never_taken_for_each_other
        );
    };
    (@tests $name:ident, $stage:ident: $($test:ident)+) => {
        mod $name {
            $(
                #[tokio::test]
                async fn $test() {
                    crate::$test::<crate::$name::$stage>().await;
                }
            )+
        }
    };
}

mod kept_by {
    contract!(remote, RemoteStage);
    contract!(guarded, GuardedStage);
    contract!(sandbox, SandboxStage);
    contract!(local, LocalStage);
    contract!(sandbox_permit2, SandboxStage);
    contract!(local_permit2, LocalStage);
}
