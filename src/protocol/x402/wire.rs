//! The objects of x402 as they go out: offers, payments and settlements, written from typed values alone (S53).

use std::fmt;

use alloy::primitives::{B256, U256};
use serde::{Serialize, Serializer};

use crate::payment::{Authorization, Dialect, Eip3009, Offer, Payment, Permit2, Resource, SettleMode};
use crate::primitives::{AtomicAmount, Caip2, Checksummed, Payer, TransferMethod};
use crate::protocol::json::Clean;

/// The body of `/verify` and `/settle`: the payment and the terms it is measured by, in the words of `version`.
///
/// The quote stays here: whoever knows it can collect the answer (S75). In v1, an offer on a network that v1 has no
/// name for keeps its CAIP-2 name, which no v1 facilitator takes; ask `accepts` first.
pub fn facilitator_request(payment: &Payment, version: Dialect) -> serde_json::Value {
    let Payment { offer, authorization, resource, .. } = payment;
    let payload = Payload::from(authorization);
    let request = match version {
        Dialect::V1 => serde_json::to_value(Request {
            x402_version: 1,
            payment_payload: PaymentV1 {
                x402_version: 1,
                scheme: offer.scheme.as_str(),
                network: network_v1(offer),
                payload,
            },
            payment_requirements: RequirementsV1::new(offer, resource),
        }),
        Dialect::V2 => serde_json::to_value(Request {
            x402_version: 2,
            payment_payload: PaymentV2 {
                x402_version: 2,
                payload,
                resource: ResourceInfo::from(resource),
                accepted: RequirementsV2::new(offer, None),
            },
            payment_requirements: RequirementsV2::new(offer, None),
        }),
    };
    request.expect("our types have string keys")
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Request<P, R> {
    x402_version: u8,
    payment_payload: P,
    payment_requirements: R,
}

/// `PaymentRequired` of v2, in `PAYMENT-REQUIRED`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeV2<'a> {
    x402_version: u8,
    error: Clean<'a>,
    resource: ResourceInfo<'a>,
    accepts: Vec<RequirementsV2<'a>>,
}

impl<'a> ChallengeV2<'a> {
    /// The challenge with these offers, the preferred first: clients take the first they can pay.
    pub fn new(error: &'a str, resource: &'a Resource, accepts: Vec<RequirementsV2<'a>>) -> Self {
        Self { x402_version: 2, error: Clean(error), resource: ResourceInfo::from(resource), accepts }
    }
}

/// `PaymentRequired` of v1, in the body.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ChallengeV1<'a> {
    x402_version: u8,
    error: Clean<'a>,
    accepts: Vec<RequirementsV1<'a>>,
}

impl<'a> ChallengeV1<'a> {
    /// The challenge with these offers; one that a v1 client cannot parse makes it drop them all.
    pub fn new(error: &'a str, accepts: Vec<RequirementsV1<'a>>) -> Self {
        Self { x402_version: 1, error: Clean(error), accepts }
    }
}

/// `PaymentRequirements` of v2. No unknown keys and no nulls: Python clients drop both and the echo no longer
/// matches on servers that compare it (protocol digest, A8).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementsV2<'a> {
    scheme: &'static str,
    network: &'a str,
    amount: AtomicAmount,
    asset: Checksummed,
    pay_to: Checksummed,
    max_timeout_seconds: u64,
    extra: Extra<'a>,
}

impl<'a> RequirementsV2<'a> {
    /// An offer as v2 writes it.
    pub fn new(offer: &'a Offer, quote: Option<&'a str>) -> Self {
        Self {
            scheme: offer.scheme.as_str(),
            network: offer.network.id.as_str(),
            amount: offer.amount,
            asset: Checksummed(offer.asset.address),
            pay_to: Checksummed(offer.pay_to.0),
            max_timeout_seconds: offer.max_timeout.as_secs(),
            extra: Extra {
                quote,
                payment_flow: (offer.settle == SettleMode::BeforeForward).then_some("upfront"),
                ..Extra::of(offer)
            },
        }
    }
}

/// `PaymentRequirements` of v1. The field rules of its clients are stricter than its specification (protocol
/// digest, A6): `description` and `mimeType` always, `outputSchema` never null, the asset checksummed.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequirementsV1<'a> {
    scheme: &'static str,
    network: &'a str,
    max_amount_required: AtomicAmount,
    resource: &'a str,
    description: Clean<'a>,
    mime_type: Clean<'a>,
    pay_to: Checksummed,
    max_timeout_seconds: u64,
    asset: Checksummed,
    extra: Extra<'a>,
}

impl<'a> RequirementsV1<'a> {
    /// An offer as v1 writes it.
    pub fn new(offer: &'a Offer, resource: &'a Resource) -> Self {
        Self {
            scheme: offer.scheme.as_str(),
            network: network_v1(offer),
            max_amount_required: offer.amount,
            resource: &resource.url,
            description: Clean(&resource.description),
            mime_type: Clean(&resource.mime_type),
            pay_to: Checksummed(offer.pay_to.0),
            max_timeout_seconds: offer.max_timeout.as_secs(),
            asset: Checksummed(offer.asset.address),
            extra: Extra::of(offer),
        }
    }
}

fn network_v1(offer: &Offer) -> &str {
    offer.network.v1_name.as_deref().unwrap_or(offer.network.id.as_str())
}

/// What the offer's scheme needs besides: the token's EIP-712 name, and what we add for our own clients.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Extra<'a> {
    name: &'a str,
    version: &'a str,
    /// Left out for EIP-3009, which goes without saying.
    #[serde(skip_serializing_if = "Option::is_none")]
    asset_transfer_method: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    quote: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    payment_flow: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sandbox: Option<bool>,
}

impl<'a> Extra<'a> {
    fn of(offer: &'a Offer) -> Self {
        Self {
            name: &offer.asset.eip712.name,
            version: &offer.asset.eip712.version,
            asset_transfer_method: (offer.asset.method == TransferMethod::Permit2)
                .then_some(TransferMethod::Permit2.as_str()),
            quote: None,
            payment_flow: None,
            sandbox: offer.sandbox.then_some(true),
        }
    }
}

/// What is sold.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ResourceInfo<'a> {
    url: &'a str,
    description: Clean<'a>,
    mime_type: Clean<'a>,
}

impl<'a> From<&'a Resource> for ResourceInfo<'a> {
    fn from(resource: &'a Resource) -> Self {
        Self { url: &resource.url, description: Clean(&resource.description), mime_type: Clean(&resource.mime_type) }
    }
}

/// `PaymentPayload` of v1.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentV1<'a> {
    x402_version: u8,
    scheme: &'static str,
    network: &'a str,
    payload: Payload,
}

/// `PaymentPayload` of v2.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentV2<'a> {
    x402_version: u8,
    payload: Payload,
    resource: ResourceInfo<'a>,
    accepted: RequirementsV2<'a>,
}

/// What was signed. An EIP-3009 authorization is the same in both dialects.
#[derive(Serialize)]
pub struct Payload {
    #[serde(flatten)]
    signed: Signed,
    /// Whoever holds it can submit it, so this type does not print it (I8).
    signature: alloy::primitives::Bytes,
}

impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Payload").field("signed", &self.signed).finish_non_exhaustive()
    }
}

#[derive(Debug, Serialize)]
enum Signed {
    #[serde(rename = "authorization")]
    Eip3009(Eip3009Fields),
    #[serde(rename = "permit2Authorization")]
    Permit2(Permit2Fields),
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Eip3009Fields {
    from: Checksummed,
    to: Checksummed,
    value: AtomicAmount,
    valid_after: Decimal,
    valid_before: Decimal,
    nonce: B256,
}

#[derive(Debug, Serialize)]
struct Permit2Fields {
    from: Checksummed,
    permitted: Permitted,
    spender: Checksummed,
    nonce: Decimal,
    deadline: Decimal,
    witness: WitnessFields,
}

#[derive(Debug, Serialize)]
struct Permitted {
    token: Checksummed,
    amount: AtomicAmount,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct WitnessFields {
    to: Checksummed,
    valid_after: Decimal,
}

impl From<&Authorization> for Payload {
    fn from(authorization: &Authorization) -> Self {
        match authorization {
            Authorization::Eip3009(signed) => Self::from(signed),
            Authorization::Permit2(signed) => Self::from(&**signed),
        }
    }
}

impl From<&Eip3009> for Payload {
    fn from(signed: &Eip3009) -> Self {
        let fields = Eip3009Fields {
            from: Checksummed(signed.from),
            to: Checksummed(signed.to),
            value: signed.value,
            valid_after: Decimal(signed.valid_after),
            valid_before: Decimal(signed.valid_before),
            nonce: signed.nonce.0,
        };
        Self { signed: Signed::Eip3009(fields), signature: signed.signature.0.clone() }
    }
}

impl From<&Permit2> for Payload {
    fn from(signed: &Permit2) -> Self {
        let fields = Permit2Fields {
            from: Checksummed(signed.from),
            permitted: Permitted { token: Checksummed(signed.token), amount: signed.amount },
            spender: Checksummed(signed.spender),
            nonce: Decimal(signed.nonce),
            deadline: Decimal(signed.deadline),
            witness: WitnessFields { to: Checksummed(signed.to), valid_after: Decimal(signed.valid_after) },
        };
        Self { signed: Signed::Permit2(fields), signature: signed.signature.0.clone() }
    }
}

/// `SettleResponse` as a client hears it, in `PAYMENT-RESPONSE` or `X-PAYMENT-RESPONSE`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Settlement<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_reason: Option<Clean<'a>>,
    #[serde(serialize_with = "hash_or_nothing")]
    transaction: Option<B256>,
    network: &'a str,
    payer: Checksummed,
}

impl<'a> Settlement<'a> {
    /// Money moved.
    pub fn success(transaction: B256, network: &'a str, payer: Payer) -> Self {
        let payer = Checksummed(payer.0);
        Self { success: true, error_reason: None, transaction: Some(transaction), network, payer }
    }

    /// No money moved, or nobody can tell yet.
    pub fn failure(reason: &'a str, transaction: Option<B256>, network: &'a str, payer: Payer) -> Self {
        let payer = Checksummed(payer.0);
        Self { success: false, error_reason: Some(Clean(reason)), transaction, network, payer }
    }
}

/// A chain in the words of a dialect; v1 hears the CAIP-2 name where it has none of its own.
pub fn network_name<'a>(dialect: Dialect, id: &'a Caip2, v1_name: Option<&'a str>) -> &'a str {
    match dialect {
        Dialect::V1 => v1_name.unwrap_or(id.as_str()),
        Dialect::V2 => id.as_str(),
    }
}

fn hash_or_nothing<S: Serializer>(hash: &Option<B256>, serializer: S) -> Result<S::Ok, S::Error> {
    match hash {
        Some(hash) => hash.serialize(serializer),
        None => serializer.serialize_str(""),
    }
}

#[derive(Debug)]
struct Decimal(U256);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
