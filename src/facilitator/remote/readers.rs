//! The readers of a facilitator's answers, for tests and fuzzing alone: nothing else outside sees them.

use bytes::Bytes;
use http::StatusCode;

use super::answer::{self, Ruling};
use super::kinds::Kinds;
use super::wire::Reply;
use crate::facilitator::VerifyError;
use crate::payment::{Dialect, Payment, TransactionHash};
use crate::primitives::Network;

/// What an answer to `settle` is taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The money moved.
    Settled(TransactionHash),
    /// It is under way.
    Pending(Option<TransactionHash>),
    /// Nothing moved and nothing will.
    Declined(String),
    /// Nobody knows.
    Unclear(Option<TransactionHash>),
}

/// What an answer to `verify` is taken for.
///
/// # Errors
/// When it does not confirm the payment.
pub fn verified(status: StatusCode, body: &[u8], payment: &Payment) -> Result<(), VerifyError> {
    answer::verified(&reply(status, body), payment)
}

/// What an answer to `settle` is taken for.
pub fn settled(status: StatusCode, body: &[u8], payment: &Payment) -> Settlement {
    match answer::settled(&reply(status, body), payment) {
        Ruling::Settled(transaction) => Settlement::Settled(transaction),
        Ruling::Pending(transaction) => Settlement::Pending(transaction),
        Ruling::Declined(decline) => Settlement::Declined(decline.code),
        Ruling::Unclear { transaction, .. } => Settlement::Unclear(transaction),
    }
}

/// Which version to speak after an answer to `/supported`: for a network, about a payment of each dialect. `None` when
/// the answer cannot be read.
pub fn supported(body: &[u8], network: &Network) -> Option<[Option<Dialect>; 2]> {
    let kinds = Kinds::default();
    kinds.hear(body).ok()?;
    Some([Dialect::V1, Dialect::V2].map(|dialect| kinds.version(network, dialect)))
}

fn reply(status: StatusCode, body: &[u8]) -> Reply {
    Reply { status, body: Bytes::copy_from_slice(body) }
}
