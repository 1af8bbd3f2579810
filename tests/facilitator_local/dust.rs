//! Prices that gas eats up (S31).

use std::time::Duration;

use alloy::primitives::{U64, U128, U256};
use serde_json::{Value, json};
use tollhouse::facilitator::Facilitator;
use tollhouse::facilitator::local::USUAL_GAS;
use tollhouse::payment::Offer;
use tollhouse::primitives::{AtomicAmount, Dollars};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::relay::{Fault, Relay};

use crate::world::World;

const GWEI: u128 = 1_000_000_000;

impl World {
    /// The next look finds that gas costs this.
    async fn gas_at(&self, wei: u128) {
        let base_fee = U128::from(wei);
        self.anvil.rpc::<Value>("anvil_setNextBlockBaseFeePerGas", json!([base_fee])).await;
        self.mine().await;
        self.clock.advance(Duration::from_secs(10));
        self.local.tend().await.expect("the node answers");
    }
}

#[tokio::test]
async fn s31_a_settlement_in_usdc_needs_about_the_gas_that_is_counted_for_one() {
    let world = World::new().await;
    // The first pays for the payee's empty line in the token's books.
    for nonce in 1..=2 {
        let payment = world.payment(nonce).await;
        let settled = world.settle(&payment).await.expect("it settles");
        let used: U64 = serde_json::from_value(world.anvil.receipt(settled.transaction).await["gasUsed"].clone())
            .expect("a receipt says what was used");
        let used: u64 = used.to();
        assert!(used <= USUAL_GAS, "{used}");
        assert!(used > USUAL_GAS / 2, "{used}");
    }
}

#[tokio::test]
async fn s31_while_gas_is_dear_a_cheap_offer_is_not_taken_and_what_was_taken_settles() {
    let coin_price = Dollars::from_decimal("20").ok();
    let world = World::with(|setup| setup.coin_price = coin_price).await;
    let payment = world.payment(1).await;
    let cheap = payment.offer.clone();
    let dear = Offer { amount: AtomicAmount::new(U256::from(5_000_000)), ..cheap.clone() };
    let taken = || (world.local.pays_off(&cheap), world.local.pays_off(&dear));

    assert_eq!(taken(), (true, true), "nobody has looked yet");
    world.gas_at(GWEI / 100).await;
    assert_eq!(taken(), (true, true), "100,000 gas at 0.01 gwei and a tip of 1 are a fifth of a cent");
    world.gas_at(100 * GWEI).await;
    assert_eq!(taken(), (false, true), "at 100 gwei they are twenty cents");
    assert!(world.local.accepts(&cheap, payment.dialect), "it could be settled");
    world.settle(&payment).await.expect("whoever was let in is not turned away any more");
    world.gas_at(GWEI / 100).await;
    assert_eq!(taken(), (true, true));
}

#[tokio::test]
async fn s31_s34_a_node_that_does_not_say_what_gas_costs_keeps_nobody_from_what_was_sent() {
    let anvil = Anvil::start().await;
    let node = Relay::failing(&anvil, "eth_maxPriorityFeePerGas", Fault::LoseTheQuestion).await;
    node.heal();
    let coin_price = Dollars::from_decimal("20").ok();
    let world = World::on(anvil, &[node.url()], |setup| setup.coin_price = coin_price).await;
    world.settle(&world.payment(1).await).await.expect("it settles");
    node.fail();
    node.asked();

    world.local.tend().await.expect_err("nobody knows what gas costs");

    let asked = node.asked();
    let has_looked = asked.iter().any(|(method, _)| method == "eth_getTransactionCount");
    assert!(has_looked, "{asked:?}");
}
