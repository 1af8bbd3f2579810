//! What is signed, and what is checked before anyone is asked.

use std::time::Duration;

use alloy::primitives::Bytes;
use serde_json::Value;
use tollhouse::payment::{ChosenNetwork, Dialect};
use tollhouse::primitives::{Address, Nonce, Timestamp, preset_by_id, presets};
use tollhouse::protocol::x402::client::Challenge;
use tollhouse::scheme::exact::{Eip3009Exact, eip3009 as exact};
use tollhouse::scheme::{Mismatch, Scheme, erc6492, matches};

use crate::support::*;

#[test]
fn what_is_signed_is_what_the_sdk_and_eth_account_sign() {
    for id in EIP3009 {
        let vector = vector(id);
        let typed = &vector["typedData"];
        let offer = offer(&vector["requirements"]);
        let credential = decode(&header(vector, "PAYMENT-SIGNATURE"));
        let signed = eip3009(&credential.authorization);
        let chain_id = offer.network.id.chain_id().expect("an EVM chain");
        assert_eq!(exact::domain_separator(chain_id, &offer.asset).to_string(), typed["domainSeparator"], "{id}");
        assert_eq!(exact::struct_hash(signed).to_string(), typed["structHash"], "{id}");
        assert_eq!(exact::digest(&offer, signed).expect("an EVM chain").to_string(), typed["digest"], "{id}");
    }
}

#[test]
fn our_wallet_reproduces_the_signatures() {
    for id in EIP3009 {
        let vector = vector(id);
        let message = &vector["typedData"]["message"];
        let second = |key: &str| text(&message[key]).parse().expect("seconds");
        let nonce = Nonce(text(&message["nonce"]).parse().expect("32 bytes"));
        let offer = offer(&vector["requirements"]);
        let signed = payer().sign(&offer, second("validAfter"), second("validBefore"), nonce);
        assert_eq!(signed.signature.0.to_string(), vector["signature"], "{id}");
        let authorization = tollhouse::payment::Authorization::Eip3009(signed);
        assert_eq!(authorization, decode(&header(vector, "PAYMENT-SIGNATURE")).authorization, "{id}");
    }
}

#[test]
fn the_calls_that_settle_are_the_sdks() {
    for id in EIP3009 {
        let vector = vector(id);
        let credential = decode(&header(vector, "PAYMENT-SIGNATURE"));
        let signed = eip3009(&credential.authorization);
        let call = |bytes: &Bytes| bytes.to_string();
        assert_eq!(call(&exact::calldata_vrs(signed).expect("65 bytes")), vector["calldata"]["vrs"], "{id}");
        assert_eq!(call(&exact::calldata_bytes(signed)), vector["calldata"]["bytes"], "{id}");
    }
}

#[test]
fn s30_a_wallets_wrapped_signature_is_read_as_the_sdk_reads_it() {
    let vector = vector("eip6492-wrapped");
    let offer = offer(&vector["requirements"]);
    let credential = decode_v2(&vector["paymentPayload"]).expect("it can be read");
    let refused = Eip3009Exact.signature(&offer, &credential.authorization);
    assert_eq!(refused, Err(Mismatch::Signature), "no key signed it, so nothing of it is proven here");

    let presented = Eip3009Exact.wallet_signature(&offer, &credential.authorization).expect("a wallet may judge it");

    assert_eq!(presented.wallet.to_string(), text(&vector["wallet"]));
    assert_eq!(presented.digest.to_string(), text(&vector["typedData"]["digest"]));
    assert_eq!(presented.signature.0.to_string(), text(&vector["parsed"]["signature"]));
    let creation = presented.creation.expect("it is wrapped");
    assert_eq!(creation.factory.to_string(), text(&vector["parsed"]["address"]));
    assert_eq!(creation.calldata.to_string(), text(&vector["parsed"]["data"]));
    assert_eq!(
        erc6492::wrap(&creation, &presented.signature.0).to_string(),
        text(&vector["wrappedSignature"]).to_lowercase()
    );
}

#[test]
fn payments_of_v1_clients_pass_the_same_checks() {
    let body = vector("v1-x-payment-base-sepolia")["body402"].to_string();
    let challenge = Challenge::read(&http::HeaderMap::new(), body.as_bytes()).expect("it is a challenge");
    let offer = &challenge.choices[0].offer;
    for id in ["v1-x-payment-base-sepolia", "v1-from-v2-sdk"] {
        let credential = decode(&header(vector(id), "X-PAYMENT"));
        assert_eq!(credential.dialect, Dialect::V1);
        assert_eq!(Eip3009Exact.terms(offer, &credential.authorization, NOW, Duration::from_secs(6)), Ok(()), "{id}");
        let checked = Eip3009Exact.signature(offer, &credential.authorization).expect("it fits");
        assert_eq!(checked.authorization, credential.authorization, "{id}");
    }
    let typed = &vector("v1-x-payment-base-sepolia")["typedData"];
    let credential = decode(&header(vector("v1-x-payment-base-sepolia"), "X-PAYMENT"));
    let digest = exact::digest(offer, eip3009(&credential.authorization)).expect("an EVM chain");
    assert_eq!(digest.to_string(), typed["digest"]);
}

/// Where our verdict is not the SDK's, and what ours is: `None` for a payment that passes every local check.
const OTHER_VERDICTS: [(&str, Option<&str>); 10] = [
    // The token refuses a high s, so the SDK's "valid" is service without money (S4).
    (
        "high-s malleated signature (passes SDK ecrecover; FiatToken rejects on chain, so local verify must reject or \
         simulate)",
        Some("invalid_exact_evm_signature"),
    ),
    // Letter case is typography; the 20 bytes are what was signed.
    ("authorization.from with invalid checksum case", None),
    // One spelling of an amount on the wire: decimal strings (S10).
    ("value as hex 0x2710", Some("invalid_payload: value is not a decimal string")),
    ("value as JSON number", Some("invalid_payload: value is not a string")),
    // The SDK throws on these, which its servers turn into a 500.
    ("value not numeric", Some("invalid_payload: value is not a decimal string")),
    ("authorization missing", Some("unsupported_payload_type")),
    ("signature missing", Some("invalid_payload: signature is missing")),
    // Not 32 bytes: nothing that could have been signed.
    ("nonce 31 bytes", Some("invalid_payload: nonce is not 0x and 64 hex digits")),
    // What the client accepted is none of our offers.
    ("network differs between accepted and requirements", Some("No matching payment requirements")),
    // An asset without code is found by whoever asks the chain.
    ("asset address has no code (correctly signed for it)", None),
];

/// Terms that our types cannot state, so no offer of ours is ever compared with them.
const UNSTATABLE: [&str; 2] = ["domain name missing", "scheme differs"];

/// The chain's to say: nothing local is wrong with these.
fn needs_the_chain(case: &str) -> bool {
    case.starts_with("simulation reverts")
}

fn our_verdict(case: &Value) -> Result<(), String> {
    let base = vector("eip3009-base-mainnet");
    let or_base = |key: &str, otherwise: &Value| case.get(key).unwrap_or(otherwise).clone();
    let mut payment = base["paymentPayload"].clone();
    payment["payload"] = or_base("payload", &base["paymentPayload"]["payload"]);
    payment["accepted"] = or_base("accepted", &base["paymentPayload"]["accepted"]);
    let credential = decode_v2(&payment).map_err(|error| error.to_string())?;
    let offer = offer(&or_base("requirements", &base["requirements"]));
    if !matches(&offer, &credential.chosen) {
        return Err("No matching payment requirements".into());
    }
    let now = Timestamp::from_secs(case["now"].as_u64().expect("seconds"));
    // The SDK demands six seconds; our margin is the toll's and never less.
    let terms = Eip3009Exact.terms(&offer, &credential.authorization, now, Duration::from_secs(6));
    terms.map_err(|mismatch| mismatch.code().to_owned())?;
    let checked = Eip3009Exact.signature(&offer, &credential.authorization);
    checked.map(drop).map_err(|mismatch| mismatch.code().to_owned())
}

#[test]
fn our_verdict_is_the_sdks_or_stands_in_the_table() {
    let mut differences = 0;
    for (name, case) in cases("eip3009-negative-verify").filter(|(name, _)| !UNSTATABLE.contains(name)) {
        let ours = our_verdict(case);
        if let Some((_, verdict)) = OTHER_VERDICTS.iter().find(|(other, _)| *other == name) {
            assert_eq!(ours.err().as_deref(), *verdict, "{name}");
            differences += 1;
        } else if needs_the_chain(name) {
            assert_eq!(ours, Ok(()), "{name}");
        } else {
            assert_eq!(ours.err().as_deref(), case["sdkVerify"]["invalidReason"].as_str(), "{name}");
        }
    }
    assert_eq!(differences, OTHER_VERDICTS.len(), "every difference is a case of the group");
}

#[test]
fn s4_a_recovery_id_of_0_or_1_reaches_the_chain_as_27_or_28() {
    let (_, case) =
        cases("eip3009-negative-verify").find(|(name, _)| name.starts_with("signature v as 0/1")).expect("a case");
    let mut payment = vector("eip3009-base-mainnet")["paymentPayload"].clone();
    payment["payload"] = case["payload"].clone();
    let credential = decode_v2(&payment).expect("it is readable");
    let offer = offer(&vector("eip3009-base-mainnet")["requirements"]);
    let checked = Eip3009Exact.signature(&offer, &credential.authorization).expect("it fits");
    let sent = exact::calldata_vrs(eip3009(&checked.authorization)).expect("65 bytes");
    assert_eq!(sent.to_string(), vector("eip3009-base-mainnet")["calldata"]["vrs"]);
}

/// Echoes that the SDK's deep equality refuses and we accept: nothing that is charged or served depends on them,
/// because the signature is checked against our own terms (protocol digest, A8).
const TOLERATED: [&str; 11] = [
    "extra key missing",
    "extra value changed",
    "extra omitted entirely",
    "payTo lower-cased",
    "asset lower-cased",
    "amount with leading zero",
    "maxTimeoutSeconds changed",
    "unknown top-level key added by client",
    "server sent unknown top-level key, client dropped it",
    "array in extra: client appends element",
    "server extra null, client drops it",
];

#[test]
fn an_echo_selects_our_offer_whenever_the_sdks_would_and_where_it_cannot_matter() {
    let mut tolerated = 0;
    for (name, case) in cases("accepted-matching") {
        // Our offers always state the token's name, so the same offer stands against every echo.
        let offer = offer(&vector("eip3009-base-mainnet")["requirements"]);
        let mut payment = vector("eip3009-base-mainnet")["paymentPayload"].clone();
        payment["accepted"] = case["accepted"].clone();
        let ours = decode_v2(&payment).is_ok_and(|credential| matches(&offer, &credential.chosen));
        if TOLERATED.contains(&name) {
            assert!(ours && case["matches"] == false, "{name}");
            tolerated += 1;
        } else {
            assert_eq!(ours, case["matches"] == true, "{name}");
        }
    }
    assert_eq!(tolerated, TOLERATED.len(), "every tolerance is a case of the group");
}

#[test]
fn s6_an_echo_of_other_terms_selects_nothing() {
    let offer = offer(&vector("eip3009-base-mainnet")["requirements"]);
    let chosen = || decode(&header(vector("eip3009-base-mainnet"), "PAYMENT-SIGNATURE")).chosen;
    assert!(matches(&offer, &chosen()));
    let mut edited = [chosen(), chosen(), chosen(), chosen(), chosen()];
    edited[0].scheme = "upto".into();
    edited[1].network = ChosenNetwork::Caip2("eip155:1".parse().expect("CAIP-2"));
    let [_, _, terms @ ..] = &mut edited;
    let [asset, pay_to, amount] = terms.each_mut().map(|chosen| chosen.terms.as_mut().expect("v2 echoes terms"));
    asset.asset = pay_to.pay_to;
    pay_to.pay_to = offer.asset.address;
    amount.amount = "9999".parse().expect("an amount");
    for chosen in edited {
        assert!(!matches(&offer, &chosen), "{chosen:?}");
    }
}

#[test]
fn s9_every_preset_token_is_signed_for_under_its_own_name() {
    let rows = vector("assets")["rows"].as_array().expect("a list");
    for row in rows {
        let id = text(&row["network"]).parse().expect("CAIP-2");
        let preset = preset_by_id(&id).unwrap_or_else(|| panic!("{id} is no preset"));
        let address: Address = text(&row["asset"]).parse().expect("an address");
        let found = preset.assets.iter().find(|asset| asset.asset().address == address);
        let found = found.unwrap_or_else(|| panic!("{address} is no preset token of {id}"));
        let asset = found.asset();
        assert_eq!(asset.symbol, row["symbol"], "{id}");
        assert_eq!(u64::from(asset.decimals.get()), row["decimals"], "{id}");
        assert_eq!(asset.eip712.name, row["name"], "{id}");
        assert_eq!(asset.eip712.version, row["version"], "{id}");
        assert_eq!(found.method.as_str(), row["assetTransferMethod"], "{id}");
        assert!(!preset.speaks_v1 || preset.name == row["v1Name"], "{id} is offered to v1 under its own name");
        assert_eq!(exact::domain_separator(preset.chain_id, &asset).to_string(), row["domainSeparator"], "{id}");
    }
    assert_eq!(presets().iter().map(|preset| preset.assets.len()).sum::<usize>(), rows.len());
}
