//! What an answer says about the money behind the payment that was presented. Pure.
//!
//! The same table that the gateway answers by (SAFETY, "What a client hears"), read from the other side. Whatever is
//! neither a receipt nor a refusal is unclear: a signed payment that has left this machine can be submitted until it
//! lapses, so silence never counts as "not charged".

use std::time::Duration;

use http::StatusCode;
use http::header::{HeaderMap, LOCATION, RETRY_AFTER};
use serde::Deserialize;

use super::wallet::Promise;
use crate::cli::words::printable;
use crate::protocol::x402::client::{Challenge, Settlement, settlement};

/// What a server says when it does not know yet how a settlement ended.
const PENDING: &str = "settlement_pending";
/// How soon to ask again when the server says "later" in a way we cannot count.
const SOON: Duration = Duration::from_secs(2);
/// No server is asked more often than this, whatever it says.
const PAUSE: Duration = Duration::from_millis(200);
/// The longest text of a server that is repeated.
const MOST_WORDS: usize = 200;

/// What to do after an answer that is not the one that was bought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Meaning {
    /// The seller will not take this payment.
    Declined {
        /// In the seller's words.
        reason: String,
        /// Whether the seller also says that nothing moved.
        proven: bool,
    },
    /// Present the same payment again.
    Again {
        /// After this long at the earliest.
        after: Duration,
        /// Why.
        reason: String,
    },
    /// The money is gone, or may be, and presenting the payment again would not help.
    Unclear(String),
}

/// Reads an answer that is not a success.
pub(super) fn of(status: StatusCode, fields: &HeaderMap, body: &[u8]) -> Meaning {
    // A receipt that cannot be read is as good as none: it proves nothing either way.
    let settlement = settlement(fields).ok().flatten();
    let reason = reason(status, fields, body);
    if let Some(charged) = settlement.as_ref().filter(|settlement| settlement.success) {
        let transaction = charged.transaction.map(|hash| format!(" in {hash}")).unwrap_or_default();
        let reason = format!("charged{transaction}, but not served: {reason}");
        return match status {
            // The same payment may be redeemed while the seller remembers it as undelivered (S24).
            status if status.is_server_error() => Meaning::Again { after: wait(fields).unwrap_or(SOON), reason },
            _ => Meaning::Unclear(reason),
        };
    }
    let pending = settlement.as_ref().is_some_and(|settlement| settlement.error_reason.as_deref() == Some(PENDING));
    match (status, wait(fields)) {
        (StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE, Some(after)) => {
            Meaning::Again { after, reason }
        }
        (_, Some(after)) if pending => Meaning::Again { after, reason },
        (_, None) if pending => Meaning::Again { after: SOON, reason },
        (StatusCode::CONFLICT, None) => Meaning::Unclear(reason),
        (status, _) if status.is_client_error() => Meaning::Declined { reason, proven: settlement.is_some() },
        _ => Meaning::Unclear(reason),
    }
}

/// The receipt of a served answer, if it is one for this payment.
pub(super) fn receipt(fields: &HeaderMap, promise: &Promise) -> Option<Settlement> {
    let network = &promise.offer.network;
    let fits = |settlement: &Settlement| {
        settlement.success
            && settlement.transaction.is_some()
            && (settlement.network == network.id.as_str() || settlement.network == network.name)
            && settlement.payer.is_none_or(|payer| payer == promise.payer)
    };
    settlement(fields).ok().flatten().filter(fits)
}

/// How long a server asks to wait. A date is not counted out: a clock that is wrong would make it any time at all.
fn wait(fields: &HeaderMap) -> Option<Duration> {
    let asked = fields.get(RETRY_AFTER)?.to_str().ok()?;
    Some(asked.trim().parse().map_or(SOON, Duration::from_secs).max(PAUSE))
}

/// What a problem document says (RFC 9457).
#[derive(Deserialize)]
struct ProblemDocument {
    detail: String,
}

/// The status, and what the server says about it.
pub(super) fn reason(status: StatusCode, fields: &HeaderMap, body: &[u8]) -> String {
    let told = settlement(fields).ok().flatten().and_then(|settlement| settlement.error_reason);
    let told = told.or_else(|| match status {
        StatusCode::PAYMENT_REQUIRED | StatusCode::PRECONDITION_FAILED => {
            Challenge::read(fields, body).ok().map(|challenge| challenge.error)
        }
        _ => serde_json::from_slice::<ProblemDocument>(body).ok().map(|problem| problem.detail),
    });
    let place = fields.get(LOCATION).filter(|_| status.is_redirection()).and_then(|place| place.to_str().ok());
    let told = told.as_deref().or(place).filter(|told| !told.is_empty());
    told.map_or_else(|| status.to_string(), |told| format!("{status}: {}", printable(told, MOST_WORDS)))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::payment::{Advice, Dialect, FailedSettlement, Problem, Receipt, Resource, TransactionHash, Wait};
    use crate::primitives::{Address, AtomicAmount, Caip2, Payer, Timestamp};
    use crate::protocol::Protocol;
    use crate::protocol::x402::X402;

    const PAYER: Payer = Payer(Address::repeat_byte(0xaa));
    const HASH: TransactionHash = TransactionHash::repeat_byte(0x5e);

    /// What the gateway answers to a payment that met this problem, as a buyer reads it.
    fn heard(advice: Advice, failed: Option<FailedSettlement>) -> Meaning {
        let problem = Problem {
            advice,
            reason: "in our words".into(),
            dialect: Some(Dialect::V2),
            failed_settlement: failed,
            retry_after: None,
        };
        let answer = X402.refuse(&problem, &Resource::default(), &[]);
        of(answer.status, &answer.fields, &answer.body)
    }

    fn bought() -> Receipt {
        Receipt {
            payer: PAYER,
            amount: AtomicAmount::ZERO,
            network: Caip2::evm(84532),
            network_v1: None,
            transaction: HASH,
            block: None,
            settled_at: Timestamp::EPOCH,
        }
    }

    #[test]
    fn a_402_is_a_refusal_and_proof_only_with_a_failed_settlement() {
        let Meaning::Declined { reason, proven: false } = heard(Advice::Pay, None) else { panic!("a refusal") };
        assert_eq!(reason, "402 Payment Required: in our words");
        let failed = FailedSettlement { payer: PAYER, network: Caip2::evm(84532), network_v1: None };
        assert!(matches!(heard(Advice::Pay, Some(failed)), Meaning::Declined { proven: true, .. }));
    }

    #[test]
    fn whoever_is_asked_to_wait_presents_the_same_payment_again() {
        let unresolved =
            Wait::Unresolved { transaction: Some(HASH), network: Caip2::evm(84532), network_v1: None, payer: PAYER };
        for advice in [Advice::Wait(Wait::InFlight), Advice::Wait(unresolved), Advice::TryLater] {
            assert!(matches!(heard(advice.clone(), None), Meaning::Again { .. }), "{advice:?}");
        }
    }

    #[test]
    fn i4_a_spent_payment_never_leads_to_another() {
        let Meaning::Unclear(reason) = heard(Advice::Stop(Some(bought())), None) else { panic!("nothing to be done") };
        assert!(reason.contains(&HASH.to_string()), "{reason}");
        assert!(matches!(heard(Advice::Stop(None), None), Meaning::Unclear(_)));
    }

    #[test]
    fn s24_a_charge_without_an_answer_is_redeemed_with_the_same_payment() {
        let fields = X402.receipt(&bought(), Dialect::V2);
        assert!(matches!(of(StatusCode::BAD_GATEWAY, &fields, b""), Meaning::Again { .. }));
        assert!(matches!(of(StatusCode::NOT_FOUND, &fields, b""), Meaning::Unclear(_)));
    }

    #[test]
    fn s13_an_error_without_a_receipt_does_not_mean_that_nothing_moved() {
        for status in [StatusCode::INTERNAL_SERVER_ERROR, StatusCode::BAD_GATEWAY, StatusCode::SERVICE_UNAVAILABLE] {
            assert!(matches!(of(status, &HeaderMap::new(), b""), Meaning::Unclear(_)), "{status}");
        }
    }

    #[test]
    fn a_server_sets_the_pace_within_reason() {
        let asked = |text: &'static str| wait(&HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]));
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked("0"), Some(PAUSE));
        assert_eq!(asked("Fri, 31 Dec 1999 23:59:59 GMT"), Some(SOON));
        assert_eq!(wait(&HeaderMap::new()), None);
    }

    #[test]
    fn s63_words_of_a_server_cannot_steer_the_terminal() {
        let body = serde_json::json!({ "detail": "\u{1b}[2J".repeat(400) }).to_string();
        let reason = reason(StatusCode::NOT_FOUND, &HeaderMap::new(), body.as_bytes());
        assert!(!reason.contains('\u{1b}') && reason.chars().count() < 300, "{reason}");
    }
}
