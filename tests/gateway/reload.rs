//! What a changed file changes, and for whom.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::payment::Dialect;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Gateway, Latch, ScriptedFacilitator, facilitator};

use crate::world::{
    File, World, assert_invites, assert_no_invitation, assert_paid, assert_pending, decoded, eventually, nonce_of,
};

const CENT: &str = "GET /weather: $0.01";
const TWO: &str = "GET /weather: $0.02";
const STRANGER: &str = "0x2222222222222222222222222222222222222222";

#[tokio::test]
async fn s37_an_offered_price_holds_for_whoever_was_offered_it() {
    for dialect in [Dialect::V1, Dialect::V2] {
        for changed in [TWO, "GET /weather: $0.005"] {
            let mut world = World::selling(CENT).await;
            let payment = world.payment_for(&Request::get("/weather"), dialect).await;
            world.reprice(changed).await;
            assert_paid(&world.pay("/weather", &payment).await);
            let charged = world.until("delivered").await.sale.payment.offer.amount;
            assert_eq!(charged.to_string(), "10000", "what was signed, not more and not less");
            world.assert_counts(1, 1);
        }
    }
}

#[tokio::test]
async fn s37_a_new_challenge_asks_the_new_price() {
    let mut world = World::selling(CENT).await;
    world.reprice(TWO).await;
    assert_eq!(world.offer("/weather").await.0.amount.to_string(), "20000");
    world.assert_untouched();
}

#[tokio::test]
async fn s37_an_offer_ends_with_its_time() {
    let mut world = World::selling(CENT).await;
    let (offer, quote) = world.offer("/weather").await;
    world.reprice(TWO).await;
    world.wait(Duration::from_secs(59));
    let in_time = world.signed(&offer, Some(&quote), |_| ());
    assert_paid(&world.pay("/weather", &in_time).await);
    world.wait(Duration::from_secs(2));
    let late = world.signed(&offer, Some(&quote), |_| ());
    let reply = world.pay("/weather", &late).await;
    assert_invites(&reply);
    assert_eq!(decoded(&reply.fields["payment-required"])["accepts"][0]["amount"], "20000");
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s37_a_quote_holds_in_another_process_that_never_made_the_offer() {
    // Two replicas on one ledger; the other one has only ever known the new price.
    let directory = tempfile::tempdir().expect("a directory");
    let ledger = format!("sqlite:{}", directory.path().join("ledger.db").display());
    let world = World::of(File { ledger: ledger.clone(), ..File::selling(CENT) }).await;
    let (v1, v2) = (world.payment_for(&Request::get("/weather"), Dialect::V1).await, world.payment("/weather").await);
    let text = File { ledger, ..File::selling(TWO) }.text(&world.facilitator, &world.backend.url());
    let replica = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    assert_paid(&replica.ask(&Request::get("/weather").paying(&v2)).await);
    // Who echoes no quote is known only where the price was posted.
    assert_invites(&replica.ask(&Request::get("/weather").paying(&v1)).await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s5_a_file_that_turns_to_other_money_waits_for_a_restart() {
    let directory = tempfile::tempdir().expect("a directory");
    let lasting = format!("sqlite:{}", directory.path().join("ledger.db").display());
    let sandbox = File { pay_to: "sandbox".into(), ..File::selling(CENT) };
    let test = File::selling(CENT);
    let live = File { pay_to: format!("{{base: \"{STRANGER}\"}}"), ledger: lasting, ..File::selling(CENT) };
    for (open, changed) in [(sandbox.clone(), &test), (test.clone(), &sandbox), (test.clone(), &live)] {
        let mut world = World::of(open).await;
        let before = world.offer("/weather").await.0;
        let text =
            changed.text(&world.facilitator, &world.backend.url()).replace("http://api.test", "https://api.test");
        let Err(refused) = world.gateway.reload(&text).await else { panic!("the open ledger is not for that money") };
        assert!(refused.contains("restart"), "{refused}");
        assert_eq!(world.offer("/weather").await.0, before);
    }
}

#[tokio::test]
async fn s37_only_the_price_survives() {
    type Change = fn(&mut File);
    let changes: [(&str, Change); 4] = [
        ("a route now denied", |file| file.routes = File::selling("GET /weather: deny").routes),
        ("a route no longer listed", |file| file.routes = File::selling("GET /other: $0.01").routes),
        ("another payee", |file| file.pay_to = format!("{{base-sepolia: \"{STRANGER}\"}}")),
        ("another way to settle", |file| {
            file.routes = File::selling("GET /weather: {price: $0.02, settle: before_forward}").routes;
        }),
    ];
    for dialect in [Dialect::V1, Dialect::V2] {
        for (what, change) in changes {
            let mut world = World::selling(CENT).await;
            let payment = world.payment_for(&Request::get("/weather"), dialect).await;
            world.reload(change).await.expect("the changed file is right");
            let reply = world.pay("/weather", &payment).await;
            match reply.status {
                402 => assert_invites(&reply),
                status => assert_eq!(status, 404, "{what}"),
            }
            world.assert_untouched();
        }
    }
}

#[tokio::test]
async fn a_request_under_way_ends_under_the_prices_it_began_with() {
    let mut world = World::selling(CENT).await;
    let working = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("sunny").when(&working)]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    world.reprice("GET /weather: deny").await;
    assert_eq!(world.get("/weather").await.status, 404);
    working.open();
    assert_paid(&client.reply().await);
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s64_a_wrong_file_changes_nothing_and_is_noticed() {
    let mut world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    let undelivered = r#"tollhouse_delivery_failed_after_payment_total{route="GET /weather"}"#;
    let ok = r#"tollhouse_config_reload_total{result="ok"}"#;
    let failed = r#"tollhouse_config_reload_total{result="failed"}"#;
    for watched in [undelivered, ok, failed] {
        assert_eq!(world.metric(watched), Some(0), "an alert on its increase sees the first one");
    }
    let payment = world.payment("/weather").await;
    for routes in
        ["  GET /weather: 0.01\n", "  GET /weather: $0.01\n  GET /weather: free\n", "  GET /free: fre\n", "  - x\n"]
    {
        let report = world.reload(|file| file.routes = routes.into()).await.expect_err("the file is wrong");
        assert!(report.contains("error[TH"), "{report}");
        assert_invites(&world.get("/weather").await);
        assert_eq!(world.get("/free").await.status, 200);
    }
    assert_eq!(world.metric(failed), Some(4), "{}", world.gateway.metrics());
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s13_a_settlement_is_asked_about_where_it_was_asked_for_even_if_that_is_no_longer_in_the_file() {
    let mut world = World::selling(CENT).await;
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    let payment = world.payment("/weather").await;
    assert_pending(&world.pay("/weather", &payment).await);

    let other = ScriptedFacilitator::start().await;
    let text = File::selling(CENT).text(&other, &world.backend.url()).replace("name: scripted", "name: other");
    world.gateway.reload(&text).await.expect("the changed file is right");
    world.wait(Duration::from_secs(2));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
    assert_eq!(other.count("/settle"), 0, "nobody else is ever asked to settle this payment");
    assert!(world.facilitator.settled(nonce_of(&payment)).is_some());
    assert_eq!(world.facilitator.settlements(), 1);
}

#[tokio::test]
async fn a_payment_that_was_spent_stays_spent_whatever_the_file_says_now() {
    let mut world = World::selling(CENT).await;
    let payment = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &payment).await);
    world.until("delivered").await;
    for routes in [
        TWO,
        "GET /weather: {price: $0.01, settle: before_forward}",
        "GET /weather: {price: $0.01, replay: same_answer}",
    ] {
        world.reprice(routes).await;
        assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    }
    world.assert_counts(1, 1);
}
