//! `caps`: what no price may exceed, how much may be unsettled, and how many connections clients may have. Money is
//! counted in dollars; other tokens have no cap.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::time::Duration;

use super::price::Price;
use super::scalar::{at_once, count, rate, shown};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::config::{PerClient, codes};
use crate::gate::rails;
use crate::payment::Offer;
use crate::primitives::{Dollars, Rate};
use crate::tariff::{Charge, Route, Tariff};

/// What no price may exceed unless the file says otherwise: enough for an API, and not for a slip of the finger.
const MAX_PRICE: &str = "10";
/// How many prices a client may ask for in vain unless the file says otherwise. Far more than any buyer asks for; and
/// all who come through one proxy that is not trusted are one client.
const UNPAID_PER_CLIENT: Rate =
    Rate { requests: NonZeroU32::new(1000).expect("not zero"), per: Duration::from_secs(1) };

/// More connections than file descriptors are given to a process.
const MOST_CONNECTIONS: u32 = 1_000_000;

/// A cap, and where it stands; the built-in one stands nowhere.
#[derive(Debug, Clone, Copy)]
struct Cap {
    most: Dollars,
    span: Option<Span>,
}

/// The caps of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Caps {
    max_price: Option<Cap>,
    total: Option<Cap>,
    per_payer: Option<Cap>,
    per_day: Option<Cap>,
    unpaid: Option<Rate>,
    /// Of all clients and of one.
    connections: Option<usize>,
    per_client: PerClient,
}

impl Caps {
    /// Reads them. One that is wrong has been noted and caps nothing.
    pub(super) fn of(raw: &raw::Caps, mistakes: &mut Mistakes) -> Self {
        let built_in = Dollars::from_decimal(MAX_PRICE).expect("the constant is an amount");
        Self {
            max_price: match &raw.max_price {
                Some(text) => cap(text, mistakes),
                None => Some(Cap { most: built_in, span: None }),
            },
            total: raw.unsettled_total.as_ref().and_then(|text| cap(text, mistakes)),
            per_payer: raw.unsettled_per_payer.as_ref().and_then(|text| cap(text, mistakes)),
            per_day: raw.per_payer_per_day.as_ref().and_then(|text| cap(text, mistakes)),
            unpaid: rate(raw.unpaid_per_client.as_ref(), Some(UNPAID_PER_CLIENT), mistakes).flatten(),
            connections: raw.connections.as_ref().and_then(|text| connections(text, mistakes)),
            per_client: per_client(raw.connections_per_client.as_ref(), mistakes),
        }
    }

    /// What the gate holds payments against.
    pub(super) fn held(&self) -> rails::Caps {
        let most = |cap: Option<Cap>| cap.map(|cap| cap.most);
        rails::Caps {
            total: most(self.total),
            per_payer: most(self.per_payer),
            per_payer_per_day: most(self.per_day),
            unpaid_per_client: self.unpaid,
        }
    }

    /// How many connections may be open, if the file says so.
    pub(super) fn connections(&self) -> Option<usize> {
        self.connections
    }

    /// How many of them may be one client's.
    pub(super) fn per_client(&self) -> PerClient {
        self.per_client
    }

    /// Notes every route whose price is above a cap: above `max_price` it is probably a slip, and above another cap it
    /// could never be sold.
    pub(super) fn check(&self, tariff: &Tariff, places: &HashMap<(u32, u32), Span>, mistakes: &mut Mistakes) {
        for route in tariff.routes() {
            let Some((dearest, offer)) = dearest(route) else { continue };
            let span = places.get(&(route.place.line, route.place.column)).copied();
            let named = [
                ("max_price", self.max_price),
                ("unsettled_total", self.total),
                ("unsettled_per_payer", self.per_payer),
                ("per_payer_per_day", self.per_day),
            ];
            for (name, cap) in named {
                if let Some(cap) = cap.filter(|cap| dearest > cap.most) {
                    mistakes.add(above(name, cap, offer, span));
                }
            }
        }
    }
}

/// The price is shown as the offer asks it: a sum of dollars stays at the largest there is.
fn above(name: &str, cap: Cap, offer: &Offer, span: Option<Span>) -> Mistake {
    let price = offer.price();
    let message = format!("{price} is above caps.{name}: {}", cap.most);
    let mistake = Mistake::error(&codes::CAP, span, message);
    if Dollars::from_decimal(price.trim_start_matches('$')).is_err() {
        return mistake.help("write a price that can be paid; no cap is as high as this");
    }
    match cap.span {
        Some(span) => mistake.related(span, "the cap").help("raise the cap if you mean it"),
        None => mistake
            .note("this is the cap of a file that names none")
            .help(format!("write caps: {{{name}: {price}}} if you mean it")),
    }
}

/// The dearest offer of a route that has a price in dollars, and what it comes to.
fn dearest(route: &Route) -> Option<(Dollars, &Offer)> {
    let Charge::Toll(toll) = &route.charge else { return None };
    let worth = |offer: &'_ Offer| Dollars::of(offer.amount, &offer.asset);
    toll.offers.iter().filter_map(|offer| Some((worth(offer)?, offer))).max_by_key(|(worth, _)| *worth)
}

fn connections(text: &Text, mistakes: &mut Mistakes) -> Option<usize> {
    usize::try_from(count(Some(text), 1, 1..=MOST_CONNECTIONS, mistakes)?).ok()
}

/// One that is wrong has been noted.
fn per_client(text: Option<&Text>, mistakes: &mut Mistakes) -> PerClient {
    match text {
        None => PerClient::BuiltIn,
        Some(_) => at_once(text, None, mistakes).flatten().map_or(PerClient::Any, PerClient::Most),
    }
}

fn cap(text: &Text, mistakes: &mut Mistakes) -> Option<Cap> {
    let most = match Price::parse(text) {
        Ok(Price::Dollars(amount)) => Dollars::from_decimal(amount).ok().filter(|most| !most.is_zero()),
        Ok(Price::Token { .. }) | Err(_) => None,
    };
    if most.is_none() {
        let message = format!("`{}` is not a cap", shown(&text.text));
        mistakes.add(Mistake::error(&codes::CAP, text.span, message).help("write an amount of dollars: $10"));
    }
    Some(Cap { most: most?, span: Some(text.span) })
}
