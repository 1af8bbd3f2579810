//! What a client that leaves before its answer has bought, and what it has not.

use tollhouse::payment::Dialect;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Latch, facilitator};

use crate::failure::{UPFRONT, WEATHER};
use crate::world::{World, assert_no_invitation, assert_paid, eventually};

#[tokio::test]
async fn i4_whoever_left_while_it_was_served_is_not_charged_again_for_signing_again() {
    for dialect in [Dialect::V1, Dialect::V2] {
        let world = World::selling(WEATHER).await;
        let settling = Latch::closed();
        world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
        let request = Request::get("/weather");
        let payment = world.payment_for(&request, dialect).await;
        let client = world.send(&request.clone().paying(&payment)).await;
        eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
        client.leave().await;
        let fresh = world.payment_for(&request, dialect).await;
        let told = world.ask(&request.clone().paying(&fresh)).await;
        assert_eq!(told.status, 503, "{}", told.text());
        settling.open();
        world.until("undelivered").await;
        assert_paid(&world.ask(&request.paying(&fresh)).await);
        world.until("delivered").await;
        assert_eq!(world.facilitator.count("/settle"), 1, "the fresh payment was taken");
    }
}

#[tokio::test]
async fn two_clients_that_wait_for_the_same_are_two_purchases() {
    let world = World::selling(WEATHER).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working), Behaviour::text("sunny").when(&working)]);
    let mut clients = Vec::new();
    for hits in 1..=2 {
        let payment = world.payment("/weather").await;
        clients.push(world.send(&Request::get("/weather").paying(&payment)).await);
        eventually("the backend was asked", || world.backend.hits() == hits).await;
    }
    working.open();
    for mut client in clients {
        assert_paid(&client.reply().await);
    }
    world.assert_counts(2, 2);
}

#[tokio::test]
async fn an_answer_that_cannot_be_collected_is_owed_to_whoever_left_while_it_settled() {
    let world = World::selling("POST /orders: $0.01").await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let request = Request::post("/orders", "one");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let client = world.send(&request.paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    client.leave().await;
    settling.open();
    world.until("refund_due").await;
}

#[tokio::test]
async fn s22_a_client_that_leaves_while_it_settles_finds_its_answer_paid_for() {
    for (route, hits) in [(WEATHER, 1), (UPFRONT, 0)] {
        let world = World::selling(route).await;
        let settling = Latch::closed();
        world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
        let payment = world.payment("/weather").await;
        let client = world.send(&Request::get("/weather").paying(&payment)).await;
        eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
        assert_eq!(world.backend.hits(), hits);
        client.abort();
        settling.open();
        world.until("undelivered").await;
        let hits = world.backend.hits();
        assert_paid(&world.pay("/weather", &payment).await);
        world.until("delivered").await;
        world.assert_counts(1, hits + 1);
        assert_eq!(world.facilitator.count("/settle"), 1);
    }
}

#[tokio::test]
async fn s22_what_was_paid_upfront_is_not_forwarded_for_a_client_that_has_left() {
    let world = World::selling("POST /orders: {price: $0.01, settle: before_forward}").await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let request = Request::post("/orders", "one");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let mut client = world.send(&request.clone().paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    client.half_close().await;
    settling.open();
    let told = client.reply().await;
    assert_eq!(told.status, 400, "{}", told.text());
    assert!(told.settlement().is_some(), "it is told that it has paid");
    world.until("undelivered").await;
    world.assert_counts(1, 0);
    assert_paid(&world.ask(&request.paying(&payment)).await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s22_a_client_that_leaves_while_the_backend_works_has_bought_its_answer() {
    let world = World::selling(WEATHER).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working)]);
    let payment = world.payment("/weather").await;
    let client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    client.leave().await;
    working.open();
    world.until("undelivered").await;
    world.assert_counts(1, 1);
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s73_a_client_that_resets_while_the_backend_works_may_do_so_three_times() {
    let world = World::selling(WEATHER).await;
    world.backend.always("/weather", Behaviour::hang());
    let payment = world.payment("/weather").await;
    for turn in 1..=3 {
        let client = world.send(&Request::get("/weather").paying(&payment)).await;
        eventually("the backend was asked", || world.backend.hits() == turn).await;
        client.abort();
        world.until(if turn < 3 { "released" } else { "exhausted" }).await;
    }
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.assert_counts(0, 3);
}

#[tokio::test]
async fn a_half_closed_connection_counts_as_left_and_its_answer_is_kept() {
    let world = World::selling(WEATHER).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working)]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    client.half_close().await;
    working.open();
    world.until("undelivered").await;
    assert!(client.try_reply().await.is_none(), "not a byte, so that it can be collected (S74)");
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn whoever_leaves_an_answer_that_cannot_be_collected_is_not_charged() {
    let world = World::selling("GET /weather: $0.01\nPOST /orders: $0.01").await;
    let cases = [
        ("/weather", Request::get("/weather"), Dialect::V1),
        ("/orders", Request::post("/orders", "one"), Dialect::V2),
    ];
    for (path, request, dialect) in cases {
        let working = Latch::closed();
        let hits = world.backend.hits();
        world.backend.on(path, [Behaviour::text("done").when(&working)]);
        let payment = world.payment_for(&request, dialect).await;
        let mut client = world.send(&request.clone().paying(&payment)).await;
        eventually("the backend was asked", || world.backend.hits() == hits + 1).await;
        client.half_close().await;
        working.open();
        let told = client.reply().await;
        assert_eq!(told.status, 400, "{}", told.text());
        assert_eq!(world.facilitator.count("/settle"), 0);
        assert!(world.gateway.entries().await.iter().all(|entry| entry.state.name() == "released"));
    }
    world.assert_counts(0, 2);
}
