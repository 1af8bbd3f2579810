//! An event as the evidence tells it: in words that stay, without what could be used again.

use serde_json::{Value, json};

use super::super::Sale;
use super::super::entry::{Delivered, Event, Response};
use crate::primitives::Timestamp;

/// Who did something, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// A process or a person.
    pub who: String,
    /// A person's reason.
    pub why: Option<String>,
}

impl Author {
    /// A process: it acts by its rules and needs no reason.
    pub fn process(who: impl Into<String>) -> Self {
        Self { who: who.into(), why: None }
    }

    /// A person, who says why.
    pub fn person(who: impl Into<String>, why: impl Into<String>) -> Self {
        Self { who: format!("person {}", who.into()), why: Some(why.into()) }
    }
}

/// One step, to be put on record with the entry it leads to. It is put into words only by a store that keeps them.
#[derive(Debug, Clone, Copy)]
pub struct Step<'a> {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub author: &'a Author,
    what: What<'a>,
}

#[derive(Debug, Clone, Copy)]
enum What<'a> {
    Event(&'a Event),
    Named(&'static str),
}

impl<'a> Step<'a> {
    /// What happens to an entry at this moment.
    pub const fn of(event: &'a Event, at: Timestamp, author: &'a Author) -> Self {
        Self { at, author, what: What::Event(event) }
    }

    /// Something that happens to a ledger, or to an entry without changing it.
    pub const fn named(name: &'static str, at: Timestamp, author: &'a Author) -> Self {
        Self { at, author, what: What::Named(name) }
    }

    /// What happened, in one word.
    pub(in crate::ledger) const fn name(&self) -> &'static str {
        match self.what {
            What::Event(event) => name(event),
            What::Named(name) => name,
        }
    }

    /// With which terms and outcome.
    pub(super) fn details(&self) -> Value {
        match self.what {
            What::Event(event) => details(event),
            What::Named(_) => json!({}),
        }
    }
}

const fn name(event: &Event) -> &'static str {
    match event {
        Event::Reserve { .. } => "reserved",
        Event::Release { .. } => "released",
        Event::Begin { .. } => "settling",
        Event::Leave => "client_left",
        Event::Look { .. } => "looked",
        Event::StillUnknown { .. } => "still_unknown",
        Event::Settle { .. } => "settled",
        Event::Decline { .. } => "declined",
        Event::Recheck { .. } => "rechecked",
        Event::EndWatch { .. } => "watch_ended",
        Event::Redeem { .. } => "redeemed",
        Event::Renew { .. } => "renewed",
        Event::Deliver { .. } => "delivered",
        Event::GiveUp => "given_up",
        Event::DropAnswer => "answer_dropped",
        Event::Refund { .. } => "refunded",
    }
}

fn details(event: &Event) -> Value {
    match event {
        Event::Reserve { sale, until, .. } => terms(sale, *until),
        Event::Release { counted, .. } => json!({ "counted": counted }),
        Event::Begin { facilitator, transaction, check_at } => {
            json!({ "facilitator": facilitator, "transaction": transaction, "check_at": check_at })
        }
        Event::Look { until } => json!({ "until": until }),
        Event::StillUnknown { transaction, check_at } => json!({ "transaction": transaction, "check_at": check_at }),
        Event::Settle { receipt, delivering, collect_by } => json!({
            "transaction": receipt.transaction,
            "block": receipt.block,
            "amount": receipt.amount,
            "network": receipt.network,
            "delivering": delivering.is_some(),
            "collect_by": collect_by,
        }),
        // What was proven outright reads, and hashes, as it did before anything was watched.
        Event::Decline { why, watch_from: None, .. } | Event::EndWatch { why } => json!({ "why": why }),
        Event::Decline { why, watch_from: Some(from), .. } => json!({ "why": why, "watch_from": from }),
        Event::Recheck { check_at } => json!({ "check_at": check_at }),
        Event::Redeem { until, .. } => json!({ "until": until }),
        Event::Renew { turn, until } => json!({ "turn": turn, "until": until }),
        Event::Deliver { turn, delivered, response } => delivery(*turn, delivered, *response),
        Event::Leave | Event::GiveUp | Event::DropAnswer => json!({}),
        Event::Refund { transaction, amount, block } => {
            json!({ "transaction": transaction, "amount": amount, "block": block })
        }
    }
}

/// What was offered, and what was signed for it.
fn terms(sale: &Sale, until: Timestamp) -> Value {
    let payment = &sale.payment;
    let offer = &payment.offer;
    // A variant that is added later is told whole, and still without its signature.
    let mut authorization = serde_json::to_value(&payment.authorization).unwrap_or_default();
    strip_signatures(&mut authorization);
    json!({
        "route": sale.route,
        "request_line": sale.request_line,
        "request": sale.request,
        "quote": sale.quote,
        "dialect": payment.dialect,
        "scheme": offer.scheme,
        "network": offer.network.id,
        "asset": offer.asset.address,
        "symbol": offer.asset.symbol,
        "amount": offer.amount,
        "pay_to": offer.pay_to,
        "settle": offer.settle,
        "authorization": authorization,
        "until": until,
    })
}

fn delivery(turn: u32, delivered: &Delivered, response: Option<Response>) -> Value {
    let how = match delivered {
        Delivered::Nothing { untouched: true } => "nothing, and the backend was not asked",
        Delivered::Nothing { untouched: false } => "nothing",
        Delivered::Partial => "a part",
        Delivered::CutShort => "a part, and the backend had no more",
        Delivered::Done(_) => "all",
    };
    json!({
        "turn": turn,
        "reached_the_client": how,
        "status": response.map(|response| response.status),
        "bytes": response.map(|response| response.bytes),
    })
}

/// A signature is usable by whoever sees it (I8).
fn strip_signatures(value: &mut Value) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| name != "signature");
            fields.values_mut().for_each(strip_signatures);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_signatures),
        _ => {}
    }
}
