//! Payments through Permit2, on Uniswap's own contract behind a proxy with the effects of x402's.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, U64, U256};
use alloy::signers::SignerSync;
use alloy::sol;
use alloy::sol_types::{SolCall, SolStruct, eip712_domain};
use tollhouse::facilitator::chain::{CheckError, Found, NotThere, Spent, Unused};
use tollhouse::facilitator::local::usual_gas;
use tollhouse::facilitator::{Facilitator, Outcome, SettleError};
use tollhouse::payment::{Authorization, Payment, TransactionHash};
use tollhouse::primitives::{Asset, PERMIT2, Timestamp, TransferMethod};
use tollhouse::scheme::exact::permit2::{self, PROXY};
use tollhouse::testing::anvil::{Anvil, CHAIN_ID, RICH, USDC};
use tollhouse::testing::client::{Connection, Request};
use tollhouse::testing::{Backend, Gateway, Wallet};

use crate::world::{PAYEE, PRICE, World, code, now, payer, permit2_payment_of, usdc};

sol! {
    struct TokenPermissions { address token; uint256 amount; }
    struct PermitTransferFrom { TokenPermissions permitted; address spender; uint256 nonce; uint256 deadline; }
    struct Permit { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
    struct Details { address to; uint256 requestedAmount; }

    function permitTransferFrom(Permit permit, Details transferDetails, address owner, bytes signature) external;
}

/// A chain with Permit2 and the proxy, and a payer who has approved Permit2 for ten payments and holds the money.
async fn world() -> World {
    let world = World::new().await;
    world.anvil.deploy_permit2().await;
    let payer = payer().address();
    world.anvil.fund_usdc(payer, 10 * PRICE).await;
    world.anvil.approve_permit2(payer, U256::from(10 * PRICE)).await;
    world
}

fn asset() -> Asset {
    Asset { method: TransferMethod::Permit2, ..usdc() }
}

/// A payment of the price to the payee, good for ten minutes.
fn payment(nonce: u64) -> Payment {
    lasting(nonce, now().after(Duration::from_secs(600)))
}

fn lasting(nonce: u64, until: Timestamp) -> Payment {
    permit2_payment_of(&payer(), nonce, until)
}

fn calldata(payment: &Payment) -> Bytes {
    permit2::calldata(payment.authorization.permit2().expect("it is one"))
}

/// Somebody who saw the signature submits it.
async fn submit(world: &World, payment: &Payment) -> TransactionHash {
    send(world, RICH, PROXY, calldata(payment).to_vec()).await
}

async fn send(world: &World, from: Address, to: Address, input: Vec<u8>) -> TransactionHash {
    let hash = world.anvil.send(from, to, input).await;
    assert_eq!(world.anvil.receipt(hash).await["status"], "0x1", "the chain refused what the test set up");
    hash
}

/// The payer's nonce is used up by a transfer of nothing, to a spender who is not the proxy.
async fn spend_elsewhere(world: &World, nonce: u64) -> TransactionHash {
    let permitted = TokenPermissions { token: USDC, amount: U256::ONE };
    let (nonce, deadline) = (U256::from(nonce), U256::MAX);
    let message = PermitTransferFrom { permitted: permitted.clone(), spender: RICH, nonce, deadline };
    let domain = eip712_domain! { name: "Permit2", chain_id: CHAIN_ID, verifying_contract: PERMIT2, };
    let signature = payer().sign_hash_sync(&message.eip712_signing_hash(&domain)).expect("the payer signs");
    let call = permitTransferFromCall {
        permit: Permit { permitted, nonce, deadline },
        transferDetails: Details { to: RICH, requestedAmount: U256::ZERO },
        owner: payer().address(),
        signature: Bytes::copy_from_slice(&signature.as_bytes()),
    };
    send(world, RICH, PERMIT2, call.abi_encode()).await
}

// ---- settling -----------------------------------------------------------------------------------

#[tokio::test]
async fn a_payment_through_permit2_settles_and_moves_its_money_once() {
    let world = world().await;
    let payment = payment(7);
    world.local.verify(&payment).await.expect("the payer has the money");

    let receipt = world.settle(&payment).await.expect("it settles");

    assert_eq!(world.anvil.transfers(payment.payer().0, PAYEE).await, [(receipt.transaction, PRICE)]);
    assert!(matches!(world.chain.transfer_in(receipt.transaction, &payment).await, Ok(Found::Yes { .. })));
    assert_eq!(code(world.local.verify(&payment).await), "permit2_invalid_nonce");
    assert_eq!(world.anvil.usdc_balance(PAYEE).await, PRICE);
    // The next one stands in the same word of Permit2's, and is another bit of it.
    let (other, node) = (self::payment(8), &world.chain);
    assert_eq!(node.unused(&[&payment, &other]).await.expect("it answers"), [Unused::Perhaps, Unused::Yet]);
    // Whoever compares books with the chain finds the payment by the nonce that the transaction names.
    let moved = world.chain.moved_by(receipt.transaction, USDC).await.expect("the node answers");
    let spent: Vec<_> = moved.expect("it is in a block").transfers.iter().map(|transfer| transfer.spent).collect();
    assert_eq!(spent, [Some(Spent::Permit2(U256::from(7)))]);
}

#[tokio::test]
async fn s31_a_settlement_through_permit2_needs_about_the_gas_that_is_counted_for_one() {
    let world = world().await;
    let counted = usual_gas(TransferMethod::Permit2);
    // Clients draw nonces at random, so each is in a word of its own. The first pays for the payee's empty line, too.
    for word in 1..=2 {
        let settled = world.settle(&payment(word << 8)).await.expect("it settles");
        let used: U64 = serde_json::from_value(world.anvil.receipt(settled.transaction).await["gasUsed"].clone())
            .expect("a receipt says what was used");
        let used: u64 = used.to();
        assert!(used <= counted, "{used}");
        assert!(used > counted / 2, "{used}");
    }
}

#[tokio::test]
async fn what_the_chain_refuses_has_the_sdks_code() {
    let world = World::new().await;
    let payment = payment(1);
    let payer = payer().address();
    assert_eq!(code(world.local.verify(&payment).await), "permit2_proxy_not_deployed");
    world.anvil.deploy_permit2().await;
    assert_eq!(code(world.local.verify(&payment).await), "permit2_insufficient_balance");
    world.anvil.fund_usdc(payer, PRICE).await;
    world.clock.advance(Duration::from_secs(5));
    assert_eq!(code(world.local.verify(&payment).await), "permit2_allowance_required");
    assert!(matches!(
        world.local.prepare(&payment).await,
        Err(SettleError::Declined(decline)) if decline.code == "permit2_allowance_required"
    ));
    world.anvil.approve_permit2(payer, U256::from(PRICE)).await;
    world.local.verify(&payment).await.expect("nothing is in the way any more");

    world.anvil.block_usdc(payer).await;
    assert_eq!(code(world.local.verify(&payment).await), "permit2_simulation_failed");
}

#[tokio::test]
async fn s9_a_chain_without_permit2_is_refused_at_start() {
    let world = World::new().await;
    let error = world.chain.check(&asset()).await.expect_err("there is no Permit2 yet");
    assert!(matches!(error, CheckError::NoContract { address, .. } if address == PERMIT2), "{error}");
    world.anvil.deploy_permit2().await;
    world.chain.check(&asset()).await.expect("everything is there");
}

// ---- proof --------------------------------------------------------------------------------------

#[tokio::test]
async fn s18_a_stranger_who_calls_the_proxy_settles_the_payment_and_nothing_moves_twice() {
    let world = world().await;
    let payment = payment(1);
    let reserved_at = now();
    let theirs = submit(&world, &payment).await;

    assert_eq!(code(world.local.verify(&payment).await), "permit2_invalid_nonce");
    let Outcome::Settled(found) = world.outcome(&payment, None, reserved_at).await else { panic!("it was not found") };
    assert_eq!(found.transaction, theirs);
    let ended = world.settle(&payment).await;
    assert!(matches!(ended, Err(SettleError::Unknown { transaction: None, .. })), "{ended:?}");
    assert_eq!(world.anvil.transfers(payment.payer().0, PAYEE).await, [(theirs, PRICE)]);
}

#[tokio::test]
async fn s18_a_payment_that_a_stranger_settled_with_the_payers_last_money_is_served() {
    for mode in ["on_response", "before_forward"] {
        let (anvil, wallet) = chain_with_permit2(PRICE, PRICE).await;
        let backend = Backend::start().await;
        let route = format!("GET /v1/weather: {{price: $0.01, settle: {mode}}}");
        let (gateway, _folder) = selling(&anvil, &backend, &route).await;
        let challenge = gateway.ask(&Request::get("/v1/weather")).await.challenge().expect("a 402");
        let choice = challenge.choose(|_| true).expect("an offer");
        let signed = wallet.authorize(challenge.dialect, &choice.offer, now());
        let theirs = anvil.send(RICH, PROXY, permit2::calldata(signed.permit2().expect("it is one")).to_vec()).await;

        let paid = Request::get("/v1/weather").paying(&challenge.payment(choice, &signed));
        let mut reply = gateway.ask(&paid).await;
        for _ in 0..100 {
            assert_ne!(reply.status, 402, "{mode}: the money has moved, and the payer is asked for more");
            if reply.status == 200 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
            reply = gateway.ask(&paid).await;
        }

        assert_eq!(reply.status, 200, "{mode}: {}", reply.text());
        assert_eq!(reply.settlement().expect("a receipt").transaction, Some(theirs), "{mode}");
        assert_eq!(anvil.usdc_balance(PAYEE).await, PRICE, "{mode}");
    }
}

#[tokio::test]
async fn s18_a_settlement_through_another_contract_is_found_by_the_bit_it_set() {
    let world = world().await;
    let relay = world.anvil.deploy_relay().await;
    let (paid, unpaid) = (payment(1), payment(2));
    let reserved_at = now();
    spend_elsewhere(&world, 2).await;
    let theirs = send(&world, RICH, relay, calldata(&paid).to_vec()).await;

    let Outcome::Settled(found) = world.outcome(&paid, None, reserved_at).await else { panic!("it was not found") };
    assert_eq!(found.transaction, theirs);
    // The other nonce is used, too, and the transfer looks the same. It was used in another block.
    assert!(matches!(world.chain.transfer_in(theirs, &unpaid).await, Ok(Found::No(NotThere::NoTransfer))));
    assert!(matches!(world.outcome(&unpaid, Some(theirs), reserved_at).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn s19_one_transfer_does_not_stand_for_two_nonces() {
    let world = world().await;
    let (paid, unpaid) = (payment(1), payment(2));
    let hash = submit(&world, &paid).await;

    assert!(matches!(world.chain.transfer_in(hash, &paid).await, Ok(Found::Yes { .. })));
    assert!(matches!(world.chain.transfer_in(hash, &unpaid).await, Ok(Found::No(NotThere::NoTransfer))));
    assert!(matches!(world.outcome(&unpaid, Some(hash), now()).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn s17_a_plain_transfer_and_a_word_of_the_proxy_apart_are_no_proof() {
    let world = world().await;
    let payment = payment(1);
    let cheaper = {
        let mut cheaper = payment.clone();
        cheaper.offer.amount = tollhouse::primitives::AtomicAmount::new(U256::from(PRICE - 1));
        let until = now().after(Duration::from_secs(600)).as_secs();
        let signed = permit2::sign(&payer(), &cheaper.offer, 0, until, U256::ONE).expect("it is an EVM chain");
        cheaper.authorization = Authorization::Permit2(Box::new(signed));
        cheaper
    };
    let hash = submit(&world, &cheaper).await;
    assert!(matches!(world.chain.transfer_in(hash, &payment).await, Ok(Found::No(NotThere::InexactTransfer))));
    assert!(matches!(world.outcome(&payment, None, now()).await, Outcome::Unknown { .. }));
}

#[tokio::test]
async fn s19_a_nonce_that_its_owner_struck_out_is_no_payment() {
    let world = world().await;
    let payment = payment(259);
    let reserved_at = now();
    world.anvil.strike_out(payer().address(), U256::ONE, U256::from(8)).await;

    assert_eq!(code(world.local.verify(&payment).await), "permit2_invalid_nonce");
    let early = world.outcome(&payment, None, reserved_at).await;
    assert!(matches!(early, Outcome::Unknown { .. }), "the block may still be undone: {early:?}");
    world.anvil.pass(10).await;
    let Outcome::NotSettled(decline) = world.outcome(&payment, None, reserved_at).await else { panic!("it is dead") };
    assert_eq!(decline.code, "permit2_invalid_nonce");
}

#[tokio::test]
async fn s19_striking_out_a_nonce_that_was_settled_undoes_nothing() {
    let world = world().await;
    let payment = payment(3);
    let reserved_at = now();
    let hash = submit(&world, &payment).await;
    world.anvil.strike_out(payer().address(), U256::ZERO, U256::from(8)).await;
    world.anvil.pass(10).await;
    let Outcome::Settled(found) = world.outcome(&payment, None, reserved_at).await else { panic!("it settled") };
    assert_eq!(found.transaction, hash);
}

#[tokio::test]
async fn s19_a_nonce_that_was_spent_elsewhere_is_never_called_settled_nor_proven_dead() {
    let world = world().await;
    let payment = payment(5);
    spend_elsewhere(&world, 5).await;
    world.anvil.pass(3600).await;
    let ended = world.outcome(&payment, None, now()).await;
    assert!(matches!(ended, Outcome::Unknown { .. }), "no log says what it was spent on: {ended:?}");
}

#[tokio::test]
async fn s28_a_payment_that_lapsed_unused_is_proven_dead_and_not_a_second_before() {
    let world = world().await;
    let deadline = world.chain_time().await.after(Duration::from_secs(100));
    let payment = lasting(1, deadline);
    let reserved_at = now();
    world.anvil.pass(90).await;
    assert!(matches!(world.outcome(&payment, None, reserved_at).await, Outcome::Unknown { .. }));
    world.anvil.pass(20).await;
    let Outcome::NotSettled(decline) = world.outcome(&payment, None, reserved_at).await else { panic!("it lapsed") };
    assert_eq!(decline.code, "permit2_deadline_expired");
}

#[tokio::test]
async fn s18_a_settlement_from_before_the_reservation_is_somebody_elses() {
    let world = world().await;
    let payment = payment(1);
    submit(&world, &payment).await;
    world.anvil.pass(10).await;
    let later = world.chain_time().await.after(Duration::from_secs(300));
    assert!(matches!(world.outcome(&payment, None, later).await, Outcome::NotSettled(_)));
}

// ---- the whole gateway --------------------------------------------------------------------------

const OWN_CHAIN: u64 = 4242;

/// A gateway on a chain of its own, whose token is paid through Permit2 and settled with our own key.
async fn selling(anvil: &Anvil, backend: &Backend, route: &str) -> (Gateway, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let key = Wallet::random().address().into_word();
    anvil.fund_gas(Wallet::from_key(key).address()).await;
    let file = folder.path().join("gas-key");
    std::fs::write(&file, alloy::primitives::hex::encode(key)).expect("the folder is ours");
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("the file is ours");
    let text = format!(
        "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nupstream: {}\n\
         networks:\n  ours:\n    chain: eip155:{OWN_CHAIN}\n    testnet: true\n    assets:\n      USDC: {{address: \"{USDC}\", \
         decimals: 6, peg: usd, permit2: true, eip712: {{name: USDC, version: \"2\"}}}}\n\
         pay_to: {{ours: \"{PAYEE}\"}}\nledger: memory\n\
         facilitators: [{{name: own, networks: [ours], local: {{rpc: [\"{}\"], signer: {{file: {}}}}}}}]\n\
         routes:\n  {route}\n",
        backend.url(),
        anvil.rpc_url().expose(),
        file.display()
    );
    let gateway = Gateway::start(&text, Arc::new(tollhouse::primitives::SystemClock)).await;
    (gateway, folder)
}

async fn chain_with_permit2(balance: u64, allowance: u64) -> (Anvil, Wallet) {
    let (anvil, wallet) = (Anvil::serving(OWN_CHAIN).await, Wallet::random());
    anvil.deploy_permit2().await;
    anvil.fund_usdc(wallet.address(), balance).await;
    anvil.approve_permit2(wallet.address(), U256::from(allowance)).await;
    (anvil, wallet)
}

/// Buys so many times at once, each with a payment of its own, and counts the answers by status.
async fn buy(gateway: &Gateway, wallet: &Wallet, times: usize) -> Vec<u16> {
    let mut payments = Vec::new();
    for _ in 0..times {
        let challenge = gateway.ask(&Request::get("/v1/weather")).await;
        assert_eq!(challenge.status, 402);
        payments.push(wallet.pay(&challenge.fields, &challenge.body, now()).expect("it can be paid"));
    }
    let address = gateway.address();
    let asked = payments.into_iter().map(|payment| {
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await;
            connection.send(&Request::get("/v1/weather").paying(&payment)).await;
            connection.reply().await.status
        })
    });
    let mut statuses = Vec::new();
    for asked in asked.collect::<Vec<_>>() {
        statuses.push(asked.await.expect("nothing panics"));
    }
    statuses.sort_unstable();
    statuses
}

#[tokio::test]
async fn s36_ten_payments_at_once_on_a_balance_for_three_buy_three_answers() {
    for mode in ["on_response", "before_forward"] {
        let (anvil, wallet) = chain_with_permit2(3 * PRICE, 100 * PRICE).await;
        let backend = Backend::start().await;
        let route = format!("GET /v1/weather: {{price: $0.01, settle: {mode}}}");
        let (gateway, _folder) = selling(&anvil, &backend, &route).await;

        let statuses = buy(&gateway, &wallet, 10).await;

        assert_eq!(statuses, [[200; 3].as_slice(), [402; 7].as_slice()].concat(), "{mode}");
        assert_eq!(backend.requests().len(), 3, "{mode}: nobody works for a payment that cannot settle");
        assert_eq!(anvil.usdc_balance(PAYEE).await, 3 * PRICE, "{mode}");
    }
}

#[tokio::test]
async fn s36_the_allowance_bounds_what_is_in_flight_too_and_412_says_so() {
    let (anvil, wallet) = chain_with_permit2(100 * PRICE, 2 * PRICE).await;
    let backend = Backend::start().await;
    let (gateway, _folder) = selling(&anvil, &backend, "GET /v1/weather: $0.01").await;

    assert_eq!(buy(&gateway, &wallet, 6).await, [[200; 2].as_slice(), [412; 4].as_slice()].concat());
    assert_eq!(backend.requests().len(), 2);
    assert_eq!(buy(&gateway, &wallet, 1).await, [412], "nothing is in flight, and the allowance is used up");
    anvil.approve_permit2(wallet.address(), U256::from(PRICE)).await;
    assert_eq!(buy(&gateway, &wallet, 1).await, [200], "what has settled is counted no more");
    assert_eq!(anvil.usdc_balance(PAYEE).await, 3 * PRICE);
}
