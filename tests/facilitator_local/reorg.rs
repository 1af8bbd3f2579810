//! How deep a transfer has to lie before it counts, and what happens when its block is undone.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Bytes, U256};
use serde_json::{Value, json};
use tollhouse::facilitator::chain::{Confirmations, Found, Sighting, Watch, Watched};
use tollhouse::facilitator::{Facilitator, Outcome, Pool, SettleError};
use tollhouse::gate::{Event, Gate, Observer, Parts};
use tollhouse::ledger::{Claim, Ledger, Limits, Memory, Sale};
use tollhouse::payment::{Payment, QuoteKey, Receipt, Replay, TransactionHash};
use tollhouse::primitives::{AtomicAmount, Clock};
use tollhouse::protocol::x402::X402;
use tollhouse::scheme::exact::Exact;
use tollhouse::tariff::{Board, Tariff};
use tollhouse::testing::anvil::USDC;
use tollhouse::testing::sales;

use super::world::{PRICE, World, now};

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
    assert!(matches!(&back[..], [Sighting::Back(watched, _)] if watched.transaction == hash), "{back:?}");
}

#[tokio::test]
async fn s26_what_vanished_is_back_once_it_lies_as_deep_again_as_was_asked_for() {
    let world = World::confirming(Confirmations { blocks: 2, ..Confirmations::default() }, SOON).await;
    let payment = world.payment(1).await;
    let Err(SettleError::Unknown { transaction: Some(hash), .. }) = world.settle(&payment).await else {
        panic!("one block was enough");
    };
    world.mine().await;
    let raw = raw(&world, hash).await;
    let mut watch = watching(&world, &payment, hash).await;
    undo(&world, 2).await;
    let gone = watch.look().await.expect("the chain answers");
    assert!(matches!(&gone[..], [Sighting::Gone(_)]), "{gone:?}");

    world.anvil.rpc::<Value>("eth_sendRawTransaction", json!([raw])).await;
    world.anvil.receipt(hash).await;
    let shallow = watch.look().await.expect("the chain answers");
    assert!(shallow.is_empty(), "one block would not have sold it: {shallow:?}");
    world.mine().await;
    let back = watch.look().await.expect("the chain answers");
    assert!(matches!(&back[..], [Sighting::Back(watched, _)] if watched.transaction == hash), "{back:?}");
}

#[tokio::test]
async fn s27_a_node_that_is_behind_makes_no_reorganisation() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let mut watch = watching(&world, &payment, hash).await;

    // As far as anybody can tell, this is the view of a node that has not seen the latest block yet.
    world.anvil.rpc::<Value>("anvil_rollback", json!([1])).await;
    for _ in 0..3 {
        let sightings = watch.look().await.expect("the chain answers");
        assert!(sightings.is_empty(), "{sightings:?}");
    }
    world.anvil.rpc::<Value>("anvil_mine", json!(["0x1"])).await;
    let gone = watch.look().await.expect("the chain answers");
    assert!(matches!(&gone[..], [Sighting::Gone(watched)] if watched.transaction == hash), "{gone:?}");
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

// ---- sent again ---------------------------------------------------------------------------------

struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _: &Event) {}
}

/// A gateway that settles through the world's facilitator, and has settled this payment.
async fn gateway(world: &World, payment: &Payment) -> (Arc<Gate>, Receipt) {
    let clock: Arc<dyn Clock> = Arc::new(world.clock.clone());
    let ledger = Ledger::new(Arc::new(Memory::new()), Arc::clone(&clock), Limits::default());
    let gate = Gate::new(Parts {
        protocol: Arc::new(X402),
        scheme: Arc::new(Exact),
        ledger: Arc::clone(&ledger),
        pool: Arc::new(Pool::new(vec![world.local.clone()])),
        board: Arc::new(Board::new(Arc::new(Tariff::new(Vec::new()).expect("nothing collides")))),
        quotes: QuoteKey::new(&[7; 32]),
        clock,
        observer: Arc::new(Nobody),
    });
    let sale = Arc::new(Sale { payment: payment.clone(), ..sales::sale(1) });
    let Ok(Claim::Granted(lease)) = ledger.claim(sale, SOON, Replay::Redeliver).await else { panic!("it is new") };
    let begun = lease.begin(world.local.name(), None, world.clock.now()).await.expect("the lease is fresh");
    let receipt = world.settle(payment).await.expect("it settles");
    begun.settled(receipt.clone(), &[], false).await.expect("it is filed");
    (gate, receipt)
}

async fn state(gate: &Gate, payment: &Payment) -> (&'static str, Option<TransactionHash>) {
    let found = gate.ledger.store().load(payment.key()).await.expect("memory does not fail");
    let entry = found.expect("it is remembered").entry;
    (entry.state.name(), entry.transaction())
}

/// Reconciliation looks as often as it does in this time, while the gas key is looked after.
async fn pass(world: &World, gate: &Arc<Gate>, seconds: u64) {
    for _ in 0..seconds {
        world.clock.advance(Duration::from_secs(1));
        gate.reconcile_once().await.expect("memory does not fail");
        world.local.tend().await.expect("the chain answers");
    }
}

#[tokio::test]
async fn s26_what_the_chain_undid_our_own_key_sends_again_and_it_settles_once() {
    let world = World::with(|setup| setup.settle_timeout = SOON).await;
    let payment = world.payment(1).await;
    let (gate, first) = gateway(&world, &payment).await;
    world.local.tend().await.expect("it has landed");
    let mut watch = watching(&world, &payment, first.transaction).await;
    undo(&world, 1).await;
    let gone = watch.look().await.expect("the chain answers");
    assert!(matches!(&gone[..], [Sighting::Gone(_)]), "{gone:?}");
    gate.undo(payment.key(), first.transaction).await.expect("memory does not fail");
    assert_eq!(state(&gate, &payment).await.0, "undone");

    pass(&world, &gate, 40).await;

    let (state, transaction) = state(&gate, &payment).await;
    assert_eq!(state, "undelivered", "it has settled, and its answer waits as before");
    let transfers = world.transfers().await;
    assert_eq!(transfers.iter().map(|(hash, _)| Some(*hash)).collect::<Vec<_>>(), [transaction], "once");
    assert_ne!(transaction, Some(first.transaction), "another nonce of the key makes another transaction");
}

#[tokio::test]
async fn s26_what_a_payer_spends_elsewhere_after_a_reorganisation_is_not_sent_again_and_is_lost() {
    let world = World::with(|setup| setup.settle_timeout = SOON).await;
    let payment = world.payment(1).await;
    let (gate, first) = gateway(&world, &payment).await;
    world.local.tend().await.expect("it has landed");
    undo(&world, 1).await;
    gate.undo(payment.key(), first.transaction).await.expect("memory does not fail");
    world.cancel(&payment).await;

    pass(&world, &gate, 20).await;
    assert_eq!(state(&gate, &payment).await.0, "undone", "the block that cancelled it may be undone, too");
    world.anvil.pass(10).await;
    pass(&world, &gate, 61).await;

    assert_eq!(state(&gate, &payment).await.0, "lost");
    assert!(world.transfers().await.is_empty());
}
