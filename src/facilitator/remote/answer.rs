//! What a facilitator's answer proves, and no more than that (S13, S15). Pure: bytes in, ruling out.

use std::error::Error;

use http::StatusCode;
use serde::Deserialize;

use super::declines::proves_nothing_moved;
use super::wire::Reply;
use crate::facilitator::{BoxError, Decline, VerifyError, is_behind};
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
        is_behind::<Self>(error)
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
    #[error("not text (HTTP status {status})")]
    NotText { status: u16 },
    /// Trouble of its own, or with us.
    #[error("`{0}` with HTTP status {1}")]
    Trouble(String, u16),
}

/// It answered about this payment, in good form, and the answer proves nothing.
#[derive(Debug, thiserror::Error)]
#[error("`{0}`, which proves nothing")]
pub(in crate::facilitator) struct Inconclusive(pub(super) String);

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
        // Its own trouble, or trouble with us, is not the payer's to fix: no 402 for that (S65).
        return if !speaks_of_the_payment(reply.status) {
            Err(unavailable(Unusable::Trouble(code, status).into()))
        } else if code.starts_with("unexpected_") || code == "unknown_error" {
            Err(unavailable(Inconclusive(code).into()))
        } else {
            Err(VerifyError::Declined(Decline { code }))
        };
    }
    if !reply.status.is_success() {
        return Err(unavailable(Contradiction(format!("valid, with HTTP status {status}")).into()));
    }
    if says_something(&answer.invalid_reason) {
        return Err(unavailable(Contradiction("valid, with a reason why not".into()).into()));
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
    let doubt = |what: &str| Ruling::Unclear { transaction, source: Contradiction(what.into()).into() };
    if !answer.success {
        let code = sanitised(answer.error_reason);
        let about_another = says_something(&answer.network) && !names_network(answer.network.as_deref(), payment)
            || says_something(&answer.payer) && !names_payer(answer.payer.as_deref(), payment);
        return match code.as_str() {
            _ if about_another => doubt("not settled, of another payment"),
            "settlement_pending" => Ruling::Pending(transaction),
            _ if !speaks_of_the_payment(reply.status) => {
                let source = Unusable::Trouble(code, reply.status.as_u16()).into();
                Ruling::Unclear { transaction, source }
            }
            listed if claimed.is_empty() && proves_nothing_moved(listed) => Ruling::Declined(Decline { code }),
            _ => Ruling::Unclear { transaction, source: Inconclusive(code).into() },
        };
    }
    match transaction {
        _ if !reply.status.is_success() => doubt("settled, with the HTTP status of a failure"),
        _ if says_something(&answer.error_reason) => doubt("settled, with a reason why not"),
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
    // What nobody reads is skipped unread, so a string in it could be anything; JSON is UTF-8 from end to end.
    let text = std::str::from_utf8(&reply.body).map_err(|_| Unusable::NotText { status })?;
    serde_json::from_str(text).map_err(|error| Unusable::Unreadable {
        status,
        line: error.line(),
        column: error.column(),
    })
}

/// The statuses under which facilitators refuse a payment. Under any other (401, 404, 429, 503, …) something between us
/// and it is wrong, whatever its body repeats.
fn speaks_of_the_payment(status: StatusCode) -> bool {
    const REFUSED: [StatusCode; 4] = [
        StatusCode::BAD_REQUEST,
        StatusCode::PAYMENT_REQUIRED,
        StatusCode::PRECONDITION_FAILED,
        StatusCode::UNPROCESSABLE_ENTITY,
    ];
    status.is_success() || REFUSED.contains(&status)
}

/// Fields that have nothing to say are left out, null or empty, depending on who wrote the facilitator.
fn says_something(field: &Option<String>) -> bool {
    field.as_deref().is_some_and(|text| !text.is_empty())
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
