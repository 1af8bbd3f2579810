//! Prices below the cost of gas: says which routes are not sold because of it, and when they are again (S31).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::facilitator::{Facilitator, Pool};
use crate::payment::{Dialect, Offer};
use crate::proxy::Live;
use crate::tariff::{Charge, RouteKey, Tariff};
use crate::telemetry::Metrics;

/// How often it is looked at.
const EVERY: Duration = Duration::from_secs(5);
/// How many routes a line of the log names.
const NAMED: usize = 5;

/// Routes with an offer that does not cover its gas, by the facilitator that does not settle it.
type Dust = BTreeMap<Arc<str>, BTreeSet<RouteKey>>;

/// Keeps the metrics fresh and tells what changes, until dropped.
pub(super) async fn watch(live: Arc<ArcSwap<Live>>, pool: Arc<Pool>, metrics: Arc<Metrics>) {
    let mut before = Dust::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let (active, tariff) = (pool.active(), Arc::clone(&live.load().tariff));
        let dust = dust(&active, &tariff);
        let costs = active.iter().filter_map(|one| Some((one.name().to_owned(), one.gas_cost()?)));
        metrics.dust(costs.map(|(name, cost)| {
            let routes = dust.get(&*name).map_or(0, BTreeSet::len);
            (name, cost, routes)
        }));
        for one in &active {
            tell(&**one, before.get(one.name()), dust.get(one.name()));
        }
        before = dust;
    }
}

fn dust(active: &[Arc<dyn Facilitator>], tariff: &Tariff) -> Dust {
    let careful: Vec<_> = active.iter().filter(|one| one.gas_cost().is_some()).collect();
    let mut dust = Dust::new();
    for route in tariff.routes().filter(|_| !careful.is_empty()) {
        let Charge::Toll(toll) = &route.charge else { continue };
        for one in &careful {
            let is_dust = |offer: &Offer| one.accepts(offer, Dialect::V2) && !one.pays_off(offer);
            if toll.offers.iter().any(is_dust) {
                dust.entry(one.name().into()).or_default().insert(route.key.clone());
            }
        }
    }
    dust
}

fn tell(facilitator: &dyn Facilitator, before: Option<&BTreeSet<RouteKey>>, now: Option<&BTreeSet<RouteKey>>) {
    if before == now {
        return;
    }
    let name = facilitator.name();
    let Some(cost) = facilitator.gas_cost().map(|cost| cost.to_string()) else {
        tracing::warn!(facilitator = name, "nobody knows any more what gas costs; every price is taken meanwhile");
        return;
    };
    match now {
        None => tracing::info!(facilitator = name, cost, "every price covers its gas again"),
        Some(routes) => {
            let first: Vec<&str> = routes.iter().take(NAMED).map(|route| &*route.0).collect();
            tracing::warn!(
                facilitator = name,
                cost,
                routes = routes.len(),
                first = first.join(", "),
                "gas costs more than these routes bring in; this facilitator does not settle them meanwhile"
            );
        }
    }
}
