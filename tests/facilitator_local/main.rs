//! What our own node and key promise, against a real chain and Circle's own token.

mod agree;
mod desk;
mod dust;
mod nodes;
mod permit2;
mod reorg;
mod world;

use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use serde_json::{Value, json};
use tollhouse::config;
use tollhouse::facilitator::chain::{Chain, CheckError, ConnectError, Found, RpcError};
use tollhouse::facilitator::local::{KeyError, Local};
use tollhouse::facilitator::{Facilitator, Outcome, Prepared, SettleError, VerifyError};
use tollhouse::payment::{Dialect, Payment};
use tollhouse::primitives::{Caip2, Eip712Name, Payee, Secret, SystemClock};
use tollhouse::server::{Server, StartError, system_clock};
use tollhouse::testing::anvil::{Anvil, CHAIN_ID, USDC};
use tollhouse::testing::relay::{Fault, Relay};

use world::{PAYEE, PRICE, World, code, now, usdc};

// ---- settling -----------------------------------------------------------------------------------

#[tokio::test]
async fn s21_the_hash_is_known_before_anyone_can_see_the_transaction() {
    let world = World::new().await;
    let payment = world.payment(1).await;

    world.local.verify(&payment).await.expect("the payer has the money");
    let prepared = world.local.prepare(&payment).await.expect("it can be signed");
    let hash = prepared.transaction.expect("it has a hash");
    assert!(!world.knows(hash).await, "it was broadcast before the ledger could write it down");

    let receipt = world.local.submit(&payment, prepared).await.expect("it settles");

    assert_eq!((receipt.transaction, receipt.payer, receipt.amount), (hash, payment.payer(), payment.offer.amount));
    assert_eq!(world.anvil.transfers(payment.payer().0, PAYEE).await, [(hash, PRICE)]);
    let shown = world.chain.transfer_in(hash, &payment).await;
    assert!(matches!(shown, Ok(Found::Yes { block, .. }) if receipt.block == Some(block)), "{shown:?}, {receipt:?}");
}

#[tokio::test]
async fn payments_settle_side_by_side_and_each_moves_its_money_once() {
    let world = World::new().await;
    let mut payments = Vec::new();
    for nonce in 0..12 {
        payments.push(world.payment(nonce).await);
    }
    let world = std::sync::Arc::new(world);

    let settling = payments.into_iter().map(|payment| {
        let world = world.clone();
        tokio::spawn(async move { world.settle(&payment).await.expect("it settles").transaction })
    });
    let mut hashes = Vec::new();
    for settling in settling.collect::<Vec<_>>() {
        hashes.push(settling.await.expect("nothing panics"));
    }

    let mut moved: Vec<B256> = world.transfers().await.into_iter().map(|(hash, _)| hash).collect();
    moved.sort();
    hashes.sort();
    assert_eq!(moved, hashes);
}

#[tokio::test]
async fn s34_a_transaction_that_is_never_sent_leaves_no_gap() {
    let world = World::new().await;
    let (abandoned, next) = (world.payment(1).await, world.payment(2).await);
    let too_late = world.local.prepare(&abandoned).await.expect("it can be signed");

    world.settle(&next).await.expect("the nonce was given back");

    assert!(matches!(world.local.submit(&abandoned, too_late).await, Err(SettleError::NotSent(_))));
    assert_eq!(world.transfers().await.len(), 1);
}

// ---- what cannot settle -------------------------------------------------------------------------

#[tokio::test]
async fn an_empty_purse_is_declined_and_nothing_is_sent() {
    let world = World::new().await;
    let payment = world.unfunded_payment(1);
    let expected = "invalid_exact_evm_insufficient_balance";
    assert_eq!(code(world.local.verify(&payment).await), expected);
    assert!(
        matches!(world.local.prepare(&payment).await, Err(SettleError::Declined(decline)) if decline.code == expected)
    );
}

#[tokio::test]
async fn s30_a_transfer_the_token_refuses_is_not_sent() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.anvil.pass(3600).await;
    let expected = "invalid_exact_evm_payload_authorization_valid_before";
    assert_eq!(code(world.local.verify(&payment).await), expected);
    assert!(
        matches!(world.local.prepare(&payment).await, Err(SettleError::Declined(decline)) if decline.code == expected)
    );
}

#[tokio::test]
async fn s30_a_payer_whom_the_token_blocks_is_not_paid_gas_for() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.anvil.block_usdc(payment.payer().0).await;
    let expected = "invalid_exact_evm_transaction_simulation_failed";
    assert_eq!(code(world.local.verify(&payment).await), expected);
    assert!(
        matches!(world.local.prepare(&payment).await, Err(SettleError::Declined(decline)) if decline.code == expected)
    );
}

#[tokio::test]
async fn s30_a_payer_who_lets_three_transactions_revert_is_not_served_a_fourth_time() {
    let world = World::new().await;
    for nonce in 1..=3 {
        let payment = world.payment(nonce).await;
        world.local.verify(&payment).await.expect("he has the money, and a clean record");
        let prepared = world.local.prepare(&payment).await.expect("it can be signed");
        world.drain(&payment).await;
        assert!(matches!(world.local.submit(&payment, prepared).await, Err(SettleError::Unknown { .. })));
    }

    let payment = world.lasting(&world.payment(4).await, now().after(Duration::from_secs(7200)));
    assert_eq!(code(world.local.verify(&payment).await), "payer_suspended");
    assert!(matches!(world.local.prepare(&payment).await, Err(SettleError::Declined(_))));

    world.clock.advance(Duration::from_secs(3600));
    world.local.verify(&payment).await.expect("an hour has passed");
}

#[tokio::test]
async fn s32_an_empty_wallet_makes_no_second_question_for_a_moment() {
    let anvil = Anvil::start().await;
    let flaky = Relay::failing(&anvil, "eth_call", Fault::LoseTheQuestion).await;
    flaky.heal();
    let world = World::on(anvil, &[flaky.url()], |_| ()).await;
    let payment = world.unfunded_payment(1);
    let expected = "invalid_exact_evm_insufficient_balance";
    assert_eq!(code(world.local.verify(&payment).await), expected);

    flaky.fail();
    assert_eq!(code(world.local.verify(&payment).await), expected, "the node was not needed");
    flaky.heal();
    world.anvil.fund_usdc(payment.payer().0, PRICE).await;
    world.clock.advance(Duration::from_secs(5));
    world.local.verify(&payment).await.expect("it is looked at again");
}

#[tokio::test]
async fn s30_a_gas_key_that_cannot_pay_takes_no_payments_until_it_can() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let fund = |wei: U256| world.anvil.rpc::<Value>("anvil_setBalance", json!([world.local.address(), wei]));
    fund(U256::from(1)).await;
    world.local.tend().await.expect("the balance can be read");

    assert!(world.local.purse().is_some_and(|purse| purse.is_low && purse.balance == U256::from(1)));
    assert!(matches!(world.local.verify(&payment).await, Err(VerifyError::Unavailable(_))), "the backend would work");
    assert!(matches!(world.local.prepare(&payment).await, Err(SettleError::NotSent(_))), "nothing is signed");

    fund(U256::from(10).pow(U256::from(18))).await;
    world.clock.advance(Duration::from_secs(5));
    world.local.tend().await.expect("the balance can be read");
    assert!(world.local.purse().is_some_and(|purse| !purse.is_low));
    world.local.verify(&payment).await.expect("the key can pay");
    world.settle(&payment).await.expect("it settles");
}

#[tokio::test]
async fn s30_above_the_gas_ceiling_nothing_is_sent() {
    let world = World::with(|setup| setup.max_gas_price = Some(1)).await;
    let payment = world.payment(1).await;
    assert!(matches!(world.local.prepare(&payment).await, Err(SettleError::NotSent(_))));
}

#[tokio::test]
async fn an_empty_gas_purse_is_our_trouble_and_nothing_is_sent() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let prepared = world.local.prepare(&payment).await.expect("it can be signed");
    world.anvil.rpc::<Value>("anvil_setBalance", json!([world.local.address(), "0x0"])).await;
    assert!(matches!(world.local.submit(&payment, prepared).await, Err(SettleError::NotSent(_))));
}

#[tokio::test]
async fn a_used_nonce_is_declined_at_first_but_never_while_it_may_be_our_own_success() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let reserved_at = now();
    let first = world.settle(&payment).await.expect("it settles");

    assert_eq!(code(world.local.verify(&payment).await), "invalid_exact_evm_nonce_already_used");
    let prepared = world.local.prepare(&payment).await.expect("this is no decline");
    assert_eq!(prepared, Prepared { transaction: None, raw: None });
    assert!(matches!(world.local.submit(&payment, prepared).await, Err(SettleError::Unknown { .. })));

    let Outcome::Settled(found) = world.outcome(&payment, None, reserved_at).await else { panic!("it was not found") };
    assert_eq!(found.transaction, first.transaction);
    assert_eq!(world.transfers().await.len(), 1);
}

// ---- somebody else uses the authorization -------------------------------------------------------

#[tokio::test]
async fn s18_a_front_run_payment_is_settled_by_whoever_was_first() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let prepared = world.local.prepare(&payment).await.expect("it can be signed");
    let theirs = world.submit_as_stranger(&payment).await;

    let receipt = world.local.submit(&payment, prepared).await.expect("the payee has the money");

    assert_eq!(receipt.transaction, theirs);
    assert_eq!(world.transfers().await, [(theirs, PRICE)]);
}

#[tokio::test]
async fn s18_a_transfer_from_before_the_reservation_is_not_ours() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    world.submit_as_stranger(&payment).await;
    world.anvil.pass(10).await;

    let much_later = now().after(Duration::from_secs(300));
    assert!(matches!(world.outcome(&payment, None, much_later).await, Outcome::NotSettled(_)));
    assert!(matches!(world.outcome(&payment, None, now()).await, Outcome::Settled(_)));
}

#[tokio::test]
async fn s18_a_settlement_is_found_however_many_blocks_ago_and_however_few_a_node_searches_at_once() {
    let anvil = Anvil::start().await;
    let refusal = r#"{"jsonrpc":"2.0","id":1,"error":{"code":-32005,"message":"query exceeds the range"}}"#;
    let flaky = Relay::failing(&anvil, "eth_getLogs", Fault::AnswerOnce(refusal)).await;
    let world = World::on(anvil, &[flaky.url()], |_| ()).await;
    // 600 blocks, a minute apart, before and after.
    world.anvil.rpc::<Value>("anvil_mine", json!(["0x258", "0x3c"])).await;
    let reserved_at = world.chain_time().await;
    let payment = world.lasting(&world.payment(1).await, reserved_at.after(Duration::from_secs(600)));
    let theirs = world.submit_as_stranger(&payment).await;
    world.anvil.rpc::<Value>("anvil_mine", json!(["0x258", "0x3c"])).await;

    let Outcome::Settled(found) = world.outcome(&payment, None, reserved_at).await else { panic!("it was not found") };
    assert_eq!(found.transaction, theirs);
}

#[tokio::test]
async fn s19_a_cancelled_authorization_is_no_payment() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let reserved_at = now();
    let cancelled = world.cancel(&payment).await;

    // The nonce is used and the transaction succeeded; neither says that money moved.
    assert!(matches!(world.chain.transfer_in(cancelled, &payment).await, Ok(Found::No(_))));
    assert_eq!(code(world.local.verify(&payment).await), "invalid_exact_evm_nonce_already_used");
    assert!(
        matches!(world.outcome(&payment, Some(cancelled), reserved_at).await, Outcome::Unknown { .. }),
        "the block may still be undone"
    );
    world.anvil.pass(10).await;
    assert!(matches!(world.outcome(&payment, Some(cancelled), reserved_at).await, Outcome::NotSettled(_)));
}

#[tokio::test]
async fn s19_a_nonce_spent_on_another_transfer_is_no_payment() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let to_himself = world.redirected(&payment, payment.payer().0);
    let cheaper = world.cheaper(&world.payment(2).await);
    let hash = world.submit_as_stranger(&to_himself).await;
    let cheap_hash = world.submit_as_stranger(&cheaper).await;
    world.anvil.pass(10).await;

    assert!(matches!(world.chain.transfer_in(hash, &payment).await, Ok(Found::No(_))));
    assert!(matches!(world.outcome(&payment, None, now()).await, Outcome::NotSettled(_)));
    // Something reached the payee under this nonce. That is neither the price nor nothing, so nobody can tell (S17).
    let dear = world.payment(2).await;
    assert!(matches!(world.chain.transfer_in(cheap_hash, &dear).await, Ok(Found::No(_))));
    assert!(matches!(world.outcome(&dear, None, now()).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn s13_a_reverted_settlement_is_unknown_while_the_authorization_is_good() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let reserved_at = now();
    let prepared = world.local.prepare(&payment).await.expect("it can be signed");
    let hash = prepared.transaction;
    world.drain(&payment).await;

    let Err(SettleError::Unknown { transaction, .. }) = world.local.submit(&payment, prepared).await else {
        panic!("a good authorization was taken for a dead one");
    };
    assert_eq!(transaction, hash);
    assert!(matches!(world.outcome(&payment, hash, reserved_at).await, Outcome::Unknown { .. }));

    world.anvil.pass(3600).await;
    assert!(matches!(world.outcome(&payment, hash, reserved_at).await, Outcome::NotSettled(_)));
}

#[tokio::test]
async fn s28_what_lapsed_unused_is_proven_not_to_have_moved() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    assert!(matches!(world.outcome(&payment, None, now()).await, Outcome::Unknown { .. }));

    world.anvil.pass(3600).await;

    let Outcome::NotSettled(decline) = world.outcome(&payment, None, now()).await else {
        panic!("it may still settle")
    };
    assert_eq!(decline.code, "invalid_exact_evm_payload_authorization_valid_before");
}

// ---- nodes that fail or lie ---------------------------------------------------------------------

#[tokio::test]
async fn s13_a_lost_answer_to_the_broadcast_does_not_lose_the_payment() {
    let anvil = Anvil::start().await;
    let flaky = Relay::failing(&anvil, "eth_sendRawTransaction", Fault::LoseTheAnswer).await;
    let world = World::on(anvil, &[flaky.url()], |_| ()).await;
    let payment = world.payment(1).await;

    let receipt = world.settle(&payment).await.expect("it is on the chain all the same");

    assert_eq!(world.transfers().await, [(receipt.transaction, PRICE)]);
}

#[tokio::test]
async fn s13_a_broadcast_that_may_have_been_lost_is_unknown_and_is_made_again() {
    let anvil = Anvil::start().await;
    let flaky = Relay::failing(&anvil, "eth_sendRawTransaction", Fault::LoseTheQuestion).await;
    let world = World::on(anvil, &[flaky.url()], |setup| setup.settle_timeout = Duration::from_secs(2)).await;
    let payment = world.payment(1).await;

    let Err(SettleError::Unknown { transaction: Some(hash), .. }) = world.settle(&payment).await else {
        panic!("nobody can know what became of it");
    };
    assert!(matches!(world.outcome(&payment, Some(hash), now()).await, Outcome::Unknown { .. }));

    flaky.heal();
    world.clock.advance(Duration::from_secs(15));
    world.local.tend().await.expect("the desk can be tended");
    let Outcome::Settled(found) = world.outcome(&payment, Some(hash), now()).await else { panic!("it was not sent") };
    assert_eq!(found.transaction, hash);
    world.settle(&world.payment(2).await).await.expect("the next payment is not stuck behind a gap");
}

#[tokio::test]
async fn s14_an_answer_that_is_none_decides_nothing() {
    for body in
        ["<html>busy</html>", "{\"jsonrpc\":\"2.0\",\"id\":1}", "{\"result\":", "{\"result\":{\"status\":\"0x1\"}}"]
    {
        let anvil = Anvil::start().await;
        let flaky = Relay::failing(&anvil, "eth_getTransactionReceipt", Fault::Answer(body)).await;
        let world = World::on(anvil, &[flaky.url()], |setup| setup.settle_timeout = Duration::from_millis(300)).await;
        let payment = world.payment(1).await;

        let Err(SettleError::Unknown { transaction, .. }) = world.settle(&payment).await else {
            panic!("{body} was believed");
        };
        assert!(matches!(world.outcome(&payment, transaction, now()).await, Outcome::Unknown { .. }), "{body}");
    }
}

#[tokio::test]
async fn s13_a_dead_node_is_no_decline() {
    let world = World::new().await;
    let payment = world.payment(1).await;
    let prepared = world.local.prepare(&payment).await.expect("it can be signed");
    let World { anvil, local, .. } = world;
    drop(anvil);

    assert!(matches!(local.verify(&payment).await, Err(VerifyError::Unavailable(_))));
    assert!(matches!(local.submit(&payment, prepared).await, Err(SettleError::NotSent(_))));
    assert!(matches!(local.prepare(&payment).await, Err(SettleError::NotSent(_))));
    assert!(matches!(local.outcome(&world::unresolved(&payment, None, now())).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn another_node_answers_for_a_dead_one() {
    let anvil = Anvil::start().await;
    let dead = Secret::new("http://127.0.0.1:1".to_owned());
    let live = anvil.rpc_url();
    let world = World::on(anvil, &[dead, live], |_| ()).await;
    world.settle(&world.payment(1).await).await.expect("the second node takes it");
}

// ---- what the configuration says ----------------------------------------------------------------

#[tokio::test]
async fn s9_a_node_of_another_chain_is_refused() {
    let anvil = Anvil::start().await;
    let chain = Chain::connect(Caip2::evm(8453), &[anvil.rpc_url()], std::sync::Arc::new(SystemClock));
    let chain = chain.expect("the address is fine");

    let error = chain.check(&usdc()).await.expect_err("it is another chain");

    assert!(matches!(&error, CheckError::WrongChain { actual, .. } if *actual == Caip2::evm(CHAIN_ID)), "{error}");
    assert_eq!(error.to_string(), "a node configured for eip155:8453 serves eip155:84532");
    let payment = world::payment_of(&world::payer(), 1);
    assert!(matches!(chain.transfer_in(B256::ZERO, &payment).await, Err(RpcError::WrongChain { .. })));
}

/// A gateway that starts on a chain, or with a token name, that its own node contradicts.
async fn start_with(networks: &str, pay_to: &str, node: &str) -> Result<Server, StartError> {
    let file = format!(
        "version: 1\npublic_url: http://localhost\nupstream: http://127.0.0.1:9\nlisten: 127.0.0.1:0\nstatus: none\n\
         ledger: memory\nfacilitators: [{{name: f, url: http://127.0.0.1:9, networks: [{pay_to}]}}]\n\
         pay_to: {{{pay_to}: \"0x1111111111111111111111111111111111111111\"}}\nnetworks:\n  {pay_to}: {networks}\n\
         routes:\n  GET /x: $0.01\n"
    );
    let file = file.replace("NODE", node);
    let loaded = config::parse(&file, "gateway.yaml", std::path::Path::new("."), &|_| None);
    let report = loaded.report.render(config::Format::Human, false);
    Server::start(loaded.config.expect(&report), &loaded.hash, system_clock()).await
}

#[tokio::test]
async fn s9_a_gateway_does_not_start_on_what_its_own_node_contradicts() {
    let anvil = Anvil::start().await;
    let node = anvil.rpc_url();
    let elsewhere = format!(
        "{{chain: \"eip155:4242\", testnet: true, rpc: [NODE], assets: {{USDC: {{address: \"{USDC}\", decimals: 6, \
         peg: usd, eip712: {{name: USDC, version: \"2\"}}}}}}}}"
    );

    let right = start_with("{rpc: [NODE]}", "base-sepolia", node.expose()).await;
    let wrong = start_with(&elsewhere, "ours", node.expose()).await;

    assert!(right.is_ok(), "{:?}", right.err());
    let Err(StartError::Chain { source, .. }) = wrong else { panic!("it started on another chain") };
    assert_eq!(source.to_string(), "a node configured for eip155:4242 serves eip155:84532");
}

#[tokio::test]
async fn s9_a_token_with_another_name_is_refused() {
    let world = World::new().await;
    world.chain.check(&usdc()).await.expect("Circle's token is what the preset says");
    let mut mainnet_name = usdc();
    mainnet_name.eip712 = Eip712Name { name: "USD Coin".into(), version: "2".into() };
    let mut no_token = usdc();
    no_token.address = Address::repeat_byte(9);

    let error = world.chain.check(&mainnet_name).await.expect_err("its signatures would fail");
    assert!(matches!(error, CheckError::WrongDomain { .. }), "{error}");
    assert!(error.to_string().contains("it calls itself `USDC`, version `2`"), "{error}");
    assert!(error.to_string().contains(&USDC.to_string()), "{error}");
    let error = world.chain.check(&no_token).await.expect_err("there is nothing there");
    assert!(matches!(error, CheckError::NotAToken { .. }), "{error}");
}

#[tokio::test]
async fn a_chain_that_does_not_answer_is_not_called_wrong() {
    let clock = std::sync::Arc::new(SystemClock);
    let dead = Chain::connect(Caip2::evm(CHAIN_ID), &[Secret::new("http://127.0.0.1:1".into())], clock.clone());
    let dead = dead.expect("the address is fine");
    assert!(matches!(dead.check(&usdc()).await, Err(CheckError::NoAnswer { .. })));
    let solana: Caip2 = "solana:5eykt4UsFv8P8NJdTREpY1vzqKqZKvdp".parse().expect("it is a network");
    assert!(matches!(Chain::connect(solana, &[], clock.clone()), Err(ConnectError::NotEvm(_))));
    assert!(matches!(Chain::connect(Caip2::evm(1), &[], clock), Err(ConnectError::NoNode(_))));
}

#[tokio::test]
async fn s59_the_gas_key_is_never_the_payee() {
    let world = World::new().await;
    let own = Payee(world.local.address());
    let clock = std::sync::Arc::new(SystemClock);
    let refused = Local::new(world.setup.clone(), &[Payee(PAYEE), own], clock);
    assert!(matches!(refused.err(), Some(KeyError::IsPayee(address)) if address == own.0));

    let mut payment: Payment = world.payment(1).await;
    assert!(world.local.accepts(&payment.offer, Dialect::V2));
    payment.offer.pay_to = own;
    assert!(!world.local.accepts(&payment.offer, Dialect::V2), "a reload made the gas key the payee");
}
