//! Prices that a settlement may cost more than, where we pay the gas ourselves (S31).

use std::collections::HashMap;
use std::sync::Arc;

use super::facilitators::Resolved;
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::source::Span;
use crate::facilitator::Kind;
use crate::facilitator::local::usual_gas;
use crate::payment::Offer;
use crate::primitives::{Caip2, Dollars};
use crate::tariff::{Charge, Route};

/// What a facilitator of ours may pay for a settlement before it sends none.
struct Most<'f> {
    facilitator: &'f Arc<str>,
    network: &'f Caip2,
    /// For a unit of gas, in wei.
    gas_price: u128,
    /// For a whole coin of the network.
    coin_price: Dollars,
}

/// A price, the gas its settlement usually burns, and the most that costs.
struct Below {
    price: Dollars,
    gas: u64,
    cost: Dollars,
}

/// Warns of every route that asks less than its settlement may cost. Without a highest price for gas nothing is known
/// before the gas is.
pub(super) fn warn<'r>(
    routes: impl Iterator<Item = &'r Arc<Route>>,
    facilitators: &[Resolved],
    places: &HashMap<(u32, u32), Span>,
    mistakes: &mut Mistakes,
) {
    let most: Vec<Most<'_>> = facilitators.iter().filter_map(most).collect();
    for route in routes.filter(|_| !most.is_empty()) {
        for most in &most {
            let Some(Below { price, gas, cost }) = most.below(route) else { continue };
            let facilitator = most.facilitator;
            let span = places.get(&(route.place.line, route.place.column)).copied();
            let message = format!("{price} may not pay for its settlement, which costs up to {cost} in gas");
            mistakes.add(
                Mistake::warning(&codes::DUST, span, message)
                    .note(format!("`{facilitator}` pays for {gas} gas at its max_gas_price"))
                    .help("raise the price, or lower max_gas_price; while gas costs more, the route is not sold there"),
            );
        }
    }
}

fn most(resolved: &Resolved) -> Option<Most<'_>> {
    let Kind::Local { max_gas_price: Some(gas_price), coin_price: Some(coin_price), .. } = resolved.config.kind else {
        return None;
    };
    let network = resolved.config.networks.first()?;
    Some(Most { facilitator: &resolved.config.name, network, gas_price, coin_price })
}

impl Most<'_> {
    /// The first price of this route that may not cover its settlement by this facilitator.
    fn below(&self, route: &Route) -> Option<Below> {
        let Charge::Toll(toll) = &route.charge else { return None };
        let offers = toll.offers.iter().filter(|offer| offer.network.id == *self.network);
        offers.filter_map(|offer| self.price(offer)).find(|below| below.price < below.cost)
    }

    /// The price of an offer beside the most that its settlement costs, if it is in dollars.
    fn price(&self, offer: &Offer) -> Option<Below> {
        let gas = usual_gas(offer.asset.method);
        let cost = self.coin_price.of_coin(self.gas_price.saturating_mul(u128::from(gas)));
        Some(Below { price: Dollars::of(offer.amount, &offer.asset)?, gas, cost })
    }
}
