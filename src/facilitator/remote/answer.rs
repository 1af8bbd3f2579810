//! What a facilitator's answer proves, and no more than that (S13, S15). Pure: bytes in, ruling out.

use std::error::Error;

use serde::Deserialize;

use super::declines::proves_nothing_moved;
use super::wire::Reply;
use crate::facilitator::{BoxError, Decline, VerifyError};
use crate::payment::{Payment, TransactionHash};
use crate::primitives::Address;

/// The longest code that is passed on.
const CODE_LIMIT: usize = 64;

/// The facilitator's word does not add up (S5, S15, S16). Whoever finds one among an error's sources raises an
/// alarm: either the facilitator is broken or it lies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the facilitator contradicts itself or the facts: {0}")]
pub struct Contradiction(pub(super) String);

impl Contradiction {
    /// Whether one is this error or among its causes.
    pub fn is_behind(error: &(dyn Error + 'static)) -> bool {
        let mut cause = Some(error);
        while let Some(error) = cause {
            if error.is::<Self>() {
                return true;
            }
            cause = error.source();
        }
        false
    }
}

/// What an answer to `settle` proves.
#[derive(Debug)]
pub(super) enum Ruling {
    /// The facilitator says, in every detail we asked for, that the money moved.
    Settled(TransactionHash),
    /// It has sent a transaction and does not know yet how that ended. The same bytes may be sent once more.
    Pending(Option<TransactionHash>),
    /// Nothing moved and nothing will.
    Declined(Decline),
    /// Anything else.
    Unclear { transaction: Option<TransactionHash>, source: BoxError },
}

/// Why an answer proves nothing. No text of the facilitator's is repeated: it may echo a signature (I8).
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("HTTP status {0} is not an answer")]
    Status(u16),
    #[error("not the JSON of an x402 answer (HTTP status {status}, line {line}, column {column})")]
    Unreadable { status: u16, line: usize, column: usize },
    #[error("`{0}` with HTTP status {1}")]
    Refused(String, u16),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct VerifyAnswer {
    is_valid: bool,
    invalid_reason: Option<String>,
    payer: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SettleAnswer {
    success: bool,
    error_reason: Option<String>,
    transaction: Option<String>,
    network: Option<String>,
    payer: Option<String>,
}

/// What an answer to `verify` proves about this payment.
pub(super) fn verified(reply: &Reply, payment: &Payment) -> Result<(), VerifyError> {
    let unavailable = |cause: BoxError| VerifyError::Unavailable(cause);
    let answer: VerifyAnswer = read(reply).map_err(|unusable| unavailable(unusable.into()))?;
    let status = reply.status.as_u16();
    if !answer.is_valid {
        let code = sanitised(answer.invalid_reason);
        // Its own trouble is not the payer's to fix: no 402 for that (S65).
        return if reply.status.is_server_error() || code.starts_with("unexpected_") || code == "unknown_error" {
            Err(unavailable(Unusable::Refused(code, status).into()))
        } else {
            Err(VerifyError::Declined(Decline { code }))
        };
    }
    if !reply.status.is_success() {
        return Err(unavailable(Contradiction(format!("valid, with HTTP status {status}")).into()));
    }
    if !names_payer(answer.payer.as_deref(), payment) {
        return Err(unavailable(Contradiction("valid, for another payer".into()).into()));
    }
    Ok(())
}

/// What an answer to `settle` proves about this payment.
pub(super) fn settled(reply: &Reply, payment: &Payment) -> Ruling {
    let answer: SettleAnswer = match read(reply) {
        Ok(answer) => answer,
        Err(unusable) => return Ruling::Unclear { transaction: None, source: unusable.into() },
    };
    let claimed = answer.transaction.as_deref().unwrap_or("");
    let transaction = parse_hash(claimed);
    if !answer.success {
        let code = sanitised(answer.error_reason);
        let status = reply.status.as_u16();
        return match code.as_str() {
            "settlement_pending" => Ruling::Pending(transaction),
            listed if claimed.is_empty() && !reply.status.is_server_error() && proves_nothing_moved(listed) => {
                Ruling::Declined(Decline { code })
            }
            _ => Ruling::Unclear { transaction, source: Unusable::Refused(code, status).into() },
        };
    }
    let doubt = |what: &str| Ruling::Unclear { transaction, source: Contradiction(what.into()).into() };
    match transaction {
        _ if !reply.status.is_success() => doubt("settled, with the HTTP status of a failure"),
        None => doubt("settled, without the hash of a transaction"),
        Some(_) if !names_network(answer.network.as_deref(), payment) => doubt("settled, on another network"),
        Some(_) if !names_payer(answer.payer.as_deref(), payment) => doubt("settled, for another payer"),
        Some(transaction) => Ruling::Settled(transaction),
    }
}

/// Reads an answer whatever its status and content type: some facilitators say 400 with the same JSON. A typed
/// struct refuses a field that stands there twice.
fn read<'a, T: Deserialize<'a>>(reply: &'a Reply) -> Result<T, Unusable> {
    let status = reply.status.as_u16();
    if reply.status.is_redirection() || reply.status.is_informational() {
        return Err(Unusable::Status(status));
    }
    serde_json::from_slice(&reply.body).map_err(|error| Unusable::Unreadable {
        status,
        line: error.line(),
        column: error.column(),
    })
}

/// `0x` and 64 hex digits. No transaction has the hash zero; a signer that failed reports it.
fn parse_hash(text: &str) -> Option<TransactionHash> {
    let digits = text.strip_prefix("0x").filter(|digits| digits.len() == 64)?;
    let hash = TransactionHash::new(alloy::primitives::hex::decode_to_array(digits).ok()?);
    (!hash.is_zero()).then_some(hash)
}

/// A settlement must say where it happened, in either dialect's spelling.
fn names_network(claimed: Option<&str>, payment: &Payment) -> bool {
    let ours = &payment.offer.network;
    claimed.is_some_and(|name| name == ours.id.as_str() || ours.v1_name.as_deref() == Some(name))
}

/// The payer may be left out, never wrong.
fn names_payer(claimed: Option<&str>, payment: &Payment) -> bool {
    claimed.is_none_or(|text| text.parse::<Address>().is_ok_and(|address| address == payment.payer().0))
}

/// A code that is safe to pass on to the client and the log.
fn sanitised(code: Option<String>) -> String {
    let fits = |code: &String| {
        (1..=CODE_LIMIT).contains(&code.len())
            && code.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
    };
    code.filter(fits).unwrap_or_else(|| "declined".into())
}

#[cfg(test)]
mod tests;
