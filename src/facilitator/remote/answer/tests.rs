//! Vector `eip3009-settle-outcomes`, and every way in which an answer can fall short.

use http::StatusCode;
use serde_json::{Value, json};

use super::*;
use crate::payment::Dialect;
use crate::testing::vectors::eip3009_base_sepolia;

const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";

/// A ruling without its causes.
#[derive(Debug, PartialEq)]
enum Told {
    Settled,
    Pending,
    Declined(String),
    /// Whether a transaction is known, and whether it is an alarm.
    Unclear {
        transaction: bool,
        alarm: bool,
    },
}

const DOUBTFUL: Told = Told::Unclear { transaction: true, alarm: false };
const NOTHING_KNOWN: Told = Told::Unclear { transaction: false, alarm: false };

fn rule_on(status: u16, body: &str) -> Told {
    let reply = Reply {
        status: StatusCode::from_u16(status).expect("a status"),
        body: bytes::Bytes::copy_from_slice(body.as_bytes()),
    };
    match settled(&reply, &eip3009_base_sepolia()) {
        Ruling::Settled(hash) => {
            assert_eq!(hash.to_string(), HASH);
            Told::Settled
        }
        Ruling::Pending(_) => Told::Pending,
        Ruling::Declined(decline) => Told::Declined(decline.code),
        Ruling::Unclear { transaction, source } => {
            Told::Unclear { transaction: transaction.is_some(), alarm: source.is::<Contradiction>() }
        }
    }
}

fn refusal(code: &str, transaction: &str) -> Value {
    json!({ "success": false, "errorReason": code, "transaction": transaction, "network": "eip155:84532", "payer": PAYER })
}

fn success() -> Value {
    json!({ "success": true, "transaction": HASH, "network": "eip155:84532", "payer": PAYER })
}

fn success_but(field: &str, value: Value) -> Value {
    let mut answer = success();
    answer[field] = value;
    answer
}

#[test]
fn s13_the_outcomes_of_the_sdk_facilitator_are_sorted_by_what_they_prove() {
    let declined = |code: &str| Told::Declined(code.into());
    for (answer, told) in [
        (success(), Told::Settled),
        (refusal("invalid_exact_evm_transfer_event_mismatch", HASH), DOUBTFUL),
        (refusal("invalid_exact_evm_transaction_failed", HASH), DOUBTFUL),
        (refusal("settlement_pending", HASH), Told::Pending),
        (refusal("invalid_exact_evm_nonce_already_used", ""), NOTHING_KNOWN),
        (
            refusal("invalid_exact_evm_payload_authorization_valid_before", ""),
            declined("invalid_exact_evm_payload_authorization_valid_before"),
        ),
        (refusal("invalid_exact_evm_insufficient_balance", ""), declined("invalid_exact_evm_insufficient_balance")),
        (refusal("invalid_exact_evm_transaction_failed", ""), NOTHING_KNOWN),
    ] {
        assert_eq!(rule_on(200, &answer.to_string()), told, "{answer}");
    }
}

#[test]
fn s15_success_needs_every_detail_we_asked_for() {
    let alarm = |transaction| Told::Unclear { transaction, alarm: true };
    for (answer, told) in [
        (success_but("transaction", json!("")), alarm(false)),
        (success_but("transaction", Value::Null), alarm(false)),
        (success_but("transaction", json!(&HASH[2..])), alarm(false)),
        (success_but("transaction", json!(format!("{HASH}11"))), alarm(false)),
        (success_but("transaction", json!(HASH.replace("0x11", "0x1g"))), alarm(false)),
        (success_but("transaction", json!(format!("0x{}", "0".repeat(64)))), alarm(false)),
        (success_but("transaction", json!("5wHu1qwD7q4fLkgoSdWvMzWyCKGmTRVd")), alarm(false)),
        (success_but("network", json!("eip155:8453")), alarm(true)),
        (success_but("network", json!("base")), alarm(true)),
        (success_but("network", Value::Null), alarm(true)),
        (success_but("payer", json!("0x70997970C51812dc3A010C7d01b50e0d17dc79C8")), alarm(true)),
        (success_but("payer", json!("somebody")), alarm(true)),
        (success_but("network", json!("base-sepolia")), Told::Settled),
        (success_but("payer", json!(PAYER.to_ascii_lowercase())), Told::Settled),
        (success_but("payer", Value::Null), Told::Settled),
        (success_but("extensions", json!({ "bazaar": { "status": "success" } })), Told::Settled),
    ] {
        assert_eq!(rule_on(200, &answer.to_string()), told, "{answer}");
    }
}

#[test]
fn s13_a_decline_beside_a_transaction_is_no_decline() {
    for transaction in [HASH, "pending", "0x"] {
        let told = rule_on(200, &refusal("insufficient_funds", transaction).to_string());
        assert_eq!(told, Told::Unclear { transaction: transaction == HASH, alarm: false });
    }
}

#[test]
fn the_status_decides_only_against_us() {
    let decline = refusal("insufficient_funds", "").to_string();
    assert_eq!(rule_on(400, &decline), Told::Declined("insufficient_funds".into()));
    assert_eq!(rule_on(502, &decline), NOTHING_KNOWN);
    assert_eq!(rule_on(307, &decline), NOTHING_KNOWN);
    for status in [400, 500] {
        assert_eq!(rule_on(status, &success().to_string()), Told::Unclear { transaction: true, alarm: true });
    }
    assert_eq!(rule_on(307, &success().to_string()), NOTHING_KNOWN);
}

#[test]
fn s14_what_is_not_an_answer_settles_nothing() {
    let whole = success().to_string();
    for body in [
        "",
        "null",
        "[]",
        "{}",
        "<html>ok</html>",
        r#"{"success":"true"}"#,
        r#"{"success":1}"#,
        &whole[..whole.len() - 1],
        &format!("{whole}{whole}"),
        &whole.replacen('{', r#"{"success":false,"#, 1),
        &whole.replacen('{', &format!(r#"{{"transaction":"{HASH}","#), 1),
        &success_but("transaction", json!([HASH])).to_string(),
    ] {
        assert_eq!(rule_on(200, body), NOTHING_KNOWN, "{body}");
    }
}

#[test]
fn i8_what_a_facilitator_echoes_is_not_repeated() {
    let reply = Reply { status: StatusCode::OK, body: r#"{"success":"0xsignature"}"#.into() };
    let Ruling::Unclear { source, .. } = settled(&reply, &eip3009_base_sepolia()) else { panic!("not an answer") };
    assert!(!source.to_string().contains("signature"), "{source}");

    for code in ["Error: 0xSIGNATURE", "<b>", "", &"a".repeat(65)] {
        let reply = Reply { status: StatusCode::OK, body: refusal_to_verify(code).into() };
        let verdict = verified(&reply, &eip3009_base_sepolia());
        assert!(matches!(verdict, Err(VerifyError::Declined(Decline { code })) if code == "declined"));
    }
}

#[test]
fn a_verdict_is_a_decline_only_when_it_is_the_payers_to_fix() {
    let verdict = |status: u16, body: &str| {
        let reply = Reply {
            status: StatusCode::from_u16(status).expect("a status"),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        match verified(&reply, &eip3009_base_sepolia()) {
            Ok(()) => "valid",
            Err(VerifyError::Declined(_)) => "declined",
            Err(VerifyError::Unavailable(cause)) if cause.is::<Contradiction>() => "alarm",
            Err(VerifyError::Unavailable(_)) => "unavailable",
        }
    };
    let valid = json!({ "isValid": true, "payer": PAYER }).to_string();
    let funds = refusal_to_verify("insufficient_funds");
    assert_eq!(verdict(200, &valid), "valid");
    assert_eq!(verdict(200, r#"{"isValid":true}"#), "valid");
    assert_eq!(verdict(200, &funds), "declined");
    assert_eq!(verdict(400, &funds), "declined");
    assert_eq!(verdict(503, &funds), "unavailable");
    assert_eq!(verdict(200, &refusal_to_verify("unexpected_verify_error")), "unavailable");
    assert_eq!(verdict(500, &valid), "alarm");
    assert_eq!(verdict(200, r#"{"isValid":true,"payer":"0x70997970C51812dc3A010C7d01b50e0d17dc79C8"}"#), "alarm");
    for body in ["", "<html>", r#"{"isValid":"true"}"#, r#"{"isValid":false,"isValid":true}"#, r#"{"success":true}"#] {
        assert_eq!(verdict(200, body), "unavailable", "{body}");
    }
}

#[test]
fn s3_a_v1_payment_settles_under_either_spelling_of_its_network() {
    let mut payment = eip3009_base_sepolia();
    payment.dialect = Dialect::V1;
    for network in ["base-sepolia", "eip155:84532"] {
        let body = success_but("network", json!(network)).to_string();
        let reply = Reply { status: StatusCode::OK, body: body.into() };
        assert!(matches!(settled(&reply, &payment), Ruling::Settled(_)), "{network}");
    }
}

fn refusal_to_verify(code: &str) -> String {
    json!({ "isValid": false, "invalidReason": code, "payer": PAYER }).to_string()
}
