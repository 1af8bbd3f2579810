//! Several nodes of one chain: which of them is asked, and when none is believed.

use std::time::Duration;

use tollhouse::facilitator::chain::Health;
use tollhouse::facilitator::{Facilitator, VerifyError};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::relay::{Fault, Relay};

use super::world::{World, code};

const UP: Health = Health { up: true, behind: Duration::ZERO };
/// The first block of Base, years ago.
const OLD_HEAD: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"number":"0x1","timestamp":"0x648a5a8b"}}"#;
/// In the year 2106.
const FUTURE_HEAD: &str = r#"{"jsonrpc":"2.0","id":1,"result":{"number":"0x1","timestamp":"0xffffffff"}}"#;
const OTHER_CHAIN: &str = r#"{"jsonrpc":"2.0","id":1,"result":"0x1"}"#;

#[tokio::test]
async fn s27_a_node_that_is_behind_is_asked_last() {
    let anvil = Anvil::start().await;
    let behind = Relay::failing(&anvil, "eth_getBlockByNumber", Fault::Answer(OLD_HEAD)).await;
    let healthy = anvil.rpc_url();
    let world = World::on(anvil, &[behind.url(), healthy], |_| ()).await;

    world.chain.survey().await;
    let health = world.chain.health();
    assert!(health[0].up && health[0].behind > Duration::from_secs(3600), "{health:?}");
    assert_eq!(health[1], UP);
    behind.asked();
    world.settle(&world.payment(1).await).await.expect("the other node is up to date");
    assert_eq!(behind.asked().len(), 0, "a node that is behind was asked first");

    behind.heal();
    world.chain.survey().await;
    behind.asked();
    world.settle(&world.payment(2).await).await.expect("it settles");
    assert!(!behind.asked().is_empty(), "the first node is preferred again");
}

#[tokio::test]
async fn s27_a_node_that_moves_to_another_chain_is_noticed_within_a_minute() {
    let anvil = Anvil::start().await;
    let moving = Relay::failing(&anvil, "eth_chainId", Fault::Answer(OTHER_CHAIN)).await;
    moving.heal();
    let world = World::on(anvil, &[moving.url()], |_| ()).await;
    let payment = world.payment(1).await;
    world.local.verify(&payment).await.expect("it is the right chain");
    assert!(world.local.is_up());

    moving.fail();
    world.clock.advance(Duration::from_secs(60));
    world.chain.survey().await;

    assert!(!world.local.is_up());
    assert!(matches!(world.local.verify(&payment).await, Err(VerifyError::Unavailable(_))));
    assert!(world.settle(&payment).await.is_err());
    assert!(world.transfers().await.is_empty());
    moving.heal();
    world.chain.survey().await;
    assert!(world.local.is_up());
}

#[tokio::test]
async fn s27_a_dead_node_is_asked_last_until_it_answers_again() {
    let anvil = Anvil::start().await;
    let dying = Relay::failing(&anvil, "eth_call", Fault::LoseTheQuestion).await;
    let healthy = anvil.rpc_url();
    let world = World::on(anvil, &[dying.url(), healthy], |_| ()).await;
    let payment = world.payment(1).await;
    world.local.verify(&payment).await.expect("the second node answers");
    dying.asked();
    world.local.verify(&payment).await.expect("the second node answers");
    assert_eq!(dying.asked().len(), 0, "it has just failed");

    // Nothing but `eth_call` fails there, so the survey finds it well.
    dying.heal();
    world.chain.survey().await;
    assert_eq!(world.chain.health(), [UP, UP]);
    dying.asked();
    world.local.verify(&payment).await.expect("it has recovered");
    assert!(!dying.asked().is_empty());
}

#[tokio::test]
async fn s29_what_has_lapsed_by_either_clock_is_not_sent() {
    let anvil = Anvil::start().await;
    let ahead = Relay::failing(&anvil, "eth_getBlockByNumber", Fault::Answer(FUTURE_HEAD)).await;
    let world = World::on(anvil, &[ahead.url()], |_| ()).await;
    let payment = world.payment(1).await;
    world.local.verify(&payment).await.expect("our clock is all that is known");
    assert_eq!(world.chain.skew(), Duration::ZERO);

    world.chain.survey().await;
    assert!(world.chain.skew() > Duration::from_secs(3600), "our clock is far behind the chain's");
    let expected = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(code(world.local.verify(&payment).await), expected);

    ahead.heal();
    world.chain.survey().await;
    assert_eq!(world.chain.skew(), Duration::ZERO);
    world.local.verify(&payment).await.expect("the clocks agree");
    // Ten minutes, and whatever this machine needed between starting the world and signing.
    world.clock.advance(Duration::from_secs(1200));
    assert_eq!(code(world.local.verify(&payment).await), expected, "our own clock counts, too");
}
