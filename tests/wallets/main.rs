//! Contract wallets pay: they exist, they do not exist yet, or they are plain accounts with code. Against a real chain,
//! Circle's own token and real wallets.

mod attacks;
mod world;

use alloy::primitives::Address;
use tokio::task::JoinSet;
use tollhouse::payment::{Authorization, Dialect};
use tollhouse::testing::anvil::USDC;
use tollhouse::testing::anvil::wallets::MULTICALL;
use tollhouse::testing::backend::{Behaviour, Step};
use tollhouse::testing::client::{Connection, Request};
use tollhouse::testing::facilitator;
use tollhouse::testing::smart_wallet::Form;
use tollhouse::testing::{SmartWallet, Wallet};

use world::{Asked, PRICE, World, assert_paid, assert_refused, now};

#[tokio::test]
async fn a_contract_wallet_pays_with_whatever_it_accepts_for_a_signature() {
    for settle in ["on_response", "before_forward"] {
        let world = World::of(Asked::Node, "wallets: accept", settle).await;
        for form in [Form::Plain, Form::Long] {
            let wallet = world.wallet().await;
            let payment = world.payment(&wallet, form).await;
            world.node.asked();
            assert_paid(&world.pay(&payment).await);
            assert_eq!(world.judgements(), 1, "{settle}, {form:?}");
            assert_eq!(world.paid_by(wallet.address).await, [PRICE]);
        }
        assert_eq!((world.backend.hits(), world.judged("accepted")), (2, 2));
    }
}

#[tokio::test]
async fn s30_a_wallet_that_does_not_exist_is_created_and_pays_in_one_transaction() {
    let world = World::new().await;
    let wallet = world.coming_wallet().await;

    assert_paid(&world.pay(&world.payment(&wallet, Form::Wrapped).await).await);

    assert!(world.anvil.has_code(wallet.address).await);
    let transfers = world.anvil.transfers(wallet.address, world::PAYEE).await;
    let receipt = world.anvil.receipt(transfers[0].0).await;
    assert_eq!((transfers.len(), transfers[0].1), (1, PRICE));
    assert_eq!(receipt["to"].as_str().and_then(|to| to.parse::<Address>().ok()), Some(MULTICALL));

    // What is wrapped though the wallet exists by now needs no creation.
    world.anvil.fund_usdc(wallet.address, PRICE).await;
    assert_paid(&world.pay(&world.payment(&wallet, Form::Wrapped).await).await);
    let transfers = world.anvil.transfers(wallet.address, world::PAYEE).await;
    let receipt = world.anvil.receipt(transfers[1].0).await;
    assert_eq!(receipt["to"].as_str().and_then(|to| to.parse::<Address>().ok()), Some(USDC));

    for entry in world.gateway.entries().await {
        let Authorization::Eip3009(signed) = &entry.sale.payment.authorization else { panic!("it is EIP-3009") };
        assert!(signed.signature.0.len() > 500, "the ledger keeps the wrapper, to settle after a restart");
    }
}

#[tokio::test]
async fn s32_what_a_plain_account_signs_is_proven_without_a_question() {
    let world = World::new().await;
    let wallet = Wallet::random();
    world.anvil.fund_usdc(wallet.address(), PRICE).await;
    let payment = world.signed(|offer| wallet.accept(Dialect::V2, offer, now())).await;
    world.node.asked();
    assert_paid(&world.pay(&payment).await);
    assert_eq!(world.judgements(), 0);
}

// ---- accounts that have delegated themselves (EIP-7702) -----------------------------------------

#[tokio::test]
async fn an_account_that_delegated_itself_pays_with_its_own_key_where_its_code_agrees() {
    let world = World::new().await;
    let wallet = Wallet::random();
    world.anvil.fund_usdc(wallet.address(), PRICE).await;
    world.anvil.delegate(wallet.key(), world.anvil.deploy("OwnKey").await).await;

    let payment = world.signed(|offer| wallet.accept(Dialect::V2, offer, now())).await;
    world.node.asked();
    assert_paid(&world.pay(&payment).await);

    assert_eq!(world.judgements(), 0, "its own key signed");
    assert_eq!(world.paid_by(wallet.address()).await, [PRICE]);
}

#[tokio::test]
async fn s11_an_account_whose_code_disowns_its_key_gets_nothing_and_is_charged_nothing() {
    for settle in ["on_response", "before_forward"] {
        let world = World::of(Asked::Node, "wallets: accept", settle).await;
        let wallet = Wallet::random();
        world.anvil.fund_usdc(wallet.address(), PRICE).await;
        world.anvil.delegate(wallet.key(), world.anvil.deploy("Moody").await).await;
        world.anvil.set_mood(wallet.address(), 1).await;

        let reply = world.pay(&world.signed(|offer| wallet.accept(Dialect::V2, offer, now())).await).await;

        assert_refused(&reply, "transaction_simulation_failed");
        assert_eq!((world.backend.hits(), world.paid_by(wallet.address()).await.len()), (0, 0), "{settle}");
    }
}

#[tokio::test]
async fn an_account_that_delegated_itself_pays_with_what_its_code_accepts() {
    let world = World::new().await;
    let (account, session_key) = (Wallet::random(), Wallet::random());
    world.anvil.fund_usdc(account.address(), PRICE).await;
    world.anvil.delegate(account.key(), world.anvil.deploy("Wallet").await).await;
    let wallet =
        SmartWallet { address: account.address(), ..world.anvil.wallet_of(world.factory, session_key.clone()).await };
    world.anvil.own(wallet.address, session_key.address()).await;
    assert_paid(&world.pay(&world.payment(&wallet, Form::Long).await).await);
    assert_eq!(world.paid_by(account.address()).await, [PRICE]);
}

// ---- repeated and concurrent --------------------------------------------------------------------

#[tokio::test]
async fn s2_of_64_copies_of_a_wallets_payment_one_is_served_and_it_pays_once() {
    let world = World::new().await;
    let wallet = world.wallet().await;
    let payment = world.payment(&wallet, Form::Long).await;
    let mut copies = JoinSet::new();
    for _ in 0..64 {
        let (at, request) = (world.gateway.address(), Request::get("/weather").paying(&payment));
        copies.spawn(async move {
            let mut connection = Connection::open(at).await;
            connection.send(&request).await;
            connection.reply().await.status
        });
    }
    let heard = copies.join_all().await;
    let count = |status| heard.iter().filter(|heard| **heard == status).count();
    assert_eq!((count(200), count(409)), (1, 63), "{heard:?}");
    assert_eq!((world.paid_by(wallet.address).await, world.backend.hits()), (vec![PRICE], 1));
}

#[tokio::test]
async fn i4_what_a_wallet_bought_stays_bought_when_its_owners_change() {
    let world = World::new().await;
    let wallet = world.wallet().await;
    let payment = world.payment(&wallet, Form::Long).await;
    assert_paid(&world.pay(&payment).await);
    world.anvil.replace_owner(&wallet, Address::repeat_byte(1)).await;
    world.node.asked();

    let again = world.pay(&payment).await;
    assert_eq!((again.status, world.judgements()), (409, 0), "{}", again.text());

    let fresh = world.payment(&wallet, Form::Long).await;
    assert_refused(&world.pay(&fresh).await, "invalid_exact_evm_signature");
}

#[tokio::test]
async fn i4_what_a_wallet_paid_for_and_did_not_get_is_redeemed_when_it_could_not_be_bought_any_more() {
    let mut world = World::of(Asked::Node, "wallets: accept", "before_forward").await;
    let wallet = world.wallet().await;
    let payment = world.payment(&wallet, Form::Long).await;
    world.backend.on("/weather", [Behaviour::steps([Step::Reset])]);
    assert_eq!(world.pay(&payment).await.status, 502, "settled, and the backend failed");
    world.pay_somebody_else().await;
    world.anvil.replace_owner(&wallet, Address::repeat_byte(1)).await;
    world.node.asked();

    assert_paid(&world.pay(&payment).await);

    assert_eq!((world.judgements(), world.paid_by(wallet.address).await), (0, vec![PRICE]));
}

// ---- where there is no node ---------------------------------------------------------------------

#[tokio::test]
async fn without_a_node_a_facilitator_is_asked_and_asked_once() {
    let world = World::of(Asked::Facilitator, "wallets: accept", "on_response").await;
    let wallet = world.wallet().await;
    assert_paid(&world.pay(&world.payment(&wallet, Form::Long).await).await);
    assert_eq!((world.facilitator.count("/verify"), world.facilitator.count("/settle")), (1, 1));
}

#[tokio::test]
async fn s32_a_facilitators_no_is_passed_on_and_believed_for_a_moment() {
    let world = World::of(Asked::Facilitator, "wallets: accept", "before_forward").await;
    let wallet = world.wallet().await;
    let payment = world.payment(&wallet, Form::Long).await;
    world.facilitator.always("/verify", facilitator::Behaviour::Decline("invalid_exact_evm_signature"));
    for _ in 0..3 {
        assert_refused(&world.pay(&payment).await, "invalid_exact_evm_signature");
    }
    assert_eq!((world.facilitator.count("/verify"), world.facilitator.count("/settle")), (1, 0));
    assert!(world.gateway.entries().await.is_empty(), "nothing that was not proven holds its key");
}

#[tokio::test]
async fn s65_when_nobody_can_ask_the_wallet_nobody_is_charged_or_served() {
    let world = World::of(Asked::Facilitator, "wallets: accept", "on_response").await;
    let payment = world.payment(&world.wallet().await, Form::Long).await;
    world.facilitator.always("/verify", facilitator::Behaviour::ResetAfterReading);
    for _ in 0..8 {
        let reply = world.pay(&payment).await;
        assert_eq!((reply.status, reply.field("retry-after")), (503, Some("5")), "{}", reply.text());
    }
    assert!(world.gateway.entries().await.is_empty() && world.backend.hits() == 0);

    let own = Wallet::random();
    world.facilitator.always("/verify", facilitator::Behaviour::Honest);
    let plain = world.signed(|offer| own.accept(Dialect::V2, offer, now())).await;
    assert_paid(&world.pay(&plain).await);
    assert_eq!(world.metric("tollhouse_breaker_state{facilitator=\"scripted\",network=\"eip155:84532\"}"), 0);
}
