//! Several facilitators: who is asked, who is asked next, and who never is.

use std::time::Duration;

use tollhouse::testing::Latch;
use tollhouse::testing::client::{Connection, Request};
use tollhouse::testing::facilitator::{Behaviour, Ending};

use crate::answers::moved_then;
use crate::stage::*;

const TWO: Plan = Plan { facilitators: 2, ..PLAN };
const TWO_UPFRONT: Plan = Plan { settle: "before_forward", ..TWO };

#[tokio::test]
async fn the_order_of_the_file_is_the_order_of_preference() {
    for plan in [TWO, TWO_UPFRONT] {
        let stage = Stage::set(plan).await;
        for _ in 0..3 {
            assert_served("the first is well", &stage.buy().await);
        }
        assert_eq!((stage.first().settlements(), stage.second().settlements()), (3, 0));
        assert_eq!(stage.second().count("/verify"), 0);
    }
}

#[tokio::test]
async fn s65_verify_goes_to_the_next_when_one_does_not_answer_and_whoever_confirmed_settles() {
    let troubles = [
        Behaviour::Status(503, "text/plain", "down".into()),
        Behaviour::ResetAfterReading,
        Behaviour::Status(200, "text/html", "<html></html>".into()),
    ];
    for trouble in troubles {
        let stage = Stage::set(TWO).await;
        stage.first().always("/verify", trouble.clone());
        assert_served("the second is well", &stage.buy().await);
        assert_eq!((stage.first().count("/settle"), stage.second().count("/settle")), (0, 1), "{trouble:?}");
        assert_eq!(asked(&stage.entry().await), "second");
    }
}

#[tokio::test]
async fn a_refusal_of_one_is_not_shopped_around() {
    let stage = Stage::set(TWO).await;
    stage.first().on_verify([Behaviour::Decline("insufficient_funds")]);
    assert_invited("the first has decided", &stage.buy().await, "insufficient_funds");
    assert_eq!(stage.second().count("/verify"), 0);
    let stage = Stage::set(TWO_UPFRONT).await;
    stage.first().on_settle([Behaviour::Decline("insufficient_funds")]);
    assert_invited("the first has decided", &stage.buy().await, "insufficient_funds");
    assert_eq!(stage.second().count("/settle"), 0);
}

#[tokio::test]
async fn s13_before_forward_goes_to_the_next_only_while_it_is_certain_that_nothing_was_sent() {
    let stage = Stage::set(Plan { facilitators: 3, ..TWO_UPFRONT }).await;
    let payment = stage.payment().await;
    let stage = without_the_first(without_the_first(stage).await).await;
    assert_served("nobody listens at the first two", &stage.pay(&payment).await);
    assert_eq!((stage.facilitators[0].settlements(), stage.backend.hits()), (1, 1));
    assert_eq!(asked(&stage.entry().await), "third");
    assert_eq!(stage.gateway.entries().await.len(), 1, "one payment, one entry");
}

/// Stops the first facilitator that still runs; the gateway goes on believing in it.
async fn without_the_first(mut stage: Stage) -> Stage {
    stage.facilitators.remove(0).stop().await;
    stage
}

#[tokio::test]
async fn i1_s13_once_something_may_have_been_sent_to_one_no_other_is_ever_asked() {
    let lost = [
        Behaviour::HonestThenReset,
        Behaviour::ResetAfterReading,
        Behaviour::ResetBeforeReading,
        Behaviour::Status(503, "text/plain", "down".into()),
        Behaviour::Status(429, "text/plain", "slow down".into()),
        Behaviour::Redirect("/settle".into()),
        Behaviour::Decline("nonce_already_used"),
        moved_then(Ending::Silence, |_| Vec::new()),
    ];
    play(lost.into_iter().flat_map(|lost| [(TWO, lost.clone()), (TWO_UPFRONT, lost)]), |(plan, lost)| async move {
        let row = &format!("{lost:?}, {}", plan.settle);
        let stage = Stage::set(Plan { settle_timeout: "1s", ..plan }).await;
        stage.first().always("/settle", lost);
        let payment = stage.payment().await;
        assert_pending(row, &stage.pay(&payment).await);
        for _ in 0..3 {
            stage.wait(Duration::from_secs(60));
            stage.reconcile().await;
            assert_pending(row, &stage.pay(&payment).await);
        }
        assert_eq!((stage.second().count("/settle"), stage.second().count("/verify")), (0, 0), "{row}");
        // Also when the first cannot be reached any more, and when it has come back.
        stage.first().always("/settle", Behaviour::Honest);
        stage.until_found().await;
        assert_served(row, &stage.pay(&payment).await);
        assert_eq!((stage.first().settlements(), stage.second().settlements()), (1, 0), "{row}");
    })
    .await;
}

#[tokio::test]
async fn s2_of_copies_that_meet_a_facilitator_that_is_gone_one_is_settled_at_the_next() {
    let mut stage = Stage::set(TWO_UPFRONT).await;
    let payment = stage.payment().await;
    stage.facilitators.remove(0).stop().await;
    let settling = Latch::closed();
    stage.first().on_settle([Behaviour::HonestWhen(settling.clone())]);
    let mut copies = Vec::new();
    for _ in 0..16 {
        copies.push(stage.send(&payment).await);
    }
    eventually("one of them settles", || stage.first().count("/settle") == 1).await;
    settling.open();
    let mut served = 0;
    for copy in &mut copies {
        let reply = copy.reply().await;
        match reply.status {
            200 => served += 1,
            409 => {}
            other => panic!("{other}: {}", reply.text()),
        }
    }
    assert_eq!((served, stage.settlements(), stage.backend.hits()), (1, 1, 1));
}

#[tokio::test]
async fn s65_when_nobody_can_settle_priced_routes_say_so_and_free_ones_do_not_notice() {
    for plan in [TWO, TWO_UPFRONT] {
        let mut stage = Stage::set(Plan { breaker: "{open_after: 1, half_open_after: 30s}", ..plan }).await;
        let payment = stage.payment().await;
        let other = stage.payment().await;
        for facilitator in stage.facilitators.drain(..) {
            facilitator.stop().await;
        }
        assert_unavailable("they are found to be down", &stage.pay(&payment).await);
        assert_unavailable("a payment", &stage.pay(&other).await);
        assert_unavailable("the same payment", &stage.pay(&payment).await);
        assert_unavailable("no payment", &stage.get("/weather").await);
        let junk = Request::get("/weather").with("payment-signature", "bm9uc2Vuc2U=");
        assert_unavailable("a payment that is none", &stage.gateway.ask(&junk).await);
        for _ in 0..50 {
            assert_eq!(stage.get("/free").await.status, 200);
        }
        assert_eq!(stage.backend.hits(), 50, "of the priced requests none got through");
        let mut status = Connection::open(stage.gateway.status_address().expect("one")).await;
        status.send(&Request::get("/readyz")).await;
        assert_eq!(status.reply().await.status, 200, "a facilitator's outage takes nothing off the load balancer");
    }
}

#[tokio::test]
async fn s65_what_was_paid_before_they_went_down_is_collected_all_the_same() {
    let mut stage = Stage::set(Plan { breaker: "{open_after: 1, half_open_after: 30s}", ..TWO_UPFRONT }).await;
    stage.backend.on("/weather", [tollhouse::testing::backend::Behaviour::reset()]);
    let payment = stage.payment().await;
    let fresh = stage.payment().await;
    assert_eq!(stage.pay(&payment).await.status, 502, "settled, and the backend failed");
    for facilitator in stage.facilitators.drain(..) {
        facilitator.stop().await;
    }
    assert_unavailable("nobody settles", &stage.pay(&fresh).await);
    assert_served("it has been settled", &stage.pay(&payment).await);
}
