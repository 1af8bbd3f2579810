//! The paying side: reads a 402, writes a payment, reads the receipt. Pure, for `tollhouse pay` and for tests.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::Address;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{PAYMENT_REQUIRED, PAYMENT_RESPONSE, X_PAYMENT_RESPONSE, base64, fields, payment_field, wire};
use crate::payment::{Dialect, Offer, Resource, SchemeName, SettleMode, TransactionHash};
use crate::primitives::{
    Asset, AtomicAmount, Caip2, Decimals, Eip712Name, Network, Payee, TransferMethod, preset, preset_by_id,
};
use crate::protocol::json;

/// Why a 402 or a receipt cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Illegible {
    /// Neither `PAYMENT-REQUIRED` nor a v1 body: a 402 of some other protocol.
    #[error("the answer asks for payment, but not in x402")]
    NotX402,
    /// A field that is there and broken. Other clients give up here too, without a look at the body.
    #[error("the {0} field cannot be read")]
    Field(&'static str),
}

/// What a 402 asks for.
#[derive(Debug, Clone)]
pub struct Challenge {
    /// The dialect it was read in, and will be answered in.
    pub dialect: Dialect,
    /// Why the request was not served.
    pub error: String,
    /// What is sold, when the server says so.
    pub resource: Option<Resource>,
    /// Offers we understand, in the server's order.
    pub choices: Vec<Choice>,
    /// `resource` and `extensions` as the server wrote them, to be echoed.
    echo: Echo,
}

/// An offer, typed, and as the server wrote it.
#[derive(Debug, Clone)]
pub struct Choice {
    /// The terms. An asset unknown to the presets has no known decimals: it is counted in smallest units.
    pub offer: Offer,
    /// Echoed word for word: servers compare it with what they sent.
    stated: Value,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Echo {
    #[serde(skip_serializing_if = "Option::is_none")]
    resource: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    extensions: Option<Value>,
}

impl Challenge {
    /// Reads a 402: the v2 header, or else a v1 body.
    ///
    /// # Errors
    /// When neither is there, or the header is there and broken.
    pub fn read(fields: &HeaderMap, body: &[u8]) -> Result<Self, Illegible> {
        let (dialect, raw) = match fields.get(PAYMENT_REQUIRED) {
            Some(value) => (Dialect::V2, unpacked(value).ok_or(Illegible::Field("PAYMENT-REQUIRED"))?),
            None => (Dialect::V1, serde_json::from_slice::<RawChallenge>(body).map_err(|_| Illegible::NotX402)?),
        };
        if raw.x402_version != u64::from(dialect.version()) {
            return Err(Illegible::NotX402);
        }
        // An entry we cannot read hides no other.
        let read =
            |stated: Value| Stated::deserialize(&stated).ok()?.offer(dialect).map(|offer| Choice { offer, stated });
        let resource = match dialect {
            Dialect::V1 => raw.accepts.first().and_then(|entry| RawResource::deserialize(entry).ok()),
            Dialect::V2 => raw.echo.resource.as_ref().and_then(|stated| RawResource::deserialize(stated).ok()),
        };
        Ok(Self {
            dialect,
            error: raw.error.unwrap_or_default(),
            resource: resource.map(Resource::from),
            choices: raw.accepts.into_iter().filter_map(read).collect(),
            echo: raw.echo,
        })
    }

    /// The first acceptable offer in the server's order; one that charges only for a good answer goes before one
    /// that charges in advance, as in the stock clients (protocol digest, A5).
    pub fn choose(&self, acceptable: impl Fn(&Offer) -> bool) -> Option<&Choice> {
        let in_advance = |choice: &&Choice| choice.offer.settle == SettleMode::BeforeForward;
        self.choices.iter().filter(|choice| acceptable(&choice.offer)).min_by_key(in_advance)
    }

    /// The request field that pays.
    pub fn payment(&self, choice: &Choice, signed: impl Into<wire::Payload>) -> (HeaderName, HeaderValue) {
        payment(self.dialect, &choice.stated, &self.echo, signed.into())
    }
}

/// The request field that pays for an offer known beforehand, as if it had been read from a 402.
pub fn payment_for(
    dialect: Dialect,
    offer: &Offer,
    quote: Option<&str>,
    resource: &Resource,
    signed: impl Into<wire::Payload>,
) -> (HeaderName, HeaderValue) {
    let value = |stated: Result<Value, _>| stated.expect("our types have string keys");
    let stated = match dialect {
        Dialect::V1 => value(serde_json::to_value(wire::RequirementsV1::new(offer, resource))),
        Dialect::V2 => value(serde_json::to_value(wire::RequirementsV2::new(offer, quote))),
    };
    let resource = value(serde_json::to_value(wire::ResourceInfo::from(resource)));
    payment(dialect, &stated, &Echo { resource: Some(resource), extensions: None }, signed.into())
}

fn payment(dialect: Dialect, stated: &Value, echo: &Echo, payload: wire::Payload) -> (HeaderName, HeaderValue) {
    let text = match dialect {
        Dialect::V1 => {
            json::write(&PaymentV1 { x402_version: 1, scheme: &stated["scheme"], network: &stated["network"], payload })
        }
        Dialect::V2 => json::write(&PaymentV2 { x402_version: 2, payload, echo, accepted: stated }),
    };
    let mut value = fields::encoded(&text);
    // Whoever reads it can spend it: keep it out of debug output and out of HPACK's table (I8).
    value.set_sensitive(true);
    (payment_field(dialect), value)
}

/// How a settlement ended, as the server tells it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Settlement {
    /// Whether money moved.
    pub success: bool,
    /// Why not; `settlement_pending` when nobody knows yet.
    #[serde(default)]
    pub error_reason: Option<String>,
    /// The transaction, when there is one.
    #[serde(default, deserialize_with = "hash_or_nothing")]
    pub transaction: Option<TransactionHash>,
    /// The chain, in the words of the dialect.
    pub network: String,
    /// Whose money.
    #[serde(default)]
    pub payer: Option<Address>,
}

/// Reads the receipt of an answer, in either dialect. `Ok(None)` when it carries none.
///
/// # Errors
/// When it is there and broken.
pub fn settlement(fields: &HeaderMap) -> Result<Option<Settlement>, Illegible> {
    let Some(value) = fields.get(PAYMENT_RESPONSE).or_else(|| fields.get(X_PAYMENT_RESPONSE)) else {
        return Ok(None);
    };
    unpacked(value).map(Some).ok_or(Illegible::Field("PAYMENT-RESPONSE"))
}

fn unpacked<T: for<'t> Deserialize<'t>>(value: &HeaderValue) -> Option<T> {
    serde_json::from_slice(&base64(value.as_bytes())?).ok()
}

fn hash_or_nothing<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<TransactionHash>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?.unwrap_or_default();
    if text.is_empty() { Ok(None) } else { text.parse().map(Some).map_err(serde::de::Error::custom) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentV1<'a> {
    x402_version: u8,
    scheme: &'a Value,
    network: &'a Value,
    payload: wire::Payload,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PaymentV2<'a> {
    x402_version: u8,
    payload: wire::Payload,
    #[serde(flatten)]
    echo: &'a Echo,
    accepted: &'a Value,
}

#[derive(Deserialize)]
struct RawChallenge {
    #[serde(rename = "x402Version")]
    x402_version: u64,
    error: Option<String>,
    accepts: Vec<Value>,
    #[serde(flatten)]
    echo: Echo,
}

#[derive(Deserialize)]
struct RawResource {
    #[serde(alias = "resource")]
    url: String,
    #[serde(default)]
    description: Option<String>,
    #[serde(default, rename = "mimeType")]
    mime_type: Option<String>,
}

impl From<RawResource> for Resource {
    fn from(raw: RawResource) -> Self {
        let RawResource { url, description, mime_type } = raw;
        Self { url, description: description.unwrap_or_default(), mime_type: mime_type.unwrap_or_default() }
    }
}

/// An entry of `accepts`, in either dialect.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stated {
    scheme: String,
    network: String,
    amount: Option<AtomicAmount>,
    max_amount_required: Option<AtomicAmount>,
    asset: Address,
    pay_to: Address,
    max_timeout_seconds: u64,
    extra: StatedExtra,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct StatedExtra {
    name: Option<String>,
    version: Option<String>,
    payment_flow: Option<String>,
    asset_transfer_method: Option<String>,
    #[serde(default)]
    sandbox: bool,
}

impl StatedExtra {
    /// The token's domain. EIP-3009 is signed under it; for Permit2 it need not be told.
    fn eip712(&self, method: TransferMethod) -> Option<Eip712Name> {
        match (self.name.clone(), self.version.clone(), method) {
            (Some(name), Some(version), _) => Some(Eip712Name { name, version }),
            (name, version, TransferMethod::Permit2) => {
                Some(Eip712Name { name: name.unwrap_or_default(), version: version.unwrap_or_default() })
            }
            _ => None,
        }
    }
}

impl Stated {
    /// The offer, when it is one we can sign: `exact`, EIP-3009 or Permit2, a chain and a flow we know.
    fn offer(self, dialect: Dialect) -> Option<Offer> {
        let method = match (self.extra.asset_transfer_method.as_deref(), dialect) {
            (None | Some("eip3009"), _) => TransferMethod::Eip3009,
            (Some("permit2"), Dialect::V2) => TransferMethod::Permit2,
            _ => return None,
        };
        if self.scheme != SchemeName::Exact.as_str() {
            return None;
        }
        let (network, amount) = match dialect {
            Dialect::V1 => (preset(&self.network)?.network(), self.max_amount_required?),
            Dialect::V2 => (network(self.network.parse().ok()?)?, self.amount?),
        };
        let settle = match self.extra.payment_flow.as_deref() {
            None | Some("authorization") => SettleMode::OnResponse,
            Some("upfront") => SettleMode::BeforeForward,
            Some(_) => return None,
        };
        Some(Offer {
            scheme: SchemeName::Exact,
            asset: Arc::new(asset(&network.id, self.asset, self.extra.eip712(method)?, method)),
            network: Arc::new(network),
            amount,
            pay_to: Payee(self.pay_to),
            max_timeout: Duration::from_secs(self.max_timeout_seconds),
            settle,
            sandbox: self.extra.sandbox,
        })
    }
}

/// A chain we have no name for is taken to hold real money.
fn network(id: Caip2) -> Option<Network> {
    id.chain_id()?;
    Some(preset_by_id(&id).map_or_else(
        || Network { name: id.to_string(), id: id.clone(), v1_name: None, live: true, explorer: None },
        |preset| preset.network(),
    ))
}

/// A known token with the name the server gives its domain: that name is what gets signed.
fn asset(network: &Caip2, address: Address, eip712: Eip712Name, method: TransferMethod) -> Asset {
    let known = preset_by_id(network)
        .and_then(|preset| preset.assets.iter().map(|row| row.asset()).find(|asset| asset.address == address));
    match known {
        Some(known) => Asset { eip712, method, ..known },
        None => Asset {
            symbol: format!("units of {address}"),
            address,
            decimals: Decimals::new(0).expect("zero is within the limit"),
            peg: None,
            eip712,
            method,
        },
    }
}
