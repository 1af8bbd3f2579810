//! What is closed sells nothing, gives nothing away, and still hands out what was paid for.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::gate::rails::{Pause, Pauses, Scope};
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::{Gateway, Latch, facilitator};

use crate::world::{
    File, World, assert_invites, assert_no_invitation, assert_paid, assert_pending, edited, eventually,
};

const ROUTES: &str = "GET /weather: $0.01\nGET /reports: $1\nGET /health: free";

/// Says so to the ledger, as the command does, and has the gateway look.
async fn pause(gateway: &Gateway, scope: &str) {
    let gate = gateway.gate();
    let words = Pause::new(gate.clock.now(), "ann", "the oracle is wrong");
    Pauses::pause(&**gate.ledger.store(), &scope.into(), words).await.expect("the ledger works");
    gate.look_at_rails().await.expect("the ledger works");
}

async fn resume(gateway: &Gateway) {
    let gate = gateway.gate();
    let words = Pause::new(gate.clock.now(), "bob", "it is right again");
    Pauses::resume(&**gate.ledger.store(), &Scope::All, words).await.expect("the ledger works");
    gate.look_at_rails().await.expect("the ledger works");
}

#[track_caller]
fn assert_paused(reply: &Reply) {
    assert_no_invitation(reply, 503);
    assert_eq!((reply.field("retry-after"), &reply.json()["advice"]), (Some("30"), &"try later".into()));
    assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("paused")), "{}", reply.text());
    assert_eq!(reply.settlement(), None, "no money has moved");
}

#[tokio::test]
async fn s65_a_paused_route_takes_no_payment_and_gives_nothing_away() {
    let world = World::selling(ROUTES).await;
    let payment = world.payment("/weather").await;
    let forged = edited(&payment, |json| json["payload"]["authorization"]["value"] = "1".into());
    pause(&world.gateway, "GET /weather").await;
    assert_paused(&world.get("/weather").await);
    assert_paused(&world.pay("/weather", &payment).await);
    assert_paused(&world.pay("/weather", &forged).await);
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "nothing was reserved");
    assert_invites(&world.get("/reports").await);
    assert_eq!(world.get("/health").await.status, 200);
    assert_eq!(world.metric("tollhouse_paused{route=\"GET /weather\"}"), Some(1));

    resume(&world.gateway).await;
    assert_paid(&world.pay("/weather", &payment).await);
    assert_eq!(world.metric("tollhouse_paused{route=\"GET /weather\"}"), None);
}

#[tokio::test]
async fn s65_when_all_is_paused_free_routes_do_not_notice() {
    let world = World::selling(ROUTES).await;
    pause(&world.gateway, "all").await;
    assert_paused(&world.get("/weather").await);
    assert_paused(&world.get("/reports").await);
    assert_eq!(world.get("/health").await.status, 200);
}

#[tokio::test]
async fn i4_a_pause_does_not_touch_what_is_under_way() {
    let world = World::selling(ROUTES).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("rain").when(&working)]);
    let payment = world.payment("/weather").await;
    let mut connection = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend hears of it", || world.backend.hits() == 1).await;
    pause(&world.gateway, "all").await;
    working.open();
    assert_paid(&connection.reply().await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn i4_what_was_paid_is_served_during_a_pause() {
    let world = World::selling(ROUTES).await;
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    let payment = world.payment("/weather").await;
    assert_pending(&world.pay("/weather", &payment).await);
    pause(&world.gateway, "GET /weather").await;
    assert_pending(&world.pay("/weather", &payment).await);
    world.wait(Duration::from_secs(2));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
    let spent = world.pay("/weather", &payment).await;
    assert_no_invitation(&spent, 409);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn a_pause_outlives_the_process() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut file = File::selling(ROUTES);
    file.ledger = format!("sqlite:{}", folder.path().join("ledger.db").display());
    let world = World::of(file.clone()).await;
    pause(&world.gateway, "GET /weather").await;
    let text = file.text(&world.facilitator, &world.backend.url());
    assert!(world.gateway.stop().await, "it ends in time");
    let again = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    assert_paused(&again.ask(&Request::get("/weather")).await);
    assert_invites(&again.ask(&Request::get("/reports")).await);
}
