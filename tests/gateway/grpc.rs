//! What callers of gRPC hear, and what they are charged for.

use tollhouse::payment::Dialect;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;
use tollhouse::testing::facilitator::Behaviour as Facilitator;

use crate::world::World;

fn call(kind: &str) -> Request {
    Request::post("/pkg.Weather/Now", "\0\0\0\0\0").with("content-type", kind).with("te", "trailers")
}

#[tokio::test]
async fn a_price_reaches_a_caller_as_metadata() {
    let world = World::selling("POST /pkg.Weather/Now: $0.01").await;
    for (kind, said) in
        [("application/grpc", "application/grpc"), ("application/grpc-web", "application/grpc-web+proto")]
    {
        let told = world.ask(&call(kind)).await;
        assert_eq!((told.status, told.field("grpc-status")), (200, Some("9")), "{}", told.text());
        assert_eq!(told.field("grpc-message"), Some("Payment required"));
        assert_eq!(told.field("content-type"), Some(said));
        assert!(told.body.is_empty());
        assert!(told.field("payment-required").is_some(), "the offer is there to be paid");
    }
    world.assert_untouched();
}

#[tokio::test]
async fn a_refusal_that_may_be_repeated_is_unavailable() {
    let world = World::selling("POST /pkg.Weather/Now: $0.01").await;
    world.facilitator.on_verify([Facilitator::Status(500, "text/plain", String::new())]);
    let payment = world.payment_for(&Request::post("/pkg.Weather/Now", ""), Dialect::V2).await;
    let told = world.ask(&call("application/grpc").paying(&payment)).await;
    assert_eq!((told.status, told.field("grpc-status")), (200, Some("14")), "{:?}", told.fields);
    assert!(told.field("retry-after").is_some());
    let lost = world.ask(&Request::post("/pkg.Weather/Other", "").with("content-type", "application/grpc")).await;
    assert_eq!((lost.status, lost.field("grpc-status")), (200, Some("12")));
}

#[tokio::test]
async fn a_call_that_fails_in_its_head_is_not_charged_for() {
    let world = World::selling("POST /pkg.Weather/Now: $0.01").await;
    let fields = [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no such city")];
    world.backend.on("/pkg.Weather/Now", [Behaviour::answer(200, &fields, "")]);
    let payment = world.payment_for(&Request::post("/pkg.Weather/Now", ""), Dialect::V2).await;
    let told = world.ask(&call("application/grpc").paying(&payment)).await;
    assert_eq!((told.status, told.field("grpc-status")), (200, Some("5")));
    world.assert_counts(0, 1);
    world.until("released").await;
}
