//! What a client hears when its request may not pass (SAFETY, "What a client hears").
//!
//! A 402 invites to pay. Everything else must not look like one: no offers, no `PAYMENT-REQUIRED`, but a problem
//! document that says what to do instead.

use std::time::Duration;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::wire::{Settlement, network_name};
use super::{PAYMENT_REQUIRED, drafts, fields, receipt_field};
use crate::payment::{Advice, Dialect, Problem, Receipt, Resource, Wait};
use crate::protocol::{Answer, Quoted, json};

/// When nobody says how long to wait.
const DEFAULT_RETRY: Duration = Duration::from_secs(2);

/// Gives each advice the status that HTTP and x402 have for it.
pub(super) fn answer(problem: &Problem, resource: &Resource, offers: &[Quoted<'_>]) -> Answer {
    let trouble = |status, title, advice| Answer::problem(status, title, &problem.reason, advice);
    let mut answer = match &problem.advice {
        Advice::Pay => challenge(StatusCode::PAYMENT_REQUIRED, &problem.reason, resource, offers),
        // Stock clients hand this status to their caller instead of paying again in vain (protocol digest, A2).
        Advice::Approve => challenge(StatusCode::PRECONDITION_FAILED, &problem.reason, resource, offers),
        Advice::Repeated => trouble(StatusCode::BAD_REQUEST, "Repeated payment header", "fix"),
        Advice::TooLarge => trouble(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "Payment header too large", "fix"),
        Advice::Wait(Wait::InFlight) => trouble(StatusCode::CONFLICT, "Payment in flight", "wait"),
        Advice::Wait(Wait::Unresolved { .. }) => trouble(StatusCode::SERVICE_UNAVAILABLE, "Settlement pending", "wait"),
        Advice::Stop(_) => trouble(StatusCode::CONFLICT, "Payment spent", "stop"),
        Advice::GiveUp => trouble(StatusCode::CONFLICT, "Payment exhausted", "stop"),
        Advice::Leave => trouble(StatusCode::FORBIDDEN, "Not sold to you", "stop"),
        Advice::SlowDown => trouble(StatusCode::TOO_MANY_REQUESTS, "Too many requests", "wait"),
        Advice::TryLater => trouble(StatusCode::SERVICE_UNAVAILABLE, "Payment unavailable", "try later"),
    };
    // Without a payment there is nobody to tell; a gate that says otherwise is answered in the newer dialect.
    let dialect = problem.dialect.unwrap_or(Dialect::V2);
    if let Some(settlement) = settlement(problem, dialect) {
        answer.fields.insert(receipt_field(dialect), settlement);
    }
    if let Some(wait) = retry_after(problem) {
        answer.fields.insert(RETRY_AFTER, wait);
    }
    fields::allow_any_origin(&mut answer.fields);
    answer
}

/// One challenge for both dialects: v2 reads the header, v1 the body (protocol digest, A7).
fn challenge(status: StatusCode, error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> Answer {
    let (required, body) = drafts::challenge(error, resource, offers);
    let mut fields = HeaderMap::with_capacity(8);
    fields.insert(PAYMENT_REQUIRED, fields::encoded(&required));
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    // It quotes a price for this request, now; a cache would sell it to others, later (S49).
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Answer { status, fields, body }
}

/// What is known about the money of the payment that met the problem.
fn settlement(problem: &Problem, dialect: Dialect) -> Option<HeaderValue> {
    match &problem.advice {
        Advice::Stop(bought) => bought.as_ref().map(|bought| receipt(bought, dialect)),
        Advice::Wait(Wait::Unresolved { transaction, network, network_v1, payer }) => {
            let network = network_name(dialect, network, network_v1.as_deref());
            Some(encoded(&Settlement::failure("settlement_pending", *transaction, network, *payer)))
        }
        Advice::Pay | Advice::Approve => problem.failed_settlement.as_ref().map(|failed| {
            let network = network_name(dialect, &failed.network, failed.network_v1.as_deref());
            encoded(&Settlement::failure(&problem.reason, None, network, failed.payer))
        }),
        Advice::Repeated
        | Advice::TooLarge
        | Advice::Wait(Wait::InFlight)
        | Advice::GiveUp
        | Advice::Leave
        | Advice::SlowDown
        | Advice::TryLater => None,
    }
}

/// The value of the receipt field.
pub(super) fn receipt(receipt: &Receipt, dialect: Dialect) -> HeaderValue {
    let network = network_name(dialect, &receipt.network, receipt.network_v1.as_deref());
    encoded(&Settlement::success(receipt.transaction, network, receipt.payer))
}

fn encoded(settlement: &Settlement<'_>) -> HeaderValue {
    fields::encoded(&json::write(settlement))
}

/// Whole seconds, rounded up and never zero: a client that came back at once would only hear the same.
fn retry_after(problem: &Problem) -> Option<HeaderValue> {
    let default = match problem.advice {
        Advice::Wait(_) | Advice::SlowDown | Advice::TryLater => Some(DEFAULT_RETRY),
        Advice::Pay
        | Advice::Approve
        | Advice::Repeated
        | Advice::TooLarge
        | Advice::Stop(_)
        | Advice::GiveUp
        | Advice::Leave => None,
    };
    let wait = problem.retry_after.or(default)?;
    Some(HeaderValue::from(wait.as_secs().saturating_add(u64::from(wait.subsec_nanos() > 0)).max(1)))
}
