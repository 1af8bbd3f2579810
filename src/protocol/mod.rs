//! How is payment spoken over HTTP?

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use crate::payment::{Credential, Dialect, Offer, Problem, Receipt, Resource};

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

    /// The fields that tell the client what it paid.
    fn receipt(&self, receipt: &Receipt, dialect: Dialect) -> HeaderMap;
}
