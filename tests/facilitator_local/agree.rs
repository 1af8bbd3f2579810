//! Two nodes for large sums (S27), and many payments in one question (S16).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use serde_json::{Value, json};
use tollhouse::facilitator::chain::{
    Chain, Confirmations, Disagreement, Found, Never, RpcError, Unused, Verdict, Watch, Watched,
};
use tollhouse::primitives::{AtomicAmount, Caip2, Secret};
use tollhouse::testing::anvil::{Anvil, CHAIN_ID, USDC};
use tollhouse::testing::relay::{Fault, Relay};

use super::world::{PRICE, World, now, payer, permit2_payment_of};

const RECEIPTS: &str = "eth_getTransactionReceipt";
const NOTHING: Fault = Fault::Answer(r#"{"jsonrpc":"2.0","id":1,"result":null}"#);

/// The chain as these nodes show it, two of which have to agree from this sum on.
fn chain(world: &World, nodes: &[&Secret<String>], from: u64) -> Chain {
    let nodes: Vec<_> = nodes.iter().map(|node| Secret::new(node.expose().clone())).collect();
    let two_nodes_from = HashMap::from([(USDC, AtomicAmount::new(U256::from(from)))]);
    let chain = Chain::connect(Caip2::evm(CHAIN_ID), &nodes, Arc::new(world.clock.clone()));
    chain.expect("the addresses are fine").confirming(Confirmations { two_nodes_from, ..Confirmations::default() })
}

fn host(node: &Secret<String>) -> String {
    node.expose().trim_start_matches("http://").to_owned()
}

#[tokio::test]
async fn s27_a_large_sum_counts_when_two_nodes_show_it_in_the_same_block() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let reserved_at = now();
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let second = Relay::failing(&world.anvil, RECEIPTS, Fault::LoseTheQuestion).await;
    let both = chain(&world, &[&world.anvil.rpc_url(), &second.url()], PRICE);

    let alone = both.transfer_in(hash, &payment).await;
    assert!(matches!(&alone, Err(RpcError::Alone(_))), "{alone:?}");
    let unknown = both.find_settlement(&payment, reserved_at).await;
    assert!(matches!(&unknown, Verdict::CannotTell(why) if !Disagreement::is_behind(&**why)), "{unknown:?}");

    second.heal();
    assert!(matches!(both.transfer_in(hash, &payment).await, Ok(Found::Yes { .. })));
    let found = both.find_settlement(&payment, reserved_at).await;
    assert!(matches!(found, Verdict::Settled { transaction, .. } if transaction == hash), "{found:?}");
}

#[tokio::test]
async fn s26_s27_how_deep_a_large_sum_lies_takes_two_nodes_too() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let far = Fault::Answer(r#"{"jsonrpc":"2.0","id":1,"result":{"number":"0xffff","timestamp":"0x1"}}"#);
    let liar = Relay::failing(&world.anvil, "eth_getBlockByNumber", far).await;
    let nodes = [liar.url(), world.anvil.rpc_url()];
    let chain = Chain::connect(Caip2::evm(CHAIN_ID), &nodes, Arc::new(world.clock.clone()));
    let two_nodes_from = HashMap::from([(USDC, AtomicAmount::new(U256::from(PRICE)))]);
    let both = chain.expect("the addresses are fine").confirming(Confirmations {
        blocks: 3,
        two_nodes_from,
        ..Confirmations::default()
    });

    let shallow = both.transfer_in(hash, &payment).await;
    assert!(matches!(&shallow, Err(RpcError::Alone(_))), "it lies in the latest block: {shallow:?}");
    world.mine().await;
    world.mine().await;
    assert!(matches!(both.transfer_in(hash, &payment).await, Ok(Found::Yes { .. })));
}

#[tokio::test]
async fn s26_s27_that_a_large_payment_vanished_takes_two_nodes_too() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let watched = Watched { payment: Arc::new(payment), transaction: hash };
    for (from, missed) in [(PRICE, false), (PRICE + 1, true)] {
        let liar = Relay::failing(&world.anvil, RECEIPTS, NOTHING).await;
        let mut watch = Watch::new(Arc::new(chain(&world, &[&liar.url(), &world.anvil.rpc_url()], from)));
        watch.add(watched.clone());
        let mut told = Vec::new();
        for _ in 0..4 {
            told.extend(watch.look().await.expect("the chain answers"));
        }
        assert_eq!(!told.is_empty(), missed, "{told:?}");
    }
}

#[tokio::test]
async fn s16_s27_small_sums_do_not_wait_for_the_second_node_of_large_ones() {
    let world = World::new().await;
    let (small, mut large) = (world.unfunded_payment(1), world.unfunded_payment(2));
    large.offer.amount = AtomicAmount::new(U256::from(PRICE + 1));
    let second = Relay::failing(&world.anvil, "eth_call", Fault::LoseTheQuestion).await;
    let both = chain(&world, &[&world.anvil.rpc_url(), &second.url()], PRICE + 1);

    let unused = both.unused(&[&large, &small]).await;
    assert!(matches!(unused.as_deref(), Ok([Unused::Perhaps, Unused::Yet])), "{unused:?}");
}

#[tokio::test]
async fn s27_a_small_sum_takes_one_node() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let second = Relay::failing(&world.anvil, RECEIPTS, Fault::LoseTheQuestion).await;
    let both = chain(&world, &[&world.anvil.rpc_url(), &second.url()], PRICE + 1);

    assert!(matches!(both.transfer_in(hash, &payment).await, Ok(Found::Yes { .. })));
    assert!(matches!(both.unused(&[&payment]).await.as_deref(), Ok([Unused::Perhaps])));
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn s27_a_node_that_denies_what_another_shows_is_named_and_no_more_of_its_address() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let liar = Relay::failing(&world.anvil, RECEIPTS, NOTHING).await;
    let own = world.anvil.rpc_url();
    let keyed = Secret::new(format!("{}/v2/s3cret-key", liar.url().expose()));
    let both = chain(&world, &[&own, &keyed], PRICE);

    let found = both.transfer_in(hash, &payment).await.expect_err("one of them lies");
    assert!(Disagreement::is_behind(&found), "{found:?}");
    let told = std::error::Error::source(&found).expect("it says who").to_string();
    assert!(told.contains(&host(&own)) && told.contains(&host(&liar.url())), "{told}");
    assert!(told.contains(&hash.to_string()) && !told.contains("s3cret"), "{told}");
    assert!(!format!("{found:?}").contains("s3cret"));

    let searched = both.find_settlement(&payment, now()).await;
    assert!(matches!(&searched, Verdict::CannotTell(why) if Disagreement::is_behind(&**why)), "{searched:?}");

    // Whoever is left of three decides.
    let third = Relay::before(&world.anvil).await;
    let three = chain(&world, &[&own, &keyed, &third.url()], PRICE);
    assert!(matches!(three.transfer_in(hash, &payment).await, Ok(Found::Yes { .. })));
}

#[tokio::test]
async fn s27_a_node_on_another_branch_contradicts_once_it_has_come_so_far() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.anvil.rpc::<Value>("anvil_mine", json!(["0x20"])).await;
    let hash = world.settle(&payment).await.expect("it settles").transaction;
    let branch = Anvil::start().await;
    let both = chain(&world, &[&world.anvil.rpc_url(), &branch.rpc_url()], PRICE);

    let behind = both.transfer_in(hash, &payment).await;
    assert!(matches!(&behind, Err(RpcError::Alone(_))), "it may only be slow: {behind:?}");

    branch.rpc::<Value>("anvil_mine", json!(["0x40"])).await;
    let found = both.transfer_in(hash, &payment).await;
    assert!(matches!(&found, Err(RpcError::Disagreement(_))), "{found:?}");
}

#[tokio::test]
async fn s27_that_a_large_payment_is_dead_takes_two_nodes_too() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.anvil.pass(3600).await;
    world.clock.advance(Duration::from_secs(3600));
    let second = Relay::failing(&world.anvil, "eth_call", Fault::LoseTheQuestion).await;
    let both = chain(&world, &[&world.anvil.rpc_url(), &second.url()], PRICE);

    assert!(matches!(both.find_settlement(&payment, now()).await, Verdict::CannotTell(_)));
    assert!(matches!(both.unused(&[&payment]).await.as_deref(), Ok([Unused::Perhaps])), "one node's word");

    second.heal();
    assert!(matches!(both.find_settlement(&payment, now()).await, Verdict::Never(Never::Lapsed)));
    assert!(matches!(both.unused(&[&payment]).await.as_deref(), Ok([Unused::ForGood])));
}

#[tokio::test]
async fn s16_of_many_payments_one_question_tells_which_may_have_been_used() {
    let world = World::new().await;
    let until = now().after(Duration::from_secs(120));
    let mut payments = vec![world.payment(1).await, world.payment(2).await];
    payments.extend((3..70).map(|nonce| world.unfunded_payment(nonce)));
    world.settle(&payments[0]).await.expect("it settles");
    world.cancel(&payments[1]).await;
    let tap = Relay::before(&world.anvil).await;
    let chain = chain(&world, &[&tap.url()], u64::MAX);
    let all: Vec<_> = payments.iter().collect();
    chain.unused(&all[..1]).await.expect("it answers, also for which chain it is");
    tap.asked();

    let unused = chain.unused(&all).await.expect("the node answers");

    assert_eq!(tap.asked().len(), 2, "64 payments are one question");
    assert_eq!(unused[..2], [Unused::Perhaps; 2], "settled, and cancelled");
    assert!(unused[2..].iter().all(|unused| *unused == Unused::Yet), "{unused:?}");

    world.anvil.pass(3600).await;
    world.clock.advance(Duration::from_secs(3600));
    let later = chain.unused(&all).await.expect("the node answers");
    assert_eq!(later[..2], [Unused::Perhaps; 2]);
    assert!(later[2..].iter().all(|unused| *unused == Unused::ForGood), "{later:?}");
    // Where there is no Permit2, nobody says that a nonce is unused.
    let permit2 = permit2_payment_of(&payer(), 1, until);
    assert_eq!(chain.unused(&[&permit2, &payments[2]]).await.expect("it answers"), [Unused::Perhaps, Unused::ForGood]);
}
