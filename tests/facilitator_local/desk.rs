//! One gas key, several processes, and transactions that get stuck, lost and replaced.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{U64, U256};
use serde_json::{Value, json};
use tollhouse::facilitator::local::Local;
use tollhouse::facilitator::{Facilitator, Outcome, SettleError};
use tollhouse::payment::{Payment, Receipt};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::relay::{Fault, Relay};

use super::world::{PRICE, World, now, settle_at};

/// How long a lease lives, and how long a transaction may be in no block before something is done.
const LAPSE: Duration = Duration::from_secs(15);
const SOON: Duration = Duration::from_secs(2);

fn settling(local: &Arc<Local>, payment: &Payment) -> tokio::task::JoinHandle<Result<Receipt, SettleError>> {
    let (local, payment) = (local.clone(), payment.clone());
    tokio::spawn(async move { settle_at(&local, &payment).await })
}

/// Waits until this many transactions of the gas key wait for a block.
async fn until_waiting(world: &World, count: usize) {
    for _ in 0..1000 {
        if world.waiting().await.len() == count {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{:?} are waiting, not {count}", world.waiting().await);
}

// ---- two processes ------------------------------------------------------------------------------

#[tokio::test]
async fn s34_a_second_process_sends_nothing_while_the_first_one_has_the_key() {
    let world = World::new().await;
    let second = world.another(&[world.anvil.rpc_url()], |setup| setup.settle_timeout = SOON);
    let (first, next) = (world.payment(1).await, world.payment(2).await);
    world.settle(&first).await.expect("the key is free");

    assert!(matches!(second.prepare(&next).await, Err(SettleError::NotSent(_))), "two processes share a nonce");

    world.clock.advance(LAPSE);
    settle_at(&second, &next).await.expect("the lease has lapsed");
    assert_eq!(world.transfers().await.len(), 2);
}

#[tokio::test]
async fn s34_what_was_signed_under_a_lapsed_lease_is_not_sent() {
    let world = World::new().await;
    let second = world.another(&[world.anvil.rpc_url()], |_| ());
    let (slow, fast) = (world.payment(1).await, world.payment(2).await);
    let prepared = world.local.prepare(&slow).await.expect("it can be signed");
    world.clock.advance(LAPSE);
    settle_at(&second, &fast).await.expect("the lease has lapsed");

    assert!(matches!(world.local.submit(&slow, prepared).await, Err(SettleError::NotSent(_))));
    assert_eq!(world.transfers().await.len(), 1);
}

#[tokio::test]
async fn s34_processes_that_share_a_key_take_turns() {
    let world = World::new().await;
    let second = world.another(&[world.anvil.rpc_url()], |_| ());
    let mut payments = Vec::new();
    for nonce in 0..8 {
        payments.push(world.payment(nonce).await);
    }
    let tending = [world.local.clone(), second.clone()].map(|local| tokio::spawn(async move { local.refresh().await }));
    // Time passes, or a quantum would never end.
    let clock = world.clock.clone();
    let passing = tokio::spawn(async move {
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            clock.advance(Duration::from_millis(20));
        }
    });

    let both = [&world.local, &second];
    let settling: Vec<_> = payments.iter().enumerate().map(|(at, payment)| settling(both[at % 2], payment)).collect();
    for settling in settling {
        settling.await.expect("nothing panics").expect("everybody gets a turn");
    }

    tending.iter().for_each(tokio::task::JoinHandle::abort);
    passing.abort();
    assert_eq!(world.transfers().await.len(), payments.len());
}

#[tokio::test]
async fn s34_a_process_that_ends_hands_the_key_over_at_once() {
    let world = World::new().await;
    let second = world.another(&[world.anvil.rpc_url()], |setup| setup.settle_timeout = Duration::from_secs(5));
    world.settle(&world.payment(1).await).await.expect("the key is free");

    world.setup.desk.close().await;

    settle_at(&second, &world.payment(2).await).await.expect("nobody has the key");
}

#[tokio::test]
async fn s21_what_a_dead_process_had_written_down_is_sent_by_the_next_one() {
    let anvil = Anvil::start().await;
    let healthy = anvil.rpc_url();
    let flaky = Relay::failing(&anvil, "eth_sendRawTransaction", Fault::LoseTheQuestion).await;
    let world = World::on(anvil, &[flaky.url()], |setup| setup.settle_timeout = SOON).await;
    let payment = world.payment(1).await;
    let reserved_at = now();
    let Err(SettleError::Unknown { transaction: Some(hash), .. }) = world.settle(&payment).await else {
        panic!("nobody can know what became of it");
    };
    assert!(!world.knows(hash).await);

    let second = world.another(&[healthy], |_| ());
    second.tend().await.expect("there is nothing to do yet");
    assert!(!world.knows(hash).await, "the first process may be alive");
    world.clock.advance(LAPSE);
    second.tend().await.expect("it can be sent");

    let unresolved = super::world::unresolved(&payment, Some(hash), reserved_at);
    // It is sent; mining it takes the node a moment.
    for _ in 0..500 {
        if !world.transfers().await.is_empty() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let outcome = second.outcome(&unresolved).await;
    assert!(matches!(&outcome, Outcome::Settled(receipt) if receipt.transaction == hash), "{outcome:?}");
    settle_at(&second, &world.payment(2).await).await.expect("the next nonce is free");
    assert_eq!(world.transfers().await.len(), 2);
}

// ---- stuck, lost, replaced ----------------------------------------------------------------------

#[tokio::test]
async fn s34_a_stuck_transaction_is_replaced_by_a_dearer_one_and_the_payment_is_found_in_it() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.stop_mining().await;
    let settling = settling(&world.local, &payment);
    until_waiting(&world, 1).await;
    let before = world.waiting().await;

    world.clock.advance(LAPSE);
    world.local.tend().await.expect("it can be replaced");
    let after = world.waiting().await;
    world.mine().await;

    assert_eq!(after.len(), 1, "the same nonce");
    assert!(after[0].1 >= before[0].1 + before[0].1 / 10, "{before:?} was replaced by {after:?}");
    let receipt = settling.await.expect("nothing panics").expect("the payee has the money");
    assert_eq!(world.transfers().await, [(receipt.transaction, PRICE)]);
    // Another process, asked with the hash that the ledger wrote first, finds the one that was mined.
    let second = world.another(&[world.anvil.rpc_url()], |_| ());
    let unresolved = super::world::unresolved(&payment, None, now());
    assert!(
        matches!(second.outcome(&unresolved).await, Outcome::Settled(found) if found.transaction == receipt.transaction)
    );
}

#[tokio::test]
async fn s34_a_stuck_transaction_is_never_paid_more_for_than_allowed() {
    let world = World::new().await;
    let base_fee: Value = world.anvil.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
    let base_fee: U256 = serde_json::from_value(base_fee["baseFeePerGas"].clone()).expect("a block has a base fee");
    let ceiling = 3 * base_fee.to::<u128>();
    let limited = world.another(&[world.anvil.rpc_url()], |setup| {
        setup.max_gas_price = Some(ceiling);
        setup.settle_timeout = SOON;
    });
    let payment = world.payment(1).await;
    world.stop_mining().await;
    assert!(matches!(settle_at(&limited, &payment).await, Err(SettleError::Unknown { .. })));

    let mut prices = Vec::new();
    for _ in 0..10 {
        world.clock.advance(LAPSE);
        limited.tend().await.expect("it is looked at");
        prices.push(world.waiting().await[0].1);
    }

    assert!(prices[0] < prices[2] || prices[0] == ceiling, "{prices:?}");
    assert!(prices.iter().all(|price| *price <= ceiling), "{prices:?} is above {ceiling}");
    assert_eq!(world.waiting().await.len(), 1);
    world.mine().await;
    assert_eq!(world.transfers().await.len(), 1);
}

#[tokio::test]
async fn s34_what_can_no_longer_settle_makes_room_without_moving_anything() {
    let world = World::with(|setup| setup.settle_timeout = SOON).await;
    let payment = world.payment(1).await;
    world.stop_mining().await;
    assert!(matches!(world.settle(&payment).await, Err(SettleError::Unknown { .. })));

    world.clock.advance(Duration::from_secs(601));
    world.local.tend().await.expect("it can be replaced");

    let waiting = world.waiting().await;
    assert_eq!((waiting.len(), waiting[0].2), (1, world.local.address()), "a transfer of nothing to ourselves");
    world.mine().await;
    assert!(world.transfers().await.is_empty());
    assert!(
        matches!(world.outcome(&payment, None, now()).await, Outcome::Unknown { .. }),
        "the authorization is public, and by the chain's clock it is still good"
    );
}

#[tokio::test]
async fn s34_a_nonce_that_went_missing_is_filled() {
    let world = World::with(|setup| setup.settle_timeout = SOON).await;
    let (gone, next) = (world.payment(1).await, world.payment(2).await);
    let snapshot: Value = world.anvil.rpc("evm_snapshot", json!([])).await;
    world.settle(&gone).await.expect("it settles");
    world.local.tend().await.expect("it has landed");
    assert_eq!(world.anvil.rpc::<Value>("evm_revert", json!([snapshot])).await, json!(true));
    assert!(matches!(world.settle(&next).await, Err(SettleError::Unknown { .. })), "it waits for the missing nonce");

    world.local.tend().await.expect("the gap is seen");
    assert!(world.transfers().await.is_empty());
    world.clock.advance(Duration::from_secs(10));
    world.local.tend().await.expect("the gap is filled");

    for _ in 0..1000 {
        if world.transfers().await.len() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(matches!(world.outcome(&next, None, now()).await, Outcome::Settled(_)));
}

#[tokio::test]
async fn s34_a_nonce_that_somebody_else_used_is_given_up() {
    let world = World::with(|setup| setup.settle_timeout = SOON).await;
    let (replaced, next) = (world.payment(1).await, world.payment(2).await);
    world.stop_mining().await;
    assert!(matches!(world.settle(&replaced).await, Err(SettleError::Unknown { .. })));
    let gas_key = world.local.address();
    world.anvil.rpc::<Value>("anvil_impersonateAccount", json!([gas_key])).await;
    let dear = U256::from(100_000_000_000_u64);
    let foreign = json!([{
        "from": gas_key, "to": gas_key, "nonce": "0x0", "gas": U64::from(21_000),
        "maxFeePerGas": dear, "maxPriorityFeePerGas": dear,
    }]);
    world.anvil.rpc::<Value>("eth_sendTransaction", foreign).await;
    world.mine().await;

    world.clock.advance(LAPSE);
    world.local.tend().await.expect("it is seen");

    world.anvil.rpc::<Value>("evm_setAutomine", json!([true])).await;
    let local = world.another(&[world.anvil.rpc_url()], |_| ());
    world.setup.desk.close().await;
    settle_at(&local, &next).await.expect("the key goes on behind it");
    assert_eq!(world.transfers().await.len(), 1);
    assert!(matches!(world.outcome(&replaced, None, now()).await, Outcome::Unknown { .. }));
}
