//! Who is charged when something breaks.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::facilitator::VerifyError;
use tollhouse::payment::{Authorization, Dialect};
use tollhouse::primitives::{Address, Clock};
use tollhouse::protocol::x402::PAYMENT_REQUIRED;
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::{Gateway, Latch, Wallet, facilitator};

use crate::world::{
    File, World, assert_invites, assert_no_invitation, assert_paid, assert_pending, decoded, eventually, nonce_of,
};

pub const WEATHER: &str = "GET /weather: $0.01";
pub const UPFRONT: &str = "GET /weather: {price: $0.01, settle: before_forward}";

/// Nothing moved and nothing can be done about it right now: no offers, but when to come back.
#[track_caller]
fn assert_unavailable(reply: &Reply) {
    assert_no_invitation(reply, 503);
    assert!(reply.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    assert_eq!(reply.json()["advice"], "try later");
    assert_eq!(reply.settlement(), None, "there is nothing to say about money");
}

#[tokio::test]
async fn s13_money_that_moved_unheard_is_found_and_opens_the_answer_it_paid_for() {
    for (route, hits) in [(WEATHER, 1), (UPFRONT, 0)] {
        let world = World::selling(route).await;
        world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
        let payment = world.payment("/weather").await;
        let lost = world.pay("/weather", &payment).await;
        assert_pending(&lost);
        assert_eq!(lost.settlement().and_then(|settlement| settlement.transaction), None, "nobody knows it yet");
        // However often it asks: wait, and never a fresh challenge.
        assert_pending(&world.pay("/weather", &payment).await);
        world.assert_counts(1, hits);

        world.wait(Duration::from_secs(2));
        world.reconcile().await;
        world.until("undelivered").await;
        let moved = world.facilitator.settled(nonce_of(&payment)).expect("the money moved").to_string();
        assert_eq!(assert_paid(&world.pay("/weather", &payment).await), moved);
        world.assert_counts(1, hits + 1);
        world.until("delivered").await;
    }
}

#[tokio::test]
async fn s13_s75_money_of_a_v1_client_that_moved_unheard_buys_it_the_answer_when_it_signs_again() {
    for route in [WEATHER, UPFRONT] {
        let world = World::selling(route).await;
        world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
        let payment = world.payment_for(&Request::get("/weather"), Dialect::V1).await;
        let lost = world.pay("/weather", &payment).await;
        assert_pending(&lost);
        assert!(lost.field("x-payment-response").is_some(), "it hears so in the dialect it spoke");
        world.wait(Duration::from_secs(2));
        world.reconcile().await;
        world.until("undelivered").await;
        let hits = world.backend.hits();
        // No quote tells this client from whoever reads the chain; a fresh signature does.
        assert_no_invitation(&world.pay("/weather", &payment).await, 409);
        world.assert_counts(1, hits);
        let fresh = world.payment_for(&Request::get("/weather"), Dialect::V1).await;
        let moved = world.facilitator.settled(nonce_of(&payment)).expect("the money moved").to_string();
        assert_eq!(assert_paid(&world.pay("/weather", &fresh).await), moved);
        world.assert_counts(1, hits + 1);
    }
}

#[tokio::test]
async fn i4_a_buyer_who_signs_again_is_not_charged_while_the_first_payment_is_open() {
    for route in [WEATHER, UPFRONT] {
        for dialect in [Dialect::V2, Dialect::V1] {
            let world = World::selling(route).await;
            world.facilitator.on_settle([facilitator::Behaviour::HonestThenReset]);
            let lost = world.payment_for(&Request::get("/weather"), dialect).await;
            assert_pending(&world.pay("/weather", &lost).await);
            let hits = world.backend.hits();

            // What a stock client does: it asks without a payment, is offered the price, and signs anew.
            let fresh = world.payment_for(&Request::get("/weather"), dialect).await;
            assert_pending(&world.pay("/weather", &fresh).await);
            world.assert_counts(1, hits);
            world.wait(Duration::from_secs(2));
            world.reconcile().await;
            world.until("undelivered").await;
            let moved = world.facilitator.settled(nonce_of(&lost)).expect("the money moved").to_string();
            assert_eq!(assert_paid(&world.pay("/weather", &fresh).await), moved, "served from the first payment");
            world.until("delivered").await;
            world.assert_counts(1, hits + 1);
            assert_eq!(world.facilitator.settled(nonce_of(&fresh)), None, "the fresh one stays unused");

            // It is as good as ever for another purchase.
            let bought = assert_paid(&world.pay("/weather", &fresh).await);
            assert_ne!(bought, moved);
            world.assert_counts(2, hits + 2);
        }
    }
}

#[tokio::test]
async fn s13_a_nonce_that_is_said_to_be_used_is_no_invitation_to_pay_again() {
    let world = World::selling(WEATHER).await;
    world.facilitator.on_verify([facilitator::Behaviour::Decline("invalid_exact_evm_nonce_already_used")]);
    let payment = world.payment("/weather").await;
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.assert_counts(0, 0);
}

#[tokio::test]
async fn s13_no_answer_of_a_settlement_is_a_decline_unless_it_proves_that_nothing_moved() {
    let answers = [
        facilitator::Behaviour::Hang,
        facilitator::Behaviour::ResetAfterReading,
        facilitator::Behaviour::Truncated,
        facilitator::Behaviour::Huge,
        facilitator::Behaviour::Status(502, "text/html", "<html>bad gateway</html>".into()),
        facilitator::Behaviour::Status(500, "application/json", "{}".into()),
        facilitator::Behaviour::Redirect("http://127.0.0.1:1/".into()),
        facilitator::Behaviour::Decline("invalid_exact_evm_nonce_already_used"),
        facilitator::Behaviour::Decline("duplicate_settlement"),
        facilitator::Behaviour::Decline("transaction_failed"),
        facilitator::Behaviour::Decline("a_code_nobody_knows"),
    ];
    for answer in answers {
        let hangs = matches!(answer, facilitator::Behaviour::Hang);
        let settle_timeout = if hangs { "1s" } else { "5s" }.into();
        let file = File { settle_timeout, ..File::selling(WEATHER) };
        let world = World::of(file).await;
        world.facilitator.on_settle([answer.clone()]);
        let payment = world.payment("/weather").await;
        let reply = world.pay("/weather", &payment).await;
        assert_pending(&reply);
        world.until("settling").await;
        // Reconciliation asks the same facilitator about the same payment, which then settles it.
        world.wait(Duration::from_secs(2));
        world.reconcile().await;
        world.until("undelivered").await;
        assert_paid(&world.pay("/weather", &payment).await);
        world.assert_counts(1, 2);
        let nonce = world.facilitator.settled(nonce_of(&payment));
        assert!(nonce.is_some(), "{answer:?}");
    }
}

#[tokio::test]
async fn s13_an_unknown_settlement_of_the_sandbox_is_told_in_the_end() {
    let mut world = World::of(File { pay_to: "sandbox".into(), ..File::selling(WEATHER) }).await;
    let unknown = tollhouse::facilitator::sandbox::MAGIC_PAYERS[2];
    assert_eq!(unknown.name, "unknown");
    world.wallet = Wallet::from_key(unknown.key);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_pending(&reply);
    let told = reply.settlement().and_then(|settlement| settlement.transaction);
    assert!(told.is_some(), "its transaction is known beforehand, and told");
    world.wait(Duration::from_secs(11));
    world.reconcile().await;
    world.until("undelivered").await;
    assert_eq!(Some(assert_paid(&world.pay("/weather", &payment).await)), told.map(|hash| hash.to_string()));
}

#[tokio::test]
async fn s24_nobody_is_charged_for_an_answer_that_is_not_one() {
    let unreachable = "GET /weather: {price: $0.01, upstream: \"http://127.0.0.1:1\"}";
    let cases = [
        (WEATHER, Behaviour::status(500), 500, 1),
        (WEATHER, Behaviour::status(404), 404, 1),
        (WEATHER, Behaviour::answer(200, &[("grpc-status", "5")], ""), 200, 1),
        (WEATHER, Behaviour::reset(), 502, 1),
        (WEATHER, Behaviour::steps([]), 504, 1),
        (WEATHER, Behaviour::hang(), 504, 1),
        (unreachable, Behaviour::text("never"), 502, 0),
    ];
    for (route, behaviour, status, hits) in cases {
        // Only who is waited for in vain need not be waited for long.
        let patience = if status == 504 { "300ms" } else { "10s" };
        let timeouts = format!("{{connect: 1s, idle: {patience}}}");
        let more = format!("defaults: {{limits: {{timeout: {patience}}}}}");
        let world = World::of(File { timeouts, more, ..File::selling(route) }).await;
        world.backend.on("/weather", [behaviour.clone()]);
        let payment = world.payment("/weather").await;
        let reply = world.pay("/weather", &payment).await;
        assert_eq!((reply.status, reply.settlement()), (status, None), "{behaviour:?}");
        assert_eq!(world.until("released").await.releases, u32::from(hits > 0), "{behaviour:?}");
        world.assert_counts(0, hits);
        assert_eq!(world.facilitator.count("/settle"), 0);
    }
}

#[tokio::test]
async fn s77_an_answer_that_comes_too_late_is_504_and_not_charged() {
    let more = "defaults: {limits: {timeout: 100ms}}".into();
    let world = World::of(File { more, ..File::selling(WEATHER) }).await;
    let late = Latch::closed();
    world.backend.on("/weather", [Behaviour::text("late").when(&late)]);
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    late.open();
    let reply = client.reply().await;
    assert_no_invitation(&reply, 504);
    world.until("released").await;
    world.assert_counts(0, 1);
}

#[tokio::test]
async fn s77_before_forward_is_not_charged_for_a_backend_without_an_address() {
    let nowhere = "GET /weather: {price: $0.01, settle: before_forward, upstream: \"http://no-such-host.invalid\"}";
    let mut world = World::selling(UPFRONT).await;
    let payment = world.payment("/weather").await;
    world.reprice(nowhere).await;
    assert_unavailable(&world.pay("/weather", &payment).await);
    assert_unavailable(&world.get("/weather").await);
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "the payment is still good");
}

#[tokio::test]
async fn s77_s25_what_was_paid_for_a_backend_out_of_reach_is_collected_when_it_is_back_a_post_too() {
    let route =
        |upstream: &str| format!("POST /reports: {{price: $0.01, settle: before_forward, upstream: \"{upstream}\"}}");
    let mut world = World::selling(&route("http://127.0.0.1:1")).await;
    let request = Request::post("/reports", "a report");
    let payment = world.payment_for(&request, Dialect::V2).await;
    let failed = world.ask(&request.clone().paying(&payment)).await;
    assert_no_invitation(&failed, 502);
    let settlement = failed.settlement().expect("the money moved, and the client hears so");
    assert!(settlement.success);
    world.until("undelivered").await;
    let back = world.backend.url();
    world.reprice(&route(&back)).await;
    let reply = world.ask(&request.paying(&payment)).await;
    assert_eq!(assert_paid(&reply), settlement.transaction.expect("a transaction").to_string());
    world.assert_counts(1, 1);
}

#[tokio::test]
async fn s24_what_a_route_never_repeats_is_owed_at_once() {
    let route =
        "GET /weather: {price: $0.01, settle: before_forward, replay: refuse, upstream: \"http://127.0.0.1:1\"}";
    let world = World::selling(route).await;
    let request = Request::get("/weather");
    let payment = world.payment_for(&request, Dialect::V2).await;
    assert_no_invitation(&world.ask(&request.clone().paying(&payment)).await, 502);
    world.until("refund_due").await;
    assert_no_invitation(&world.ask(&request.paying(&payment)).await, 409);
}

#[tokio::test]
async fn a_backend_that_cannot_be_connected_to_is_passed_over_and_nobody_is_charged_twice() {
    let world = World::selling(WEATHER).await;
    let alive = world.backend.url();
    let text = File::selling(WEATHER).text(&world.facilitator, &format!("http://127.0.0.1:1\", \"{alive}"));
    let gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
    for count in 1..=4 {
        let challenge = gateway.ask(&Request::get("/weather")).await;
        let now = tollhouse::primitives::Clock::now(&world.clock);
        let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
        assert_paid(&gateway.ask(&Request::get("/weather").paying(&payment)).await);
        world.assert_counts(count, count);
    }
}

#[tokio::test]
async fn s65_without_a_facilitator_nothing_priced_is_free_and_everything_free_is() {
    for route in [WEATHER, UPFRONT] {
        let world = World::selling(&format!("{route}\nGET /free: free")).await;
        // Both ways to be down: nobody listens there, or whoever does hangs up.
        let text = File::selling(&format!("{route}\nGET /free: free")).text(&world.facilitator, &world.backend.url());
        let text = text.replace(world.facilitator.url().as_str(), "http://127.0.0.1:1/");
        let gateway = Gateway::start(&text, Arc::new(world.clock.clone())).await;
        let challenge = gateway.ask(&Request::get("/weather")).await;
        let now = tollhouse::primitives::Clock::now(&world.clock);
        let payment = world.wallet.pay(&challenge.fields, &challenge.body, now).expect("an offer");
        assert_unavailable(&gateway.ask(&Request::get("/weather").paying(&payment)).await);
        world.assert_counts(0, 0);
        let entries = gateway.entries().await;
        assert_eq!(entries.iter().map(|entry| entry.state.name()).collect::<Vec<_>>(), ["released"]);
        assert_eq!(gateway.ask(&Request::get("/free")).await.status, 200);
        world.assert_counts(0, 1);
    }
}

#[tokio::test]
async fn s65_a_facilitator_that_fails_to_verify_costs_the_payer_nothing() {
    // Where the connection itself fails it is asked once more: verifying moves nothing.
    let failures = [
        (facilitator::Behaviour::Status(500, "text/plain", "oops".into()), 1),
        (facilitator::Behaviour::Answer(serde_json::json!({ "isValid": "yes" })), 1),
        (facilitator::Behaviour::Truncated, 2),
        (facilitator::Behaviour::ResetBeforeReading, 2),
    ];
    for (failure, asked) in failures {
        let world = World::selling(WEATHER).await;
        world.facilitator.on_verify(std::iter::repeat_n(failure, asked));
        let payment = world.payment("/weather").await;
        assert_unavailable(&world.pay("/weather", &payment).await);
        assert_eq!(world.facilitator.count("/verify"), asked);
        assert_eq!(world.until("released").await.releases, 0, "the backend did nothing");
        world.assert_counts(0, 0);
        assert_paid(&world.pay("/weather", &payment).await);
        world.assert_counts(1, 1);
    }
}

/// A ledger that refuses writes for as long as this trigger stands.
pub struct Refusing(rusqlite::Connection);

impl Refusing {
    pub fn at(path: &std::path::Path, writes: &str) -> Self {
        let db = rusqlite::Connection::open(path).expect("the ledger's file");
        let trigger = format!("CREATE TRIGGER refuse BEFORE {writes} BEGIN SELECT RAISE(ABORT, 'disk full'); END");
        db.execute_batch(&trigger).expect("a trigger");
        Self(db)
    }

    pub fn relent(self) {
        self.0.execute_batch("DROP TRIGGER refuse").expect("the trigger is there");
    }
}

#[tokio::test]
async fn s65_s66_without_a_ledger_nothing_is_asked_of_anyone() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let routes = "GET /weather: $0.01\nGET /free: free";
    let ledger = format!("sqlite:{}", path.display());
    let world = World::of(File { ledger, ..File::selling(routes) }).await;
    let payment = world.payment("/weather").await;
    let refusing = Refusing::at(&path, "INSERT ON entries");
    assert_unavailable(&world.pay("/weather", &payment).await);
    world.assert_untouched();
    assert_eq!(world.get("/free").await.status, 200);
    refusing.relent();
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s66_a_settlement_that_cannot_be_written_down_is_not_asked_for() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let ledger = format!("sqlite:{}", path.display());
    let world = World::of(File { ledger, ..File::selling(WEATHER) }).await;
    let payment = world.payment("/weather").await;
    let refusing = Refusing::at(&path, "UPDATE ON entries WHEN NEW.state = 'settling'");
    let reply = world.pay("/weather", &payment).await;
    assert_unavailable(&reply);
    world.assert_counts(0, 1);
    assert_eq!(world.facilitator.count("/settle"), 0);
    refusing.relent();
    world.until("released").await;
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s11_money_that_moved_and_could_not_be_written_down_opens_nothing_until_it_is() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("ledger.db");
    let ledger = format!("sqlite:{}", path.display());
    let world = World::of(File { ledger, ..File::selling(WEATHER) }).await;
    let payment = world.payment("/weather").await;
    let refusing = Refusing::at(&path, "UPDATE ON entries WHEN NEW.transaction_hash IS NOT NULL");
    let reply = world.pay("/weather", &payment).await;
    assert_pending(&reply);
    assert!(reply.settlement().is_some_and(|settlement| settlement.transaction.is_some()));
    world.assert_counts(1, 1);
    refusing.relent();
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s32_an_empty_account_is_refused_for_a_moment_without_a_question_or_a_line_in_the_ledger() {
    for route in [WEATHER, UPFRONT] {
        let world = World::selling(route).await;
        let empty = [facilitator::Behaviour::Decline("insufficient_funds")];
        match route == UPFRONT {
            true => world.facilitator.on_settle(empty),
            false => world.facilitator.on_verify(empty),
        };
        let first = world.payment("/weather").await;
        assert_eq!(world.pay("/weather", &first).await.status, 402);
        let asked = world.facilitator.calls().len();
        for _ in 0..3 {
            let reply = world.pay("/weather", &world.payment("/weather").await).await;
            assert_invites(&reply);
            assert_eq!(decoded(&reply.fields[PAYMENT_REQUIRED])["error"], "insufficient_funds");
        }
        assert_eq!((world.facilitator.calls().len(), world.gateway.entries().await.len()), (asked, 1));
        world.wait(Duration::from_secs(5));
        assert_paid(&world.pay("/weather", &world.payment("/weather").await).await);
    }
}

#[tokio::test]
async fn s32_what_is_too_much_of_strangers_is_503_before_anything_is_reserved() {
    for route in [WEATHER, UPFRONT] {
        let world = World::selling(route).await;
        let known = world.payment("/weather").await;
        assert_paid(&world.pay("/weather", &known).await);
        world.until("delivered").await;
        let (payment, somebody) = (world.payment("/weather").await, Wallet::random());
        use_up_the_ration(&world).await;
        let (calls, entries) = (world.facilitator.calls().len(), world.gateway.entries().await.len());

        let challenge = world.get("/weather").await;
        let stranger =
            somebody.pay(&challenge.fields, &challenge.body, world.clock.now()).expect("the offer can be paid");
        let counted = r#"tollhouse_facilitator_calls_total{facilitator="scripted",call="verify",outcome="shed"}"#;
        let timed = r#"tollhouse_facilitator_call_seconds_count{facilitator="scripted",call="verify"}"#;
        let (shed, answered) = (world.metric(counted).unwrap_or_default(), world.metric(timed));
        assert_unavailable(&world.pay("/weather", &stranger).await);
        assert_eq!((world.facilitator.calls().len(), world.gateway.entries().await.len()), (calls, entries));
        assert_eq!((world.metric(counted), world.metric(timed)), (Some(shed + 1), answered), "nobody was asked");

        assert_eq!(world.pay("/weather", &known).await.status, 409, "what was bought is not asked about");
        assert_paid(&world.pay("/weather", &payment).await);
        world.wait(Duration::from_secs(1));
        assert_paid(&world.pay("/weather", &stranger).await);
    }
}

/// Has the facilitator asked about as many strangers as it is asked about in one moment.
async fn use_up_the_ration(world: &World) {
    let gate = world.gateway.gate();
    let mut payment = world.gateway.entries().await[0].sale.payment.clone();
    for number in 1_u64.. {
        let Authorization::Eip3009(signed) = &mut payment.authorization else { unreachable!("it is EIP-3009") };
        signed.from = Address::left_padding_from(&number.to_be_bytes());
        let facilitator = gate.pool.candidates(&payment.offer, payment.dialect).remove(0);
        if let Err(VerifyError::Unavailable(_)) = facilitator.verify(&payment).await {
            assert_eq!(number, 1_000, "one of a thousand was the first buyer");
            return;
        }
    }
}
