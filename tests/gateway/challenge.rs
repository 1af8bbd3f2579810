//! What a client hears that has not paid, or not well.

use std::time::Duration;

use tollhouse::payment::Dialect;
use tollhouse::protocol::x402::PAYMENT_REQUIRED;
use tollhouse::testing::Wallet;
use tollhouse::testing::client::Request;
use tollhouse::testing::facilitator::Behaviour;

use crate::world::{World, assert_invites, assert_no_invitation, assert_paid, decoded, edited, encoded};

const WEATHER: &str = "GET /weather: $0.01";

#[tokio::test]
async fn without_payment_the_answer_is_402_with_offers_and_nobody_is_asked() {
    let world =
        World::selling("GET /weather: {price: $0.01, description: The weather, mime_type: application/json}").await;
    let reply = world.get("/weather?city=oslo").await;
    assert_invites(&reply);
    assert_eq!(reply.field("access-control-allow-origin"), Some("*"));
    let challenge = decoded(&reply.fields[PAYMENT_REQUIRED]);
    assert_eq!(challenge["resource"]["url"], "http://api.test/weather?city=oslo");
    let offer = &challenge["accepts"][0];
    assert_eq!(
        (&offer["scheme"], &offer["network"], &offer["amount"]),
        (&"exact".into(), &"eip155:84532".into(), &"10000".into())
    );
    assert_eq!(reply.json()["accepts"][0]["maxAmountRequired"], "10000");
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "nothing is remembered of who did not pay");
}

#[tokio::test]
async fn s49_a_challenge_is_not_cached_and_each_has_a_quote_of_its_own() {
    let world = World::selling(WEATHER).await;
    let (first, second) = (world.offer("/weather").await.1, world.offer("/weather").await.1);
    assert_ne!(first, second);
}

#[tokio::test]
async fn an_unreadable_payment_is_told_so_and_may_be_made_again() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    for broken in ["%%%", "e30=", "bm90IGpzb24=", ""] {
        let reply = world.ask(&Request::get("/weather").with("payment-signature", broken)).await;
        assert_invites(&reply);
        assert_ne!(decoded(&reply.fields[PAYMENT_REQUIRED])["error"], "Payment required", "{broken}");
    }
    let incomplete = edited(&payment, |json| {
        json["payload"]["authorization"].as_object_mut().expect("an object").remove("nonce");
    });
    assert_invites(&world.pay("/weather", &incomplete).await);
    world.assert_untouched();
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s6_the_payment_for_a_cheap_route_does_not_open_a_dear_one() {
    let world = World::selling("GET /cheap: $0.01\nGET /dear: $1").await;
    let cheap = world.payment("/cheap").await;
    let dear = world.payment("/dear").await;
    assert_invites(&world.pay("/dear", &cheap).await);
    // The terms of the dear route around the signature of the cheap one.
    let accepted = decoded(&dear.1)["accepted"].clone();
    let dressed_up = edited(&cheap, |json| json["accepted"] = accepted);
    assert_invites(&world.pay("/dear", &dressed_up).await);
    world.assert_untouched();
    assert_paid(&world.pay("/cheap", &cheap).await);
}

#[tokio::test]
async fn s6_what_the_client_echoes_changes_no_price() {
    let world = World::selling("GET /weather: $1").await;
    let (offer, quote) = world.offer("/weather").await;
    let cent = world.signed(&offer, Some(&quote), |terms| terms.offer.amount = "10000".parse().expect("an amount"));
    assert_invites(&world.pay("/weather", &cent).await);
    let edited = edited(&cent, |json| json["accepted"]["amount"] = "10000".into());
    assert_invites(&world.pay("/weather", &edited).await);
    world.assert_untouched();
}

#[tokio::test]
async fn s9_a_payment_to_somebody_else_on_another_chain_or_in_another_token_buys_nothing() {
    let world = World::selling(WEATHER).await;
    let (offer, quote) = world.offer("/weather").await;
    let stranger = Wallet::random().address();
    let to_stranger = world.signed(&offer, Some(&quote), |terms| terms.offer.pay_to.0 = stranger);
    let elsewhere = world.signed(&offer, Some(&quote), |terms| {
        let base = tollhouse::primitives::preset("base").expect("a preset");
        terms.offer.network = base.network().into();
    });
    let fake_token = world.signed(&offer, Some(&quote), |terms| {
        let mut asset = (*terms.offer.asset).clone();
        asset.address = stranger;
        terms.offer.asset = asset.into();
    });
    for payment in [to_stranger, elsewhere, fake_token] {
        assert_invites(&world.pay("/weather", &payment).await);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s10_amounts_that_are_not_plain_digits_are_not_amounts() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let beyond = format!("1{}", "0".repeat(78));
    for amount in ["0", "-1", "1e4", "0x2710", "+10000", "١٠٠٠٠", "10000 ", "10000.0", "", &beyond] {
        let signed = edited(&payment, |json| json["payload"]["authorization"]["value"] = amount.into());
        assert_invites(&world.pay("/weather", &signed).await);
        let echoed = edited(&payment, |json| json["accepted"]["amount"] = amount.into());
        assert_invites(&world.pay("/weather", &echoed).await);
    }
    let number = edited(&payment, |json| json["payload"]["authorization"]["value"] = 10_000.into());
    assert_invites(&world.pay("/weather", &number).await);
    world.assert_untouched();
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s28_an_authorization_that_lapses_too_soon_lasts_too_long_or_is_not_good_yet_is_not_taken() {
    let world = World::selling(WEATHER).await;
    let (offer, quote) = world.offer("/weather").await;
    let now = tollhouse::primitives::Clock::now(&world.clock).as_secs();
    let lapsed = world.signed(&offer, Some(&quote), |terms| terms.valid_before = now - 1);
    let soon = world.signed(&offer, Some(&quote), |terms| terms.valid_before = now + 30);
    let years = world.signed(&offer, Some(&quote), |terms| terms.valid_before = now + 5 * 365 * 86_400);
    let early = world.signed(&offer, Some(&quote), |terms| terms.valid_after = now + 60);
    for payment in [lapsed, soon, years, early] {
        assert_invites(&world.pay("/weather", &payment).await);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s28_a_payment_that_was_kept_until_it_could_lapse_before_it_settles_is_not_taken() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    world.wait(Duration::from_secs(61));
    assert_invites(&world.pay("/weather", &payment).await);
    world.assert_untouched();
}

#[tokio::test]
async fn s33_i5_junk_costs_nobody_else_anything() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let forged = edited(&payment, |json| json["payload"]["signature"] = format!("0x{}1b", "11".repeat(64)).into());
    let stolen = edited(&payment, |json| {
        json["payload"]["authorization"]["from"] = Wallet::random().address().to_string().into();
    });
    let deep = (payment.0.clone(), encoded(&format!("{}{}", "[".repeat(5000), "]".repeat(5000))));
    let unsigned = edited(&payment, |json| json["payload"]["signature"] = "0x".into());
    for junk in [forged, stolen, deep, unsigned] {
        assert_invites(&world.pay("/weather", &junk).await);
    }
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "nothing is remembered of junk");
}

#[tokio::test]
async fn s4_a_malleated_signature_is_refused_and_is_no_second_payment() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let high_s = edited(&payment, |json| {
        let signature = json["payload"]["signature"].as_str().expect("a signature").to_owned();
        json["payload"]["signature"] = malleated(&signature).into();
    });
    assert_invites(&world.pay("/weather", &high_s).await);
    world.assert_untouched();
    assert_paid(&world.pay("/weather", &payment).await);
    // Its twin with v as 0 or 1 is the same payment, and spent.
    let low_v = edited(&payment, |json| {
        let signature = json["payload"]["signature"].as_str().expect("a signature").to_owned();
        let (rest, v) = signature.split_at(signature.len() - 2);
        json["payload"]["signature"] = format!("{rest}{}", if v == "1b" { "00" } else { "01" }).into();
    });
    assert_no_invitation(&world.pay("/weather", &low_v).await, 409);
    world.assert_counts(1, 1);
}

/// The other signature of the same message: `n - s`, and the other `v`.
fn malleated(signature: &str) -> String {
    use alloy::primitives::{U256, hex};
    let bytes = hex::decode(signature).expect("hex");
    let n: U256 = "0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141".parse().expect("the order");
    let s = n - U256::from_be_slice(&bytes[32..64]);
    let v = if bytes[64] == 27 { 28_u8 } else { 27 };
    format!("0x{}{}{v:02x}", hex::encode(&bytes[..32]), hex::encode(s.to_be_bytes::<32>()))
}

#[tokio::test]
async fn s54_a_payment_header_that_is_there_twice_is_400_and_nobody_is_asked() {
    let world = World::selling(WEATHER).await;
    for dialect in [Dialect::V1, Dialect::V2] {
        let payment = world.payment_for(&Request::get("/weather"), dialect).await;
        let reply = world.ask(&Request::get("/weather").paying(&payment).paying(&payment)).await;
        assert_no_invitation(&reply, 400);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s54_of_both_dialects_the_newer_decides_readable_or_not() {
    let world = World::selling(WEATHER).await;
    let v1 = world.payment_for(&Request::get("/weather"), Dialect::V1).await;
    let v2 = world.payment("/weather").await;
    let broken = Request::get("/weather").paying(&v1).with("payment-signature", "%%%");
    assert_invites(&world.ask(&broken).await);
    world.assert_untouched();
    let reply = world.ask(&Request::get("/weather").paying(&v1).paying(&v2)).await;
    assert_paid(&reply);
    assert!(reply.field("payment-response").is_some() && reply.field("x-payment-response").is_none());
    assert!(world.facilitator.settled(crate::world::nonce_of(&v2)).is_some());
    assert!(world.facilitator.settled(crate::world::nonce_of(&v1)).is_none());
}

#[tokio::test]
async fn s54_a_version_that_is_not_its_headers_is_402() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    assert_invites(&world.pay("/weather", &edited(&payment, |json| json["x402Version"] = 1.into())).await);
    assert_invites(&world.pay("/weather", &edited(&payment, |json| json["x402Version"] = 3.into())).await);
    world.assert_untouched();
}

#[tokio::test]
async fn s52_a_payment_header_that_is_too_large_is_431() {
    let world = World::selling(WEATHER).await;
    let reply = world.ask(&Request::get("/weather").with("payment-signature", "A".repeat(16 * 1024 + 1))).await;
    assert_no_invitation(&reply, 431);
    world.assert_untouched();
}

#[tokio::test]
async fn s52_more_than_a_hundred_header_fields_are_431_on_any_route() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    for path in ["/weather", "/free", "/nowhere"] {
        let mut request = Request::get(path);
        for number in 0..100 {
            request = request.with(&format!("x-field-{number}"), "value");
        }
        assert_no_invitation(&world.ask(&request).await, 431);
    }
    let large = Request::get("/free").with("x-large", "A".repeat(80 * 1024));
    assert_no_invitation(&world.ask(&large).await, 431);
    world.assert_untouched();
}

#[tokio::test]
async fn s52_json_that_is_deep_or_says_a_thing_twice_is_unreadable() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let json = decoded(&payment.1).to_string();
    let nest = format!("{}1{}", "{\"a\":".repeat(20), "}".repeat(20));
    let deep = json.replacen('{', &format!("{{\"deep\":{nest},"), 1);
    let twice = json.replacen('{', "{\"x402Version\":2,", 1);
    for text in [deep, twice] {
        assert_invites(&world.pay("/weather", &(payment.0.clone(), encoded(&text))).await);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s55_a_description_cannot_end_a_header_line() {
    let world = World::selling(r#"GET /weather: {price: $0.01, description: "line\r\nX-Evil: 1\0 – café"}"#).await;
    let reply = world.get("/weather").await;
    assert_invites(&reply);
    assert!(reply.field("x-evil").is_none());
    let described = decoded(&reply.fields[PAYMENT_REQUIRED])["resource"]["description"].clone();
    let text = described.as_str().expect("text");
    assert!(text.contains("café") && !text.contains(['\r', '\n', '\0']), "{text:?}");
}

#[tokio::test]
async fn s55_what_the_client_put_into_the_target_cannot_end_a_header_line() {
    let world = World::selling("GET /city/{name}: $0.01").await;
    let reply = world.get("/city/a%20b?x=%0d%0aX-Evil:1").await;
    assert_invites(&reply);
    assert!(reply.field("x-evil").is_none());
    let url = decoded(&reply.fields[PAYMENT_REQUIRED])["resource"]["url"].clone();
    assert_eq!(url, "http://api.test/city/a%20b?x=%0d%0aX-Evil:1");
}

#[tokio::test]
async fn a_declined_payment_hears_why_and_may_pay_again_and_the_backend_hears_nothing() {
    let world = World::selling(WEATHER).await;
    world.facilitator.on_verify([Behaviour::Decline("insufficient_funds")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_invites(&reply);
    assert_eq!(decoded(&reply.fields[PAYMENT_REQUIRED])["error"], "insufficient_funds");
    assert_eq!(reply.settlement(), None, "no settlement was attempted");
    world.assert_counts(0, 0);
    world.until("released").await;
    // Nothing was used up: with the purse filled, the same signature pays, once an empty one is asked about again.
    world.wait(Duration::from_secs(5));
    assert_paid(&world.pay("/weather", &payment).await);
}

#[tokio::test]
async fn s57_a_preflight_of_a_priced_path_is_answered_here_and_free() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free\nOPTIONS /free: free").await;
    let preflight = |path| {
        let request = Request::new("OPTIONS", path).with("origin", "https://shop.test");
        request.with("access-control-request-method", "GET").with("access-control-request-headers", "x-mine")
    };
    let reply = world.ask(&preflight("/weather")).await;
    assert_eq!((reply.status, reply.field("access-control-allow-methods")), (204, Some("GET")));
    let allowed = reply.field("access-control-allow-headers").expect("allowed fields");
    assert!(allowed.contains("PAYMENT-SIGNATURE") && allowed.contains("X-PAYMENT") && allowed.contains("x-mine"));
    world.assert_untouched();

    assert_eq!(world.ask(&preflight("/free")).await.status, 200, "on a free path it is an ordinary request");
    assert_eq!(world.backend.last().method, "OPTIONS");
    let bare = world.ask(&Request::new("OPTIONS", "/weather")).await;
    assert_eq!(bare.status, 404, "without an origin it is an ordinary method, and not listed");
}

#[tokio::test]
async fn s57_pages_may_read_challenges_receipts_and_refusals() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    let replies =
        [world.get("/weather").await, world.pay("/weather", &payment).await, world.pay("/weather", &payment).await];
    assert_eq!(replies.each_ref().map(|reply| reply.status), [402, 200, 409]);
    for reply in replies {
        let exposed = reply.field("access-control-expose-headers").expect("exposed fields");
        assert!(exposed.contains("PAYMENT-REQUIRED") && exposed.contains("PAYMENT-RESPONSE"), "{exposed}");
    }
}

#[tokio::test]
async fn s65_an_offer_that_nobody_can_settle_is_not_made() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    // It says that it settles nothing we sell for.
    let nothing = serde_json::json!({ "kinds": [], "extensions": [], "signers": {} });
    let other = tollhouse::testing::ScriptedFacilitator::start().await;
    other.always("/supported", Behaviour::Answer(nothing));
    let file = crate::world::File::selling("GET /weather: $0.01\nGET /free: free");
    let text = file.text(&other, &world.backend.url());
    let gateway = tollhouse::testing::Gateway::start(&text, std::sync::Arc::new(world.clock.clone())).await;
    crate::world::eventually("its answer was heard", || other.count("/supported") > 0).await;
    let mut reply = gateway.ask(&Request::get("/weather")).await;
    while reply.status == 402 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        reply = gateway.ask(&Request::get("/weather")).await;
    }
    assert_no_invitation(&reply, 503);
    assert!(reply.field("retry-after").is_some());
    assert_eq!(gateway.ask(&Request::get("/free")).await.status, 200, "free routes do not care");
}
