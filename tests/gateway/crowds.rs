//! How many requests a route lets through, and what those hear that have to wait.

use std::time::Duration;

use tollhouse::payment::Dialect;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::{Latch, Wallet, facilitator};

use crate::world::{File, World, assert_no_invitation, assert_paid, eventually};

/// Held back, not refused: the same request passes later.
#[track_caller]
fn assert_crowded(reply: &Reply) {
    assert_no_invitation(reply, 429);
    assert!(reply.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    assert_eq!(reply.json()["advice"], "wait");
}

#[tokio::test]
async fn a_free_route_lets_a_client_through_at_its_rate() {
    let world = World::selling("GET /open: {price: free, limits: {rate: 2 per 1h}}\nGET /other: free").await;
    for _ in 0..2 {
        assert_eq!(world.get("/open").await.status, 200);
    }
    assert_crowded(&world.get("/open").await);
    assert_eq!(world.get("/other").await.status, 200, "a route is limited by itself");
    assert_eq!(world.backend.hits(), 3);
    let limited = "tollhouse_requests_total{route=\"GET /open\",outcome=\"refused\"}";
    eventually("it is counted", || world.metric(limited) == Some(1)).await;
}

#[tokio::test]
async fn who_is_held_back_keeps_the_payment_and_asking_for_a_price_holds_back_nobody() {
    let mut world = World::selling("GET /weather: {price: $0.01, limits: {rate: 1 per 1h, rate_by: route}}").await;
    let [first, second] = [world.payment("/weather").await, world.payment("/weather").await];
    for _ in 0..3 {
        assert_eq!(world.get("/weather").await.status, 402);
    }
    assert_paid(&world.pay("/weather", &first).await);
    assert_crowded(&world.pay("/weather", &second).await);
    world.assert_counts(1, 1);
    world.reprice("GET /weather: $0.01").await;
    assert_paid(&world.pay("/weather", &second).await);
}

#[tokio::test]
async fn who_has_no_money_holds_back_nobody() {
    let world = World::selling("GET /weather: {price: $0.01, limits: {rate: 1 per 1h, rate_by: route}}").await;
    let [poor, good] = [world.payment("/weather").await, world.payment("/weather").await];
    world.facilitator.on_verify([facilitator::Behaviour::Decline("transaction_failed")]);
    assert_eq!(world.pay("/weather", &poor).await.status, 402);
    assert_paid(&world.pay("/weather", &good).await);
}

#[tokio::test]
async fn a_spent_payment_uses_nothing_of_its_payers_share() {
    let mut world = World::selling("GET /weather: {price: $0.01, limits: {rate: 2 per 1h, rate_by: payer}}").await;
    let payments = [world.payment("/weather").await, world.payment("/weather").await, world.payment("/weather").await];
    assert_paid(&world.pay("/weather", &payments[0]).await);
    for _ in 0..5 {
        // Its authorization is in the block for everybody to read.
        assert_no_invitation(&world.pay("/weather", &payments[0]).await, 409);
    }
    assert_paid(&world.pay("/weather", &payments[1]).await);
    assert_crowded(&world.pay("/weather", &payments[2]).await);
    world.assert_counts(2, 2);
    world.reprice("GET /weather: $0.01").await;
    assert_paid(&world.pay("/weather", &payments[2]).await);
}

#[tokio::test]
async fn who_does_not_pay_and_sends_slowly_keeps_no_payer_out() {
    let world = World::selling(
        "POST /by-route: {price: $0.01, limits: {concurrency: 1}}\n\
         POST /by-client: {price: $0.01, limits: {concurrency: 1, concurrency_by: client}}",
    )
    .await;
    for path in ["/by-route", "/by-client"] {
        let mut slow = world.gateway.connect().await;
        let head = format!("POST {path} HTTP/1.1\r\nHost: api.test\r\nContent-Length: 1000\r\n\r\n");
        slow.write(head.as_bytes()).await;
        assert_eq!(slow.reply().await.status, 402);
        let dripping = tokio::spawn(async move {
            loop {
                slow.write(b".").await;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        let request = Request::post(path, "");
        let payment = world.payment_for(&request, Dialect::V2).await;
        assert_paid(&world.ask(&request.paying(&payment)).await);
        dripping.abort();
    }
}

#[tokio::test]
async fn a_route_holds_only_so_many_at_once() {
    let world = World::selling("GET /slow: {price: free, limits: {concurrency: 1}}").await;
    let working = Latch::closed();
    world.backend.on("/slow", [Behaviour::text("done").when(&working)]);
    let mut first = world.send(&Request::get("/slow")).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    assert_crowded(&world.get("/slow").await);
    working.open();
    assert_eq!(first.reply().await.status, 200);
    // Room is made when the request has been accounted for, which its client does not wait for.
    let counted = "tollhouse_requests_total{route=\"GET /slow\",outcome=\"free\"}";
    eventually("the first has ended", || world.metric(counted) == Some(1)).await;
    assert_eq!(world.get("/slow").await.status, 200);
}

#[tokio::test]
async fn a_payer_is_limited_by_what_is_paid_for_and_not_by_who_asks() {
    let line =
        "GET /weather: {price: $0.01, limits: {rate: 1 per 1h, rate_by: payer, concurrency: 5, concurrency_by: payer}}";
    let mut world = World::selling(line).await;
    let [first, second] = [world.payment("/weather").await, world.payment("/weather").await];
    assert_paid(&world.pay("/weather", &first).await);
    assert_crowded(&world.pay("/weather", &second).await);
    world.assert_counts(1, 1);
    world.wallet = Wallet::random();
    let other = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &other).await);
    world.reprice("GET /weather: $0.01").await;
    assert_paid(&world.pay("/weather", &second).await);
}

#[tokio::test]
async fn what_was_counted_survives_a_reload_that_changes_something_else() {
    let limited = "GET /open: {price: free, limits: {rate: 1 per 1h}}";
    let mut world = World::selling(limited).await;
    assert_eq!(world.get("/open").await.status, 200);
    world.reprice(&format!("{limited}\nGET /new: free")).await;
    assert_crowded(&world.get("/open").await);
    world.reprice("GET /open: {price: free, limits: {rate: 1 per 1h, timeout: 5s, request_body: 1KiB}}").await;
    assert_crowded(&world.get("/open").await);
    world.reprice("GET /open: {price: free, limits: {rate: 3 per 1h}}").await;
    assert_eq!(world.get("/open").await.status, 200);
}

#[tokio::test]
async fn s33_prices_can_be_asked_for_only_so_often_and_paying_is_never_held_back() {
    let more = "caps: {unpaid_per_client: 3 per 1h}".into();
    let world = World::of(File { more, ..File::selling("GET /weather: $0.01\nGET /open: free") }).await;
    let payment = world.payment("/weather").await;
    let junk = Request::get("/weather").with("payment-signature", "bm90IGpzb24=");
    assert_eq!(world.ask(&junk).await.status, 402);
    assert_eq!(world.get("/weather").await.status, 402);
    assert_crowded(&world.get("/weather").await);
    assert_crowded(&world.ask(&junk).await);
    assert_eq!(world.get("/open").await.status, 200);
    assert_paid(&world.pay("/weather", &payment).await);
}
