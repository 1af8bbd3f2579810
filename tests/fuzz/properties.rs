//! What holds for whatever a decoder is fed: one property for each target.
//!
//! `make fuzz` looks for bytes that break one, `tests/fuzz_corpus.rs` replays the bytes that were found or are known
//! to matter. Each property says more than that nothing panics: what is accepted has one meaning, one spelling, and
//! no more weight than it claims.

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, hex};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue, StatusCode};
use serde_json::{Value, json};
use tollhouse::config::{self, Format};
use tollhouse::facilitator::VerifyError;
use tollhouse::ledger::{Delivered, Entry, Event, State};
use tollhouse::payment::{Authorization, ChosenNetwork, Credential, Dialect, Offer, Payment, PaymentKey, QuoteKey};
use tollhouse::primitives::{AtomicAmount, Timestamp};
use tollhouse::protocol::x402::{MAX_HEADER, X402, payment_field};
use tollhouse::protocol::{DecodeError, Protocol};
use tollhouse::proxy::target::Target;
use tollhouse::scheme::{WalletSignature, erc6492};
use tollhouse::testing::answers::{self, Settlement};
use tollhouse::testing::vectors;

/// What must hold for any bytes; it panics where it does not.
pub type Property = fn(&[u8]);

/// Every target: its name, which is also the folder of its corpus, and its property.
pub const TARGETS: [(&str, Property); 10] = [
    ("payment_v1", payment_v1),
    ("payment_v2", payment_v2),
    ("quote", quote),
    ("verify_answer", verify_answer),
    ("settle_answer", settle_answer),
    ("supported_answer", supported_answer),
    ("config", configuration),
    ("target", target),
    ("record", record),
    ("wallet_signature", wallet_signature),
];

/// Holds the property of a target against some bytes.
pub fn check(target: &str, data: &[u8]) {
    let found = TARGETS.iter().find(|(name, _)| *name == target);
    found.unwrap_or_else(|| panic!("there is no target {target}")).1(data);
}

/// `X-PAYMENT`. Text that looks like JSON is packed first, so that the search need not learn base64.
fn payment_v1(data: &[u8]) {
    payment(Dialect::V1, data);
}

/// `PAYMENT-SIGNATURE`.
fn payment_v2(data: &[u8]) {
    payment(Dialect::V2, data);
}

fn payment(dialect: Dialect, data: &[u8]) {
    let packed = if data.starts_with(b"{") { STANDARD.encode(data).into_bytes() } else { data.to_vec() };
    let Ok(value) = HeaderValue::from_bytes(&packed) else { return };
    let decoded = X402.decode(&HeaderMap::from_iter([(payment_field(dialect), value.clone())]));
    if value.len() > MAX_HEADER {
        assert_eq!(decoded, Err(DecodeError::TooLarge));
        return;
    }
    match decoded {
        Ok(Some(credential)) => {
            assert_eq!(credential.dialect, dialect);
            let respelt = HeaderMap::from_iter([(payment_field(dialect), written(&credential))]);
            assert_eq!(X402.decode(&respelt), Ok(Some(credential.clone())), "another spelling, another payment");
            one_key(&credential);
        }
        Err(DecodeError::Unreadable { dialect: of, reason }) => {
            assert_eq!(of, dialect);
            assert!(reason.len() <= 200, "a complaint repeats what the client wrote: {reason}");
        }
        other => panic!("one line of one header is neither absent nor repeated: {other:?}"),
    }
}

/// The key does not depend on the dialect or on the signature's bytes (S3, S4).
fn one_key(credential: &Credential) {
    let network = "eip155:84532".parse().expect("a chain");
    let key = |authorization: &Authorization| PaymentKey::of(&network, Address::ZERO, authorization);
    let mut bare = credential.authorization.clone();
    match &mut bare {
        Authorization::Eip3009(signed) => signed.signature.0 = Default::default(),
        // Nor on the token, of which its owner's nonces know nothing.
        Authorization::Permit2(signed) => (signed.signature.0, signed.token) = Default::default(),
    }
    assert_eq!(key(&credential.authorization), key(&bare));
}

/// A credential in our own words.
fn written(credential: &Credential) -> HeaderValue {
    let chosen = &credential.chosen;
    let payload = match &credential.authorization {
        Authorization::Eip3009(signed) => json!({
            "signature": signed.signature.0.to_string(),
            "authorization": {
                "from": signed.from.to_checksum(None),
                "to": signed.to.to_string().to_lowercase(),
                "value": signed.value.to_string(),
                "validAfter": signed.valid_after.to_string(),
                "validBefore": signed.valid_before.to_string(),
                "nonce": signed.nonce.0.to_string(),
            },
        }),
        Authorization::Permit2(signed) => json!({
            "signature": signed.signature.0.to_string(),
            "permit2Authorization": {
                "from": signed.from.to_checksum(None),
                "permitted": { "token": signed.token.to_string(), "amount": signed.amount.to_string() },
                "spender": signed.spender.to_string().to_lowercase(),
                "nonce": signed.nonce.to_string(),
                "deadline": signed.deadline.to_string(),
                "witness": { "to": signed.to.to_string(), "validAfter": signed.valid_after.to_string() },
            },
        }),
    };
    let envelope = match (&chosen.network, &chosen.terms) {
        (ChosenNetwork::Caip2(network), Some(terms)) => json!({
            "x402Version": 2,
            "accepted": {
                "scheme": chosen.scheme,
                "network": network.as_str(),
                "amount": terms.amount.to_string(),
                "asset": terms.asset.to_string(),
                "payTo": terms.pay_to.to_string(),
                "extra": { "quote": terms.quote },
            },
            "resource": { "url": chosen.resource_url },
            "payload": payload,
        }),
        (ChosenNetwork::Name(network), None) => json!({
            "x402Version": 1, "scheme": chosen.scheme, "network": network, "payload": payload,
        }),
        other => panic!("a credential that speaks two dialects: {other:?}"),
    };
    HeaderValue::try_from(STANDARD.encode(envelope.to_string())).expect("base64 is ASCII")
}

/// What is presented as a contract wallet's signature. A factory is named only by a wrapper that says the same when it
/// is written anew, and what the wallet is asked about is never wrapped itself.
fn wallet_signature(data: &[u8]) {
    let presented = Bytes::copy_from_slice(data);
    let Some(read) = WalletSignature::of(Address::repeat_byte(1), B256::repeat_byte(2), &presented) else { return };
    let inner = &read.signature.0;
    assert!(!inner.is_empty());
    assert_eq!(erc6492::open(inner), Ok((None, inner.clone())), "a wrapper in a wrapper");
    match &read.creation {
        Some(creation) => {
            let anew = erc6492::wrap(creation, inner);
            assert_eq!(erc6492::open(&anew), Ok((Some(creation.clone()), inner.clone())));
        }
        None => assert_eq!(*inner, presented),
    }
}

/// `extra.quote`. Nobody can make one without the key, so what is accepted is one of ours, letter for letter.
fn quote(data: &[u8]) {
    const ROUTE: &str = "GET /v1/weather";
    static KEY: LazyLock<QuoteKey> = LazyLock::new(|| QuoteKey::new(&[7; 32]));
    let Ok(text) = std::str::from_utf8(data) else { return };
    let offer = vectors::eip3009_base_sepolia().offer;
    let Some(quote) = KEY.check(text, ROUTE, &offer) else { return };
    let bytes = URL_SAFE_NO_PAD.decode(text).expect("it was read");
    assert_eq!(URL_SAFE_NO_PAD.encode(&bytes), text, "two spellings of one quote");
    assert_eq!(KEY.check(text, ROUTE, &offer), Some(quote));
    assert_eq!(KEY.check(text, "GET /v1/other", &offer), None);
    let dearer = Offer { amount: AtomicAmount::new(offer.amount.units() + U256::from(1)), ..offer.clone() };
    assert_eq!(KEY.check(text, ROUTE, &dearer), None);
    for at in 0..bytes.len() {
        let mut forged = bytes.clone();
        forged[at] ^= 1;
        assert_eq!(KEY.check(&URL_SAFE_NO_PAD.encode(forged), ROUTE, &offer), None, "byte {at} does not matter");
    }
}

/// The first two bytes are the status, the rest is the body.
fn answer(data: &[u8]) -> Option<(StatusCode, &[u8])> {
    let (head, body) = data.split_first_chunk::<2>()?;
    Some((StatusCode::from_u16(100 + u16::from_be_bytes(*head) % 500).ok()?, body))
}

fn sold() -> &'static Payment {
    static SOLD: LazyLock<Payment> = LazyLock::new(vectors::eip3009_base_sepolia);
    &SOLD
}

/// The payer may be left out, never wrong.
fn fits_payer(body: &Value) -> bool {
    body["payer"].is_null() || body["payer"].as_str().is_some_and(|text| text.parse() == Ok(sold().payer().0))
}

/// A facilitator's word about `verify`: a *yes* has to say so, about this payer, with a status of success.
fn verify_answer(data: &[u8]) {
    let Some((status, body)) = answer(data) else { return };
    let said = answers::verified(status, body, sold());
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    match said {
        Ok(()) => assert!(status.is_success() && read["isValid"] == json!(true) && fits_payer(&read), "{read}"),
        Err(VerifyError::Declined(decline)) => {
            assert!(read["isValid"] == json!(false) && !status.is_server_error(), "{status}: {read}");
            assert!(harmless(&decline.code), "a stranger's text goes to the client: {:?}", decline.code);
        }
        Err(VerifyError::Unavailable(_)) => {}
    }
}

/// A facilitator's word about `settle`: money moved only with every detail, did not move only with a listed code and
/// no transaction.
fn settle_answer(data: &[u8]) {
    let Some((status, body)) = answer(data) else { return };
    let read: Value = serde_json::from_slice(body).unwrap_or_default();
    let named = read["transaction"].as_str().unwrap_or_default();
    let spelt = |hash: &alloy::primitives::B256| named.strip_prefix("0x").map(hex::decode) == Some(Ok(hash.to_vec()));
    match answers::settled(status, body, sold()) {
        Settlement::Settled(hash) => {
            let network = read["network"].as_str();
            let ours = [Some("eip155:84532"), Some("base-sepolia")].contains(&network);
            assert!(status.is_success() && read["success"] == json!(true) && ours && fits_payer(&read), "{read}");
            assert!(spelt(&hash) && !hash.is_zero(), "{read}");
        }
        Settlement::Declined(code) => {
            assert!(read["success"] == json!(false) && named.is_empty() && !status.is_server_error(), "{read}");
            assert!(harmless(&code) && !code.contains("nonce") && !code.contains("pending"), "{code}");
        }
        Settlement::Pending(hash) => {
            assert!(read["success"] == json!(false) && read["errorReason"] == json!("settlement_pending"), "{read}");
            assert!(hash.is_none_or(|hash| spelt(&hash)), "{read}");
        }
        Settlement::Unclear(hash) => assert!(hash.is_none_or(|hash| spelt(&hash)), "{read}"),
    }
}

fn harmless(code: &str) -> bool {
    (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// `/supported`: a version is spoken only where the answer lists it for the network.
fn supported_answer(data: &[u8]) {
    let network = &sold().offer.network;
    let Some(versions) = answers::supported(data, network) else { return };
    let read: Value = serde_json::from_slice(data).expect("it was read");
    let kinds = read["kinds"].as_array().expect("it was read");
    let lists = |dialect: Dialect| {
        kinds.iter().any(|kind| {
            let name = kind["network"].as_str().unwrap_or_default();
            let names: &[&str] = match dialect {
                Dialect::V1 => &["base-sepolia"],
                Dialect::V2 => &["eip155:84532", "eip155:*"],
            };
            kind["scheme"] == "exact" && kind["x402Version"] == json!(dialect.version()) && names.contains(&name)
        })
    };
    for (asked, spoken) in [Dialect::V1, Dialect::V2].into_iter().zip(versions) {
        if let Some(spoken) = spoken {
            assert!(lists(spoken), "{spoken:?} is not listed: {read}");
            assert!(spoken == asked || !lists(asked), "it was translated without need: {read}");
        }
    }
}

/// A `gateway.yaml`. It loads or says why not, the same way each time, and nothing priced became free on the way.
fn configuration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let read = || config::parse(text, "gateway.yaml", Path::new("/nowhere"), &|_| None);
    let (once, again) = (read(), read());
    assert_eq!(once.config.is_none(), once.report.errors() > 0, "{}", once.report.summary());
    for format in [Format::Human, Format::Short, Format::Json, Format::Github] {
        assert_eq!(once.report.render(format, false), again.report.render(format, false));
    }
    for line in once.report.render(Format::Json, false).lines() {
        serde_json::from_str::<Value>(line).expect("a line of JSON for each mistake");
    }
    let Some(config) = once.config else { return };
    for route in config.live.tariff.routes() {
        if let tollhouse::tariff::Charge::Toll(toll) = &route.charge {
            assert!(!toll.offers.is_empty(), "{} has a price and no offer", route.key);
            assert!(
                toll.offers.iter().all(|offer| offer.amount > AtomicAmount::default()),
                "{} costs nothing",
                route.key
            );
        }
    }
}

/// A request target: its canonical form is canonical, and no server can read another path out of it (S38).
fn target(data: &[u8]) {
    let Ok(target) = Target::parse_keeping(data) else { return };
    assert_eq!(Target::parse(data).is_ok(), !target.keeps_slash(), "only a kept slash needs a route that keeps it");
    let canonical = target.path_and_query().to_owned();
    let again = Target::parse_keeping(canonical.as_bytes()).expect("what is forwarded can be read");
    assert_eq!(again.path_and_query(), canonical, "the canonical form has a canonical form of its own");
    assert_eq!(again.segments().collect::<Vec<_>>(), target.segments().collect::<Vec<_>>());
    assert_eq!(target.query(), again.query());
    assert!(canonical.len() <= data.len() * 3 && target.path().starts_with('/') && target.path().is_ascii());
    let segments: Vec<_> = target.segments().collect();
    for (at, segment) in segments.iter().enumerate() {
        assert!(!segment.is_empty() || at + 1 == segments.len(), "an empty segment inside {canonical}");
        assert!(*segment != "." && *segment != ".." && !segment.contains(['/', '\\', ';']), "{canonical}");
        assert!(!segment.chars().any(char::is_control), "{canonical}");
    }
    let divided = target.divided();
    let inner = divided[1..].strip_suffix('/').unwrap_or(&divided[1..]);
    let is_path = inner.is_empty() || inner.split('/').all(|segment| !matches!(segment, "" | "." | ".."));
    assert!(is_path, "{canonical} is no path to whoever divides it at escaped slashes: {divided}");
}

/// A row of the ledger. What can be read can be written and read again, whatever happens to it next; and nothing makes
/// a settled payment unsettled.
fn record(data: &[u8]) {
    let Ok(entry) = serde_json::from_slice::<Entry>(data) else { return };
    reads_back(&entry);
    let now = Timestamp::from_secs(1_900_000_000);
    let later = now.after(Duration::from_secs(60));
    let events = [
        Event::Reserve { sale: Arc::clone(&entry.sale), until: later, counts: true },
        Event::Release { counted: true, max_releases: 3 },
        Event::Begin { facilitator: "f".into(), transaction: None, check_at: later },
        Event::Look { until: later },
        Event::StillUnknown { transaction: None, check_at: later },
        Event::Decline { why: "refused".into(), max_releases: 3, watch_from: None },
        Event::Decline { why: "refused".into(), max_releases: 3, watch_from: Some(Timestamp::EPOCH) },
        Event::Recheck { check_at: Timestamp::EPOCH },
        Event::EndWatch { why: "it lapsed".into() },
        Event::SendAgain { transaction: None, check_at: later },
        Event::Redeem { until: later, max_redemptions: 3 },
        Event::Renew { turn: entry.redemptions, until: later },
        Event::Deliver { turn: entry.redemptions, delivered: Delivered::Nothing { untouched: true }, response: None },
        Event::Deliver { turn: entry.redemptions, delivered: Delivered::Done(None), response: None },
        Event::GiveUp,
        Event::DropAnswer,
    ];
    for event in events {
        let Ok(next) = Entry::apply(Some(entry.clone()), event, now) else { continue };
        let was_settled = matches!(entry.state, State::Settled { .. });
        assert!(!was_settled || matches!(next.state, State::Settled { .. }), "a settled payment was forgotten");
        reads_back(&next);
    }
}

fn reads_back(entry: &Entry) {
    let text = serde_json::to_string(entry).expect("an entry is JSON");
    let read: Entry = serde_json::from_str(&text).expect("what was written can be read");
    assert_eq!(read, *entry);
    assert_eq!(serde_json::to_string(&read).expect("an entry is JSON"), text);
    assert!(State::NAMES.contains(&entry.state.name()));
    // Whoever waits for something is not forgotten meanwhile (S67).
    if matches!(entry.state, State::Settling { .. }) {
        assert!(entry.due().is_some() && entry.forget_after().is_none());
    }
}
