//! `tollhouse ledger list`: payments in lines.

use std::sync::Arc;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::super::words::{explain, moment, when};
use super::super::{Shape, Verdict, out};
use super::{Ended, Place};
use crate::ledger::{Archive, Delivery, Entry, Filter, State, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::{Payer, Timestamp};

/// How many payments are read at once.
const PAGE: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
    /// At most this many
    #[arg(long, default_value_t = 50)]
    limit: usize,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

/// Which payments are meant.
#[derive(Debug, Args)]
pub(super) struct Which {
    /// Only this route, by its key: `GET /v1/weather`
    #[arg(long)]
    route: Option<String>,
    /// Only this payer
    #[arg(long)]
    payer: Option<alloy::primitives::Address>,
    /// Only this state
    #[arg(long, value_parser = PossibleValuesParser::new(State::NAMES))]
    state: Option<String>,
    /// Only those first presented at this moment or later: `2026-11-22`, `2026-11-22T13:05:00Z`, or `24h` for a day ago
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Option<Timestamp>,
    /// Only those first presented before this moment
    #[arg(long, value_name = "WHEN", value_parser = when)]
    to: Option<Timestamp>,
}

impl Which {
    pub(super) fn filter(&self) -> Filter {
        Filter {
            route: self.route.clone(),
            payer: self.payer.map(Payer),
            state: self.state.clone(),
            from: self.from,
            to: self.to,
            ..Filter::default()
        }
    }
}

impl List {
    pub(super) async fn run(self) -> Ended {
        let mut shown = 0;
        let archive = self.place.look().await?;
        each(&archive, self.which.filter(), self.limit, |key, found| {
            shown += 1;
            match self.format {
                Shape::Human => put!("{}", line(key, &found.entry)),
                Shape::Json => put!("{}", json(key, &found.entry)),
            }
            Ok(())
        })
        .await?;
        if shown == 0 {
            talk!("no payment fits");
        }
        Ok(Verdict::Yes)
    }
}

/// Does something with each payment, newest first, page by page, as long as somebody reads what comes of it.
pub(super) async fn each(
    archive: &Arc<dyn Archive>,
    mut filter: Filter,
    most: usize,
    mut with: impl FnMut(PaymentKey, Versioned) -> Result<(), String>,
) -> Result<(), String> {
    let mut left = most;
    while left > 0 {
        filter.limit = left.min(PAGE);
        let page = archive.list(&filter).await.map_err(|error| explain(&error))?;
        let whole = page.len() == filter.limit;
        left -= page.len();
        filter.behind = page.last().map(|(key, found)| (found.entry.created, *key)).or(filter.behind);
        for (key, found) in page {
            with(key, found)?;
        }
        if !whole || out::is_over() {
            break;
        }
    }
    Ok(())
}

fn line(key: PaymentKey, entry: &Entry) -> String {
    let offer = &entry.sale.payment.offer;
    let short: String = key.to_string().chars().take(16).collect();
    format!(
        "{}  {short}…  {:<12} {:>10} {:<14} {}  {}",
        moment(entry.created),
        entry.state.name(),
        offer.price(),
        offer.network.name,
        entry.sale.payment.payer(),
        entry.sale.route
    )
}

/// No signature leaves the ledger this way (I8).
pub(super) fn json(key: PaymentKey, entry: &Entry) -> serde_json::Value {
    let sale = &entry.sale;
    let offer = &sale.payment.offer;
    let (receipt, facilitator, refund) = match &entry.state {
        State::Settled { receipt, facilitator, delivery, .. } => {
            let refund = match delivery {
                Delivery::Refunded { transaction } => Some(*transaction),
                _ => None,
            };
            (Some(receipt), Some(facilitator), refund)
        }
        State::Settling { facilitator, .. } => (None, Some(facilitator), None),
        State::Reserved { .. } | State::Released | State::Exhausted => (None, None, None),
    };
    serde_json::json!({
        "payment": key.to_string(),
        "state": entry.state.name(),
        "route": sale.route,
        "request": sale.request_line,
        "amount": offer.amount,
        "asset": offer.asset.address,
        "symbol": offer.asset.symbol,
        "decimals": offer.asset.decimals,
        "network": offer.network.id,
        "payer": sale.payment.payer(),
        "payTo": offer.pay_to,
        "settle": offer.settle,
        "facilitator": facilitator,
        "transaction": entry.transaction(),
        "block": receipt.and_then(|receipt| receipt.block),
        "settled": receipt.map(|receipt| receipt.settled_at),
        "refund": refund,
        "created": entry.created,
        "updated": entry.updated,
        "releases": entry.releases,
        "redemptions": entry.redemptions,
    })
}
