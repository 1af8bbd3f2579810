//! The header fields of x402, and what browsers must be told about them.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use crate::payment::Dialect;
use crate::protocol::Answer;

/// v2's challenge.
pub const PAYMENT_REQUIRED: HeaderName = HeaderName::from_static("payment-required");
/// v2's payment.
pub const PAYMENT_SIGNATURE: HeaderName = HeaderName::from_static("payment-signature");
/// v2's receipt.
pub const PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("payment-response");
/// v1's payment.
pub const X_PAYMENT: HeaderName = HeaderName::from_static("x-payment");
/// v1's receipt.
pub const X_PAYMENT_RESPONSE: HeaderName = HeaderName::from_static("x-payment-response");

const EXPOSED: HeaderValue = HeaderValue::from_static("PAYMENT-REQUIRED, PAYMENT-RESPONSE, X-PAYMENT-RESPONSE");

/// `Access-Control-Expose-Headers` is a response field, yet every stock client sends it with the paid request, and
/// browsers then ask whether they may (protocol digest, A3).
const ALLOWED: &str = "PAYMENT-SIGNATURE, X-PAYMENT, SIGN-IN-WITH-X, Content-Type, Access-Control-Expose-Headers, \
    Authorization";

/// Names of further request fields that a preflight may ask for.
const MAX_ASKED: usize = 32;

/// The field a payment of this dialect stands in.
pub const fn payment_field(dialect: Dialect) -> HeaderName {
    match dialect {
        Dialect::V1 => X_PAYMENT,
        Dialect::V2 => PAYMENT_SIGNATURE,
    }
}

/// The field a receipt of this dialect stands in.
pub const fn receipt_field(dialect: Dialect) -> HeaderName {
    match dialect {
        Dialect::V1 => X_PAYMENT_RESPONSE,
        Dialect::V2 => PAYMENT_RESPONSE,
    }
}

/// Padded standard base64: what every decoder takes. It holds no byte that could end a header line (S55).
pub(super) fn encoded(bytes: &[u8]) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(bytes)).expect("base64 is printable ASCII")
}

/// Lets any page read an answer of ours and its payment fields (S57).
pub(super) fn allow_any_origin(fields: &mut HeaderMap) {
    fields.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    fields.insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Adds the receipt fields to what a paid answer exposes to pages (S57). Whose pages may read it at all stays the
/// backend's decision, and what it exposes stays exposed.
pub fn expose(fields: &mut HeaderMap) {
    fields.append(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
}

/// Answers a CORS preflight on a priced path: it is free and never forwarded (S57).
///
/// `asked` is `Access-Control-Request-Headers`. Whatever well-formed names it holds are allowed besides ours: which
/// fields mean anything is the backend's to decide once the request itself is paid for.
pub fn preflight(methods: &[Method], asked: Option<&HeaderValue>) -> Answer {
    let mut fields = HeaderMap::with_capacity(5);
    allow_any_origin(&mut fields);
    let methods = methods.iter().map(Method::as_str).collect::<Vec<_>>().join(", ");
    fields.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::try_from(methods).expect("methods are tokens"));
    let mut allowed = ALLOWED.to_owned();
    let asked = asked.and_then(|value| value.to_str().ok()).unwrap_or_default();
    for name in asked.split(',').take(MAX_ASKED).filter_map(|name| name.trim().parse::<HeaderName>().ok()) {
        let known = allowed.split(", ").any(|known| known.eq_ignore_ascii_case(name.as_str()));
        if !known {
            allowed.push_str(", ");
            allowed.push_str(name.as_str());
        }
    }
    fields.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::try_from(allowed).expect("names are tokens"));
    fields.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    Answer { status: StatusCode::NO_CONTENT, fields, body: bytes::Bytes::new() }
}
