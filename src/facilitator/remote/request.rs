//! What a facilitator is asked, written from typed values and never from the client's bytes (S53).

use serde_json::{Value, json};

use crate::payment::{Authorization, Dialect, Offer, Payment, SettleMode};

/// The body of `/verify` and `/settle` in this version. The quote stays with us (S75).
pub(super) fn body(payment: &Payment, version: Dialect) -> Value {
    let requirements = match version {
        Dialect::V1 => requirements_v1(payment),
        Dialect::V2 => requirements_v2(&payment.offer),
    };
    let presented = match version {
        Dialect::V1 => json!({
            "x402Version": 1,
            "scheme": payment.offer.scheme.as_str(),
            "network": network_v1(&payment.offer),
            "payload": signed(&payment.authorization),
        }),
        Dialect::V2 => json!({
            "x402Version": 2,
            "resource": {
                "url": payment.resource.url,
                "description": payment.resource.description,
                "mimeType": payment.resource.mime_type,
            },
            "accepted": requirements,
            "payload": signed(&payment.authorization),
        }),
    };
    json!({ "x402Version": version.version(), "paymentPayload": presented, "paymentRequirements": requirements })
}

fn requirements_v2(offer: &Offer) -> Value {
    let mut extra = domain(offer);
    if offer.settle == SettleMode::BeforeForward {
        extra["paymentFlow"] = "upfront".into();
    }
    json!({
        "scheme": offer.scheme.as_str(),
        "network": offer.network.id.as_str(),
        "amount": offer.amount.to_string(),
        "asset": offer.asset.address.to_string(),
        "payTo": offer.pay_to.to_string(),
        "maxTimeoutSeconds": offer.max_timeout.as_secs(),
        "extra": extra,
    })
}

fn requirements_v1(payment: &Payment) -> Value {
    let offer = &payment.offer;
    json!({
        "scheme": offer.scheme.as_str(),
        "network": network_v1(offer),
        "maxAmountRequired": offer.amount.to_string(),
        "resource": payment.resource.url,
        "description": payment.resource.description,
        "mimeType": payment.resource.mime_type,
        "payTo": offer.pay_to.to_string(),
        "maxTimeoutSeconds": offer.max_timeout.as_secs(),
        "asset": offer.asset.address.to_string(),
        "extra": domain(offer),
    })
}

/// v1 is spoken only where the network has a v1 name (`Kinds::version`).
fn network_v1(offer: &Offer) -> &str {
    offer.network.v1_name.as_deref().unwrap_or(offer.network.id.as_str())
}

fn domain(offer: &Offer) -> Value {
    json!({ "name": offer.asset.eip712.name, "version": offer.asset.eip712.version })
}

fn signed(authorization: &Authorization) -> Value {
    match authorization {
        Authorization::Eip3009(signed) => json!({
            "signature": alloy::primitives::hex::encode_prefixed(&signed.signature.0),
            "authorization": {
                "from": signed.from.to_string(),
                "to": signed.to.to_string(),
                "value": signed.value.to_string(),
                "validAfter": signed.valid_after.to_string(),
                "validBefore": signed.valid_before.to_string(),
                "nonce": alloy::primitives::hex::encode_prefixed(signed.nonce.0),
            },
        }),
    }
}
