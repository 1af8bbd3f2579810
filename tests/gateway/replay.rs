//! What a payment opens that was used before.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use http::HeaderValue;
use tollhouse::payment::Dialect;
use tollhouse::primitives::Clock;
use tollhouse::testing::Latch;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::facilitator;

use crate::world::{
    File, Payment, World, assert_no_invitation, assert_paid, authorization_of, decoded, edited, encoded, eventually,
};

const WEATHER: &str = "GET /weather: $0.01";
const UPFRONT: &str = "GET /weather: {price: $0.01, settle: before_forward}";

/// Spent: the receipt of what it bought, and no invitation to buy again.
#[track_caller]
fn assert_spent(reply: &Reply, transaction: &str) {
    assert_no_invitation(reply, 409);
    assert_eq!(reply.json()["advice"], "stop");
    assert_eq!(reply.field("retry-after"), None, "waiting would not help");
    assert_eq!(assert_settled(reply), transaction);
}

#[track_caller]
fn assert_settled(reply: &Reply) -> String {
    let settlement = reply.settlement().expect("the receipt of what it bought");
    assert!(settlement.success);
    settlement.transaction.expect("a transaction").to_string()
}

/// In use: come back in a moment, with the same payment.
#[track_caller]
fn assert_in_flight(reply: &Reply) {
    assert_no_invitation(reply, 409);
    assert_eq!(reply.json()["advice"], "wait");
    assert!(reply.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    assert_eq!(reply.settlement(), None, "nobody knows of money that moved");
}

#[tokio::test]
async fn s1_a_payment_buys_one_answer() {
    for route in [WEATHER, UPFRONT, "GET /weather: {price: $0.01, replay: refuse}"] {
        let world = World::selling(route).await;
        let payment = world.payment("/weather").await;
        let transaction = assert_paid(&world.pay("/weather", &payment).await);
        world.until("delivered").await;
        for _ in 0..3 {
            assert_spent(&world.pay("/weather", &payment).await, &transaction);
        }
        world.assert_counts(1, 1);
        assert_eq!(world.facilitator.count("/settle"), 1);
    }
}

#[tokio::test]
async fn s23_a_payment_in_use_is_no_invitation_even_when_it_is_too_late_to_begin_with_it() {
    let world = World::selling(WEATHER).await;
    let serving = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&serving)]);
    let payment = world.payment("/weather").await;
    let mut first = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    // Another presentation would no longer leave time enough to serve and settle; this one did.
    world.wait(Duration::from_secs(70));

    assert_in_flight(&world.pay("/weather", &payment).await);

    serving.open();
    assert_paid(&first.reply().await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn a_spent_payment_is_no_invitation_when_its_network_is_no_longer_taken() {
    let mut world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let transaction = assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    let elsewhere = "{avalanche-fuji: \"0x1111111111111111111111111111111111111111\"}";
    world.reload(|file| file.pay_to = elsewhere.into()).await.expect("a good file");

    assert_spent(&world.pay("/weather", &payment).await, &transaction);

    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s1_s7_a_payment_that_bought_one_route_does_not_open_another_of_the_same_price() {
    let world = World::selling("GET /weather: $0.01\nGET /news: $0.01").await;
    let payment = world.payment("/weather").await;
    let transaction = assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    assert_spent(&world.pay("/news", &payment).await, &transaction);
    assert_spent(&world.pay("/weather?city=oslo", &payment).await, &transaction);
    world.assert_counts(1, 1);
    assert_eq!(&*world.entry().await.sale.route, "GET /weather", "what was sold is on record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_of_64_copies_at_once_one_is_served_and_one_payment_moves() {
    let directory = tempfile::tempdir().expect("a directory");
    let sqlite = format!("sqlite:{}", directory.path().join("ledger.db").display());
    for (route, ledger) in [(WEATHER, "memory"), (UPFRONT, "memory"), (WEATHER, sqlite.as_str())] {
        let world = Arc::new(World::of(File { ledger: ledger.into(), ..File::selling(route) }).await);
        let payment = world.payment("/weather").await;
        only_one_of_64(&world, &payment).await;
        world.until("delivered").await;
        world.assert_counts(1, 1);
        assert_eq!(world.facilitator.count("/settle"), 1);
        assert_eq!(world.facilitator.count("/verify"), usize::from(route == WEATHER));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn i1_of_64_that_collect_a_paid_answer_at_once_one_gets_it() {
    let world = Arc::new(World::selling(UPFRONT).await);
    world.backend.on("/weather", [Behaviour::status(500)]);
    let payment = world.payment("/weather").await;
    assert_settled(&world.pay("/weather", &payment).await);
    world.until("undelivered").await;
    only_one_of_64(&world, &payment).await;
    world.until("delivered").await;
    world.assert_counts(1, 2);
    assert_eq!(world.facilitator.count("/settle"), 1);
}

/// Presents one payment 64 times at once: one is served, and while it is, every other hears that it should wait.
async fn only_one_of_64(world: &Arc<World>, payment: &Payment) {
    let serving = Latch::closed();
    world.backend.always("/weather", Behaviour::text("sunny").when(&serving));
    let mut copies = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (world, payment) = (Arc::clone(world), payment.clone());
        copies.spawn(async move { world.pay("/weather", &payment).await });
    }
    for _ in 0..63 {
        assert_in_flight(&copies.join_next().await.expect("a copy").expect("it ended"));
    }
    serving.open();
    assert_paid(&copies.join_next().await.expect("the one").expect("it ended"));
}

#[tokio::test]
async fn s3_one_authorization_in_two_dialects_is_one_payment() {
    let world = World::selling(WEATHER).await;
    let v2 = world.payment("/weather").await;
    let transaction = assert_paid(&world.pay("/weather", &v2).await);
    let entry = world.until("delivered").await;
    let v1 = world.presented(Dialect::V1, &entry.sale.payment.offer, None, authorization_of(&entry));
    let reply = world.pay("/weather", &v1).await;
    assert_spent(&reply, &transaction);
    assert!(reply.field("x-payment-response").is_some(), "it hears so in the dialect it spoke");
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s3_one_authorization_in_another_spelling_is_one_payment() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let transaction = assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    let json = decoded(&payment.1);
    let shout = |text: &str| format!("0x{}", text.trim_start_matches("0x").to_uppercase());
    let upper_case = edited(&payment, |json| {
        for field in ["nonce", "from", "to"] {
            let text = json["payload"]["authorization"][field].as_str().expect("text").to_owned();
            json["payload"]["authorization"][field] = shout(&text).into();
        }
        let signature = json["payload"]["signature"].as_str().expect("text").to_owned();
        json["payload"]["signature"] = shout(&signature).into();
    });
    let spaced = (payment.0.clone(), encoded(&serde_json::to_string_pretty(&json).expect("JSON")));
    let unpadded = STANDARD_NO_PAD.encode(format!("{json} "));
    let unpadded: Payment = (payment.0.clone(), HeaderValue::try_from(unpadded).expect("base64"));
    for twin in [upper_case, spaced, unpadded] {
        assert_ne!(twin.1, payment.1);
        assert_spent(&world.pay("/weather", &twin).await, &transaction);
    }
    world.assert_counts(1, 1);
    assert_eq!(world.gateway.entries().await.len(), 1);
}

#[tokio::test]
async fn s23_a_copy_hears_wait_until_the_first_is_served_and_then_spent() {
    let world = World::selling(WEATHER).await;
    let (serving, settling) = (Latch::closed(), Latch::closed());
    world.backend.on("/weather", [Behaviour::text("sunny").when(&serving)]);
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let payment = world.payment("/weather").await;
    let mut first = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    assert_in_flight(&world.pay("/weather", &payment).await);
    serving.open();
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    assert_in_flight(&world.pay("/weather", &payment).await);
    settling.open();
    let transaction = assert_paid(&first.reply().await);
    world.until("delivered").await;
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s24_what_was_paid_before_forwarding_and_not_delivered_is_collected_and_in_the_end_owed() {
    let world = World::selling(UPFRONT).await;
    world.backend.always("/weather", Behaviour::status(500));
    let payment = world.payment("/weather").await;
    let first = world.pay("/weather", &payment).await;
    assert_eq!((first.status, first.text().as_str()), (500, "status 500"), "the backend's word passes");
    let transaction = assert_settled(&first);
    world.until("undelivered").await;
    for turn in 1..=3 {
        let again = world.pay("/weather", &payment).await;
        assert_eq!((again.status, assert_settled(&again)), (500, transaction.clone()));
        assert_eq!(world.until("undelivered").await.redemptions, turn);
    }
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.until("refund_due").await;
    world.assert_counts(1, 4);
    assert_eq!(world.facilitator.count("/settle"), 1, "one payment, however often it is collected");
    let owed = r#"tollhouse_delivery_failed_after_payment_total{route="GET /weather"}"#;
    assert!(world.metric(owed).is_some_and(|count| count > 0), "{}", world.gateway.metrics());
}

#[tokio::test]
async fn s24_an_undelivered_answer_is_collected_once_the_backend_is_well() {
    for failure in [Behaviour::status(503), Behaviour::reset(), Behaviour::status(402)] {
        let world = World::selling(UPFRONT).await;
        world.backend.on("/weather", [failure, Behaviour::text("sunny")]);
        let payment = world.payment("/weather").await;
        let failed = world.pay("/weather", &payment).await;
        assert!(failed.status >= 500, "{}", failed.status);
        let transaction = assert_settled(&failed);
        world.until("undelivered").await;
        let reply = world.pay("/weather", &payment).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "sunny"));
        assert_eq!(assert_paid(&reply), transaction);
        world.until("delivered").await;
        assert_spent(&world.pay("/weather", &payment).await, &transaction);
        world.assert_counts(1, 2);
    }
}

#[tokio::test]
async fn s24_an_answer_nobody_collects_in_time_is_owed() {
    let world = World::selling(UPFRONT).await;
    world.backend.on("/weather", [Behaviour::status(500)]);
    let payment = world.payment("/weather").await;
    let transaction = assert_settled(&world.pay("/weather", &payment).await);
    world.until("undelivered").await;
    world.wait(Duration::from_secs(3601));
    world.gateway.gate().ledger.round().await.expect("the ledger answers");
    world.until("refund_due").await;
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s25_a_post_the_backend_may_have_seen_is_not_sent_again() {
    for failure in [Behaviour::status(500), Behaviour::reset(), Behaviour::reset().without_reading()] {
        let world = World::selling("POST /reports: {price: $0.01, settle: before_forward}").await;
        world.backend.on("/reports", [failure]);
        let request = Request::post("/reports", "a report");
        let payment = world.payment_for(&request, Dialect::V2).await;
        let failed = world.ask(&request.clone().paying(&payment)).await;
        assert!(failed.status >= 500, "{}", failed.status);
        let transaction = assert_settled(&failed);
        world.until("refund_due").await;
        assert_spent(&world.ask(&request.paying(&payment)).await, &transaction);
        world.assert_counts(1, 1);
    }
}

#[tokio::test]
async fn s25_a_post_is_sent_again_where_its_route_says_so() {
    let world = World::selling("POST /reports: {price: $0.01, settle: before_forward, replay: redeliver}").await;
    world.backend.on("/reports", [Behaviour::reset()]);
    let request = Request::post("/reports", "a report");
    let payment = world.payment_for(&request, Dialect::V2).await;
    assert_eq!(world.ask(&request.clone().paying(&payment)).await.status, 502);
    world.until("undelivered").await;
    assert_paid(&world.ask(&request.paying(&payment)).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s25_a_priced_get_that_meets_a_dying_connection_is_not_sent_twice() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    assert_eq!(world.get("/free").await.status, 200, "the connection to the backend is kept");
    world.backend.on("/weather", [Behaviour::reset()]);
    let payment = world.payment("/weather").await;
    assert_no_invitation(&world.pay("/weather", &payment).await, 502);
    world.assert_counts(0, 2);
    world.until("released").await;
}

#[tokio::test]
async fn s73_a_payment_makes_the_backend_fail_three_times_and_then_opens_nothing() {
    let world = World::selling(WEATHER).await;
    world.backend.always("/weather", Behaviour::status(500));
    let payment = world.payment("/weather").await;
    for turn in 1..=3 {
        let reply = world.pay("/weather", &payment).await;
        assert_eq!((reply.status, reply.settlement()), (500, None));
        assert_eq!(world.until(if turn < 3 { "released" } else { "exhausted" }).await.releases, turn);
    }
    let reply = world.pay("/weather", &payment).await;
    assert_no_invitation(&reply, 409);
    assert_eq!((reply.settlement(), reply.field("retry-after")), (None, None), "nothing was bought");
    assert!(reply.text().contains("payment-exhausted") && reply.text().contains("never charged"), "{}", reply.text());
    world.assert_counts(0, 3);
}

#[tokio::test]
async fn s74_an_answer_that_began_to_leave_is_not_delivered_again() {
    let world = World::selling(WEATHER).await;
    let more = Latch::closed();
    let begun = Latch::closed();
    begun.open();
    world.backend.on("/weather", [Behaviour::events([(begun, "all but"), (more.clone(), "the last byte")])]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    let transaction = assert_paid(&client.head().await);
    assert!(client.piece().await.is_some());
    client.abort();
    more.open();
    world.until("partial").await;
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s74_an_answer_the_backend_cuts_short_is_not_delivered_again_and_is_owed() {
    let world = World::selling(WEATHER).await;
    world.backend.on("/weather", [Behaviour::truncated("half of it")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert!(!reply.whole);
    let transaction = assert_paid(&reply);
    world.until("refund_due").await;
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s75_only_the_quote_it_was_paid_with_collects_an_answer() {
    let world = World::selling(UPFRONT).await;
    world.backend.on("/weather", [Behaviour::status(500)]);
    let payment = world.payment("/weather").await;
    let transaction = assert_settled(&world.pay("/weather", &payment).await);
    let entry = world.until("undelivered").await;
    let (offer, signed) = (&entry.sale.payment.offer, authorization_of(&entry));
    // An observer of the chain knows the authorization and its signature, and may ask for a quote of their own.
    let (_, other_quote) = world.offer("/weather").await;
    let observers = [
        world.presented(Dialect::V2, offer, Some(&other_quote), signed),
        world.presented(Dialect::V2, offer, None, signed),
        world.presented(Dialect::V1, offer, None, signed),
    ];
    for observer in observers {
        let reply = world.pay("/weather", &observer).await;
        assert_no_invitation(&reply, 409);
    }
    assert_eq!(world.until("undelivered").await.redemptions, 0);
    // Another request is not what was bought.
    assert_no_invitation(&world.pay("/weather?city=oslo", &payment).await, 409);
    assert_eq!(assert_paid(&world.pay("/weather", &payment).await), transaction);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s75_what_a_v1_client_paid_and_did_not_get_is_owed() {
    let world = World::selling(UPFRONT).await;
    world.backend.on("/weather", [Behaviour::status(500)]);
    let payment = world.payment_for(&Request::get("/weather"), Dialect::V1).await;
    let transaction = assert_settled(&world.pay("/weather", &payment).await);
    world.until("undelivered").await;
    assert_spent(&world.pay("/weather", &payment).await, &transaction);
    world.assert_counts(1, 1);
    // Nobody signed again in time.
    world.wait(Duration::from_secs(3600));
    world.gateway.gate().ledger.round().await.expect("the ledger answers");
    world.until("refund_due").await;
}

#[tokio::test]
async fn i4_s67_a_spent_payment_whose_time_ran_out_is_still_spent() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let transaction = assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    for span in [60, 600, 86_400] {
        world.wait(Duration::from_secs(span));
        world.gateway.gate().ledger.store().prune(world.clock.now()).await.expect("the ledger answers");
        assert_spent(&world.pay("/weather", &payment).await, &transaction);
    }
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s69_a_stranger_learns_nothing_of_a_payment_without_its_signature() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    let guessed = edited(&payment, |json| {
        let signature = json["payload"]["signature"].as_str().expect("text").to_owned();
        let flipped = if signature.as_bytes()[2] == b'1' { "2" } else { "1" };
        json["payload"]["signature"] = format!("0x{flipped}{}", &signature[3..]).into();
    });
    let reply = world.pay("/weather", &guessed).await;
    assert_eq!((reply.status, reply.settlement()), (402, None));
    world.assert_counts(1, 1);
}

const KEPT: &str = "POST /reports: {price: $0.01, replay: same_answer}";

#[tokio::test]
async fn the_same_answer_is_repeated_to_whoever_paid_without_asking_the_backend() {
    let world = World::selling(KEPT).await;
    let answer = Behaviour::answer(201, &[("content-type", "application/json"), ("location", "/r/1")], r#"{"id":1}"#);
    world.backend.on("/reports", [answer]);
    let request = Request::post("/reports", "a report");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let first = world.ask(&request.clone().paying(&payment)).await;
    let transaction = assert_paid(&first);
    world.until("delivered").await;
    let again = world.ask(&request.clone().paying(&payment)).await;
    assert_eq!((again.status, again.text()), (201, r#"{"id":1}"#.into()));
    for field in ["content-type", "location", "cache-control", "payment-response"] {
        assert_eq!(again.field(field), first.field(field), "{field}");
    }
    assert_eq!(assert_paid(&again), transaction);
    world.assert_counts(1, 1);

    let other = Request::post("/reports", "another report").paying(&payment);
    assert_spent(&world.ask(&other).await, &transaction);
    let elsewhere = Request::new("POST", "/reports").paying(&payment);
    assert_spent(&world.ask(&elsewhere).await, &transaction);
    world.wait(Duration::from_secs(601));
    assert_spent(&world.ask(&request.paying(&payment)).await, &transaction);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn an_answer_too_large_to_keep_is_delivered_and_not_repeated() {
    let world = World::selling(KEPT).await;
    world.backend.on("/reports", [Behaviour::large(64 * 1024 + 1)]);
    let request = Request::post("/reports", "a report");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let first = world.ask(&request.clone().paying(&payment)).await;
    assert_eq!(first.body.len(), 64 * 1024 + 1);
    let transaction = assert_paid(&first);
    world.until("delivered").await;
    assert_spent(&world.ask(&request.paying(&payment)).await, &transaction);
    world.assert_counts(1, 1);
}
