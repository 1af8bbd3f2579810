//! Headers that nobody honest sends.

use alloy::primitives::{Address, B256, Bytes, U256};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderValue;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tollhouse::payment::{Authorization, Dialect, Eip3009, Offer, PaymentKey, SignatureBytes};
use tollhouse::primitives::{AtomicAmount, Nonce};
use tollhouse::protocol::x402::client::payment_for;
use tollhouse::protocol::x402::{X402, payment_field};
use tollhouse::protocol::{DecodeError, Protocol};
use tollhouse::scheme::exact::Eip3009Exact;
use tollhouse::scheme::{Mismatch, Scheme, matches};

use crate::support::*;

fn base_offer() -> Offer {
    offer(&vector("eip3009-base-mainnet")["requirements"])
}

fn dialect() -> impl Strategy<Value = Dialect> {
    prop_oneof![Just(Dialect::V1), Just(Dialect::V2)]
}

fn authorization() -> impl Strategy<Value = Eip3009> {
    let word = any::<[u8; 32]>;
    let address = any::<[u8; 20]>;
    let signature = prop::collection::vec(any::<u8>(), 0..200);
    (address(), address(), word(), word(), word(), word(), signature).prop_map(
        |(from, to, value, valid_after, valid_before, nonce, signature)| Eip3009 {
            from: Address::new(from),
            to: Address::new(to),
            value: AtomicAmount::new(U256::from_be_bytes(value)),
            valid_after: U256::from_be_bytes(valid_after),
            valid_before: U256::from_be_bytes(valid_before),
            nonce: Nonce(B256::new(nonce)),
            signature: SignatureBytes(Bytes::from(signature)),
        },
    )
}

fn json_tree() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map(".{0,8}", inner, 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

fn decode_text(dialect: Dialect, text: &str) -> Result<(), DecodeError> {
    let value = HeaderValue::try_from(STANDARD.encode(text)).expect("base64 is ASCII");
    X402.decode(&one_field(payment_field(dialect), value)).map(drop)
}

fn refused(dialect: Dialect, text: &str) -> bool {
    matches!(decode_text(dialect, text), Err(DecodeError::Unreadable { .. }))
}

/// Every place of a payment where a value may stand.
fn places(value: &Value, here: &str, found: &mut Vec<String>) {
    found.push(here.to_owned());
    if let Value::Object(entries) = value {
        for (key, inner) in entries {
            places(inner, &format!("{here}/{key}"), found);
        }
    }
}

proptest! {
    #[test]
    fn no_header_bytes_make_the_decoder_panic(dialect in dialect(), bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            let _ = X402.decode(&one_field(payment_field(dialect), value));
        }
        let packed = HeaderValue::try_from(STANDARD.encode(&bytes)).expect("base64 is ASCII");
        prop_assert!(X402.decode(&one_field(payment_field(dialect), packed)).is_err());
    }

    #[test]
    fn no_json_makes_the_decoder_panic(dialect in dialect(), tree in json_tree(), place in any::<prop::sample::Index>()) {
        let _ = decode_text(dialect, &tree.to_string());
        let mut payment = vector("eip3009-base-mainnet")["paymentPayload"].clone();
        let mut found = Vec::new();
        places(&payment, "", &mut found);
        *payment.pointer_mut(place.get::<String>(&found)).expect("a place") = tree;
        let _ = decode_text(Dialect::V2, &payment.to_string());
    }

    #[test]
    fn a_payment_with_one_changed_byte_is_refused_or_still_says_who_pays(
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let payment = vector("eip3009-base-mainnet")["paymentPayload"].to_string();
        let mut bytes = payment.into_bytes();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        let value = HeaderValue::try_from(STANDARD.encode(&bytes)).expect("base64 is ASCII");
        if let Ok(Some(credential)) = X402.decode(&one_field(payment_field(Dialect::V2), value)) {
            // Whatever the change was, the signature covers everything that moves money.
            let signed = vector("eip3009-base-mainnet");
            let original = decode(&header(signed, "PAYMENT-SIGNATURE")).authorization;
            let proven = Eip3009Exact.signature(&base_offer(), &credential.authorization);
            prop_assert!(proven == Err(Mismatch::Signature) || credential.authorization == original);
        }
    }

    #[test]
    fn what_a_client_writes_is_what_we_read(dialect in dialect(), signed in authorization(), quote in "[A-Za-z0-9_-]{0,64}") {
        let offer = base_offer();
        let resource = resource(&vector("eip3009-base-mainnet")["paymentRequired"]["resource"]);
        let (field, value) = payment_for(dialect, &offer, Some(&quote), &resource, &signed);
        let credential = decode(&one_field(field, value));
        prop_assert_eq!(credential.authorization, Authorization::Eip3009(signed));
        prop_assert_eq!(credential.dialect, dialect);
        prop_assert!(matches(&offer, &credential.chosen));
        if dialect == Dialect::V2 {
            prop_assert_eq!(credential.chosen.terms.and_then(|terms| terms.quote), Some(quote));
        }
    }

    #[test]
    fn s3_one_payment_has_one_key_however_it_is_spelled(dialect in dialect(), signed in authorization(), padded in any::<bool>()) {
        let offer = base_offer();
        let key = |authorization: &Authorization| PaymentKey::of(&offer.network.id, offer.asset.address, authorization);
        let expected = key(&Authorization::Eip3009(signed.clone()));
        let resource = resource(&vector("eip3009-base-mainnet")["paymentRequired"]["resource"]);
        let (field, value) = payment_for(dialect, &offer, None, &resource, &signed);
        let mut payment = unpack(&value);
        for pointer in ["/payload/authorization/from", "/payload/authorization/nonce", "/payload/signature"] {
            let digits = payment.pointer_mut(pointer).expect("it is there");
            *digits = json!(format!("0x{}", text(digits)[2..].to_uppercase()));
        }
        let spaced = serde_json::to_vec_pretty(&payment).expect("JSON");
        let respelled = if padded { STANDARD.encode(spaced) } else { STANDARD_NO_PAD.encode(spaced) };
        let credential = decode(&one_field(field, HeaderValue::try_from(respelled).expect("ASCII")));
        prop_assert_eq!(key(&credential.authorization), expected);
    }

    #[test]
    fn s52_a_key_standing_twice_is_refused_at_any_depth(dialect in dialect(), depth in 0_usize..12, same in any::<bool>()) {
        let payment = match dialect {
            Dialect::V1 => &vector("v1-from-v2-sdk")["paymentPayload"],
            Dialect::V2 => &vector("eip3009-base-mainnet")["paymentPayload"],
        };
        let twice = if same { r#"{"k":1,"k":1}"# } else { r#"{"k":1,"\u006b":2}"# };
        let once = r#"{"k":1,"l":2}"#;
        let with = |inner: &str| {
            let nested = format!("{}{inner}{}", "{\"n\":".repeat(depth), "}".repeat(depth));
            payment.to_string().replacen('{', &format!("{{\"extensions\":{nested},"), 1)
        };
        prop_assert_eq!(decode_text(dialect, &with(once)), Ok(()));
        prop_assert!(refused(dialect, &with(twice)));
    }
}

#[test]
fn s52_depth_17_is_refused_and_16_is_read() {
    let payment = vector("eip3009-base-mainnet")["paymentPayload"].to_string();
    let with_depth = |depth: usize| {
        let nested = format!("{}{}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        payment.replacen('{', &format!("{{\"extensions\":{{}},\"more\":{nested},"), 1)
    };
    assert_eq!(decode_text(Dialect::V2, &with_depth(16)), Ok(()));
    assert!(refused(Dialect::V2, &with_depth(17)));
}

#[test]
fn s52_a_signed_field_standing_twice_is_refused() {
    for (once, twice) in [
        (r#""value":"10000""#, r#""value":"1","value":"10000""#),
        (r#""x402Version":2"#, r#""x402Version":2,"x402Version":2"#),
        (r#""to":"#, r#""to":"0x0000000000000000000000000000000000000001","to":"#),
    ] {
        let payment = vector("eip3009-base-mainnet")["paymentPayload"].to_string();
        assert!(payment.contains(once), "{once}");
        assert!(refused(Dialect::V2, &payment.replacen(once, twice, 1)), "{twice}");
    }
}
