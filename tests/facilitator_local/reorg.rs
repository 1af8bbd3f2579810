//! How deep a transfer has to lie before it counts, and what happens when its block is undone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Bytes, U256};
use serde_json::{Value, json};
use tollhouse::facilitator::chain::{Confirmations, Found, Sighting, Watch, Watched};
use tollhouse::facilitator::{Facilitator, Outcome, SettleError};
use tollhouse::payment::{Payment, TransactionHash};
use tollhouse::primitives::AtomicAmount;
use tollhouse::testing::anvil::USDC;

use super::world::{PRICE, World, code, now};

const SOON: Duration = Duration::from_secs(2);

/// The latest blocks are replaced by empty ones.
async fn undo(world: &World, blocks: u64) {
    world.anvil.rpc::<Value>("anvil_reorg", json!([blocks, []])).await;
}

async fn raw(world: &World, transaction: TransactionHash) -> Bytes {
    world.anvil.rpc("eth_getRawTransactionByHash", json!([transaction])).await
}

/// A watch that has seen the payment in its block.
async fn watching(world: &World, payment: &Payment, transaction: TransactionHash) -> Watch {
    let mut watch = Watch::new(world.chain.clone());
    watch.add(Watched { payment: Arc::new(payment.clone()), transaction });
    assert!(watch.look().await.expect("the chain answers").is_empty());
    watch
}

// ---- confirmations ------------------------------------------------------------------------------

#[tokio::test]
async fn s26_a_transfer_counts_when_it_lies_as_deep_as_was_asked_for() {
    let world = World::confirming(Confirmations { blocks: 3, ..Confirmations::default() }, SOON).await;
    let payment = world.payment(1).await;
    let Err(SettleError::Unknown { transaction: Some(hash), .. }) = world.settle(&payment).await else {
        panic!("one block was enough");
    };
    assert!(matches!(world.chain.transfer_in(hash, &payment).await, Ok(Found::Shallow { .. })));

    for transaction in [Some(hash), None] {
        assert!(matches!(world.outcome(&payment, transaction, now()).await, Outcome::Unknown { .. }));
    }
    world.mine().await;
    assert!(matches!(world.outcome(&payment, Some(hash), now()).await, Outcome::Unknown { .. }), "two blocks");
    world.mine().await;
    for transaction in [Some(hash), None] {
        assert!(matches!(world.outcome(&payment, transaction, now()).await, Outcome::Settled(_)));
    }
}

#[tokio::test]
async fn s26_a_large_sum_counts_once_its_block_is_safe() {
    let above = |units: u64| HashMap::from([(USDC, AtomicAmount::new(U256::from(units)))]);
    let small = World::confirming(Confirmations { safe_above: above(PRICE), ..Confirmations::default() }, SOON).await;
    small.settle(&small.payment(1).await).await.expect("the sum is small enough");

    let large =
        World::confirming(Confirmations { safe_above: above(PRICE - 1), ..Confirmations::default() }, SOON).await;
    let payment = large.payment(1).await;
    assert!(matches!(large.settle(&payment).await, Err(SettleError::Unknown { .. })));
    large.anvil.pass(10).await;
    assert!(matches!(large.outcome(&payment, None, now()).await, Outcome::Settled(_)));
}

// ---- blocks that are undone ---------------------------------------------------------------------

#[tokio::test]
async fn s26_a_payment_whose_block_vanished_is_missed_and_found_again() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let raw = raw(&world, hash).await;
    let mut watch = watching(&world, &payment, hash).await;

    undo(&world, 1).await;
    assert!(world.transfers().await.is_empty(), "the chain took the money back");
    let gone = watch.look().await.expect("the chain answers");
    assert!(matches!(&gone[..], [Sighting::Gone(watched)] if watched.transaction == hash), "{gone:?}");
    assert!(watch.look().await.expect("the chain answers").is_empty(), "told once");

    world.anvil.rpc::<Value>("eth_sendRawTransaction", json!([raw])).await;
    world.anvil.receipt(hash).await;
    let back = watch.look().await.expect("the chain answers");
    assert!(matches!(&back[..], [Sighting::Back(watched)] if watched.transaction == hash), "{back:?}");
}

#[tokio::test]
async fn s26_a_payment_that_moves_to_another_block_is_not_missed() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let raw = raw(&world, hash).await;
    let mut watch = watching(&world, &payment, hash).await;

    undo(&world, 1).await;
    world.anvil.rpc::<Value>("eth_sendRawTransaction", json!([raw])).await;
    world.anvil.receipt(hash).await;

    assert!(watch.look().await.expect("the chain answers").is_empty());
    assert_eq!(watch.len(), 1);
}

#[tokio::test]
async fn s26_a_payment_is_watched_until_its_block_is_final() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let mut watch = watching(&world, &payment, hash).await;
    assert_eq!(watch.len(), 1);

    world.anvil.pass(10).await;

    assert!(watch.look().await.expect("the chain answers").is_empty());
    assert!(watch.is_empty());
}

#[tokio::test]
async fn s26_a_payer_on_hold_is_not_settled_for() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.setup.holds.hold(payment.payer());
    assert_eq!(code(world.local.verify(&payment).await), "payer_held");
    assert!(matches!(world.local.prepare(&payment).await, Err(SettleError::Declined(_))));

    world.setup.holds.release(payment.payer());
    world.settle(&payment).await.expect("the payer is served again");
}
