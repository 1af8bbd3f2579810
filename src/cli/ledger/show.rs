//! `tollhouse ledger show`: one payment, and its life.

use clap::Args;
use serde_json::Value;

use super::super::words::{explain, instant, moment};
use super::super::{Shape, Verdict, out};
use super::list::json;
use super::payment::Payment;
use super::{Ended, Place, known};
use crate::ledger::evidence::{Body, Record};
use crate::ledger::{Declined, Delivery, Entry, State};
use crate::payment::PaymentKey;

#[derive(Debug, Args)]
pub(super) struct Show {
    #[command(flatten)]
    payment: Payment,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

impl Show {
    pub(super) async fn run(self) -> Ended {
        let Some(key) = self.payment.find(&self.place).await? else { return Ok(Verdict::No) };
        let archive = self.place.look().await?;
        let Some(found) = known(key, archive.load(key).await)? else { return Ok(Verdict::No) };
        // The entry itself is worth showing even when its evidence cannot be read.
        let story = archive.story(key).await.unwrap_or_else(|error| {
            talk!("its evidence cannot be read: {}", explain(&error));
            Vec::new()
        });
        let bodies: Vec<(u64, Body)> = story.iter().filter_map(read).collect();
        match self.format {
            Shape::Human => out::write(format_args!("{}{}", page(key, &found.entry), timeline(&bodies))),
            Shape::Json => {
                let mut shown = json(key, &found.entry);
                shown["timeline"] = bodies.iter().map(|(number, body)| told(*number, body)).collect();
                put!("{shown}");
            }
        }
        Ok(Verdict::Yes)
    }
}

fn read(record: &Record) -> Option<(u64, Body)> {
    match record.content.body() {
        Ok(body) => body.map(|body| (record.head.number, body)),
        Err(error) => {
            talk!("record {} cannot be read: {error}", record.head.number);
            None
        }
    }
}

fn told(number: u64, body: &Body) -> Value {
    serde_json::json!({
        "record": number,
        "at": body.at,
        "step": body.step,
        "by": body.by,
        "why": body.why,
        "details": body.details,
    })
}

/// No signature leaves the ledger this way (I8).
fn page(key: PaymentKey, entry: &Entry) -> String {
    let sale = &entry.sale;
    let offer = &sale.payment.offer;
    let mut rows = vec![
        ("payment", key.to_string()),
        ("state", entry.state.name().to_owned()),
        ("route", sale.route.to_string()),
        ("request", sale.request_line.clone()),
        ("price", format!("{} ({} {} units)", offer.price(), offer.amount, offer.asset.symbol)),
        ("network", format!("{} ({})", offer.network.name, offer.network.id)),
        ("payer", sale.payment.payer().to_string()),
        ("payee", offer.pay_to.to_string()),
        ("settle", offer.settle.as_str().to_owned()),
        ("reserved", moment(entry.created)),
        ("changed", moment(entry.updated)),
        ("releases", entry.releases.to_string()),
        ("redemptions", entry.redemptions.to_string()),
    ];
    match &entry.state {
        State::Settling { since, facilitator, transaction, check_at, checks, left } => {
            rows.push(("asked", format!("{facilitator}, {}", moment(*since))));
            rows.push(("transaction", transaction.map_or("not known".to_owned(), |hash| hash.to_string())));
            rows.push(("next look", format!("{} (looked {checks} times)", moment(*check_at))));
            if *left {
                rows.push(("client", "has left".to_owned()));
            }
        }
        State::Settled { receipt, facilitator, delivery, .. } => {
            rows.push(("settled", format!("{} by {facilitator}", moment(receipt.settled_at))));
            rows.push(("transaction", receipt.transaction.to_string()));
            if let Some(block) = receipt.block {
                rows.push(("block", block.to_string()));
            }
            if let Delivery::Refunded { transaction } = delivery {
                rows.push(("paid back", transaction.to_string()));
            }
            match &offer.network.explorer {
                // An explorer of the real chain would only say that there is no such transaction.
                _ if offer.sandbox => rows.push(("look at it", "play money: on no chain".to_owned())),
                Some(explorer) => rows.push(("look at it", explorer.replace("{tx}", &receipt.transaction.to_string()))),
                None => {}
            }
        }
        State::Reserved { until } => rows.push(("held until", moment(*until))),
        State::Released | State::Exhausted => {}
    }
    if let Some(Declined { facilitator, check_at, checks }) = &entry.declined {
        rows.push((
            "declined by",
            format!("{facilitator}, watched: next look {} (looked {checks} times)", moment(*check_at)),
        ));
    }
    rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

/// One line for each step. Renewals of a lease in a row say nothing one by one.
fn timeline(bodies: &[(u64, Body)]) -> String {
    let mut text = String::new();
    let mut renewed = 0;
    for (at, (_, body)) in bodies.iter().enumerate() {
        if body.step == "renewed" {
            renewed += 1;
            if bodies.get(at + 1).is_some_and(|(_, next)| next.step == "renewed") {
                continue;
            }
        }
        let times = if renewed > 1 { format!("{renewed} times ") } else { String::new() };
        renewed = 0;
        let why = body.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let row = format!("{}  {:<13} {times}{}", instant(body.at), body.step, words(body));
        text.push_str(&format!("{}  [{}{why}]\n", row.trim_end(), body.by));
    }
    if text.is_empty() { text } else { format!("\n{text}") }
}

/// What a step was about, in a few words.
fn words(body: &Body) -> String {
    let details = &body.details;
    let text = |name: &str| match &details[name] {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    let named = |name: &str, label: &str| text(name).map(|value| format!("{label}{value}"));
    let parts = match body.step.as_str() {
        "reserved" => [text("request_line"), named("amount", "for "), text("symbol")],
        "released" => [(details["counted"] == true).then(|| "counted".to_owned()), None, None],
        "settling" => [named("facilitator", "asked of "), named("transaction", "tx "), None],
        "still_unknown" => [named("transaction", "tx "), None, None],
        "settled" => [named("transaction", "tx "), named("block", "in block "), None],
        "delivered" => [text("reached_the_client"), named("status", "status "), named("bytes", "bytes ")],
        "declined" => [text("why"), None, None],
        "refunded" => [named("transaction", "tx "), named("block", "in block "), named("amount", "units ")],
        _ => [None, None, None],
    };
    parts.into_iter().flatten().collect::<Vec<_>>().join(" ")
}
