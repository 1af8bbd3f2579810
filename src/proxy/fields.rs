//! Header fields stripped, added and trusted.

use http::header::{CACHE_CONTROL, VARY, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::prelude::Result;

use crate::payment::{Payment, PaymentKey};
use crate::primitives::Checksummed;

/// Fields with these beginnings are ours alone, in both directions, whatever stands for the `-` (S45, S47, S48).
const OURS: [&str; 5] = ["tollhouse-", "x-tollhouse-", "payment-", "x-payment", "sign-in-with-x"];
/// Fields that ask a backend to see another method or path than was priced (S39, S40).
const OVERRIDES: [&str; 8] = [
    "x-http-method-override",
    "x-http-method",
    "x-method-override",
    "x-original-method",
    "x-original-url",
    "x-original-uri",
    "x-rewrite-url",
    "x-forwarded-uri",
];
/// What says where a body ends. In another spelling it is no such field, but for CGI-like backends it may be (S43).
const FRAMING: [&str; 2] = ["content-length", "transfer-encoding"];
/// Fields by which a backend would speak to a payment gateway; none of them is a client's business.
const UPSTREAM_ONLY: [&str; 2] = ["settlement-overrides", "extension-responses"];
/// Caches between us and the client that obey a field of their own; a paid answer is private to all of them (S49).
const SHARED_CACHES: [HeaderName; 4] = [
    HeaderName::from_static("cdn-cache-control"),
    HeaderName::from_static("surrogate-control"),
    HeaderName::from_static("cloudflare-cdn-cache-control"),
    HeaderName::from_static("netlify-cdn-cache-control"),
];

/// Removes from a request what is ours to say and what would make the backend see another request.
pub(super) fn strip_request(request: &mut RequestHeader) {
    let gone: Vec<HeaderName> = request.headers.keys().filter(|name| foreign_request(name)).cloned().collect();
    for name in gone {
        request.remove_header(&name);
    }
}

/// Removes from an answer what only we may say.
pub(super) fn strip_answer(answer: &mut ResponseHeader) {
    let gone: Vec<HeaderName> = answer.headers.keys().filter(|name| foreign_answer(name)).cloned().collect();
    for name in gone {
        answer.remove_header(&name);
    }
    strip_payment_challenge(answer);
}

/// Removes from what follows a body what only we may say.
pub(super) fn strip_trailers(trailers: &mut HeaderMap) {
    let gone: Vec<HeaderName> = trailers.keys().filter(|name| foreign_answer(name)).cloned().collect();
    for name in gone {
        trailers.remove(&name);
    }
}

/// Whether only the gateway may say what stands in this field.
pub(super) fn is_ours(name: &HeaderName) -> bool {
    OURS.iter().any(|prefix| begins(name.as_str(), prefix))
}

/// Sets a field that a backend trusts, and removes every other spelling of it that a backend may take for the same.
pub(super) fn set_alone(request: &mut RequestHeader, name: &HeaderName, value: HeaderValue) -> Result<()> {
    let gone: Vec<HeaderName> =
        request.headers.keys().filter(|sent| is(sent.as_str(), name.as_str())).cloned().collect();
    for sent in gone {
        request.remove_header(&sent);
    }
    request.insert_header(name.clone(), value)
}

fn foreign_request(name: &HeaderName) -> bool {
    is_ours(name) || is_an_override(name)
}

fn is_an_override(name: &HeaderName) -> bool {
    let name = name.as_str();
    OVERRIDES.iter().any(|other| is(name, other)) || FRAMING.iter().any(|framing| name != *framing && is(name, framing))
}

fn foreign_answer(name: &HeaderName) -> bool {
    let name = name.as_str();
    OURS.iter().any(|prefix| begins(name, prefix)) || UPSTREAM_ONLY.iter().any(|other| is(name, other))
}

/// Whether a name begins like this, `-` standing for whatever is neither letter nor digit: CGI-like backends make `_` of
/// all of it, and cannot tell `Tollhouse.Payer` from `Tollhouse-Payer`.
pub(super) fn begins(name: &str, prefix: &str) -> bool {
    let alike = |(sent, ours): (u8, u8)| sent == ours || (ours == b'-' && !sent.is_ascii_alphanumeric());
    name.len() >= prefix.len() && name.bytes().zip(prefix.bytes()).all(alike)
}

fn is(name: &str, other: &str) -> bool {
    name.len() == other.len() && begins(name, other)
}

/// `WWW-Authenticate: Payment …` invites to pay somebody; only we do that (S47).
fn strip_payment_challenge(answer: &mut ResponseHeader) {
    let is_payment = |value: &HeaderValue| {
        let scheme = value.as_bytes().split(|byte| *byte == b' ').next().unwrap_or_default();
        scheme.eq_ignore_ascii_case(b"payment")
    };
    if !answer.headers.get_all(WWW_AUTHENTICATE).iter().any(is_payment) {
        return;
    }
    let kept: Vec<_> =
        answer.headers.get_all(WWW_AUTHENTICATE).iter().filter(|value| !is_payment(value)).cloned().collect();
    answer.remove_header(&WWW_AUTHENTICATE);
    for value in kept {
        append(answer, WWW_AUTHENTICATE, value);
    }
}

/// Tells the backend who paid what. Called after Pingora has dropped what the client's `Connection` field names, so
/// a client cannot have these removed (S44).
pub(super) fn tell_backend(request: &mut RequestHeader, route: &str, payment: &Payment, key: PaymentKey) {
    let offer = &payment.offer;
    let told = [
        ("Tollhouse-Payer", payment.payer().to_string()),
        ("Tollhouse-Amount", offer.amount.to_string()),
        ("Tollhouse-Asset", Checksummed(offer.asset.address).to_string()),
        ("Tollhouse-Network", offer.network.id.to_string()),
        ("Tollhouse-Route", escape(route)),
        ("Tollhouse-Payment", key.to_string()),
    ];
    for (name, value) in told {
        if let Ok(value) = HeaderValue::try_from(value) {
            // Cannot fail: the name is a constant and the value has just been checked.
            let _ = request.insert_header(name, value);
        }
    }
}

/// A route key as a header value: printable ASCII, the rest percent-encoded.
fn escape(route: &str) -> String {
    let mut text = String::with_capacity(route.len());
    for byte in route.bytes() {
        if (0x20..0x7f).contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

/// Keeps a paid answer out of every cache that others share (S49).
pub(super) fn make_private(answer: &mut ResponseHeader) {
    for name in SHARED_CACHES {
        answer.remove_header(&name);
    }
    // Cannot fail: name and value are already valid.
    let _ = answer.insert_header(CACHE_CONTROL, privately(&answer.headers));
    append(answer, VARY, VARIES);
}

/// As [`make_private`], for an answer from store.
pub(super) fn keep_private(fields: &mut HeaderMap) {
    for name in SHARED_CACHES {
        fields.remove(name);
    }
    fields.insert(CACHE_CONTROL, privately(fields));
    fields.append(VARY, VARIES);
}

const VARIES: HeaderValue = HeaderValue::from_static("PAYMENT-SIGNATURE, X-PAYMENT");

/// The backend's cache directives without those that let others share the answer.
fn privately(fields: &HeaderMap) -> HeaderValue {
    let kept = fields
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|directive| {
            let name = directive.split('=').next().unwrap_or_default().trim().to_ascii_lowercase();
            !matches!(name.as_str(), "" | "public" | "private" | "s-maxage")
        });
    let directives: Vec<&str> = std::iter::once("private").chain(kept).collect();
    HeaderValue::from_str(&directives.join(", ")).unwrap_or(HeaderValue::from_static("private"))
}

pub(super) fn append(answer: &mut ResponseHeader, name: HeaderName, value: HeaderValue) {
    // Cannot fail: name and value are already valid.
    let _ = answer.append_header(name, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(fields: &[(&str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).expect("a plain request");
        for (name, value) in fields {
            request.append_header((*name).to_owned(), *value).expect("a plain field");
        }
        request
    }

    fn answer(fields: &[(&str, &str)]) -> ResponseHeader {
        let mut answer = ResponseHeader::build(200, None).expect("a plain answer");
        for (name, value) in fields {
            answer.append_header((*name).to_owned(), *value).expect("a plain field");
        }
        answer
    }

    fn names<'a>(headers: impl Iterator<Item = &'a HeaderName>) -> Vec<String> {
        let mut names: Vec<_> = headers.map(ToString::to_string).collect();
        names.sort();
        names
    }

    #[test]
    fn s45_a_client_cannot_speak_as_the_gateway() {
        let mut request = request(&[
            ("Tollhouse-Payer", "0x1"),
            ("tollhouse_payer", "0x1"),
            ("X-Tollhouse-Route", "x"),
            ("x_payment_info", "x"),
            ("Tollhouse.Payer", "0x1"),
            ("Tollhouse+Payer", "0x1"),
            ("X~Tollhouse!Payer", "0x1"),
            ("Payment'Info", "x"),
            ("Sign.In.With.X", "x"),
            ("Accept", "*/*"),
        ]);
        strip_request(&mut request);
        assert_eq!(names(request.headers.keys()), ["accept"]);
    }

    #[test]
    fn s48_payment_fields_reach_neither_the_backend_nor_the_client() {
        let mut request = request(&[("PAYMENT-SIGNATURE", "a"), ("X-PAYMENT", "b"), ("SIGN-IN-WITH-X", "c")]);
        strip_request(&mut request);
        assert!(request.headers.is_empty());
    }

    #[test]
    fn s39_s40_override_fields_are_gone() {
        let mut request =
            request(&[("X-HTTP-Method-Override", "GET"), ("X.Original.URL", "/x"), ("X-Rewrite-URL", "/x")]);
        strip_request(&mut request);
        assert!(request.headers.is_empty());
    }

    #[test]
    fn s43_what_only_looks_like_framing_is_gone() {
        let framing = [("Content_Length", "5"), ("Transfer.Encoding", "chunked"), ("content-length", "0")];
        let mut request = request(&framing);
        strip_request(&mut request);
        assert_eq!(names(request.headers.keys()), ["content-length"]);
    }

    #[test]
    fn s47_a_backend_cannot_forge_receipts_or_challenges() {
        let mut answer = answer(&[
            ("PAYMENT-RESPONSE", "x"),
            ("X-PAYMENT-RESPONSE", "x"),
            ("Payment-Receipt", "x"),
            ("PAYMENT-REQUIRED", "x"),
            ("WWW-Authenticate", "Payment id=1"),
            ("WWW-Authenticate", "Basic realm=x"),
            ("Settlement-Overrides", "{}"),
            ("ETag", "\"1\""),
        ]);
        strip_answer(&mut answer);
        assert_eq!(names(answer.headers.keys()), ["etag", "www-authenticate"]);
        assert_eq!(answer.headers.get_all(WWW_AUTHENTICATE).iter().count(), 1);
    }

    #[test]
    fn s49_a_paid_answer_is_private() {
        let mut answer = answer(&[
            ("Cache-Control", "public, max-age=60, s-maxage=600"),
            ("CDN-Cache-Control", "max-age=600"),
            ("Vary", "Accept"),
        ]);
        make_private(&mut answer);
        assert_eq!(answer.headers[CACHE_CONTROL], "private, max-age=60");
        assert!(answer.headers.get("cdn-cache-control").is_none());
        let vary: Vec<_> = answer.headers.get_all(VARY).iter().collect();
        assert_eq!(vary, ["Accept", "PAYMENT-SIGNATURE, X-PAYMENT"]);
    }

    #[test]
    fn a_route_key_is_a_plain_header_value() {
        assert_eq!(escape("GET /münchen"), "GET /m%C3%BCnchen");
    }
}
