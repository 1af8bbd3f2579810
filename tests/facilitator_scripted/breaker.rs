//! When a facilitator is no longer asked, when it is tried again, and what it is still asked meanwhile.

use std::time::Duration;

use tollhouse::testing::client::Request;
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::{Latch, Wallet};

use crate::stage::*;

const TWO: Plan = Plan { facilitators: 2, ..PLAN };
const CLOSED: Option<u64> = Some(0);
const HALF_OPEN: Option<u64> = Some(1);
const OPEN: Option<u64> = Some(2);
const WAIT: Duration = Duration::from_secs(30);

fn down() -> Behaviour {
    Behaviour::Status(503, "text/plain", "down".into())
}

#[tokio::test]
async fn s65_a_facilitator_that_keeps_silent_is_asked_five_times_and_then_left_alone() {
    let stage = Stage::set(TWO).await;
    stage.first().always("/verify", down());
    for _ in 0..8 {
        assert_served("the second is well", &stage.buy().await);
    }
    assert_eq!((stage.first().count("/verify"), stage.second().settlements()), (5, 8));
    assert_eq!(stage.breaker("first"), OPEN);
    let asked = r#"tollhouse_facilitator_calls_total{facilitator="first",call="verify",outcome="unavailable"}"#;
    assert_eq!(stage.metric(asked), Some(5));
    let asked = r#"tollhouse_facilitator_calls_total{facilitator="second",call="settle",outcome="settled"}"#;
    assert_eq!(stage.metric(asked), Some(8));
}

#[tokio::test]
async fn s65_it_is_tried_with_one_payment_and_preferred_again_when_that_went_well() {
    let stage = Stage::set(TWO).await;
    stage.first().always("/verify", down());
    for _ in 0..5 {
        stage.buy().await;
    }
    stage.wait(WAIT);
    assert_served("the try fails, and the second is well", &stage.buy().await);
    assert_served("it is left alone again", &stage.buy().await);
    assert_eq!((stage.first().count("/verify"), stage.breaker("first")), (6, OPEN));

    stage.wait(WAIT);
    let answering = Latch::closed();
    stage.first().always("/verify", Behaviour::Honest).on_verify([Behaviour::HonestWhen(answering.clone())]);
    let payment = stage.payment().await;
    let mut trying = stage.send(&payment).await;
    eventually("the first is tried", || stage.first().count("/verify") == 7).await;
    assert_eq!(stage.breaker("first"), HALF_OPEN);
    for _ in 0..8 {
        assert_served("others do not wait for the outcome", &stage.buy().await);
    }
    assert_eq!(stage.first().count("/verify"), 7, "one at a time");
    answering.open();
    assert_served("the try", &trying.reply().await);
    assert_eq!(stage.breaker("first"), CLOSED);
    assert_served("it is preferred again", &stage.buy().await);
    assert_eq!(stage.first().settlements(), 2);
}

#[tokio::test]
async fn s13_a_facilitator_that_leaves_settlements_unknown_gets_no_more_of_them() {
    for settle in ["on_response", "before_forward"] {
        let stage = Stage::set(Plan { settle, ..PLAN }).await;
        stage.first().always("/settle", Behaviour::HonestThenReset);
        for _ in 0..5 {
            assert_pending(settle, &stage.buy().await);
        }
        assert_eq!((stage.settlements(), stage.breaker("first")), (5, OPEN));
        assert_unavailable(settle, &stage.get("/weather").await);
        assert_eq!(stage.get("/free").await.status, 200);

        // It verifies well all the time; only a settlement closes what settlements have opened.
        stage.first().always("/settle", Behaviour::Honest);
        stage.wait(WAIT);
        assert_served(settle, &stage.buy().await);
        assert_eq!(stage.breaker("first"), CLOSED);
        assert_served(settle, &stage.buy().await);
    }
}

#[tokio::test]
async fn s65_a_payment_that_was_confirmed_before_it_opened_is_not_risked() {
    let stage = Stage::set(PLAN).await;
    let working = Latch::closed();
    stage.backend.on("/weather", [tollhouse::testing::backend::Behaviour::text("sunny").when(&working)]);
    let early = stage.payment().await;
    let mut confirmed = stage.send(&early).await;
    eventually("the backend works", || stage.backend.hits() == 1).await;
    stage.first().always("/settle", Behaviour::HonestThenReset);
    for _ in 0..5 {
        assert_pending("lost", &stage.buy().await);
    }
    working.open();
    assert_unavailable("nothing was sent for it", &confirmed.reply().await);
    assert_eq!((stage.first().count("/settle"), stage.settlements()), (5, 5));
    stage.first().always("/settle", Behaviour::Honest);
    stage.wait(WAIT);
    assert_served("its payment is still good", &stage.pay(&early).await);
}

#[tokio::test]
async fn refusals_open_nothing_however_many() {
    let stage = Stage::set(PLAN).await;
    stage.first().always("/verify", Behaviour::Decline("invalid_exact_evm_transaction_simulation_failed"));
    for _ in 0..30 {
        assert_invited("verify", &stage.buy().await, "invalid_exact_evm_transaction_simulation_failed");
    }
    stage
        .first()
        .always("/verify", Behaviour::Honest)
        .always("/settle", Behaviour::Decline("invalid_exact_evm_transaction_simulation_failed"));
    for _ in 0..30 {
        assert_invited("settle", &stage.buy().await, "invalid_exact_evm_transaction_simulation_failed");
    }
    stage.first().always("/settle", Behaviour::Honest);
    assert_served("it is well", &stage.buy().await);
}

#[tokio::test]
async fn no_payer_alone_closes_the_shop_with_settlements_in_doubt() {
    let stage = Stage::set(PLAN).await;
    stage.first().always("/settle", Behaviour::Decline("invalid_exact_evm_nonce_already_used"));
    let one = Wallet::random();
    for number in 0..30 {
        let payment = stage.payment_of(&one).await;
        let request = Request::get(&format!("/weather?number={number}")).paying(&payment);
        assert_pending("one payer", &stage.gateway.ask(&request).await);
    }
    assert_eq!(stage.settlements(), 0);
    assert_eq!(stage.first().count("/settle"), 30);
    assert_eq!(stage.get("/weather").await.status, 402, "others may still buy");
    for _ in 0..9 {
        let payment = stage.payment_of(&Wallet::random()).await;
        assert_pending("many payers", &stage.pay(&payment).await);
    }
    assert_eq!(stage.breaker("first"), OPEN);
    assert_unavailable("nobody buys", &stage.get("/weather").await);
}

#[tokio::test]
async fn s13_an_open_breaker_spaces_reconciliation_out_and_does_not_stop_it() {
    let stage = Stage::set(PLAN).await;
    stage.first().always("/settle", Behaviour::HonestThenReset);
    let mut payments = Vec::new();
    for _ in 0..5 {
        let payment = stage.payment().await;
        assert_pending("lost", &stage.pay(&payment).await);
        payments.push(payment);
    }
    assert_eq!((stage.breaker("first"), stage.first().count("/settle")), (OPEN, 5));
    stage.wait(Duration::from_secs(2));
    stage.reconcile().await;
    // The gateway's own round may have been at it before this one.
    eventually("one of the five has been asked about", || stage.first().count("/settle") >= 6).await;
    stage.reconcile().await;
    assert_eq!(stage.first().count("/settle"), 6, "one question, though five are due");

    stage.first().always("/settle", Behaviour::Honest);
    for round in 0.. {
        assert!(round < 20, "all of them are told in the end");
        stage.wait(Duration::from_secs(61));
        stage.reconcile().await;
        let entries = stage.gateway.entries().await;
        if entries.iter().all(|entry| entry.state.name() == "undelivered") {
            break;
        }
    }
    assert_eq!(stage.breaker("first"), CLOSED, "it has told how they ended");
    for payment in &payments {
        assert_served("found", &stage.pay(payment).await);
    }
    assert_eq!(stage.settlements(), 5);
}

#[tokio::test]
async fn a_reload_leaves_breakers_as_they_are_unless_it_is_about_them() {
    let mut stage = Stage::set(TWO).await;
    stage.first().always("/verify", down());
    for _ in 0..5 {
        stage.buy().await;
    }
    stage.reload(|plan| plan.settle = "before_forward").await;
    stage.reload(|plan| plan.settle = "on_response").await;
    assert_served("the first is left alone", &stage.buy().await);
    assert_eq!(stage.first().count("/verify"), 5);
    stage.reload(|plan| plan.breaker = "{open_after: 2, half_open_after: 10s}").await;
    for _ in 0..4 {
        assert_served("the second is well", &stage.buy().await);
    }
    assert_eq!(stage.first().count("/verify"), 7, "a new breaker has to find out for itself");
}

#[tokio::test]
async fn a_try_that_does_not_end_is_not_waited_for() {
    let stage = Stage::set(Plan { breaker: "{open_after: 1, half_open_after: 30s}", ..PLAN }).await;
    stage.first().on_verify([down(), Behaviour::Hang]);
    assert_unavailable("down", &stage.buy().await);
    stage.wait(WAIT);
    let payment = stage.payment().await;
    let trying = stage.send(&payment).await;
    eventually("it is tried", || stage.first().count("/verify") == 2).await;
    assert_unavailable("one at a time", &stage.buy().await);
    stage.wait(WAIT);
    assert_served("the next may try", &stage.buy().await);
    assert_eq!(stage.breaker("first"), CLOSED);
    trying.abort();
}
