//! What is closed sells nothing, gives nothing away, and still hands out what was paid for.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::gate::rails::{Pause, Pauses, Scope};
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::{Gateway, Latch, Wallet, facilitator};

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

fn capped(caps: &str) -> File {
    let mut file = File::selling(ROUTES);
    file.more = format!("caps: {{max_price: $1, {caps}}}");
    file.routes = "  GET /weather: $0.01\n".into();
    file
}

#[track_caller]
fn assert_capped(reply: &Reply) {
    assert_no_invitation(reply, 503);
    assert_eq!((reply.field("retry-after"), &reply.json()["advice"]), (Some("5"), &"try later".into()));
    assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("settled")), "{}", reply.text());
}

#[tokio::test]
async fn s13_who_has_too_much_in_doubt_waits_and_others_do_not() {
    let mut world = World::of(capped("unsettled_per_payer: $0.01")).await;
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    let lost = world.payment("/weather").await;
    assert_pending(&world.pay("/weather", &lost).await);
    world.gateway.gate().look_at_rails().await.expect("the ledger works");
    let more = world.payment("/weather?day=2").await;
    assert_capped(&world.pay("/weather?day=2", &more).await);
    assert_eq!(world.gateway.entries().await.len(), 1, "nothing more was reserved");
    assert_pending(&world.pay("/weather", &lost).await);
    world.assert_counts(1, 1);

    let (ann, bob) = (world.wallet, Wallet::random());
    world.wallet = bob;
    let of_bob = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &of_bob).await);
    world.wallet = ann;
    world.wait(Duration::from_secs(2));
    world.reconcile().await;
    assert_paid(&world.pay("/weather?day=2", &more).await);
    let refused = "tollhouse_refusals_total{route=\"GET /weather\",reason=\"unsettled_per_payer\"}";
    assert_eq!(world.metric(refused), Some(1));
}

#[tokio::test]
async fn no_more_is_let_through_at_once_than_may_be_unsettled() {
    let world = World::of(capped("unsettled_total: $0.03")).await;
    let working = Latch::closed();
    world.backend.always("/weather", Behaviour::text("rain").when(&working));
    let mut clients = Vec::new();
    for day in 1..=8 {
        let target = format!("/weather?day={day}");
        let request = Request::get(&target).paying(&world.payment(&target).await);
        clients.push((world.gateway.connect().await, request));
    }
    for (client, request) in &mut clients {
        client.send(request).await;
    }
    eventually("five are turned back", || refused(&world) == 5).await;
    assert_capped(&world.get("/weather").await);
    assert_eq!(world.backend.hits(), 3, "whoever is let through is served");
    working.open();
    let mut paid = 0;
    for (client, _) in &mut clients {
        let reply = client.reply().await;
        if reply.status == 200 { paid += 1 } else { assert_capped(&reply) }
    }
    assert_eq!(paid, 3);
    world.assert_counts(3, 3);
    assert_invites(&world.get("/weather").await);
}

fn refused(world: &World) -> u64 {
    let line = "tollhouse_refusals_total{route=\"GET /weather\",reason=\"unsettled_total\"}";
    world.metric(line).unwrap_or_default()
}

#[tokio::test]
async fn payments_that_nobody_could_settle_do_not_use_up_a_cap() {
    let world = World::of(capped("unsettled_total: $0.03")).await;
    world.facilitator.on_verify((0..20).map(|_| facilitator::Behaviour::Decline("insufficient_funds")));
    for day in 0..20 {
        let target = format!("/weather?day={day}");
        let payment = world.payment(&target).await;
        assert_invites(&world.pay(&target, &payment).await);
        world.wait(EMPTY);
    }
    assert_eq!(world.facilitator.count("/verify"), 20);
    assert_invites(&world.get("/weather").await);
}

#[tokio::test]
async fn a_cap_that_is_lowered_counts_from_the_reload_on() {
    let mut world = World::of(capped("unsettled_total: $1")).await;
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    let lost = world.payment("/weather").await;
    assert_pending(&world.pay("/weather", &lost).await);
    world.gateway.gate().look_at_rails().await.expect("the ledger works");
    assert_invites(&world.get("/weather").await);
    world.reload(|file| file.more = "caps: {unsettled_total: $0.015}".into()).await.expect("the file is right");
    assert_capped(&world.get("/weather").await);
}

/// How long nobody is asked about an empty account (S32).
const EMPTY: Duration = Duration::from_secs(5);

/// The world begins at midnight, UTC.
const DAY: Duration = Duration::from_secs(86_400);

#[track_caller]
fn assert_overspent(reply: &Reply, left: &str) {
    assert_no_invitation(reply, 503);
    assert_eq!((reply.field("retry-after"), &reply.json()["advice"]), (Some(left), &"try later".into()));
    assert!(reply.json()["detail"].as_str().is_some_and(|detail| detail.contains("today")), "{}", reply.text());
    assert_eq!(reply.settlement(), None, "no money has moved");
}

#[tokio::test]
async fn who_has_spent_enough_today_waits_for_midnight_and_others_do_not() {
    let mut world = World::of(capped("per_payer_per_day: $0.03")).await;
    for day in 1..=3 {
        let target = format!("/weather?day={day}");
        assert_paid(&world.pay(&target, &world.payment(&target).await).await);
    }
    let asked = world.facilitator.count("/verify");
    let one_more = world.payment("/weather?day=4").await;
    assert_overspent(&world.pay("/weather?day=4", &one_more).await, "86400");
    assert_eq!(world.gateway.entries().await.len(), 3, "nothing more was reserved");
    assert_eq!(world.facilitator.count("/verify"), asked, "nobody was asked");
    let refused = "tollhouse_refusals_total{route=\"GET /weather\",reason=\"per_payer_per_day\"}";
    assert_eq!(world.metric(refused), Some(1));

    let (ann, bob) = (world.wallet, Wallet::random());
    world.wallet = bob;
    let of_bob = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &of_bob).await);
    world.wallet = ann;
    world.wait(DAY);
    let tomorrow = world.payment("/weather?day=4").await;
    assert_paid(&world.pay("/weather?day=4", &tomorrow).await);
    world.assert_counts(5, 5);
}

#[tokio::test]
async fn what_comes_at_once_spends_no_more_than_a_day_allows() {
    for settle in ["on_response", "before_forward"] {
        let mut file = capped("per_payer_per_day: $0.05");
        file.routes = format!("  GET /weather: {{price: $0.01, settle: {settle}}}\n");
        let world = World::of(file).await;
        let mut clients = Vec::new();
        for day in 0..64 {
            let target = format!("/weather?day={day}");
            let request = Request::get(&target).paying(&world.payment(&target).await);
            clients.push((world.gateway.connect().await, request));
        }
        for (client, request) in &mut clients {
            client.send(request).await;
        }
        let mut paid = 0;
        for (client, _) in &mut clients {
            let reply = client.reply().await;
            if reply.status == 200 { paid += 1 } else { assert_overspent(&reply, "86400") }
        }
        assert_eq!(paid, 5, "{settle}");
        world.assert_counts(5, 5);
    }
}

#[tokio::test]
async fn i4_who_was_not_charged_has_spent_nothing_and_who_was_gets_the_answer() {
    let world = World::of(capped("per_payer_per_day: $0.01")).await;
    world.backend.on("/weather", [Behaviour::status(500)]);
    let payment = world.payment("/weather").await;
    assert_eq!(world.pay("/weather", &payment).await.status, 500);
    world.facilitator.on_verify([facilitator::Behaviour::Decline("insufficient_funds")]);
    assert_invites(&world.pay("/weather", &payment).await);
    world.wait(EMPTY);
    world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
    assert_pending(&world.pay("/weather", &payment).await);
    assert_overspent(&world.pay("/weather?day=2", &world.payment("/weather?day=2").await).await, "86395");
    world.wait(Duration::from_secs(2));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn a_day_that_has_begun_goes_on_in_the_next_process() {
    let folder = tempfile::tempdir().expect("a folder for the test");
    let mut file = capped("per_payer_per_day: $0.01");
    file.ledger = format!("sqlite:{}", folder.path().join("ledger.db").display());
    let world = World::of(file.clone()).await;
    assert_paid(&world.pay("/weather", &world.payment("/weather").await).await);
    let (text, payment) = (file.text(&world.facilitator, &world.backend.url()), world.payment("/weather?day=2").await);
    assert!(world.gateway.stop().await, "it ends in time");
    let again = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    assert_overspent(&again.ask(&Request::get("/weather?day=2").paying(&payment)).await, "86400");
}
