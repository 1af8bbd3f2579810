//! Prices that a settlement may cost more than, where we pay the gas ourselves (S31).

use std::collections::HashMap;
use std::sync::Arc;

use super::facilitators::Resolved;
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::source::Span;
use crate::facilitator::Kind;
use crate::facilitator::local::USUAL_GAS;
use crate::primitives::{Caip2, Dollars};
use crate::tariff::{Charge, Route};

/// What a facilitator of ours may pay for a settlement before it sends none.
struct Most<'f> {
    facilitator: &'f Arc<str>,
    network: &'f Caip2,
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
        if let Some((most, price)) = most.iter().find_map(|most| Some((most, below(route, most)?))) {
            let Most { facilitator, cost, .. } = most;
            let span = places.get(&(route.place.line, route.place.column)).copied();
            let message = format!("{price} may not pay for its settlement, which costs up to {cost} in gas");
            mistakes.add(
                Mistake::warning(&codes::DUST, span, message)
                    .note(format!("`{facilitator}` pays for {USUAL_GAS} gas at its max_gas_price"))
                    .help("raise the price, or lower max_gas_price; while gas costs more, the route is not sold there"),
            );
        }
    }
}

fn most(resolved: &Resolved) -> Option<Most<'_>> {
    let Kind::Local { max_gas_price: Some(price), coin_price: Some(coin), .. } = &resolved.config.kind else {
        return None;
    };
    let cost = coin.of_coin(price.saturating_mul(u128::from(USUAL_GAS)));
    Some(Most { facilitator: &resolved.config.name, network: resolved.config.networks.first()?, cost })
}

/// The price of this route on that network, if it is below the cost.
fn below(route: &Route, most: &Most<'_>) -> Option<Dollars> {
    let Charge::Toll(toll) = &route.charge else { return None };
    let prices = toll.offers.iter().filter(|offer| offer.network.id == *most.network);
    prices.filter_map(|offer| Dollars::of(offer.amount, &offer.asset)).find(|price| *price < most.cost)
}
