//! What a client may send, and what it hears.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, U256};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};

use super::*;
use crate::payment::{
    Advice, Chosen, ChosenNetwork, FailedSettlement, Offer, Payment, SchemeName, SettleMode, TransactionHash, Wait,
};
use crate::primitives::{AtomicAmount, Payee, Payer, Timestamp, preset};
use crate::testing::Wallet;

fn offer_on(network: &str) -> Offer {
    let preset = preset(network).expect("a preset");
    Offer {
        scheme: SchemeName::Exact,
        network: Arc::new(preset.network()),
        asset: Arc::new(preset.assets[0].asset()),
        amount: AtomicAmount::new(U256::from(1000)),
        pay_to: Payee(Address::repeat_byte(0x70)),
        max_timeout: Duration::from_secs(300),
        settle: SettleMode::OnResponse,
        sandbox: false,
    }
}

fn resource() -> Resource {
    Resource {
        url: "https://api.example.com/weather".into(),
        description: "Weather".into(),
        mime_type: "application/json".into(),
    }
}

fn signed(offer: &Offer) -> Eip3009 {
    Wallet::from_seed(7).sign(offer, 0, 300, Nonce(B256::repeat_byte(1)))
}

fn payment_value(dialect: Dialect, offer: &Offer) -> HeaderValue {
    client::payment_for(dialect, offer, Some("the-quote"), &resource(), &signed(offer)).1
}

fn payment_json(dialect: Dialect) -> Value {
    let value = payment_value(dialect, &offer_on("base"));
    serde_json::from_slice(&base64(value.as_bytes()).expect("base64")).expect("JSON")
}

fn header(dialect: Dialect, text: &str) -> HeaderMap {
    HeaderMap::from_iter([(payment_field(dialect), fields::encoded(text.as_bytes()))])
}

fn decode_json(dialect: Dialect, payment: &Value) -> Result<Option<Credential>, DecodeError> {
    X402.decode(&header(dialect, &payment.to_string()))
}

/// Decodes a v2 payment in which the value at `pointer` has been replaced.
fn decode_with(pointer: &str, value: Value) -> Result<Option<Credential>, DecodeError> {
    let mut payment = payment_json(Dialect::V2);
    *payment.pointer_mut(pointer).expect("the pointer leads somewhere") = value;
    decode_json(Dialect::V2, &payment)
}

fn reason(decoded: Result<Option<Credential>, DecodeError>) -> String {
    match decoded {
        Err(DecodeError::Unreadable { reason, .. }) => reason,
        other => panic!("expected an unreadable payment, not {other:?}"),
    }
}

#[test]
fn both_dialects_say_the_same_of_one_signature() {
    let offer = offer_on("base");
    let decode = |dialect| {
        let fields = HeaderMap::from_iter([(payment_field(dialect), payment_value(dialect, &offer))]);
        X402.decode(&fields).expect("it is readable").expect("it is there")
    };
    let (v1, v2) = (decode(Dialect::V1), decode(Dialect::V2));
    assert_eq!(v1.authorization, Authorization::Eip3009(signed(&offer)));
    assert_eq!(v1.authorization, v2.authorization);
    assert_eq!(v1.chosen.network, ChosenNetwork::Name("base".into()));
    assert_eq!(v1.chosen.terms, None);
    let Chosen { network, terms, resource_url, .. } = v2.chosen;
    assert_eq!(network, ChosenNetwork::Caip2(offer.network.id.clone()));
    assert_eq!(terms.and_then(|terms| terms.quote).as_deref(), Some("the-quote"));
    assert_eq!(resource_url, Some(resource().url));
}

#[test]
fn a_request_without_a_payment_header_carries_no_payment() {
    assert_eq!(X402.decode(&HeaderMap::new()), Ok(None));
}

#[test]
fn s3_base64_has_one_alphabet_and_one_padding() {
    // "abcd" needs two signs of padding; "???" holds a character that differs between the alphabets.
    assert_eq!(base64(b"YWJjZA=="), Some(b"abcd".to_vec()));
    assert_eq!(base64(b"YWJjZA"), Some(b"abcd".to_vec()));
    assert_eq!(base64(b"Pz8/"), Some(b"???".to_vec()));
    for text in ["YWJjZA=", "YWJjZA===", "YWJjZB==", "YWJj ZA==", "YWJj\tZA", "Pz8_", "YWJjZA==YWJj", "=", "Y"] {
        assert_eq!(base64(text.as_bytes()), None, "{text} was read as base64");
    }
}

#[test]
fn s54_a_repeated_header_line_is_refused_in_either_dialect() {
    let offer = offer_on("base");
    for repeated in [Dialect::V1, Dialect::V2] {
        let mut fields = header(Dialect::V2, &payment_json(Dialect::V2).to_string());
        fields.insert(payment_field(repeated), payment_value(repeated, &offer));
        fields.append(payment_field(repeated), payment_value(repeated, &offer));
        assert_eq!(X402.decode(&fields), Err(DecodeError::Repeated));
    }
}

#[test]
fn s54_the_v2_header_decides_even_when_it_is_broken() {
    let mut fields = header(Dialect::V1, &payment_json(Dialect::V1).to_string());
    fields.insert(PAYMENT_SIGNATURE, HeaderValue::from_static("not base64!!"));
    assert_eq!(
        X402.decode(&fields),
        Err(DecodeError::Unreadable { dialect: Dialect::V2, reason: "invalid_payload: not standard base64".into() })
    );
    fields.insert(PAYMENT_SIGNATURE, HeaderValue::from_static(""));
    assert!(X402.decode(&fields).is_err(), "an empty header is present too");
}

#[test]
fn s54_a_version_that_is_not_its_headers_is_refused_before_anything_else() {
    for (dialect, version) in [(Dialect::V1, 2), (Dialect::V2, 1), (Dialect::V2, 3), (Dialect::V1, 0)] {
        let decoded = decode_json(dialect, &json!({ "x402Version": version }));
        assert_eq!(reason(decoded), format!("Unsupported x402 version: {version}"));
    }
    for version in [json!("2"), json!(2.0), json!(-2), Value::Null] {
        assert_eq!(reason(decode_with("/x402Version", version)), "invalid_x402_version");
    }
}

#[test]
fn s52_a_header_above_16_kib_is_not_even_decoded() {
    for dialect in [Dialect::V1, Dialect::V2] {
        let value = |length| HeaderValue::try_from("A".repeat(length)).expect("ASCII");
        let decode = |length| X402.decode(&HeaderMap::from_iter([(payment_field(dialect), value(length))]));
        assert!(matches!(decode(MAX_HEADER), Err(DecodeError::Unreadable { .. })));
        assert_eq!(decode(MAX_HEADER + 1), Err(DecodeError::TooLarge));
    }
}

#[test]
fn s10_amounts_and_times_are_decimal_strings_and_nothing_else() {
    let games = [json!(1000), json!("0x3e8"), json!("1e3"), json!("+1000"), json!("-1"), json!(""), json!(" 1000")];
    let games = games.into_iter().chain([json!("١"), json!("1.0"), json!("9".repeat(78)), json!("0".repeat(79))]);
    for game in games.chain([Value::Null, json!(["1000"])]) {
        for pointer in [
            "/payload/authorization/value",
            "/payload/authorization/validAfter",
            "/payload/authorization/validBefore",
            "/accepted/amount",
        ] {
            assert!(reason(decode_with(pointer, game.clone())).starts_with("invalid_payload: "), "{game} at {pointer}");
        }
    }
    assert!(decode_with("/payload/authorization/value", json!("0001000")).is_ok());
}

#[test]
fn wrong_shapes_are_named_and_never_repeated() {
    let reasons = [
        ("/accepted/network", json!("eip155:08453"), "invalid_payload: network is not a CAIP-2 identifier"),
        ("/accepted/network", json!("base"), "invalid_payload: network is not a CAIP-2 identifier"),
        ("/accepted/scheme", json!(7), "invalid_payload: scheme is not a string"),
        ("/accepted/extra", json!([]), "invalid_payload: extra is not an object"),
        ("/accepted/extra/quote", json!(1), "invalid_payload: quote is not a string"),
        ("/accepted", json!("exact"), "invalid_payload: accepted is not an object"),
        ("/payload", Value::Null, "invalid_payload: payload is missing"),
        ("/payload/authorization", Value::Null, "unsupported_payload_type"),
        ("/payload/authorization/nonce", json!("0x12"), "invalid_payload: nonce is not 0x and 64 hex digits"),
        ("/payload/authorization/from", json!("<b>"), "invalid_payload: from is not 0x and 40 hex digits"),
        ("/payload/signature", json!("0x123"), "invalid_payload: signature is not 0x and hex digits, or too long"),
    ];
    for (pointer, value, expected) in reasons {
        assert_eq!(reason(decode_with(pointer, value)), expected);
    }
    let long = format!("0x{}", "00".repeat(json::MAX_SIGNATURE + 1));
    assert!(reason(decode_with("/payload/signature", json!(long))).contains("too long"));
    assert_eq!(reason(X402.decode(&header(Dialect::V2, "null"))), "invalid_payload: not a JSON object");
}

#[test]
fn clients_may_add_what_they_like_where_nothing_is_signed() {
    let mut payment = payment_json(Dialect::V2);
    payment["extensions"] = json!({ "payment-identifier": { "info": { "id": "pay_0123456789abcdef" } } });
    payment["note"] = json!([1, 2.5, true, null]);
    payment["resource"]["iconUrl"] = json!("https://example.com/i.png");
    payment["accepted"]["outputSchema"] = Value::Null;
    payment["accepted"]["extra"]["nested"] = json!({ "a": 1 });
    let plain = decode_json(Dialect::V2, &payment_json(Dialect::V2));
    assert!(plain.is_ok());
    assert_eq!(decode_json(Dialect::V2, &payment), plain);
    for absent in ["/resource", "/accepted/extra"] {
        assert!(decode_with(absent, Value::Null).is_ok(), "null at {absent} is the same as nothing");
    }
}

// ---- what a client hears

fn problem(advice: Advice) -> Problem {
    Problem {
        advice,
        reason: "the_reason".into(),
        dialect: Some(Dialect::V2),
        failed_settlement: None,
        retry_after: None,
    }
}

fn refuse(problem: &Problem) -> Answer {
    let offers = [offer_on("arbitrum"), offer_on("base")];
    let quote = |offer| Quoted { offer, quote: Some("q".into()) };
    X402.refuse(problem, &resource(), &offers.iter().map(quote).collect::<Vec<_>>())
}

fn unpack(value: &HeaderValue) -> Value {
    serde_json::from_slice(&base64(value.as_bytes()).expect("base64")).expect("JSON")
}

fn receipt_of_base() -> Receipt {
    Receipt {
        payer: Payer(Address::repeat_byte(1)),
        amount: AtomicAmount::new(U256::from(1000)),
        network: "eip155:8453".parse().expect("CAIP-2"),
        network_v1: Some("base".into()),
        transaction: TransactionHash::repeat_byte(0xab),
        block: None,
        settled_at: Timestamp::EPOCH,
    }
}

fn unresolved(transaction: Option<TransactionHash>) -> Advice {
    let Receipt { payer, network, network_v1, .. } = receipt_of_base();
    Advice::Wait(Wait::Unresolved { transaction, network, network_v1, payer })
}

#[test]
fn a_402_invites_both_dialects_each_in_its_place() {
    let answer = refuse(&problem(Advice::Pay));
    assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
    let v2 = unpack(&answer.fields[PAYMENT_REQUIRED]);
    assert_eq!(v2["error"], "the_reason");
    assert_eq!(v2["accepts"][0]["network"], "eip155:42161", "the preferred offer comes first");
    assert_eq!(v2["accepts"][1]["extra"], json!({ "name": "USD Coin", "version": "2", "quote": "q" }));
    let v1: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(v1["accepts"].as_array().map(Vec::len), Some(1), "v1 has no name for arbitrum");
    assert_eq!(v1["accepts"][0]["network"], "base");
    assert_eq!(v1["accepts"][0]["extra"], json!({ "name": "USD Coin", "version": "2" }));
}

#[test]
fn s49_s57_no_cache_keeps_a_refusal_and_every_page_can_read_it() {
    let advices = [Advice::Pay, Advice::Repeated, Advice::TooLarge, Advice::Wait(Wait::InFlight), unresolved(None)];
    for advice in advices.into_iter().chain([
        Advice::Stop(None),
        Advice::Stop(Some(receipt_of_base())),
        Advice::GiveUp,
        Advice::TryLater,
    ]) {
        let fields = refuse(&problem(advice)).fields;
        assert_eq!(fields["cache-control"], "no-store");
        assert_eq!(fields["access-control-allow-origin"], "*");
        assert_eq!(fields["access-control-expose-headers"], "PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE");
    }
}

#[test]
fn only_advice_to_pay_carries_offers() {
    let expected = [
        (Advice::Repeated, 400, "fix", false),
        (Advice::TooLarge, 431, "fix", false),
        (Advice::Wait(Wait::InFlight), 409, "wait", true),
        (unresolved(None), 503, "wait", true),
        (Advice::Stop(None), 409, "stop", false),
        (Advice::Stop(Some(receipt_of_base())), 409, "stop", false),
        (Advice::GiveUp, 409, "stop", false),
        (Advice::TryLater, 503, "try later", true),
    ];
    for (advice, status, word, retry) in expected {
        let answer = refuse(&problem(advice));
        assert_eq!(answer.status, status);
        assert!(!answer.fields.contains_key(PAYMENT_REQUIRED));
        assert_eq!(answer.fields["content-type"], "application/problem+json");
        assert_eq!(answer.fields.contains_key("retry-after"), retry);
        let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
        assert_eq!(body["advice"], word);
        assert_eq!(body["status"], status);
        assert_eq!(body["detail"], "the_reason");
        assert!(body["type"].as_str().is_some_and(|kind| kind.starts_with("urn:tollhouse:problem:")));
        assert!(body["title"].is_string() && body.get("accepts").is_none());
    }
}

#[test]
fn s73_a_payment_that_was_never_charged_is_not_called_spent() {
    let kind = |advice| {
        let answer = refuse(&problem(advice));
        assert!(!answer.fields.contains_key(PAYMENT_RESPONSE));
        serde_json::from_slice::<Value>(&answer.body).expect("JSON")["type"].clone()
    };
    assert_eq!(kind(Advice::GiveUp), "urn:tollhouse:problem:payment-exhausted");
    assert_eq!(kind(Advice::Stop(None)), "urn:tollhouse:problem:payment-spent");
}

#[test]
fn a_failed_settlement_is_told_in_the_dialect_that_paid() {
    let Receipt { payer, network, network_v1, .. } = receipt_of_base();
    let failed_settlement = Some(FailedSettlement { payer, network, network_v1 });
    for (dialect, field, network) in
        [(Dialect::V1, X_PAYMENT_RESPONSE, "base"), (Dialect::V2, PAYMENT_RESPONSE, "eip155:8453")]
    {
        let failed_settlement = failed_settlement.clone();
        let answer = refuse(&Problem { dialect: Some(dialect), failed_settlement, ..problem(Advice::Pay) });
        assert_eq!(answer.status, StatusCode::PAYMENT_REQUIRED);
        assert!(answer.fields.contains_key(PAYMENT_REQUIRED));
        let told = unpack(&answer.fields[field]);
        let payer = payer.to_string();
        assert_eq!(
            told,
            json!({ "success": false, "errorReason": "the_reason", "transaction": "", "network": network, "payer": payer })
        );
    }
}

#[test]
fn an_unknown_outcome_is_told_with_the_transaction_when_there_is_one() {
    let hash = TransactionHash::repeat_byte(0xcd);
    for (transaction, text) in [(None, String::new()), (Some(hash), hash.to_string())] {
        let told = unpack(&refuse(&problem(unresolved(transaction))).fields[PAYMENT_RESPONSE]);
        assert_eq!(told["success"], false);
        assert_eq!(told["errorReason"], "settlement_pending");
        assert_eq!(told["transaction"], text);
    }
}

#[test]
fn a_spent_payment_gets_the_receipt_of_what_it_bought() {
    let spent = problem(Advice::Stop(Some(receipt_of_base())));
    let told = unpack(&refuse(&spent).fields[PAYMENT_RESPONSE]);
    assert_eq!(told["success"], true);
    assert_eq!(told, unpack(&X402.receipt(&receipt_of_base(), Dialect::V2)[PAYMENT_RESPONSE]));
    let v1 = refuse(&Problem { dialect: Some(Dialect::V1), ..spent });
    assert_eq!(unpack(&v1.fields[X_PAYMENT_RESPONSE])["network"], "base");
    assert!(!refuse(&problem(Advice::Stop(None))).fields.contains_key(PAYMENT_RESPONSE));
}

#[test]
fn a_wait_is_told_in_whole_seconds_and_never_as_none() {
    for (wait, told) in [(Some(Duration::ZERO), "1"), (Some(Duration::from_millis(2500)), "3"), (None, "2")] {
        let answer = refuse(&Problem { retry_after: wait, ..problem(Advice::TryLater) });
        assert_eq!(answer.fields["retry-after"], told);
    }
}

#[test]
fn an_offer_says_what_is_unusual_about_it_and_nothing_else() {
    let unusual = Offer { settle: SettleMode::BeforeForward, sandbox: true, ..offer_on("base-sepolia") };
    let answer = X402.refuse(&problem(Advice::Pay), &resource(), &[Quoted { offer: &unusual, quote: None }]);
    let v2 = unpack(&answer.fields[PAYMENT_REQUIRED]);
    let extra = json!({ "name": "USDC", "version": "2", "paymentFlow": "upfront", "sandbox": true });
    assert_eq!(v2["accepts"][0]["extra"], extra);
    let v1: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(v1["accepts"][0]["extra"], json!({ "name": "USDC", "version": "2", "sandbox": true }));
}

#[test]
fn s55_no_description_can_leave_its_place() {
    let hostile = Resource { description: "a\r\nSet-Cookie: x=1\0</script>".into(), ..resource() };
    let offer = offer_on("base");
    let answer = X402.refuse(&problem(Advice::Pay), &hostile, &[Quoted { offer: &offer, quote: None }]);
    assert!(answer.body.is_ascii() && !answer.body.contains(&b'<') && !answer.body.contains(&b'\n'));
    let v2 = unpack(&answer.fields[PAYMENT_REQUIRED]);
    assert_eq!(v2["resource"]["description"], "a  Set-Cookie: x=1 </script>");
}

#[test]
fn s75_the_quote_never_goes_to_a_facilitator() {
    let offer = offer_on("base");
    let authorization = Authorization::Eip3009(signed(&offer));
    let payment = Payment { offer, authorization, dialect: Dialect::V2, resource: resource() };
    for version in [Dialect::V1, Dialect::V2] {
        let request = wire::facilitator_request(&payment, version);
        assert_eq!(request["x402Version"], version.version());
        assert_eq!(request["paymentPayload"]["x402Version"], version.version());
        assert!(!request.to_string().contains("quote"));
    }
}

#[test]
fn i8_a_signature_does_not_print() {
    let offer = offer_on("base");
    let signed = signed(&offer);
    let digits = alloy::primitives::hex::encode(&signed.signature.0[..8]);
    let header = client::payment_for(Dialect::V2, &offer, None, &resource(), &signed);
    for printed in [format!("{:?}", wire::Payload::from(&signed)), format!("{signed:?}"), format!("{header:?}")] {
        assert!(!printed.contains(&digits) && !printed.contains("eyJ4NDAy"), "{printed}");
    }
}
