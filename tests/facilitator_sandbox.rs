//! What the sandbox promises: play money that behaves like money.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, address};
use tollhouse::facilitator::sandbox::{Behaviour, MAGIC_PAYERS, PAYEE, Sandbox, asset, network};
use tollhouse::facilitator::{Facilitator, Outcome, SettleError, Unresolved, VerifyError};
use tollhouse::payment::{
    Authorization, Dialect, Eip3009, Offer, Payment, Receipt, Resource, SchemeName, SettleMode, SignatureBytes,
};
use tollhouse::primitives::{AtomicAmount, Clock, Nonce, Timestamp};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const PAYER: Address = address!("0x1111111111111111111111111111111111111111");

#[tokio::test]
async fn a_settled_payment_moves_its_amount_once_however_often_it_is_submitted() {
    let (sandbox, _clock) = sandbox(Behaviour::default());
    let payment = payment(PAYER, 1, units(10_000));

    sandbox.verify(&payment).await.expect("a fresh payer holds a thousand");
    let first = settle(&sandbox, &payment).await.expect("it settles");
    let second = settle(&sandbox, &payment).await.expect("asking again is harmless");

    assert_eq!(first, second);
    assert_eq!((first.payer.0, first.amount), (PAYER, units(10_000)));
    assert_eq!(sandbox.balance(PAYER), units(999_990_000));
    assert_eq!(sandbox.balance(PAYEE.0), units(1_000_010_000));
}

#[tokio::test]
async fn a_used_nonce_and_an_empty_purse_are_declined() {
    let (sandbox, _clock) = sandbox(Behaviour::default());
    let spent = payment(PAYER, 1, units(600_000_000));
    settle(&sandbox, &spent).await.expect("it settles");
    let too_dear = payment(PAYER, 2, units(600_000_000));

    assert_eq!(declined(sandbox.verify(&spent).await), "invalid_exact_evm_nonce_already_used");
    assert_eq!(declined(sandbox.verify(&too_dear).await), "invalid_exact_evm_insufficient_balance");
    assert!(matches!(settle(&sandbox, &too_dear).await, Err(SettleError::Declined(_))));
    assert_eq!(sandbox.balance(PAYER), units(400_000_000));
}

#[tokio::test]
async fn s28_a_lapsed_authorization_moves_nothing_and_that_is_proven() {
    let (sandbox, clock) = sandbox(Behaviour::default());
    let payment = payment(PAYER, 1, units(10_000));
    assert!(matches!(sandbox.outcome(&unresolved(&payment)).await, Outcome::Unknown { .. }));

    clock.advance(Duration::from_secs(300));

    assert!(matches!(settle(&sandbox, &payment).await, Err(SettleError::Declined(_))));
    assert!(matches!(sandbox.outcome(&unresolved(&payment)).await, Outcome::NotSettled(_)));
    assert_eq!(sandbox.balance(PAYER), units(1_000_000_000));
}

#[tokio::test]
async fn what_was_forgotten_is_never_called_unsettled() {
    let (sandbox, clock) = sandbox(Behaviour { max_settled: 1, ..Behaviour::default() });
    let forgotten = payment(PAYER, 1, units(1));
    settle(&sandbox, &forgotten).await.expect("it settles");
    settle(&sandbox, &payment(PAYER, 2, units(1))).await.expect("it settles, and pushes the first one out");

    clock.advance(Duration::from_secs(300));

    assert!(matches!(sandbox.outcome(&unresolved(&forgotten)).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn strangers_cannot_fill_the_memory() {
    let (sandbox, _clock) = sandbox(Behaviour { max_accounts: 2, ..Behaviour::default() });
    settle(&sandbox, &payment(PAYER, 1, units(1))).await.expect("the first payer and the payee fit");

    let stranger = payment(Address::repeat_byte(0x22), 1, units(1));

    assert_eq!(declined(sandbox.verify(&stranger).await), "sandbox_full");
    assert!(matches!(settle(&sandbox, &stranger).await, Err(SettleError::Declined(_))));
    settle(&sandbox, &payment(PAYER, 2, units(1))).await.expect("known payers still pay");
}

#[tokio::test]
async fn the_payer_declined_is_declined() {
    let (sandbox, _clock) = sandbox(Behaviour::default());
    let payment = payment(magic("declined"), 1, units(1));
    assert_eq!(declined(sandbox.verify(&payment).await), "invalid_exact_evm_insufficient_balance");
}

#[tokio::test]
async fn the_payer_slow_is_slow() {
    let (sandbox, _clock) = sandbox(Behaviour { slow: Duration::from_millis(40), ..Behaviour::default() });
    let payment = payment(magic("slow"), 1, units(1));
    let settling = settle(&sandbox, &payment);
    tokio::pin!(settling);

    assert!(tokio::time::timeout(Duration::from_millis(5), &mut settling).await.is_err(), "it settled at once");
    settling.await.expect("it settles in the end");
}

#[tokio::test]
async fn the_payer_unknown_has_paid_but_nobody_can_tell_for_a_while() {
    let (sandbox, clock) = sandbox(Behaviour::default());
    let payment = payment(magic("unknown"), 1, units(10_000));

    let Err(SettleError::Unknown { transaction: Some(transaction), .. }) = settle(&sandbox, &payment).await else {
        panic!("the outcome was known");
    };
    assert!(matches!(sandbox.outcome(&unresolved(&payment)).await, Outcome::Unknown { .. }));
    clock.advance(Duration::from_secs(10));

    let Outcome::Settled(receipt) = sandbox.outcome(&unresolved(&payment)).await else { panic!("it never came out") };
    assert_eq!((receipt.transaction, receipt.settled_at), (transaction, NOW));
    assert_eq!(sandbox.balance(payment.payer().0), units(999_990_000));
}

#[tokio::test]
async fn only_sandbox_offers_are_accepted() {
    let (sandbox, _clock) = sandbox(Behaviour::default());
    let offer = payment(PAYER, 1, units(1)).offer;
    assert!(sandbox.accepts(&offer, Dialect::V1));
    assert!(!sandbox.accepts(&Offer { sandbox: false, ..offer }, Dialect::V2), "real terms met play money");
}

struct ManualClock(AtomicU64);

impl ManualClock {
    fn advance(&self, span: Duration) {
        self.0.fetch_add(u64::try_from(span.as_millis()).expect("a test's wait is short"), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(Ordering::SeqCst))
    }
}

fn sandbox(behaviour: Behaviour) -> (Sandbox, Arc<ManualClock>) {
    let clock = Arc::new(ManualClock(NOW.as_millis().into()));
    (Sandbox::new("sandbox".into(), clock.clone(), behaviour), clock)
}

fn units(count: u64) -> AtomicAmount {
    AtomicAmount::new(U256::from(count))
}

fn magic(name: &str) -> Address {
    MAGIC_PAYERS.iter().find(|payer| payer.name == name).expect("the payer is published").address
}

/// The sandbox is called after the signature was checked, so these carry none.
fn payment(from: Address, nonce: u8, value: AtomicAmount) -> Payment {
    Payment {
        offer: Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(network()),
            asset: Arc::new(asset()),
            amount: value,
            pay_to: PAYEE,
            max_timeout: Duration::from_secs(120),
            settle: SettleMode::OnResponse,
            sandbox: true,
        },
        authorization: Authorization::Eip3009(Eip3009 {
            from,
            to: PAYEE.0,
            value,
            valid_after: U256::ZERO,
            valid_before: U256::from(NOW.as_secs() + 120),
            nonce: Nonce(B256::repeat_byte(nonce)),
            signature: SignatureBytes(Bytes::new()),
        }),
        dialect: Dialect::V2,
        resource: Resource { url: String::new(), description: String::new(), mime_type: String::new() },
    }
}

fn unresolved(payment: &Payment) -> Unresolved {
    Unresolved { payment: payment.clone(), transaction: None, reserved_at: NOW, since: NOW }
}

async fn settle(sandbox: &Sandbox, payment: &Payment) -> Result<Receipt, SettleError> {
    let prepared = sandbox.prepare(payment).await?;
    sandbox.submit(payment, prepared).await
}

fn declined(verdict: Result<(), VerifyError>) -> String {
    match verdict {
        Err(VerifyError::Declined(decline)) => decline.code,
        other => panic!("not declined: {other:?}"),
    }
}
