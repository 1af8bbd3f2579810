//! x402: two dialects, one vocabulary.
//!
//! v2 keeps everything in header fields; v1 challenges in the body. One 402 speaks both (protocol digest, A7).

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::{HeaderMap, HeaderValue, Method};

use crate::payment::{
    Authorization, Credential, Dialect, Eip3009, Permit2, Problem, Receipt, Resource, SignatureBytes,
};
use crate::primitives::Nonce;
use crate::protocol::{Answer, DecodeError, Protocol, Quoted, json};

pub mod client;
mod drafts;
mod fields;
mod refusal;
mod v1;
mod v2;
pub mod wire;

pub use fields::{
    PAYMENT_REQUIRED, PAYMENT_RESPONSE, PAYMENT_SIGNATURE, X_PAYMENT, X_PAYMENT_RESPONSE, expose, payment_field,
    preflight, receipt_field,
};

/// Bytes of a payment header (S52). A plain payment has about 1.1 KB; a rich discovery block adds several.
pub const MAX_HEADER: usize = 16 * 1024;

/// x402 over HTTP, versions 1 and 2.
///
/// ```
/// use http::{HeaderMap, HeaderValue};
/// use tollhouse::protocol::{DecodeError, Protocol, x402::X402};
///
/// let mut fields = HeaderMap::new();
/// assert_eq!(X402.decode(&fields), Ok(None), "no payment is not a mistake");
///
/// fields.insert("payment-signature", HeaderValue::from_static("e30="));
/// assert!(matches!(X402.decode(&fields), Err(DecodeError::Unreadable { .. })));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct X402;

impl Protocol for X402 {
    fn refuse(&self, problem: &Problem, resource: &Resource, offers: &[Quoted<'_>]) -> Answer {
        refusal::answer(problem, resource, offers)
    }

    fn decode(&self, fields: &HeaderMap) -> Result<Option<Credential>, DecodeError> {
        let v2 = single(fields, Dialect::V2)?;
        let v1 = single(fields, Dialect::V1)?;
        // One wallet sends both. The presence of the newer decides, readable or not: a fallback would let two
        // readers of the same request see two different payments (S54).
        let (dialect, value) = match (v2, v1) {
            (Some(value), _) => (Dialect::V2, value),
            (None, Some(value)) => (Dialect::V1, value),
            (None, None) => return Ok(None),
        };
        credential(dialect, value).map(Some).map_err(|reason| DecodeError::Unreadable { dialect, reason })
    }

    fn preflight(&self, methods: &[Method], asked: Option<&HeaderValue>) -> Answer {
        fields::preflight(methods, asked)
    }

    fn expose(&self, headers: &mut HeaderMap) {
        fields::expose(headers);
    }

    fn receipt(&self, receipt: &Receipt, dialect: Dialect) -> HeaderMap {
        // With room for what lets pages read it.
        let mut fields = HeaderMap::with_capacity(2);
        fields.insert(receipt_field(dialect), refusal::receipt(receipt, dialect));
        fields
    }
}

/// The one header line of this dialect, if there is one.
fn single(fields: &HeaderMap, dialect: Dialect) -> Result<Option<&HeaderValue>, DecodeError> {
    let mut lines = fields.get_all(payment_field(dialect)).iter();
    let first = lines.next();
    if lines.next().is_some() {
        return Err(DecodeError::Repeated);
    }
    if first.is_some_and(|value| value.len() > MAX_HEADER) {
        return Err(DecodeError::TooLarge);
    }
    Ok(first)
}

fn credential(dialect: Dialect, value: &HeaderValue) -> Result<Credential, String> {
    let invalid = |fault: json::Fault| format!("invalid_payload: {fault}");
    let bytes = base64(value.as_bytes()).ok_or_else(|| invalid(json::Fault::new("not standard base64")))?;
    let envelope = json::Object::read(&bytes).map_err(invalid)?;
    match envelope.whole("x402Version") {
        Some(version) if version == u64::from(dialect.version()) => {}
        Some(version) => return Err(format!("Unsupported x402 version: {version}")),
        None => return Err("invalid_x402_version".to_owned()),
    }
    let chosen = match dialect {
        Dialect::V1 => v1::chosen(&envelope),
        Dialect::V2 => v2::chosen(&envelope),
    };
    let chosen = chosen.map_err(invalid)?;
    let payload = envelope.object("payload").map_err(invalid)?;
    // What was signed tells by its name what it is. One payload holds one: two readers could take either (S53).
    let transfer = payload.optional_object("authorization").map_err(invalid)?;
    let permit2 = payload.optional_object("permit2Authorization").map_err(invalid)?;
    let authorization = match (transfer, permit2, dialect) {
        (Some(signed), None, _) => eip3009(payload, signed),
        // v1 has no word for it (protocol digest, A7).
        (None, Some(signed), Dialect::V2) => permit2_transfer(payload, signed),
        _ => return Err("unsupported_payload_type".to_owned()),
    };
    Ok(Credential { dialect, chosen, authorization: authorization.map_err(invalid)? })
}

/// The same in both dialects.
fn eip3009(payload: &json::Object<'_>, signed: &json::Object<'_>) -> Result<Authorization, json::Fault> {
    Ok(Authorization::Eip3009(Eip3009 {
        from: signed.address("from")?,
        to: signed.address("to")?,
        value: signed.amount("value")?,
        valid_after: signed.amount("validAfter")?.units(),
        valid_before: signed.amount("validBefore")?.units(),
        nonce: Nonce(signed.word("nonce")?),
        signature: SignatureBytes(payload.signature("signature")?),
    }))
}

fn permit2_transfer(payload: &json::Object<'_>, signed: &json::Object<'_>) -> Result<Authorization, json::Fault> {
    let (permitted, witness) = (signed.object("permitted")?, signed.object("witness")?);
    Ok(Authorization::Permit2(Box::new(Permit2 {
        from: signed.address("from")?,
        token: permitted.address("token")?,
        amount: permitted.amount("amount")?,
        spender: signed.address("spender")?,
        nonce: signed.amount("nonce")?.units(),
        deadline: signed.amount("deadline")?.units(),
        to: witness.address("to")?,
        valid_after: witness.amount("validAfter")?.units(),
        signature: SignatureBytes(payload.signature("signature")?),
    })))
}

/// Standard alphabet, padded fully or not at all, and no second spelling of the same bytes (S3).
fn base64(text: &[u8]) -> Option<Vec<u8>> {
    let padded = text.ends_with(b"=");
    if padded { STANDARD.decode(text).ok() } else { STANDARD_NO_PAD.decode(text).ok() }
}

#[cfg(test)]
mod tests;
