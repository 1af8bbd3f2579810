//! Which challenges the stock clients pay, and that ours are among them.

use http::HeaderMap;
use serde_json::Value;
use tollhouse::payment::{Advice, Chosen, ChosenNetwork, Dialect, Offer, Problem, Resource, SettleMode};
use tollhouse::primitives::{Address, presets};
use tollhouse::protocol::x402::client::{Challenge, Illegible};
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, X402};
use tollhouse::protocol::{Answer, Protocol, Quoted};
use tollhouse::scheme::exact::Eip3009Exact;
use tollhouse::scheme::{Scheme, matches};
use tollhouse::testing::Wallet;
use url::Url;

use crate::support::*;

/// Every network name that x402-fetch 1.2.0 parses (protocol digest, A6).
const V1_NETWORKS: [&str; 17] = [
    "abstract",
    "abstract-testnet",
    "base-sepolia",
    "base",
    "avalanche-fuji",
    "avalanche",
    "iotex",
    "solana-devnet",
    "solana",
    "sei",
    "sei-testnet",
    "polygon",
    "polygon-amoy",
    "peaq",
    "story",
    "educhain",
    "skale-base-sepolia",
];

/// Whether x402-fetch 1.2.0 parses an entry. It throws on the first one it does not, whatever else is offered.
fn parses_in_v1(entry: &Value) -> bool {
    let is_text = |key: &str| entry[key].is_string();
    let absent_or_object = |key: &str| entry.get(key).is_none_or(Value::is_object);
    let address = |key: &str| entry[key].as_str().is_some_and(|text| text.parse::<Address>().is_ok());
    entry["scheme"] == "exact"
        && entry["network"].as_str().is_some_and(|name| V1_NETWORKS.contains(&name))
        && entry["maxAmountRequired"].as_str().is_some_and(|text| text.bytes().all(|byte| byte.is_ascii_digit()))
        && entry["resource"].as_str().is_some_and(|text| Url::parse(text).is_ok())
        && is_text("description")
        && is_text("mimeType")
        && absent_or_object("outputSchema")
        && absent_or_object("extra")
        && entry["maxTimeoutSeconds"].is_u64()
        && address("payTo")
        && address("asset")
}

/// Whether the v2 clients can sign for an entry, and whether the schema of the spec takes it.
fn payable_in_v2(entry: &Value) -> bool {
    let keys = ["scheme", "network", "amount", "asset", "payTo", "maxTimeoutSeconds", "extra"];
    let known = entry.as_object().is_some_and(|entry| entry.keys().all(|key| keys.contains(&key.as_str())));
    let named = entry["extra"]["name"].is_string() && entry["extra"]["version"].is_string();
    let flow = entry["extra"].get("paymentFlow").is_none_or(|flow| flow == "authorization" || flow == "upfront");
    let network = entry["network"].as_str().is_some_and(|network| network.starts_with("eip155:"));
    known && entry["scheme"] == "exact" && network && named && flow && !contains_null(entry)
}

fn contains_null(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.iter().any(contains_null),
        Value::Object(entries) => entries.values().any(contains_null),
        Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

#[test]
fn our_reading_of_the_v1_rules_is_what_the_client_does() {
    for (name, case) in cases("v1-client-acceptance") {
        let Some(accepts) = case["body"]["accepts"].as_array().filter(|accepts| !accepts.is_empty()) else { continue };
        let refused = case["clientResult"]["error"].as_str().is_some_and(|error| error.starts_with("ZodError"));
        assert_eq!(accepts.iter().all(parses_in_v1), !refused, "{name}");
    }
}

#[test]
fn our_reading_of_the_v2_rules_is_what_the_client_does() {
    // Refused by the client's own limits or for its status, not for what the entry says.
    let limits = ["custom token on 31337, default spendControls", "1.000001 USDC, default controls", "status 412"];
    for (name, case) in cases("v2-client-acceptance").filter(|(name, _)| !limits.contains(name)) {
        let Some(accepts) = case["header"]["accepts"].as_array() else { continue };
        assert_eq!(accepts.iter().any(payable_in_v2), case["clientResult"]["paid"] == true, "{name}");
    }
}

fn challenge(offers: &[Offer]) -> Answer {
    let problem = Problem {
        advice: Advice::Pay,
        reason: "Payment required".into(),
        dialect: None,
        failed_settlement: None,
        retry_after: None,
    };
    let resource = Resource {
        url: "https://api.example.com/weather?city=Paris".into(),
        description: String::new(),
        mime_type: String::new(),
    };
    let quoted: Vec<_> = offers.iter().map(|offer| Quoted { offer, quote: Some("q".into()) }).collect();
    X402.refuse(&problem, &resource, &quoted)
}

/// An offer in every preset token, in both modes, real and sandbox.
fn every_offer() -> Vec<Offer> {
    let model = offer(&vector("eip3009-base-mainnet")["requirements"]);
    let mut offers = Vec::new();
    for preset in presets() {
        for asset in preset.assets {
            for (settle, sandbox) in [(SettleMode::OnResponse, false), (SettleMode::BeforeForward, true)] {
                let (network, asset) = (preset.network().into(), asset.asset().into());
                offers.push(Offer { network, asset, settle, sandbox, ..model.clone() });
            }
        }
    }
    offers
}

#[test]
fn every_challenge_of_ours_is_one_that_stock_clients_pay() {
    let answer = challenge(&every_offer());
    let v2 = unpack(&answer.fields[PAYMENT_REQUIRED]);
    for entry in v2["accepts"].as_array().expect("a list") {
        assert!(payable_in_v2(entry), "{entry}");
    }
    assert!(!contains_null(&v2), "clients drop nulls and the echo no longer matches");
    let v1: Value = serde_json::from_slice(&answer.body).expect("JSON");
    let accepts = v1["accepts"].as_array().expect("a list");
    assert!(v1["error"].is_string() && !contains_null(&v1), "the Python client needs a text in error");
    assert!(!accepts.is_empty() && accepts.iter().all(parses_in_v1));
    for entry in accepts {
        let name = text(&entry["network"]);
        assert!(["base", "base-sepolia", "avalanche", "avalanche-fuji"].contains(&name), "Python knows no {name}");
        let address: Address = text(&entry["asset"]).parse().expect("an address");
        assert_eq!(entry["asset"], address.to_checksum(None), "v1 compares the asset letter for letter");
    }
}

#[test]
fn without_an_offer_for_v1_the_body_is_still_readable() {
    let arbitrum = every_offer().into_iter().filter(|offer| offer.network.name == "arbitrum").collect::<Vec<_>>();
    let body: Value = serde_json::from_slice(&challenge(&arbitrum).body).expect("JSON");
    assert_eq!(body, serde_json::json!({ "x402Version": 1, "error": "Payment required", "accepts": [] }));
}

fn body_of(case: &Value) -> Vec<u8> {
    case["body"].as_str().map_or_else(|| case["body"].to_string(), str::to_owned).into_bytes()
}

/// Our client is the caller's to limit: it reads and signs, and `tollhouse pay --max` is the limit. It knows v1, and
/// it takes the first offer it can read where the SDK's v1 client gives up.
#[test]
fn our_client_pays_what_the_v2_client_pays() {
    let caller_decides = [
        "custom token on 31337, default spendControls",
        "1.000001 USDC, default controls",
        "status 412",
        "v1 body only, v2-only client",
    ];
    for (name, case) in cases("v2-client-acceptance").filter(|(name, _)| !caller_decides.contains(name)) {
        let mut fields = HeaderMap::new();
        match &case["header"] {
            Value::Null => {}
            Value::String(raw) => drop(fields.insert(PAYMENT_REQUIRED, raw.parse().expect("ASCII"))),
            decoded => drop(fields.insert(PAYMENT_REQUIRED, pack(decoded))),
        }
        let read = Challenge::read(&fields, &body_of(case));
        let expected = &case["clientResult"];
        let paid = read.as_ref().ok().and_then(|challenge| Some((challenge, challenge.choose(|_| true)?)));
        assert_eq!(paid.is_some(), expected["paid"] == true, "{name}");
        if let Some((challenge, choice)) = paid {
            let (field, value) = challenge.payment(choice, &payer().accept(challenge.dialect, &choice.offer, NOW));
            assert_eq!(field.as_str().to_uppercase(), text(&expected["header"]), "{name}");
            assert_eq!(choice.offer.amount.to_string(), expected["amount"], "{name}");
            let payment = unpack(&value);
            let network =
                if challenge.dialect == Dialect::V1 { &payment["network"] } else { &payment["accepted"]["network"] };
            assert_eq!(network, &expected["acceptedNetwork"], "{name}");
        }
    }
}

#[test]
fn a_broken_header_is_the_end_of_it_and_other_402s_are_not_ours() {
    let broken = one_field(PAYMENT_REQUIRED, "%%%".parse().expect("ASCII"));
    let good_body = challenge(&every_offer()).body;
    assert_eq!(Challenge::read(&broken, &good_body).err(), Some(Illegible::Field("PAYMENT-REQUIRED")));
    for body in ["", "{}", "<html>", r#"{"x402Version":2,"accepts":[]}"#] {
        assert_eq!(Challenge::read(&HeaderMap::new(), body.as_bytes()).err(), Some(Illegible::NotX402), "{body}");
    }
}

#[test]
fn a_wallet_pays_our_402_in_the_dialect_it_can_read() {
    let answer = challenge(&every_offer());
    let without_header = HeaderMap::new();
    for (fields, dialect) in [(&answer.fields, Dialect::V2), (&without_header, Dialect::V1)] {
        let wallet = Wallet::random();
        let (field, value) = wallet.pay(fields, &answer.body, NOW).expect("it can be paid");
        let credential = decode(&one_field(field, value));
        assert_eq!(credential.dialect, dialect);
        let chosen = every_offer().into_iter().find(|offer| matches(offer, &credential.chosen)).expect("it is ours");
        let margin = chosen.max_timeout;
        assert_eq!(Eip3009Exact.terms(&chosen, &credential.authorization, NOW, margin), Ok(()));
        let checked = Eip3009Exact.signature(&chosen, &credential.authorization).expect("it fits");
        assert_eq!(checked.authorization.payer(), wallet.payer());
    }
}

#[test]
fn no_v1_client_can_choose_a_chain_that_v1_has_no_name_for() {
    let arbitrum = every_offer().into_iter().find(|offer| offer.network.name == "arbitrum").expect("a preset");
    for name in ["arbitrum", "eip155:42161", "base", ""] {
        let network = ChosenNetwork::Name(name.into());
        let chosen = Chosen { scheme: "exact".into(), network, terms: None, resource_url: None };
        assert!(!matches(&arbitrum, &chosen), "{name}");
    }
}

#[test]
fn our_client_reads_every_offer_of_ours_back() {
    let offers = every_offer();
    let answer = challenge(&offers);
    let read = Challenge::read(&answer.fields, &answer.body).expect("it is a challenge");
    assert_eq!(read.choices.into_iter().map(|choice| choice.offer).collect::<Vec<_>>(), offers);
}
