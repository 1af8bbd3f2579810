//! Payments through Permit2, as clients of a gateway with a remote facilitator meet them.

use tollhouse::payment::Dialect;
use tollhouse::protocol::x402::PAYMENT_REQUIRED;
use tollhouse::testing::client::Request;
use tollhouse::testing::facilitator::Behaviour;

use crate::world::*;

/// A cent, on a network whose only token is paid through Permit2.
async fn radius() -> World {
    World::of(File { pay_to: format!("{{radius-testnet: \"{PAYEE}\"}}"), ..File::selling("GET /weather: $0.01") }).await
}

#[tokio::test]
async fn s1_a_payment_through_permit2_buys_one_answer() {
    let world = radius().await;
    let payment = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &payment).await);
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.assert_counts(1, 1);

    let asked = world.facilitator.calls();
    let settle = asked.iter().find(|call| call.path == "/settle").expect("it was settled");
    assert_eq!(settle.body["paymentRequirements"]["extra"]["assetTransferMethod"], "permit2");
    assert!(settle.body["paymentPayload"]["payload"]["permit2Authorization"]["nonce"].is_string());
    let kept = world.gateway.entries().await.pop().expect("the ledger remembers it");
    assert!(kept.sale.payment.authorization.permit2().is_some());
}

#[tokio::test]
async fn v1_clients_are_not_offered_what_they_cannot_sign() {
    let world = radius().await;
    let reply = world.get("/weather").await;
    assert_eq!(reply.status, 402);
    let offer = &decoded(&reply.fields[PAYMENT_REQUIRED])["accepts"][0];
    assert_eq!(offer["extra"]["assetTransferMethod"], "permit2");
    assert_eq!(reply.json()["accepts"], serde_json::json!([]));
}

#[tokio::test]
async fn whoever_has_not_approved_permit2_hears_412_and_pays_with_the_same_signature_later() {
    let world = radius().await;
    world.facilitator.on_verify([Behaviour::Decline("permit2_allowance_required")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_eq!(reply.status, 412);
    let challenge = decoded(&reply.fields[PAYMENT_REQUIRED]);
    assert_eq!(challenge["error"], "permit2_allowance_required");
    assert_eq!(challenge["accepts"].as_array().map(Vec::len), Some(1), "paying is the remedy, after approving");
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    world.assert_counts(0, 0);
    world.until("released").await;
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s13_a_missing_allowance_at_settlement_proves_that_nothing_moved() {
    let world = radius().await;
    world.facilitator.on_settle([Behaviour::Decline("permit2_allowance_required")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_eq!(reply.status, 412);
    let settlement = reply.settlement().expect("the client hears how settling ended");
    assert!(!settlement.success && settlement.error_reason.as_deref() == Some("permit2_allowance_required"));
}

#[tokio::test]
async fn s13_a_nonce_of_permit2_that_is_said_to_be_used_is_no_invitation() {
    let world = radius().await;
    world.facilitator.on_verify([Behaviour::Decline("permit2_invalid_nonce")]);
    let payment = world.payment("/weather").await;
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.facilitator.on_settle([Behaviour::Decline("permit2_invalid_nonce")]);
    let another = world.payment_for(&Request::get("/weather"), Dialect::V2).await;
    assert_no_invitation(&world.pay("/weather", &another).await, 503);
}
