//! What a client gets that pays, and in which order.

use std::time::Duration;

use tollhouse::ledger::Delivery;
use tollhouse::ledger::State;
use tollhouse::payment::Dialect;
use tollhouse::primitives::Clock;
use tollhouse::testing::Latch;
use tollhouse::testing::backend::{Behaviour, Step};
use tollhouse::testing::client::Request;
use tollhouse::testing::facilitator;

use crate::world::{
    File, PAYEE, World, assert_invites, assert_no_invitation, assert_paid, assert_pending, authorization_of,
    eventually, nonce_of,
};

const WEATHER: &str = "GET /weather: $0.01";
const UPFRONT: &str = "GET /weather: {price: $0.01, settle: before_forward}";

#[tokio::test]
async fn a_paid_request_is_answered_once_and_charged_once_in_either_dialect() {
    for (dialect, receipt, other) in [
        (Dialect::V1, "x-payment-response", "payment-response"),
        (Dialect::V2, "payment-response", "x-payment-response"),
    ] {
        let world = World::selling(WEATHER).await;
        world.backend.on("/weather", [Behaviour::text("sunny")]);
        let payment = world.payment_for(&Request::get("/weather"), dialect).await;
        let reply = world.pay("/weather", &payment).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "sunny"));
        let transaction = assert_paid(&reply);
        assert!(
            reply.field(receipt).is_some() && reply.field(other).is_none(),
            "the receipt speaks as the payment did"
        );
        let settlement = reply.settlement().expect("a receipt");
        assert_eq!(settlement.payer, Some(world.wallet.address()));
        assert_eq!(settlement.network, if dialect == Dialect::V1 { "base-sepolia" } else { "eip155:84532" });
        assert_eq!(world.facilitator.settled(nonce_of(&payment)).map(|hash| hash.to_string()), Some(transaction));
        let entry = world.until("delivered").await;
        assert_eq!(&*entry.sale.route, "GET /weather");
        assert_eq!(authorization_of(&entry).to.to_string().to_lowercase(), PAYEE);
        world.assert_counts(1, 1);
        assert_eq!(world.facilitator.count("/verify"), 1);
    }
}

#[tokio::test]
async fn a_client_pays_on_the_connection_it_was_asked_on() {
    let world = World::selling(WEATHER).await;
    let mut client = world.send(&Request::get("/weather")).await;
    let challenge = client.reply().await;
    let payment = world.wallet.pay(&challenge.fields, &challenge.body, world.clock.now()).expect("an offer");
    let paying = Request::get("/weather").paying(&payment);
    client.send(&paying).await;
    assert_paid(&client.reply().await);
    world.until("delivered").await;
    client.send(&paying).await;
    assert_no_invitation(&client.reply().await, 409);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn a_client_of_http_1_0_pays_and_is_served() {
    let world = World::selling(WEATHER).await;
    world.backend.on("/weather", [Behaviour::large(100_000)]);
    let payment = world.payment("/weather").await;
    let mut client = world.gateway.connect().await;
    let value = payment.1.to_str().expect("base64");
    client.write(format!("GET /weather HTTP/1.0\r\nhost: api.test\r\n{}: {value}\r\n\r\n", payment.0).as_bytes()).await;
    let reply = client.reply().await;
    assert_paid(&reply);
    assert_eq!(reply.body.len(), 100_000);
    world.until("delivered").await;
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn a_client_that_expects_to_be_told_to_continue_is_told_by_the_backend_it_paid_for() {
    let world = World::selling("POST /reports: $0.01").await;
    let unpaid = Request::new("POST", "/reports").with("content-length", "8").with("expect", "100-continue");
    let refused = world.ask(&unpaid).await;
    assert_eq!((refused.status, refused.interim.len()), (402, 0), "nobody uploads for a 402");

    let payment = world.payment_for(&Request::post("/reports", "a report"), Dialect::V2).await;
    let read = Latch::closed();
    let steps = [
        Step::Write("HTTP/1.1 100 Continue\r\n\r\n".into()),
        Step::Wait(read.clone()),
        Step::Write("HTTP/1.1 201 Created\r\ncontent-length: 0\r\n\r\n".into()),
    ];
    world.backend.on("/reports", [Behaviour::steps(steps).without_reading()]);
    let mut client = world.send(&unpaid.paying(&payment)).await;
    assert_eq!(client.next_status().await, Some(100));
    client.write(b"a report").await;
    read.open();
    let reply = client.reply().await;
    assert_eq!(reply.status, 201);
    assert_paid(&reply);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s11_no_byte_of_a_priced_answer_leaves_before_it_is_settled() {
    let world = World::selling(WEATHER).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    assert_eq!(world.backend.hits(), 1, "the answer is there and waits");
    let early = tokio::time::timeout(Duration::from_millis(100), client.try_reply()).await;
    assert!(early.is_err(), "something left before the money came: {early:?}");
    assert_eq!(world.entry().await.state.name(), "settling");
    settling.open();
    assert_paid(&client.reply().await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s2_a_request_that_stood_still_until_its_hold_lapsed_is_not_forwarded() {
    let world = World::selling(WEATHER).await;
    let verifying = Latch::closed();
    world.facilitator.on_verify([facilitator::Behaviour::HonestWhen(verifying.clone())]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("verify was asked for", || world.facilitator.count("/verify") == 1).await;
    world.clock.advance(Duration::from_secs(600));
    verifying.open();
    let reply = client.reply().await;
    assert_eq!(
        (reply.status, reply.field("retry-after").is_some()),
        (409, true),
        "another may hold it: {}",
        reply.text()
    );
    world.until("released").await;
    world.assert_counts(0, 0);
}

#[tokio::test]
async fn s11_a_settlement_that_is_declined_gives_nothing_of_the_answer_away() {
    let world = World::selling(WEATHER).await;
    world.backend.on("/weather", [Behaviour::answer(200, &[("x-secret", "1")], "the secret answer")]);
    world.facilitator.on_settle([facilitator::Behaviour::Decline("insufficient_funds")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_invites(&reply);
    let settlement = reply.settlement().expect("settling was attempted");
    assert_eq!((settlement.success, settlement.error_reason.as_deref()), (false, Some("insufficient_funds")));
    assert!(!reply.text().contains("secret") && reply.field("x-secret").is_none());
    assert_eq!(world.until("released").await.releases, 1, "the backend has worked, so it counts (S73)");
    world.assert_counts(0, 1);
}

#[tokio::test]
async fn s12_before_forward_settles_before_the_backend_is_asked() {
    let world = World::selling(UPFRONT).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let challenge = world.get("/weather").await;
    let offer = &challenge.challenge().expect("a 402").choices[0].offer;
    assert_eq!(offer.settle, tollhouse::payment::SettleMode::BeforeForward, "and says so in the offer");
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    assert_eq!(world.backend.hits(), 0, "no work before the money");
    settling.open();
    assert_paid(&client.reply().await);
    world.assert_counts(1, 1);
    assert_eq!(world.facilitator.count("/verify"), 0, "settling is the proof");
}

#[tokio::test]
async fn s12_before_forward_a_decline_never_reaches_the_backend() {
    let world = World::selling(UPFRONT).await;
    world.facilitator.on_settle([facilitator::Behaviour::Decline("invalid_exact_evm_insufficient_balance")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_invites(&reply);
    assert_eq!(reply.settlement().map(|settlement| settlement.success), Some(false));
    world.assert_counts(0, 0);
    world.wait(Duration::from_secs(5));
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s12_before_forward_is_charged_whatever_the_backend_says_on_purpose() {
    let world = World::selling(UPFRONT).await;
    world.backend.on("/weather", [Behaviour::status(404)]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_eq!(reply.status, 404);
    assert!(reply.settlement().is_some_and(|settlement| settlement.success), "with the receipt");
    world.until("delivered").await;
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s15_a_settlement_that_does_not_add_up_is_not_one() {
    let foreign = |field: &str, value: &str| {
        let mut answer = serde_json::json!({
            "success": true, "network": "eip155:84532", "transaction": format!("0x{}", "11".repeat(32)),
        });
        answer[field] = value.into();
        facilitator::Behaviour::Answer(answer)
    };
    for lie in [
        foreign("transaction", ""),
        foreign("transaction", "0x12"),
        foreign("network", "eip155:8453"),
        foreign("payer", PAYEE),
        facilitator::Behaviour::Answer(serde_json::json!({ "success": false, "errorReason": "unexpected_error" })),
        facilitator::Behaviour::Status(200, "text/html", "<html>paid</html>".into()),
    ] {
        let world = World::selling(WEATHER).await;
        world.facilitator.always("/settle", lie.clone());
        let payment = world.payment("/weather").await;
        assert_pending(&world.pay("/weather", &payment).await);
        assert_eq!(world.until("settling").await.redemptions, 0, "{lie:?}");
        assert_pending(&world.pay("/weather", &payment).await);
        assert_eq!(world.backend.hits(), 1, "the copy is not forwarded");
    }
}

#[tokio::test]
async fn s5_s16_one_transaction_does_not_pay_for_two_requests() {
    let world = World::selling(WEATHER).await;
    let same = facilitator::Behaviour::Answer(serde_json::json!({
        "success": true, "network": "eip155:84532", "transaction": format!("0x{}", "11".repeat(32)),
    }));
    world.facilitator.always("/settle", same);
    let (first, second) = (world.payment("/weather").await, world.payment("/weather").await);
    assert_paid(&world.pay("/weather", &first).await);
    assert_pending(&world.pay("/weather", &second).await);
    assert_eq!(world.metric("tollhouse_alarms_total"), Some(1), "{}", world.gateway.metrics());
}

#[tokio::test]
async fn a_hundred_mebibytes_pass_without_being_collected() {
    const SIZE: u64 = 100 << 20;
    let world = World::selling(WEATHER).await;
    world.backend.on("/weather", [Behaviour::large(SIZE)]);
    let payment = world.payment("/weather").await;
    let before = resident_bytes();
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    assert_paid(&client.head().await);
    let (mut read, mut most) = (0, before);
    while let Some(piece) = client.piece().await {
        read += piece.len() as u64;
        most = most.max(resident_bytes());
    }
    assert_eq!(read, SIZE);
    assert!(most - before < 60 << 20, "memory grew by {} MiB", (most - before) >> 20);
    world.until("delivered").await;
    world.assert_counts(1, 1);
}

/// What this process holds in memory.
fn resident_bytes() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    let pages: u64 = statm.split(' ').nth(1).and_then(|pages| pages.parse().ok()).expect("a number of pages");
    pages * 4096
}

#[tokio::test]
async fn events_pass_as_they_come_and_the_first_waits_only_for_the_money() {
    let world = World::selling(WEATHER).await;
    let (settling, last) = (Latch::closed(), Latch::closed());
    let first = Latch::closed();
    first.open();
    world.backend.on("/weather", [Behaviour::events([(first, "one"), (last.clone(), "two")])]);
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    settling.open();
    let head = client.head().await;
    assert_paid(&head);
    assert_eq!(head.field("content-type"), Some("text/event-stream"));
    assert_eq!(client.piece().await.as_deref(), Some(&b"data: one\n\n"[..]), "before the last one is even sent");
    last.open();
    assert_eq!(client.piece().await.as_deref(), Some(&b"data: two\n\n"[..]));
    assert_eq!(client.piece().await, None);
    world.until("delivered").await;
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s76_early_hints_of_a_priced_answer_stay_here_until_it_is_settled() {
    for (route, paid) in [(WEATHER, true), (UPFRONT, true), ("GET /weather: free", false)] {
        let world = World::selling(route).await;
        let hint = [("link", "</secret.css>; rel=preload")];
        world.backend.on("/weather", [Behaviour::text("sunny").hinted(&hint)]);
        let request = Request::get("/weather");
        let request = if paid { request.paying(&world.payment("/weather").await) } else { request };
        let reply = world.ask(&request).await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "sunny"));
        assert_eq!(reply.interim, if paid { vec![] } else { vec![103] }, "{route}");
        if paid {
            world.assert_counts(1, 1);
        }
    }
}

#[tokio::test]
async fn s76_a_hint_is_not_what_is_charged_for() {
    let world = World::selling(WEATHER).await;
    world.backend.on("/weather", [Behaviour::status(500).hinted(&[("link", "</a.css>; rel=preload")])]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_eq!((reply.status, reply.interim.len()), (500, 0));
    world.until("released").await;
    world.assert_counts(0, 1);
}

#[tokio::test]
async fn s39_head_of_what_is_sold_by_get_takes_no_money() {
    let world = World::selling(WEATHER).await;
    let unpaid = world.ask(&Request::new("HEAD", "/weather")).await;
    assert_eq!((unpaid.status, unpaid.body.len()), (402, 0));
    assert!(unpaid.field("payment-required").is_some());
    let payment = world.payment("/weather").await;
    let paid = world.ask(&Request::new("HEAD", "/weather").paying(&payment)).await;
    assert_eq!((paid.status, paid.field("allow")), (405, Some("GET")));
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "nothing is reserved");
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s39_head_that_is_sold_is_sold_like_any_method() {
    let world = World::selling("GET|HEAD /weather: $0.01").await;
    let payment = world.payment("/weather").await;
    let reply = world.ask(&Request::new("HEAD", "/weather").paying(&payment)).await;
    assert_eq!(reply.status, 200);
    assert_paid(&reply);
    assert_eq!(world.backend.last().method, "HEAD");
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn a_paid_post_reaches_the_backend_with_its_whole_body() {
    let world = World::selling("POST /reports: {price: $0.01, limits: {request_body: 1MiB}}").await;
    let body = "a line of a report\n".repeat(20_000);
    let request = Request::post("/reports", &body);
    let payment = world.payment_for(&request, Dialect::V2).await;
    assert_eq!(world.backend.hits(), 0, "an unpaid body goes nowhere");
    assert_paid(&world.ask(&request.paying(&payment)).await);
    assert_eq!(world.backend.last().body.len(), body.len());
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn a_body_above_the_routes_limit_is_413_and_nobody_is_charged() {
    let world = World::selling("POST /reports: {price: $0.01, limits: {request_body: 1KiB}}").await;
    let payment = world.payment_for(&Request::post("/reports", "small"), Dialect::V2).await;
    let announced = Request::post("/reports", &"x".repeat(2000)).paying(&payment);
    assert_no_invitation(&world.ask(&announced).await, 413);
    world.assert_untouched();

    let chunked = Request::new("POST", "/reports").paying(&payment).with("transfer-encoding", "chunked");
    let mut client = world.send(&chunked).await;
    client.write(format!("7d0\r\n{}\r\n0\r\n\r\n", "x".repeat(2000)).as_bytes()).await;
    assert_no_invitation(&client.reply().await, 413);
    world.until("released").await;
    assert_eq!(world.facilitator.settlements(), 0);
}

#[tokio::test]
async fn the_sandbox_sells_without_a_facilitator_outside() {
    let world = World::of(File { pay_to: "sandbox".into(), ..File::selling(WEATHER) }).await;
    let payment = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &payment).await);
    let entry = world.until("delivered").await;
    let State::Settled { delivery: Delivery::Done { answer: None }, .. } = entry.state else { panic!("{entry:?}") };
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    assert_eq!(world.backend.hits(), 1);
}

#[tokio::test]
async fn a_request_with_a_payment_on_a_free_route_is_not_charged() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    let payment = world.payment("/weather").await;
    let reply = world.pay("/free", &payment).await;
    assert_eq!((reply.status, reply.settlement()), (200, None));
    assert!(world.backend.last().field("payment-signature").is_none());
    world.assert_counts(0, 1);
    assert_paid(&world.pay("/weather", &payment).await);
}
