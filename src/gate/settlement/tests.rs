//! Who may leave while money moves.

use std::task::{Context, Poll, Waker};

use async_trait::async_trait;

use super::*;
use crate::facilitator::{Pool, Prepared, VerifyError};
use crate::gate::Parts;
use crate::ledger::{Claim, Ledger, Limits, Memory};
use crate::payment::{Dialect, Offer, QuoteKey, Replay};
use crate::primitives::{SystemClock, Timestamp};
use crate::protocol::x402::X402;
use crate::scheme::exact::eip3009::Eip3009Exact;
use crate::tariff::{Board, Tariff};
use crate::testing::{Latch, sales};

/// A facilitator that settles once its latch is open.
struct Held {
    asked: Latch,
    lets_go: Latch,
}

#[async_trait]
impl Facilitator for Held {
    fn name(&self) -> &str {
        "held"
    }

    fn accepts(&self, _: &Offer, _: Dialect) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        true
    }

    fn settle_timeout(&self) -> Duration {
        Duration::from_secs(20)
    }

    async fn verify(&self, _: &Payment) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn prepare(&self, _: &Payment) -> Result<Prepared, SettleError> {
        Ok(Prepared { transaction: None, raw: None })
    }

    async fn submit(&self, payment: &Payment, _: Prepared) -> Result<Receipt, SettleError> {
        self.asked.open();
        self.lets_go.passed().await;
        Ok(Receipt::of(payment, TransactionHash::repeat_byte(7), Timestamp::EPOCH))
    }

    async fn outcome(&self, _: &Unresolved) -> Outcome {
        Outcome::Unknown { transaction: None, source: "it is still held".into() }
    }
}

struct Nobody;

impl crate::gate::Observer for Nobody {
    fn observe(&self, _: &Event) {}
}

fn gate() -> Arc<Gate> {
    let clock = Arc::new(SystemClock);
    let tariff = Tariff::new(Vec::new()).expect("no route collides with another");
    Gate::new(Parts {
        protocol: Arc::new(X402),
        scheme: Arc::new(Eip3009Exact),
        ledger: Ledger::new(Arc::new(Memory::new()), Arc::clone(&clock) as _, Limits::default()),
        pool: Arc::new(Pool::new(Vec::new())),
        board: Arc::new(Board::new(Arc::new(tariff))),
        quotes: QuoteKey::new(&[7; 32]),
        clock,
        observer: Arc::new(Nobody),
    })
}

/// A payment that this facilitator would settle.
async fn confirmed(gate: &Gate, facilitator: &Arc<Held>) -> Confirmed {
    let sale = Arc::new(sales::sale(1));
    let claim = gate.ledger.claim(sale, Duration::from_secs(60), Replay::Redeliver).await;
    let Ok(Claim::Granted(lease)) = claim else { panic!("the ledger is empty") };
    let errand = (lease.sale().payment.payer(), lease.sale().request);
    let attending = gate.attendance.begin(errand, lease.key(), None);
    Confirmed { lease, facilitator: Arc::clone(facilitator) as _, hold: None, attending }
}

async fn state(gate: &Gate) -> &'static str {
    let found = gate.ledger.store().load(sales::sale(1).payment.key()).await;
    found.expect("memory does not fail").expect("it was reserved").entry.state.name()
}

#[tokio::test]
async fn s22_a_settlement_goes_on_when_whoever_asked_for_it_is_dropped() {
    let gate = gate();
    let held = Arc::new(Held { asked: Latch::closed(), lets_go: Latch::closed() });
    let confirmed = confirmed(&gate, &held).await;
    let request = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.settle(confirmed).await }
    });
    held.asked.passed().await;
    request.abort();
    assert!(request.await.is_err(), "the request is gone");
    assert_eq!((state(&gate).await, gate.settling()), ("settling", 1));

    held.lets_go.open();
    while gate.settling() > 0 {
        tokio::task::yield_now().await;
    }
    gate.ledger.flush().await;
    assert_eq!(state(&gate).await, "undelivered", "the money moved, and its answer waits for whoever paid");
}

#[tokio::test]
async fn a_settlement_that_waits_for_nothing_needs_no_task() {
    let gate = gate();
    let held = Arc::new(Held { asked: Latch::closed(), lets_go: Latch::closed() });
    held.lets_go.open();
    let confirmed = confirmed(&gate, &held).await;
    let mut settling = Box::pin(gate.settle(confirmed));
    let polled = settling.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    let Poll::Ready(Ok(settled)) = polled else { panic!("there was nothing to wait for: {polled:?}") };
    assert_eq!((state(&gate).await, gate.settling()), ("delivering", 0));
    drop(settled);
}
