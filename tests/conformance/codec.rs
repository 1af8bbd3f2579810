//! Headers and bodies: what the SDKs write we read, what we write they would have written.

use serde_json::{Value, json};
use tollhouse::payment::{
    Advice, ChosenNetwork, Dialect, FailedSettlement, Offer, Payment, Problem, Receipt, Resource,
};
use tollhouse::primitives::{Payer, Timestamp};
use tollhouse::protocol::x402::client::{Challenge, settlement};
use tollhouse::protocol::x402::wire::facilitator_request;
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, PAYMENT_RESPONSE, X_PAYMENT_RESPONSE, X402};
use tollhouse::protocol::{Answer, Protocol, Quoted};

use crate::support::*;

fn challenge(error: &'static str, resource: &Resource, offer: &Offer) -> Answer {
    let problem = Problem {
        advice: Advice::Pay,
        reason: error.into(),
        dialect: None,
        failed_settlement: None,
        retry_after: None,
    };
    X402.refuse(&problem, resource, &[Quoted { offer, quote: None }])
}

fn payment_of(vector: &Value, offer: Offer, resource: Resource, field: &'static str) -> Payment {
    let credential = decode(&header(vector, field));
    Payment { offer, authorization: credential.authorization, dialect: credential.dialect, resource }
}

#[test]
fn our_v2_challenge_is_the_sdks() {
    for id in EIP3009 {
        let vector = vector(id);
        let resource = resource(&vector["paymentRequired"]["resource"]);
        let answer = challenge("Payment required", &resource, &offer(&vector["requirements"]));
        assert_eq!(unpack(&answer.fields[PAYMENT_REQUIRED]), vector["paymentRequired"], "{id}");
        assert_eq!(
            answer.fields[PAYMENT_REQUIRED],
            text(&vector["headers"]["PAYMENT-REQUIRED"]),
            "{id}, byte for byte"
        );
    }
}

#[test]
fn a_v2_payment_of_the_sdk_is_read_and_would_be_written_the_same() {
    for id in EIP3009 {
        let vector = vector(id);
        let credential = decode(&header(vector, "PAYMENT-SIGNATURE"));
        let offer = offer(&vector["requirements"]);
        assert_eq!(credential.dialect, Dialect::V2);
        assert!(tollhouse::scheme::matches(&offer, &credential.chosen));
        let stated = &vector["paymentPayload"]["payload"];
        let signed = eip3009(&credential.authorization);
        assert_eq!(signed.from.to_string(), stated["authorization"]["from"]);
        assert_eq!(signed.nonce.to_string(), stated["authorization"]["nonce"]);
        assert_eq!(signed.signature.0.to_string(), stated["signature"]);

        let challenge = Challenge::read(&header(vector, "PAYMENT-REQUIRED"), b"").expect("it is a challenge");
        let choice = challenge.choose(|_| true).expect("it can be paid");
        let (_, written) = challenge.payment(choice, signed);
        assert_eq!(unpack(&written), vector["paymentPayload"], "{id}");
    }
}

#[test]
fn a_v2_facilitator_gets_what_the_sdk_would_send() {
    for id in EIP3009 {
        let vector = vector(id);
        let resource = resource(&vector["paymentRequired"]["resource"]);
        let payment = payment_of(vector, offer(&vector["requirements"]), resource, "PAYMENT-SIGNATURE");
        assert_eq!(facilitator_request(&payment, Dialect::V2), vector["facilitatorRequest"], "{id}");
    }
}

/// v1 advertises what a route takes and gives in `outputSchema`; we do not, and clients may not rely on it.
fn without_output_schema(mut value: Value) -> Value {
    for pointer in ["/accepts/0", "/paymentRequirements"] {
        if let Some(entry) = value.pointer_mut(pointer).and_then(Value::as_object_mut) {
            entry.remove("outputSchema");
        }
    }
    value
}

fn v1_challenge() -> Challenge {
    let body = vector("v1-x-payment-base-sepolia")["body402"].to_string();
    Challenge::read(&http::HeaderMap::new(), body.as_bytes()).expect("it is a challenge")
}

#[test]
fn our_v1_challenge_is_the_sdks() {
    let vector = vector("v1-x-payment-base-sepolia");
    let read = v1_challenge();
    let resource = read.resource.clone().expect("v1 names the resource in each entry");
    let answer = challenge("X-PAYMENT header is required", &resource, &read.choices[0].offer);
    let body: Value = serde_json::from_slice(&answer.body).expect("JSON");
    assert_eq!(body, without_output_schema(vector["body402"].clone()));
}

#[test]
fn a_v1_payment_of_either_sdk_is_read_and_would_be_written_the_same() {
    for id in ["v1-x-payment-base-sepolia", "v1-from-v2-sdk"] {
        let vector = vector(id);
        let credential = decode(&header(vector, "X-PAYMENT"));
        let challenge = v1_challenge();
        let choice = challenge.choose(|_| true).expect("it can be paid");
        assert_eq!(credential.dialect, Dialect::V1);
        assert_eq!(credential.chosen.network, ChosenNetwork::Name("base-sepolia".into()));
        assert!(tollhouse::scheme::matches(&choice.offer, &credential.chosen));
        let (_, written) = challenge.payment(choice, eip3009(&credential.authorization));
        assert_eq!(unpack(&written), vector["paymentPayload"], "{id}");
    }
}

#[test]
fn a_v1_facilitator_gets_what_the_sdk_would_send() {
    let vector = vector("v1-x-payment-base-sepolia");
    let challenge = v1_challenge();
    let resource = challenge.resource.clone().expect("v1 names the resource in each entry");
    let payment = payment_of(vector, challenge.choices[0].offer.clone(), resource, "X-PAYMENT");
    let expected = without_output_schema(vector["facilitatorRequest"].clone());
    assert_eq!(facilitator_request(&payment, Dialect::V1), expected);
}

/// What a v1 client signed may settle through a facilitator that speaks only v2: the signature is the same.
#[test]
fn a_v1_payment_translates_to_v2() {
    let vector = vector("v1-x-payment-base-sepolia");
    let challenge = v1_challenge();
    let resource = challenge.resource.clone().expect("v1 names the resource in each entry");
    let payment = payment_of(vector, challenge.choices[0].offer.clone(), resource, "X-PAYMENT");
    let request = facilitator_request(&payment, Dialect::V2);
    assert_eq!(request["paymentRequirements"]["network"], "eip155:84532");
    assert_eq!(request["paymentRequirements"]["amount"], "10000");
    assert_eq!(request["paymentPayload"]["accepted"], request["paymentRequirements"]);
    assert_eq!(request["paymentPayload"]["payload"], vector["paymentPayload"]["payload"]);
}

#[test]
fn receipts_are_the_sdks() {
    for case in vector("headers-payment-response")["cases"].as_array().expect("a list") {
        let mut decoded = case["decoded"].clone();
        // `amount` tells what a metered scheme charged. `exact` charges its price, so we leave it out.
        let metered = decoded.as_object_mut().and_then(|receipt| receipt.remove("amount")).is_some();
        let payer = Payer(text(&decoded["payer"]).parse().expect("an address"));
        let network: tollhouse::primitives::Caip2 = text(&decoded["network"]).parse().expect("CAIP-2");
        let written = if decoded["success"] == true {
            let receipt = Receipt {
                payer,
                amount: Default::default(),
                network,
                network_v1: Some("base".into()),
                transaction: text(&decoded["transaction"]).parse().expect("a hash"),
                block: None,
                settled_at: Timestamp::EPOCH,
            };
            let v1 = X402.receipt(&receipt, Dialect::V1);
            assert_eq!(unpack(&v1[X_PAYMENT_RESPONSE])["network"], "base", "v1 hears its own name of the chain");
            X402.receipt(&receipt, Dialect::V2)
        } else {
            let failed_settlement = Some(FailedSettlement { payer, network, network_v1: None });
            let reason = text(&decoded["errorReason"]).to_owned().into();
            let dialect = Some(Dialect::V2);
            let problem = Problem { advice: Advice::Pay, reason, dialect, failed_settlement, retry_after: None };
            X402.refuse(&problem, &resource(&json!({"url": "", "description": "", "mimeType": ""})), &[]).fields
        };
        assert_eq!(unpack(&written[PAYMENT_RESPONSE]), decoded);
        if !metered {
            assert_eq!(written[PAYMENT_RESPONSE], text(&case["header"]), "byte for byte");
        }
        let theirs = one_field(PAYMENT_RESPONSE, pack(&case["decoded"]));
        assert_eq!(settlement(&theirs), settlement(&written), "our client reads theirs as it reads ours");
    }
}

/// We escape what is not ASCII and the SDK writes it as UTF-8; JSON says that both mean the same.
#[test]
fn a_description_survives_in_any_script() {
    let vector = vector("headers-utf8");
    let theirs = vector["header"].as_str().expect("a header").parse().expect("ASCII");
    let read = Challenge::read(&one_field(PAYMENT_REQUIRED, theirs), b"").expect("it is a challenge");
    let stated = resource(&vector["decoded"]["resource"]);
    assert_eq!(read.resource.as_ref(), Some(&stated));
    let answer = challenge("Payment required", &stated, &read.choices[0].offer);
    assert_eq!(unpack(&answer.fields[PAYMENT_REQUIRED]), vector["decoded"]);
}
