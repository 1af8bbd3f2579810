//! `exact` through Permit2: the SDK's vectors, and every case it refuses.

use std::time::Duration;

use alloy::primitives::{Address, Bytes, U256, address};
use http::StatusCode;
use serde_json::Value;
use tollhouse::payment::{Advice, Authorization, Credential, Dialect, Offer, Payment, PaymentKey, Permit2, Problem};
use tollhouse::primitives::{AtomicAmount, PERMIT2, TransferMethod};
use tollhouse::protocol::x402::client::Challenge;
use tollhouse::protocol::x402::wire::facilitator_request;
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, X_PAYMENT, X402};
use tollhouse::protocol::{DecodeError, Protocol, Quoted};
use tollhouse::scheme::exact::{Exact, permit2};
use tollhouse::scheme::{Scheme, matches};

use crate::support::*;

/// The proxy of the scheme `upto`.
const UPTO: Address = address!("0x4020A4f3b7b90ccA423B9fabCc0CE57C6C240002");

fn base() -> &'static Value {
    vector("permit2-exact-base")
}

fn credential() -> Credential {
    decode(&header(base(), "PAYMENT-SIGNATURE"))
}

fn ours() -> Offer {
    offer(&base()["requirements"])
}

fn signed() -> Permit2 {
    credential().authorization.permit2().expect("it is one").clone()
}

/// The same authorization with something changed, and signed anew by the payer.
fn resigned(change: impl FnOnce(&mut Permit2)) -> Authorization {
    let mut signed = signed();
    change(&mut signed);
    let digest = permit2::digest(&ours(), &signed).expect("an EVM chain");
    signed.signature.0 = Bytes::from(payer().sign_digest(digest));
    Authorization::Permit2(Box::new(signed))
}

fn verdict(offer: &Offer, authorization: &Authorization) -> Result<(), String> {
    // The SDK demands six seconds; our margin is the toll's and never less.
    let terms = Exact.terms(offer, authorization, NOW, Duration::from_secs(6));
    let checked = terms.and_then(|()| Exact.signature(offer, authorization));
    checked.map(drop).map_err(|mismatch| mismatch.code().to_owned())
}

#[test]
fn what_the_sdk_signs_is_what_we_check_and_submit() {
    let (typed, signed) = (&base()["typedData"], signed());
    assert_eq!(PERMIT2.to_string(), base()["permit2"]);
    assert_eq!(permit2::PROXY.to_string(), base()["proxy"]);
    assert_eq!(permit2::domain_separator(8453).to_string(), typed["domainSeparator"]);
    assert_eq!(permit2::struct_hash(&signed).to_string(), typed["structHash"]);
    assert_eq!(permit2::digest(&ours(), &signed).expect("an EVM chain").to_string(), typed["digest"]);
    assert_eq!(permit2::calldata(&signed).to_string(), base()["settleCalldata"]);
    assert_eq!(permit2::presented(&permit2::calldata(&signed)), Some((signed.from, signed.nonce)));
    assert_eq!(verdict(&ours(), &credential().authorization), Ok(()));
}

#[test]
fn our_signer_signs_as_the_sdks_do() {
    let given = signed();
    let ours = payer().sign_permit2(&ours(), 0, given.deadline.to(), given.nonce);
    assert_eq!(ours, given, "signatures are deterministic");
}

#[test]
fn a_payment_is_read_and_written_as_the_sdk_writes_it() {
    let credential = credential();
    assert!(matches(&ours(), &credential.chosen));
    assert_eq!(ours().asset.method, TransferMethod::Permit2);
    let resource = resource(&base()["paymentPayload"]["resource"]);
    let payment =
        Payment { offer: ours(), authorization: credential.authorization.clone(), dialect: Dialect::V2, resource };
    let request = facilitator_request(&payment, Dialect::V2);
    assert_eq!(request["paymentPayload"], base()["paymentPayload"]);
    assert_eq!(request["paymentRequirements"], base()["requirements"]);
}

#[test]
fn the_ledger_keeps_an_authorization_whole() {
    let authorization = credential().authorization;
    let kept = serde_json::to_string(&authorization).expect("it can be kept");
    assert!(kept.starts_with(r#"{"permit2":{"#), "{kept}");
    assert_eq!(serde_json::from_str::<Authorization>(&kept).expect("it can be read"), authorization);
}

/// Every mutation of the group that a check without a chain can see; the others are in `facilitator_local`.
#[test]
fn every_refusal_has_the_sdks_code() {
    for (name, case) in cases("permit2-negative-verify").filter(|(name, _)| !name.starts_with("settle reverts")) {
        let expected = case["sdkVerify"]["invalidReason"].as_str();
        let authorization = match name {
            "unchanged" => credential().authorization,
            "spender is upto proxy" => resigned(|signed| signed.spender = UPTO),
            "witness.to differs" => resigned(|signed| signed.to = UPTO),
            "deadline within 6 s" => resigned(|signed| signed.deadline = U256::from(NOW.as_secs() + 5)),
            "witness.validAfter in future" => resigned(|signed| signed.valid_after = U256::from(NOW.as_secs() + 1)),
            "amount differs" => resigned(|signed| signed.amount = AtomicAmount::new(U256::from(49_999))),
            "token differs" => resigned(|signed| signed.token = UPTO),
            "signature broken" => {
                let mut signed = signed();
                signed.nonce += U256::ONE;
                Authorization::Permit2(Box::new(signed))
            }
            // The client's word selects an offer of ours, and these select none.
            "scheme upto in accepted" | "network differs" => {
                let mut payment = base()["paymentPayload"].clone();
                let (key, value) =
                    if name.starts_with("scheme") { ("scheme", "upto") } else { ("network", "eip155:1") };
                payment["accepted"][key] = value.into();
                let credential = decode_v2(&payment).expect("it is readable");
                assert!(!matches(&ours(), &credential.chosen), "{name}");
                continue;
            }
            other => panic!("{other} is in no table"),
        };
        assert_eq!(verdict(&ours(), &authorization).err().as_deref(), expected, "{name}");
    }
}

#[test]
fn s28_a_promise_for_years_is_refused_and_one_to_the_second_is_not() {
    let until = |seconds: u64| resigned(|signed| signed.deadline = U256::from(NOW.as_secs() + seconds));
    let longest = ours().max_timeout.as_secs() + 3600;
    assert_eq!(verdict(&ours(), &until(6)), Ok(()));
    assert_eq!(verdict(&ours(), &until(longest)), Ok(()));
    assert_eq!(verdict(&ours(), &until(longest + 1)).err().as_deref(), Some("permit2_deadline_expired"));
    let forever = resigned(|signed| signed.deadline = U256::MAX);
    assert_eq!(verdict(&ours(), &forever).err().as_deref(), Some("permit2_deadline_expired"));
}

#[test]
fn s4_the_mirror_image_of_a_signature_is_refused_and_a_recovery_id_is_normalised() {
    let with = |change: fn(&mut Vec<u8>)| {
        let mut signed = signed();
        let mut bytes = signed.signature.0.to_vec();
        change(&mut bytes);
        signed.signature.0 = bytes.into();
        Exact.signature(&ours(), &Authorization::Permit2(Box::new(signed))).map(|checked| checked.authorization)
    };
    assert_eq!(with(|bytes| bytes[64] -= 27), Ok(credential().authorization));
    assert!(
        with(|bytes| {
            let order =
                alloy::primitives::uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
            let s = U256::from_be_slice(&bytes[32..64]);
            bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
            bytes[64] = 27 + 28 - bytes[64];
        })
        .is_err()
    );
    assert!(with(|bytes| bytes.truncate(64)).is_err(), "Permit2 would take 64 bytes; no wallet sends them");
}

#[test]
fn each_token_takes_only_the_kind_of_authorization_it_was_offered_with() {
    let transfer = decode(&header(vector("eip3009-base-mainnet"), "PAYMENT-SIGNATURE")).authorization;
    let eip3009 = offer(&vector("eip3009-base-mainnet")["requirements"]);
    for (offer, authorization) in [(ours(), transfer), (eip3009, credential().authorization)] {
        assert_eq!(verdict(&offer, &authorization).err().as_deref(), Some("unsupported_payload_type"));
    }
}

#[test]
fn s3_a_permit2_nonce_is_one_payment_whatever_the_token() {
    let (network, signed) = (ours().network.id.clone(), signed());
    let key = |asset: Address, signed: &Permit2| {
        PaymentKey::of(&network, asset, &Authorization::Permit2(Box::new(signed.clone())))
    };
    let other_token = Permit2 { token: UPTO, ..signed.clone() };
    assert_eq!(key(signed.token, &signed), key(UPTO, &other_token));
    assert_eq!(key(signed.token, &signed), PaymentKey::of_permit2(&network, signed.from, signed.nonce));
    let others =
        [Permit2 { nonce: signed.nonce + U256::ONE, ..signed.clone() }, Permit2 { from: UPTO, ..signed.clone() }];
    assert!(others.iter().all(|other| key(signed.token, other) != key(signed.token, &signed)));
    let elsewhere = "eip155:1".parse().expect("a chain");
    assert_ne!(PaymentKey::of_permit2(&elsewhere, signed.from, signed.nonce), key(UPTO, &signed));
}

#[test]
fn v1_has_no_word_for_permit2() {
    let v1 = vector("v1-x-payment-base-sepolia");
    let mut payment = unpack(&header(v1, "X-PAYMENT")[X_PAYMENT]);
    payment["payload"] = base()["payload"].clone();
    let read = X402.decode(&one_field(X_PAYMENT, pack(&payment)));
    assert!(
        matches!(&read, Err(DecodeError::Unreadable { reason, .. }) if reason == "unsupported_payload_type"),
        "{read:?}"
    );
}

#[test]
fn s53_a_payload_that_is_of_two_kinds_is_of_none() {
    let mut payment = base()["paymentPayload"].clone();
    payment["payload"]["authorization"] =
        vector("eip3009-base-mainnet")["paymentPayload"]["payload"]["authorization"].clone();
    let read = decode_v2(&payment);
    assert!(matches!(&read, Err(DecodeError::Unreadable { reason, .. }) if reason == "unsupported_payload_type"));
}

#[test]
fn whoever_has_to_approve_permit2_hears_412_with_the_offer() {
    let problem = Problem {
        advice: Advice::Approve,
        reason: "permit2_allowance_required".into(),
        dialect: Some(Dialect::V2),
        failed_settlement: None,
        retry_after: None,
    };
    let resource = resource(&base()["paymentPayload"]["resource"]);
    let offer = ours();
    let answer = X402.refuse(&problem, &resource, &[Quoted { offer: &offer, quote: None }]);
    assert_eq!(answer.status, StatusCode::PRECONDITION_FAILED);
    let challenge = unpack(&answer.fields[PAYMENT_REQUIRED]);
    assert_eq!(challenge["error"], "permit2_allowance_required");
    assert_eq!(challenge["accepts"][0], base()["requirements"]);
    let read = Challenge::read(&answer.fields, &answer.body).expect("it is a challenge");
    assert_eq!(read.choices[0].offer, offer, "our client reads it back");
    let v1: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(v1["accepts"], serde_json::json!([]), "v1 clients would sign what the token does not take");
}
