//! Strangers who present junk, factories nobody has listed, wallets that lie, burn gas or change their mind.

use alloy::primitives::{Address, Bytes, U64};
use tokio::task::JoinSet;
use tollhouse::payment::{Dialect, Eip3009, SignatureBytes};
use tollhouse::scheme::erc6492::{self, Creation};
use tollhouse::testing::client::{Connection, Request};
use tollhouse::testing::smart_wallet::Form;
use tollhouse::testing::{SmartWallet, Wallet};

use crate::world::{Asked, PRICE, Payment, World, assert_paid, assert_refused, now};

/// What strangers may ask in a burst, and in a second (CONFIGURATION.md, "Contract wallets").
const BURST: usize = 100;
const PER_SECOND: usize = 20;

#[tokio::test]
async fn s32_i5_a_wallet_is_asked_only_where_the_operator_accepts_wallets() {
    for keys in ["wallets: refuse", "confirmations: {blocks: 1}"] {
        let world = World::of(Asked::Node, keys, "on_response").await;
        let payment = world.payment(&world.wallet().await, Form::Long).await;
        world.node.asked();
        assert_refused(&world.pay(&payment).await, "invalid_exact_evm_signature");
        assert_eq!(world.judgements(), 0);
    }
}

#[tokio::test]
async fn s32_a_flood_of_junk_asks_no_more_than_the_ration_and_stops_no_plain_account() {
    let world = World::new().await;
    let (honest, number) = (Wallet::random(), 400_u32);
    world.anvil.fund_usdc(honest.address(), PRICE).await;
    let plain = world.signed(|offer| honest.accept(Dialect::V2, offer, now())).await;
    let stranger = world.wallet().await;
    let mut flood = Vec::new();
    let sample = world.payment(&stranger, Form::Long).await;
    for junk in 0..number {
        flood.push(junked(&sample, junk));
    }
    world.node.asked();

    let began = std::time::Instant::now();
    let mut copies = JoinSet::new();
    for payment in flood {
        let (at, request) = (world.gateway.address(), Request::get("/weather").paying(&payment));
        copies.spawn(async move {
            let mut connection = Connection::open(at).await;
            connection.send(&request).await;
            let reply = connection.reply().await;
            (reply.status, reply.field("retry-after").is_some())
        });
    }
    assert_paid(&world.pay(&plain).await);
    let replies = copies.join_all().await;
    let most = BURST + PER_SECOND * (1 + began.elapsed().as_secs() as usize);

    let judged = world.judgements();
    assert!(judged > 0 && judged <= most, "{judged} questions, {most} allowed");
    assert!(replies.iter().all(|reply| matches!(reply, (402, false) | (503, true))), "{replies:?}");
    assert!(replies.iter().filter(|(status, _)| *status == 503).count() >= number as usize - most);
    assert_eq!((world.backend.hits(), world.gateway.entries().await.len()), (1, 1), "of the plain account alone");
}

#[tokio::test]
async fn s32_the_same_junk_is_asked_about_once() {
    let world = World::new().await;
    let junk = junked(&world.payment(&world.wallet().await, Form::Long).await, 1);
    world.node.asked();
    for _ in 0..20 {
        assert_refused(&world.pay(&junk).await, "invalid_exact_evm_signature");
    }
    assert_eq!(world.judgements(), 1);
}

#[tokio::test]
async fn s30_a_factory_that_is_not_listed_is_never_called() {
    let world = World::new().await;
    let trap = world.anvil.deploy("Trap").await;
    let wallet = world.coming_wallet().await;
    let unlisted = SmartWallet { creation: Creation { factory: trap, ..wallet.creation.clone() }, ..wallet.clone() };
    let payment = world.payment(&unlisted, Form::Wrapped).await;
    world.node.asked();
    assert_refused(&world.pay(&payment).await, "eip6492_factory_not_allowed");
    assert_eq!((world.judgements(), world.judged("factory")), (0, 1));

    let none_listed = World::of(Asked::Node, "wallets: accept", "on_response").await;
    let wallet = none_listed.coming_wallet().await;
    let payment = none_listed.payment(&wallet, Form::Wrapped).await;
    none_listed.node.asked();
    assert_refused(&none_listed.pay(&payment).await, "eip6492_factory_not_allowed");
    assert_eq!(none_listed.judgements(), 0, "an empty list denies");
}

#[tokio::test]
async fn s30_what_a_listed_factory_is_made_to_do_by_a_question_is_undone() {
    let world = World::new().await;
    let wallet = world.coming_wallet().await;
    let stolen = SmartWallet { owner: Wallet::random(), ..wallet.clone() };
    assert_refused(&world.pay(&world.payment(&stolen, Form::Wrapped).await).await, "invalid_exact_evm_signature");
    assert!(!world.anvil.has_code(wallet.address).await, "nothing was created");
    assert!(world.paid_by(wallet.address).await.is_empty());
}

#[tokio::test]
async fn s6_a_wallet_that_accepts_everything_spends_its_own_money_alone() {
    let world = World::new().await;
    let (victim, accomplice) = (world.wallet().await, world.moody(0).await);
    let (account, thief) = (Wallet::random(), Wallet::random());
    world.anvil.fund_usdc(account.address(), PRICE).await;

    for (payer, form) in
        [(victim.address, Form::Plain), (victim.address, Form::Wrapped), (account.address(), Form::Plain)]
    {
        let forged = SmartWallet { address: payer, creation: accomplice.creation.clone(), owner: thief.clone() };
        assert_refused(&world.pay(&world.payment(&forged, form).await).await, "invalid_exact_evm_signature");
        assert!(world.paid_by(payer).await.is_empty());
    }
    // Nor does what it accepted once pay again under another nonce without money.
    assert_paid(&world.pay(&world.payment(&accomplice, Form::Plain).await).await);
    assert_refused(&world.pay(&world.payment(&accomplice, Form::Plain).await).await, "insufficient_balance");
    assert_eq!((world.paid_by(accomplice.address).await, world.backend.hits()), (vec![PRICE], 1));
}

#[tokio::test]
async fn s30_a_wallet_that_does_not_answer_as_it_should_has_not_accepted() {
    let world = World::new().await;
    for mood in [1, 2, 3, 4, 5, 7, 8] {
        let wallet = world.moody(mood).await;
        let reply = world.pay(&world.payment(&wallet, Form::Plain).await).await;
        assert_refused(&reply, "invalid_exact_evm_signature");
    }
    assert_eq!((world.judged("refused"), world.judged("unavailable")), (7, 0), "no wallet makes a node look broken");
    assert!(world.gateway.entries().await.is_empty() && world.backend.hits() == 0);
}

#[tokio::test]
async fn s30_s11_a_wallet_that_changes_its_mind_when_it_pays_gets_nothing_and_burns_little() {
    for (mood, settle) in [(6, "on_response"), (9, "before_forward")] {
        let world = World::of(Asked::Node, "wallets: accept", settle).await;
        let wallet = world.moody(mood).await;
        let reply = world.pay(&world.payment(&wallet, Form::Plain).await).await;

        assert_eq!(reply.status, 503, "its authorization is public and good: {}", reply.text());
        let settlement = reply.settlement().expect("what is known of the money");
        let transaction = settlement.transaction.expect("the transaction is known");
        assert!(!settlement.success && world.paid_by(wallet.address).await.is_empty());
        let receipt = world.anvil.receipt(transaction).await;
        let gas: U64 = serde_json::from_value(receipt["gasUsed"].clone()).expect("a receipt says it");
        assert_eq!(receipt["status"], "0x0");
        assert!(gas.to::<u64>() <= 300_000, "{gas} gas");
    }
}

#[tokio::test]
async fn s4_a_signature_that_is_too_long_or_empty_or_badly_wrapped_is_not_asked_about() {
    let world = World::new().await;
    let wallet = world.wallet().await;
    let with = |bytes: Vec<u8>| {
        let wallet = wallet.clone();
        move |offer: &tollhouse::payment::Offer| Eip3009 {
            signature: SignatureBytes(Bytes::from(bytes)),
            ..wallet.accept(Form::Plain, offer, now())
        }
    };
    let creation = Creation { factory: Address::ZERO, calldata: Bytes::new() };
    let suffix = erc6492::wrap(&creation, &Bytes::new()).split_off(128).to_vec();
    for (bytes, why) in [
        (Vec::new(), "invalid_exact_evm_signature"),
        (vec![1; 4097], "too long"),
        (suffix, "invalid_exact_evm_signature"),
    ] {
        let payment = world.signed(with(bytes)).await;
        world.node.asked();
        assert_refused(&world.pay(&payment).await, why);
        assert_eq!(world.judgements(), 0);
    }
}

/// The payment with other bytes for a signature.
fn junked(payment: &Payment, number: u32) -> Payment {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let text = STANDARD.decode(payment.1.as_bytes()).expect("base64");
    let mut json: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
    json["payload"]["signature"] = format!("0x{number:08x}{:0>120}", "").into();
    let value = STANDARD.encode(json.to_string());
    (payment.0.clone(), http::HeaderValue::try_from(value).expect("base64 is a header value"))
}
