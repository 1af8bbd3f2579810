//! A payment that the chain took back after its answer had left (S26): its payer waits, wherever it would settle.

use crate::world::{World, assert_invites, assert_no_invitation, assert_paid};

#[tokio::test]
async fn s26_a_payer_whose_payment_was_undone_is_refused_before_anything_is_reserved() {
    let world = World::selling("GET /weather: $0.01\nGET /health: free").await;
    assert_paid(&world.pay("/weather", &world.payment("/weather").await).await);
    let paid = world.until("delivered").await;
    let (key, transaction) = (paid.sale.payment.key(), paid.transaction().expect("it has settled"));
    let calls = || world.facilitator.count("/verify") + world.facilitator.count("/settle");
    let asked = calls();

    let gate = world.gateway.gate();
    gate.undo(key, transaction).await.expect("the ledger works");
    let next = world.payment("/weather").await;
    let refused = world.pay("/weather", &next).await;
    assert_no_invitation(&refused, 503);
    assert_eq!(refused.field("retry-after"), Some("30"));
    assert_eq!((world.entry().await.state.name(), calls()), ("undone", asked), "nothing reserved, nobody asked");
    world.assert_counts(1, 1);
    assert_eq!(world.metric("tollhouse_refusals_total{route=\"GET /weather\",reason=\"payer_held\"}"), Some(1));
    assert_eq!(world.metric("tollhouse_payments_total{route=\"GET /weather\",state=\"undone\"}"), Some(1));
    assert_invites(&world.get("/weather").await);
    assert_eq!(world.get("/health").await.status, 200);

    gate.found_again(key, transaction, 7).await.expect("the ledger works");
    assert_eq!(world.entry().await.state.name(), "delivered");
    assert_paid(&world.pay("/weather", &next).await);
    // One of the three is free.
    world.assert_counts(2, 3);
}
