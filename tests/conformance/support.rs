//! The vectors, and the few steps between JSON and our types.

use std::sync::LazyLock;

use alloy::primitives::B256;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};
use tollhouse::payment::{Authorization, Credential, Eip3009, Offer, Resource};
use tollhouse::primitives::Timestamp;
use tollhouse::protocol::x402::client::Challenge;
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, PAYMENT_SIGNATURE, X402};
use tollhouse::protocol::{DecodeError, Protocol};
use tollhouse::testing::Wallet;

static VECTORS: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../fixtures/x402-vectors.json")).expect("the fixture is JSON"));

/// The frozen clock of the vectors.
pub const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);

/// The three vectors of an EIP-3009 payment in v2.
pub const EIP3009: [&str; 3] = ["eip3009-base-mainnet", "eip3009-base-sepolia", "eip3009-local-31337"];

pub fn vector(id: &str) -> &'static Value {
    let vectors = VECTORS["vectors"].as_array().expect("a list");
    vectors.iter().find(|vector| vector["id"] == id).unwrap_or_else(|| panic!("no vector {id}"))
}

/// The cases of a group with their names.
pub fn cases(id: &str) -> impl Iterator<Item = (&'static str, &'static Value)> {
    vector(id)["cases"].as_array().expect("a list").iter().map(|case| (text(&case["case"]), case))
}

pub fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is not a string"))
}

/// The wallet that signed the vectors.
pub fn payer() -> Wallet {
    Wallet::from_key(text(&VECTORS["meta"]["keys"]["payer"]["privateKey"]).parse::<B256>().expect("a key"))
}

pub fn pack(value: &Value) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(value.to_string())).expect("base64 is ASCII")
}

pub fn unpack(value: &HeaderValue) -> Value {
    serde_json::from_slice(&STANDARD.decode(value).expect("padded standard base64")).expect("JSON")
}

pub fn one_field(name: HeaderName, value: HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([(name, value)])
}

/// A header of a vector, as the field it stands in.
pub fn header(vector: &Value, name: &'static str) -> HeaderMap {
    let value = HeaderValue::from_str(text(&vector["headers"][name])).expect("base64 is ASCII");
    one_field(HeaderName::from_bytes(name.as_bytes()).expect("a name"), value)
}

/// The offer that a v2 requirement states, read by our own client.
pub fn offer(requirement: &Value) -> Offer {
    let challenge = pack(&json!({ "x402Version": 2, "accepts": [requirement] }));
    let challenge = Challenge::read(&one_field(PAYMENT_REQUIRED, challenge), b"").expect("a challenge");
    challenge.choices.first().unwrap_or_else(|| panic!("{requirement} is no offer we know")).offer.clone()
}

pub fn resource(stated: &Value) -> Resource {
    let [url, description, mime_type] = ["url", "description", "mimeType"].map(|key| text(&stated[key]).to_owned());
    Resource { url, description, mime_type }
}

pub fn decode(fields: &HeaderMap) -> Credential {
    X402.decode(fields).expect("it is readable").expect("it is there")
}

pub fn decode_v2(payment: &Value) -> Result<Credential, DecodeError> {
    X402.decode(&one_field(PAYMENT_SIGNATURE, pack(payment))).map(|payment| payment.expect("it is there"))
}

pub fn eip3009(authorization: &Authorization) -> &Eip3009 {
    let Authorization::Eip3009(signed) = authorization else { panic!("it is an EIP-3009 payment") };
    signed
}
