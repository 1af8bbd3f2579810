//! What outlives the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Gateway, Latch, facilitator};

use crate::world::{File, World, assert_no_invitation, assert_paid, eventually, nonce_of};

const WEATHER: &str = "GET /weather: $0.01";

/// A gateway on a runtime of its own, so that it can vanish between two instructions.
struct Doomed {
    runtime: Runtime,
    gateway: Gateway,
}

impl Doomed {
    async fn start(text: String, world: &World) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.expect("a runtime");
        let clock = Arc::new(world.clock.clone());
        let gateway = runtime.spawn(async move { Gateway::start(&text, clock).await }).await;
        Self { runtime, gateway: gateway.expect("it starts") }
    }

    /// As `kill -9` does: nothing more is written, said or let go.
    fn crash(self) {
        self.runtime.shutdown_background();
    }
}

/// A world whose ledger is a file, and the text of a second gateway over the same file.
async fn lasting(routes: &str) -> (World, String, TempDir) {
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = format!("sqlite:{}", directory.path().join("ledger.db").display());
    let file = File { ledger, ..File::selling(routes) };
    let world = World::of(file.clone()).await;
    let text = file.text(&world.facilitator, &world.backend.url());
    (world, text, directory)
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_gateway_stops() {
    let world = World::selling(WEATHER).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working)]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    let address = world.gateway.address();
    let World { gateway, facilitator, .. } = world;
    let stopping = tokio::spawn(gateway.stop());
    while tokio::net::TcpStream::connect(address).await.is_ok() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    working.open();
    assert_paid(&client.reply().await);
    assert!(stopping.await.expect("it stops"), "everything had ended");
    assert_eq!(facilitator.settlements(), 1);
}

#[tokio::test]
async fn connections_that_wait_for_a_next_request_do_not_hold_up_the_end() {
    let world = World::selling("GET /free: free").await;
    let mut idle = world.send(&Request::get("/free")).await;
    assert_eq!(idle.reply().await.status, 200);
    let mut silent = world.gateway.connect().await;
    assert!(world.gateway.stop().await, "everything had ended");
    assert!(silent.try_reply().await.is_none(), "it was never heard");
    assert!(idle.try_reply().await.is_none(), "it was closed");
}

/// Works until it is broken; whoever reads it then panics.
struct Watch(AtomicBool);

impl Clock for Watch {
    fn now(&self) -> Timestamp {
        assert!(!self.0.load(Ordering::SeqCst), "the watch is broken");
        Timestamp::from_secs(1_767_225_600)
    }
}

#[tokio::test]
async fn a_gateway_whose_work_beside_requests_has_panicked_is_noticed() {
    let world = World::selling(WEATHER).await;
    let text = File::selling(WEATHER).text(&world.facilitator, &world.backend.url());
    let watch = Arc::new(Watch(AtomicBool::new(false)));
    let mut gateway = Gateway::start(&text, Arc::clone(&watch) as Arc<dyn Clock>).await;
    let quiet = tokio::time::timeout(Duration::from_millis(50), gateway.lost()).await;
    assert!(quiet.is_err(), "everything goes on");
    watch.0.store(true, Ordering::SeqCst);
    assert!(!gateway.lost().await.is_empty());
    watch.0.store(false, Ordering::SeqCst);
    assert!(gateway.stop().await, "what is left can be stopped");
}

#[tokio::test]
async fn s22_a_settlement_whose_client_has_left_ends_before_the_gateway_does() {
    let (world, text, _directory) = lasting(WEATHER).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let payment = world.payment("/weather").await;
    let client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    client.leave().await;
    let World { gateway, facilitator, backend, clock, .. } = world;
    let stopping = tokio::spawn(gateway.stop());
    settling.open();
    assert!(stopping.await.expect("it stops"), "everything had ended");

    let next = Gateway::start(&text, Arc::new(clock)).await;
    assert_eq!(next.entries().await[0].state.name(), "undelivered");
    assert_paid(&next.ask(&Request::get("/weather").paying(&payment)).await);
    assert_eq!((facilitator.settlements(), backend.hits()), (1, 2));
}

#[tokio::test]
async fn s21_a_crash_while_the_backend_works_charges_nobody() {
    let (world, text, _directory) = lasting(WEATHER).await;
    world.backend.on("/weather", [Behaviour::hang()]);
    let doomed = Doomed::start(text, &world).await;
    let payment = world.payment("/weather").await;
    let mut client = doomed.gateway.connect().await;
    client.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    doomed.crash();
    assert!(client.try_reply().await.is_none());

    let held = world.pay("/weather", &payment).await;
    assert_no_invitation(&held, 409);
    assert!(held.field("retry-after").is_some(), "whoever held it may still be alive");
    world.assert_counts(0, 1);
    // The hold lapses by itself. The signature has lapsed with it, so it is a fresh one that pays.
    world.wait(Duration::from_secs(200));
    let fresh = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &fresh).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s21_a_crash_while_it_settles_loses_no_money() {
    let (world, text, _directory) = lasting(WEATHER).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let doomed = Doomed::start(text, &world).await;
    let payment = world.payment("/weather").await;
    let mut client = doomed.gateway.connect().await;
    client.send(&Request::get("/weather").paying(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    doomed.crash();
    settling.open();
    assert!(client.try_reply().await.is_none());
    assert_eq!(world.entry().await.state.name(), "settling", "on disk before anyone was asked");

    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.wait(Duration::from_secs(12));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
    assert!(world.facilitator.settled(nonce_of(&payment)).is_some());
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s21_a_crash_in_the_middle_of_an_answer_lets_whoever_paid_collect_it() {
    let (world, text, _directory) = lasting(WEATHER).await;
    let (now, never) = (Latch::closed(), Latch::closed());
    now.open();
    world.backend.on("/weather", [Behaviour::events([(now, "half"), (never, "the other half")])]);
    let doomed = Doomed::start(text, &world).await;
    let payment = world.payment("/weather").await;
    let mut client = doomed.gateway.connect().await;
    client.send(&Request::get("/weather").paying(&payment)).await;
    let transaction = assert_paid(&client.head().await);
    doomed.crash();
    assert_eq!(world.entry().await.state.name(), "delivering", "paid, and on disk before the first byte left");

    let reply = world.pay("/weather", &payment).await;
    assert_no_invitation(&reply, 409);
    world.wait(tollhouse::ledger::LEASE + Duration::from_secs(1));
    // Nobody knows how much had arrived; no client can cause this (I1).
    assert_eq!(assert_paid(&world.pay("/weather", &payment).await), transaction);
    world.until("delivered").await;
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s68_two_gateways_on_one_ledger_sell_one_answer_for_one_payment() {
    let (world, text, _directory) = lasting(WEATHER).await;
    let other = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working)]);
    let payment = world.payment("/weather").await;
    let request = Request::get("/weather").paying(&payment);
    let mut client = world.send(&request).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    assert_no_invitation(&other.ask(&request).await, 409);
    working.open();
    let transaction = assert_paid(&client.reply().await);
    world.until("delivered").await;
    let spent = other.ask(&request).await;
    assert_no_invitation(&spent, 409);
    let receipt = spent.settlement().and_then(|settlement| settlement.transaction);
    assert_eq!(receipt.map(|hash| hash.to_string()), Some(transaction));
    world.assert_counts(1, 1);
}
