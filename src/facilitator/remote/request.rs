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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::vectors::eip3009_base_sepolia;

    /// Vector `eip3009-base-sepolia`, `facilitatorRequest`.
    #[test]
    fn s53_a_v2_request_is_the_sdks() {
        let requirements = json!({
            "scheme": "exact", "network": "eip155:84532", "amount": "1000",
            "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
            "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
            "maxTimeoutSeconds": 300, "extra": { "name": "USDC", "version": "2" },
        });
        let expected = json!({
            "x402Version": 2,
            "paymentPayload": {
                "x402Version": 2,
                "payload": payload(),
                "resource": {
                    "url": "https://api.example.com/weather?city=Paris",
                    "description": "Weather data",
                    "mimeType": "application/json",
                },
                "accepted": requirements,
            },
            "paymentRequirements": requirements,
        });
        assert_eq!(body(&eip3009_base_sepolia(), Dialect::V2), expected);
    }

    /// The shape of vector `v1-x-payment-base-sepolia`, without the optional `outputSchema`.
    #[test]
    fn s3_the_same_signature_is_spoken_in_v1() {
        let expected = json!({
            "x402Version": 1,
            "paymentPayload": { "x402Version": 1, "scheme": "exact", "network": "base-sepolia", "payload": payload() },
            "paymentRequirements": {
                "scheme": "exact", "network": "base-sepolia", "maxAmountRequired": "1000",
                "resource": "https://api.example.com/weather?city=Paris",
                "description": "Weather data", "mimeType": "application/json",
                "payTo": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8", "maxTimeoutSeconds": 300,
                "asset": "0x036CbD53842c5426634e7929541eC2318f3dCF7e",
                "extra": { "name": "USDC", "version": "2" },
            },
        });
        assert_eq!(body(&eip3009_base_sepolia(), Dialect::V1), expected);
    }

    #[test]
    fn settling_before_forwarding_is_said_in_the_offer() {
        let mut payment = eip3009_base_sepolia();
        payment.offer.settle = SettleMode::BeforeForward;
        let body = body(&payment, Dialect::V2);
        for offer in ["/paymentRequirements", "/paymentPayload/accepted"] {
            assert_eq!(body.pointer(&format!("{offer}/extra/paymentFlow")), Some(&json!("upfront")));
        }
    }

    fn payload() -> Value {
        json!({
            "authorization": {
                "from": "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
                "to": "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
                "value": "1000", "validAfter": "0", "validBefore": "1767225900",
                "nonce": "0xc1d3d76266ac984222f3b723f3be0d4c44a54578315ef22413aca193493810d8",
            },
            "signature": "0x91ea596db8ce8ef805bb05e1358b38512174a30edca960af8877a0bb8b8ddc7475857e90b3716bbceae441cc157166b2f8d929e2e4803d7002f0bc976060c4171c",
        })
    }
}
