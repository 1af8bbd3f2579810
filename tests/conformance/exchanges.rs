//! Whole answers: what the SDK's server says in each situation, and what we say.

use http::HeaderValue;
use serde_json::{Value, json};
use tollhouse::payment::{Advice, Dialect, FailedSettlement, Offer, Problem, Receipt, TransactionHash, Wait};
use tollhouse::primitives::{Payer, Timestamp};
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, X_PAYMENT, X402};
use tollhouse::protocol::{Answer, DecodeError, Protocol, Quoted};

use crate::support::*;

/// Situations that never reach the protocol: routes, methods and schemes are decided elsewhere.
const ELSEWHERE: [&str; 2] = ["HEAD is not covered by a GET route", "OPTIONS is not covered by a GET route"];

/// A 402 of ours with other words: a client that sent a payment learns what was wrong with it, where the SDK treats
/// what it cannot read as absent.
const OTHER_WORDS: [(&str, &str); 5] = [
    ("valid payment but header is base64url without padding", "invalid_payload: not standard base64"),
    ("garbage header", "invalid_payload: not standard base64"),
    ("valid base64 of non-JSON", "invalid_payload: not JSON"),
    ("JSON null", "invalid_payload: not a JSON object"),
    // A v2 server ignores X-PAYMENT; we speak v1 too, and this is not v1.
    ("payload valid but sent as X-PAYMENT", "Unsupported x402 version: 2"),
];

/// No 402 of ours: the SDK invites to pay again while nobody knows whether the first payment went through (I4), or
/// although the trouble is ours and not the payer's (S65).
const OTHER_STATUS: [(&str, u16); 3] = [
    ("facilitator unreachable during verify", 503),
    ("settlement_pending twice", 503),
    ("facilitator unreachable during settle", 503),
];

/// The route of the vectors.
fn weather() -> (Offer, tollhouse::payment::Resource) {
    let (_, case) = cases("http-exchanges").next().expect("a case");
    let required = &case["response"]["decoded"]["PAYMENT-REQUIRED"];
    (offer(&required["accepts"][0]), resource(&required["resource"]))
}

fn refuse(advice: Advice, reason: &str, failed_settlement: Option<FailedSettlement>) -> Answer {
    let (offer, resource) = weather();
    let problem = Problem {
        advice,
        reason: reason.to_owned().into(),
        dialect: Some(Dialect::V2),
        failed_settlement,
        retry_after: None,
    };
    X402.refuse(&problem, &resource, &[Quoted { offer: &offer, quote: None }])
}

fn payer_of(case: &Value) -> FailedSettlement {
    let payer = case["response"]["decoded"]["PAYMENT-RESPONSE"]["payer"].as_str();
    FailedSettlement {
        payer: Payer(payer.map_or(payer_address(), |payer| payer.parse().expect("an address"))),
        network: "eip155:84532".parse().expect("CAIP-2"),
        network_v1: Some("base-sepolia".into()),
    }
}

fn payer_address() -> alloy::primitives::Address {
    payer().address()
}

fn pending(transaction: Option<TransactionHash>, case: &Value) -> Answer {
    let FailedSettlement { payer, network, network_v1 } = payer_of(case);
    refuse(Advice::Wait(Wait::Unresolved { transaction, network, network_v1, payer }), "settlement_pending", None)
}

/// The header that the case sends. The vectors shorten it, so it is made again.
fn sent(name: &str) -> Option<(http::HeaderName, HeaderValue)> {
    let payment = || vector("eip3009-base-sepolia")["paymentPayload"].clone();
    let edited = |edit: fn(&mut Value)| {
        let mut payment = payment();
        edit(&mut payment);
        pack(&payment)
    };
    let stripped = |value: HeaderValue| {
        let text = value.to_str().expect("ASCII").trim_end_matches('=').to_owned();
        HeaderValue::try_from(text).expect("ASCII")
    };
    let value = match name {
        "valid payment" | "payload valid but sent as X-PAYMENT" => pack(&payment()),
        "padding stripped only" => stripped(edited(|payment| payment["note"] = json!("ab"))),
        // Characters 62 and 63 are where the alphabets differ.
        "valid payment but header is base64url without padding" => {
            let text =
                stripped(edited(|payment| payment["note"] = json!("???>>>???>>>"))).to_str().expect("ASCII").to_owned();
            HeaderValue::try_from(text.replace('+', "-").replace('/', "_")).expect("ASCII")
        }
        "garbage header" => HeaderValue::from_static("not base64!!"),
        "valid base64 of non-JSON" => HeaderValue::from_static("aGVsbG8="),
        "JSON null" => HeaderValue::from_static("bnVsbA=="),
        "JSON but x402Version 3" => edited(|payment| payment["x402Version"] = json!(3)),
        "accepted differs" => edited(|payment| payment["accepted"]["amount"] = json!("1")),
        _ => return None,
    };
    Some((if name.ends_with("X-PAYMENT") { X_PAYMENT } else { PAYMENT_SIGNATURE }, value))
}

/// What we answer; `None` when the payment passes what this slice decides.
fn ours(name: &str, case: &Value) -> Option<Answer> {
    if let Some((field, value)) = sent(name) {
        return match X402.decode(&one_field(field, value)) {
            Ok(payment) => {
                let chosen = payment.expect("it is there").chosen;
                let fits = tollhouse::scheme::matches(&weather().0, &chosen);
                (!fits).then(|| refuse(Advice::Pay, "No matching payment requirements", None))
            }
            Err(DecodeError::Unreadable { reason, .. }) => Some(refuse(Advice::Pay, &reason, None)),
            Err(other) => panic!("{name}: {other}"),
        };
    }
    Some(match name {
        "facilitator says invalid" => refuse(Advice::Pay, "insufficient_funds", None),
        "facilitator says permit2_allowance_required" => refuse(Advice::Approve, "permit2_allowance_required", None),
        "facilitator unreachable during verify" => refuse(Advice::TryLater, "facilitator_unavailable", None),
        "settlement refused" => refuse(Advice::Pay, "insufficient_funds", Some(payer_of(case))),
        "settlement_pending twice" => pending(Some(TransactionHash::repeat_byte(0xcd)), case),
        "facilitator unreachable during settle" => pending(None, case),
        // The SDK serves a page to browsers; ours is the same challenge for everyone.
        _ => refuse(Advice::Pay, "Payment required", None),
    })
}

fn assert_receipt(name: &str, case: &Value) {
    let decoded = &case["response"]["decoded"];
    let receipt = Receipt {
        payer: payer_of(case).payer,
        amount: weather().0.amount,
        network: text(&decoded["network"]).parse().expect("CAIP-2"),
        network_v1: None,
        transaction: text(&decoded["transaction"]).parse().expect("a hash"),
        block: None,
        settled_at: Timestamp::EPOCH,
    };
    let fields = X402.receipt(&receipt, Dialect::V2);
    assert_eq!(fields[PAYMENT_RESPONSE], text(&case["response"]["headers"]["PAYMENT-RESPONSE"]), "{name}");
}

#[test]
fn we_answer_as_the_sdk_does_or_as_the_tables_say() {
    for (name, case) in cases("http-exchanges").filter(|(name, _)| !ELSEWHERE.contains(name)) {
        let expected = &case["response"];
        if expected["status"] == "<handler status>" {
            assert_receipt(name, case);
            continue;
        }
        let Some(answer) = ours(name, case) else {
            assert_eq!(expected["type"], "payment-verified", "{name}");
            continue;
        };
        assert_eq!(answer.fields["cache-control"], "no-store", "{name}");
        if let Some((_, status)) = OTHER_STATUS.iter().find(|(other, _)| *other == name) {
            assert_eq!(answer.status, *status, "{name}");
            assert!(!answer.fields.contains_key(PAYMENT_REQUIRED), "{name}: no second invitation");
            assert!(answer.fields.contains_key("retry-after"), "{name}");
        } else {
            assert_eq!(u64::from(answer.status.as_u16()), expected["status"], "{name}");
            assert_challenge(name, &answer, &expected["decoded"]["PAYMENT-REQUIRED"]);
        }
        assert_settlement(name, &answer, &expected["decoded"]["PAYMENT-RESPONSE"]);
    }
}

fn assert_challenge(name: &str, answer: &Answer, expected: &Value) {
    let mut challenge = unpack(&answer.fields[PAYMENT_REQUIRED]);
    if expected.is_null() {
        // The SDK sends no offers with a failed settlement; the payer's money is where it was, so we invite again.
        assert_eq!(challenge["accepts"].as_array().map(Vec::len), Some(1), "{name}");
        return;
    }
    if let Some((_, words)) = OTHER_WORDS.iter().find(|(other, _)| *other == name) {
        assert_eq!(challenge["error"], *words, "{name}");
        challenge["error"] = expected["error"].clone();
    }
    assert_eq!(&challenge, expected, "{name}");
}

fn assert_settlement(name: &str, answer: &Answer, expected: &Value) {
    let told = answer.fields.get(PAYMENT_RESPONSE).map(unpack);
    if name == "facilitator unreachable during settle" {
        // The SDK repeats its transport's words; we say what is known.
        let told = told.expect("the client hears that nobody knows");
        assert_eq!(told["errorReason"], "settlement_pending");
        assert_eq!(told["transaction"], "");
    } else {
        assert_eq!(told.unwrap_or(Value::Null), *expected, "{name}");
    }
}
