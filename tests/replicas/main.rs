//! Two gateways on one PostgreSQL ledger. `ROUNDS=1000` fires as many payments at both; fifty are enough for every day.

mod house;

use std::time::Duration;

use tokio::task::JoinSet;
use tollhouse::gate::rails::{Pause, Pauses, Scope};
use tollhouse::ledger::State;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Connection, Request};
use tollhouse::testing::{Gateway, Latch, facilitator};

use house::{House, eventually};

const WEATHER: &str = "GET /weather: $0.01";
const COPIES: usize = 64;
const ROUNDS: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s2_s5_of_64_copies_at_two_replicas_one_is_served_and_one_payment_moves() {
    let rounds = std::env::var("ROUNDS").map_or(ROUNDS, |rounds| rounds.parse().expect("ROUNDS is a number"));
    for (settle, rounds) in [("on_response", rounds.div_ceil(2)), ("before_forward", rounds / 2)] {
        let house = House::selling(&format!("GET /weather: {{price: $0.01, settle: {settle}}}")).await;
        let replicas = [house.replica().await, house.replica().await];
        for round in 1..=rounds {
            let payment = house.payment(&replicas[round % 2]).await;
            let mut copies = JoinSet::new();
            for copy in 0..COPIES {
                let (at, request) = (replicas[copy % 2].address(), Request::get("/weather").paying(&payment));
                copies.spawn(async move {
                    let mut connection = Connection::open(at).await;
                    connection.send(&request).await;
                    connection.reply().await
                });
            }
            let replies = copies.join_all().await;
            let heard = |status| replies.iter().filter(|reply| reply.status == status).count();
            assert_eq!((heard(200), heard(409)), (1, COPIES - 1), "{settle}, round {round}");
            let told = (house.facilitator.settlements(), house.facilitator.count("/settle"), house.backend.hits());
            assert_eq!(told, (round, round, round), "settlements, calls for one, and hits; {settle}");
        }
        let ledger = &replicas[0].gate().ledger;
        replicas[1].gate().ledger.flush().await;
        ledger.flush().await;
        let census = ledger.store().census(house.clock_now()).await.expect("the ledger answers");
        assert_eq!(census.entries, [("delivered".to_owned(), rounds as u64)].into());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn no_payer_spends_more_in_a_day_at_two_replicas_than_at_one() {
    let mut house = House::selling("GET /weather: $0.01").await;
    house.more = "caps: {per_payer_per_day: $0.10}".into();
    let replicas = [house.replica().await, house.replica().await];
    let mut clients = Vec::new();
    for number in 0..64 {
        let (replica, target) = (&replicas[number % 2], format!("/weather?day={number}"));
        let request = Request::get(&target).paying(&house.payment_for(replica, &target).await);
        clients.push((replica.connect().await, request));
    }
    for (client, request) in &mut clients {
        client.send(request).await;
    }
    let mut paid = 0;
    for (client, _) in &mut clients {
        let reply = client.reply().await;
        assert!(matches!(reply.status, 200 | 503), "{} {}", reply.status, reply.text());
        paid += usize::from(reply.status == 200);
    }
    assert_eq!((paid, house.facilitator.settlements(), house.backend.hits()), (10, 10, 10));
}

#[tokio::test]
async fn a_pause_reaches_every_replica_on_the_ledger() {
    let house = House::selling(WEATHER).await;
    let replicas = [house.replica().await, house.replica().await];
    let store = replicas[0].gate().ledger.store();
    let words = || Pause::new(house.clock_now(), "ann", "the oracle is wrong");
    Pauses::pause(&**store, &Scope::All, words()).await.expect("the ledger works");
    for replica in &replicas {
        eventually("it sells no more", async || replica.ask(&Request::get("/weather")).await.status == 503).await;
    }
    Pauses::resume(&**store, &Scope::All, words()).await.expect("the ledger works");
    for replica in &replicas {
        eventually("it sells again", async || replica.ask(&Request::get("/weather")).await.status == 402).await;
    }
}

#[tokio::test]
async fn s37_a_quote_of_one_replica_holds_at_another_that_never_made_the_offer() {
    let house = House::selling(WEATHER).await;
    let cheap = house.replica().await;
    let dear = house.replica_selling("GET /weather: $0.02").await;
    let payment = house.payment(&cheap).await;
    let reply = dear.ask(&Request::get("/weather").paying(&payment)).await;
    assert_eq!(reply.status, 200, "{}", reply.text());
    let entry = &cheap.entries().await[0];
    assert_eq!(entry.sale.payment.offer.amount.to_string(), "10000", "what was signed, not more and not less");
}

#[tokio::test]
async fn s1_s75_what_one_replica_sold_is_redelivered_by_another_to_whoever_paid() {
    let house = House::selling("GET /weather: {price: $0.01, settle: before_forward}").await;
    let (one, other) = (house.replica().await, house.replica().await);
    house.backend.on("/weather", [Behaviour::status(500)]);
    let payment = house.payment(&one).await;
    assert_eq!(one.ask(&Request::get("/weather").paying(&payment)).await.status, 500);
    one.gate().ledger.flush().await;
    let again = other.ask(&Request::get("/weather").paying(&payment)).await;
    assert_eq!(again.status, 200, "{}", again.text());
    other.gate().ledger.flush().await;
    assert_eq!(one.ask(&Request::get("/weather").paying(&payment)).await.status, 409, "it was delivered");
    assert_eq!((house.facilitator.settlements(), house.backend.hits()), (1, 2));
}

#[tokio::test]
async fn i4_whoever_left_one_replica_and_signs_again_at_another_is_not_charged_again() {
    let house = House::selling(WEATHER).await;
    let (one, other) = (house.replica().await, house.replica().await);
    let settling = Latch::closed();
    house.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let mut client = one.connect().await;
    client.send(&Request::get("/weather").paying(&house.payment(&one).await)).await;
    eventually("settlement was asked for", async || house.facilitator.count("/settle") == 1).await;
    client.leave().await;
    eventually("it is on record that nobody waits", async || {
        matches!(other.entries().await[0].state, State::Settling { left: true, .. })
    })
    .await;
    let fresh = Request::get("/weather").paying(&house.payment(&other).await);
    for _ in 0..2 {
        let told = other.ask(&fresh).await;
        assert_eq!(told.status, 503, "{}", told.text());
        assert!(told.field("retry-after").is_some());
    }
    settling.open();
    collected(&other, &fresh).await;
    assert_eq!(house.facilitator.count("/settle"), 1, "the fresh payment stays unused");
}

/// A process is killed with one payment settling and one answer half delivered; the replica that goes on ends both.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s21_a_replica_that_is_killed_leaves_its_payments_to_the_other() {
    let house = House::selling_now("GET /weather: $0.01\nGET /half: $0.01").await;
    let other = house.replica().await;
    let doomed = house.process().await;
    let (settling, now, never) = (Latch::closed(), Latch::closed(), Latch::closed());
    now.open();
    house.backend.on("/half", [Behaviour::events([(now, "half"), (never, "the other half")])]);
    let half = Request::get("/half").paying(&house.payment_for(&other, "/half").await);
    let mut reading = doomed.send(&half).await;
    assert_eq!(reading.head().await.status, 200);
    house.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let whole = Request::get("/weather").paying(&house.payment(&other).await);
    let mut waiting = doomed.send(&whole).await;
    eventually("settlement was asked for", async || house.facilitator.count("/settle") == 2).await;

    doomed.kill();
    settling.open();
    assert!(waiting.try_reply().await.is_none());
    for request in [&half, &whole] {
        let reply = other.ask(request).await;
        assert_eq!(reply.status, 409, "whoever held it may still be alive: {}", reply.text());
        assert!(reply.field("retry-after").is_some());
    }

    collected(&other, &whole).await;
    collected(&other, &half).await;
    assert_eq!(house.facilitator.settlements(), 2, "each was paid for once");
    assert_eq!(house.backend.hits(), 4, "each was asked for by the one replica and by the other");
}

/// Asks again, as told, until the answer comes. Never is there an invitation to pay again (I4).
async fn collected(replica: &Gateway, request: &Request) {
    eventually("the answer was collected", async || {
        let reply = replica.ask(request).await;
        assert!([200, 409, 503].contains(&reply.status), "{} {}", reply.status, reply.text());
        tokio::time::sleep(Duration::from_millis(200)).await;
        reply.status == 200
    })
    .await;
}
