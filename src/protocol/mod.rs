//! How is payment spoken over HTTP?

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use serde::Serialize;

use crate::payment::{Credential, Dialect, Offer, Problem, Receipt, Resource};

pub mod json;
pub mod x402;

/// A whole HTTP answer. `body` is left out for HEAD by whoever writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Status.
    pub status: StatusCode,
    /// Every field but the length.
    pub fields: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A refusal that is no invitation to pay: a problem document (RFC 9457) that no cache keeps.
    ///
    /// `title` names the kind of problem and never changes with the request; `type` is made from it. `advice` says
    /// what the client should do next: `fix`, `wait`, `stop` or `try later`.
    pub fn problem(status: StatusCode, title: &'static str, detail: &str, advice: &'static str) -> Self {
        let document = ProblemDocument {
            kind: format!("urn:tollhouse:problem:{}", title.to_ascii_lowercase().replace(' ', "-")),
            title,
            status: status.as_u16(),
            detail: json::Clean(detail),
            advice,
        };
        let mut fields = HeaderMap::with_capacity(8);
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        Self { status, fields, body: json::write(&document).into() }
    }
}

#[derive(Serialize)]
struct ProblemDocument<'a> {
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    detail: json::Clean<'a>,
    advice: &'static str,
}

/// An offer as it goes out: with the quote that keeps its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quoted<'a> {
    /// The terms.
    pub offer: &'a Offer,
    /// `extra.quote`; v2 clients echo it.
    pub quote: Option<String>,
}

/// A payment header that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// The header stands there more than once (S54).
    #[error("the payment header is repeated")]
    Repeated,
    /// More than 16 KiB (S52).
    #[error("the payment header is too large")]
    TooLarge,
    /// Not base64, not JSON, or not the fields it needs. The text says what, without echoing the header.
    #[error("{reason}")]
    Unreadable {
        /// The dialect of the header it stood in.
        dialect: Dialect,
        /// What the client is told in `error`.
        reason: String,
    },
}

/// How payment is spoken. Pure: bytes in, nouns out.
pub trait Protocol: Send + Sync + 'static {
    /// Says why not; when paying is the remedy, says how.
    fn refuse(&self, problem: &Problem, resource: &Resource, offers: &[Quoted<'_>]) -> Answer;

    /// `Ok(None)` when the request carries no payment.
    ///
    /// # Errors
    /// When a payment header is there and cannot be read.
    fn decode(&self, fields: &HeaderMap) -> Result<Option<Credential>, DecodeError>;

    /// Answers a CORS preflight on a priced path; `asked` is its `Access-Control-Request-Headers` (S57).
    fn preflight(&self, methods: &[Method], asked: Option<&HeaderValue>) -> Answer;

    /// Lets pages read the receipt of a paid answer (S57).
    fn expose(&self, fields: &mut HeaderMap);

    /// The fields that tell the client what it paid.
    fn receipt(&self, receipt: &Receipt, dialect: Dialect) -> HeaderMap;
}
