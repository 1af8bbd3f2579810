//! The posted tariff, and past ones still honoured.

use std::collections::HashMap;
use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Charge, Route, RouteKey, Tariff, Toll};
use crate::payment::Offer;
use crate::primitives::Timestamp;

/// How many replaced tariffs are remembered. More reloads than this within one `offer_ttl` void the oldest prices.
const MAX_PAST: usize = 16;

/// Where the price table hangs. A request takes one look and keeps what it saw.
#[derive(Debug)]
pub struct Board {
    posted: ArcSwap<Posted>,
}

/// The tariff of the moment, and what was promised before it.
#[derive(Debug)]
struct Posted {
    tariff: Arc<Tariff>,
    /// The newest first.
    past: Vec<Arc<Past>>,
}

/// The offers that one posting withdrew. Offers that stayed are not copied, so it is as small as the change.
#[derive(Debug)]
struct Past {
    until: Timestamp,
    promises: HashMap<RouteKey, Promise>,
}

/// What a route asked for before, and until when that holds.
#[derive(Debug)]
struct Promise {
    until: Timestamp,
    offers: Vec<Offer>,
}

impl Board {
    /// A board with its first tariff.
    pub fn new(tariff: Arc<Tariff>) -> Self {
        Self { posted: ArcSwap::from_pointee(Posted { tariff, past: Vec::new() }) }
    }

    /// The tariff of the moment.
    pub fn current(&self) -> Arc<Tariff> {
        self.posted.load().tariff.clone()
    }

    /// Replaces the tariff. Offers made until `now` hold for the `offer_ttl` they were made under.
    pub fn post(&self, tariff: Arc<Tariff>, now: Timestamp) {
        self.posted.rcu(|posted| posted.replaced_by(&tariff, now));
    }

    /// Past offers of this route that are still a promise at `now`, the newest first. For v1 clients, who echo no
    /// quote (S37). Only the price survives: whether the route still sells to the same payee, on the same network and
    /// in the same asset is for the caller to compare.
    pub fn past_offers(&self, route: &RouteKey, now: Timestamp) -> Vec<Offer> {
        let posted = self.posted.load();
        let promises = posted.past.iter().filter_map(|past| past.promises.get(route));
        promises.filter(|promise| now < promise.until).flat_map(|promise| promise.offers.iter().cloned()).collect()
    }
}

impl Posted {
    fn replaced_by(&self, tariff: &Arc<Tariff>, now: Timestamp) -> Self {
        let withdrawn = Past::between(&self.tariff, tariff, now).map(Arc::new);
        let remembered = self.past.iter().filter(|past| now < past.until).cloned();
        Self { tariff: tariff.clone(), past: withdrawn.into_iter().chain(remembered).take(MAX_PAST).collect() }
    }
}

impl Past {
    /// What `old` offered and `new` does not; `None` if that is nothing.
    fn between(old: &Tariff, new: &Tariff, now: Timestamp) -> Option<Self> {
        let kept: HashMap<&RouteKey, &Toll> = tolls(new).map(|(route, toll)| (&route.key, toll)).collect();
        let promises: HashMap<RouteKey, Promise> = tolls(old)
            .filter_map(|(route, toll)| {
                let kept = kept.get(&route.key).map_or(&[][..], |toll| &toll.offers);
                let offers: Vec<Offer> = toll.offers.iter().filter(|offer| !kept.contains(offer)).cloned().collect();
                let promise = Promise { until: now.after(toll.offer_ttl), offers };
                (!promise.offers.is_empty()).then(|| (route.key.clone(), promise))
            })
            .collect();
        let until = promises.values().map(|promise| promise.until).max()?;
        Some(Self { until, promises })
    }
}

fn tolls(tariff: &Tariff) -> impl Iterator<Item = (&Route, &Toll)> {
    tariff.routes().filter_map(|route| match &route.charge {
        Charge::Toll(toll) => Some((&**route, &**toll)),
        Charge::Free | Charge::Deny => None,
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::sample::tariff;
    use super::*;

    const ROUTE: &str = "GET /v1/weather";

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_secs(seconds)
    }

    fn past_prices(board: &Board, now: Timestamp) -> Vec<String> {
        board.past_offers(&RouteKey(ROUTE.into()), now).iter().map(Offer::price).collect()
    }

    #[test]
    fn s37_a_replaced_price_is_honoured_until_its_offers_expire() {
        let board = Board::new(tariff(&[(ROUTE, "0.01")]));
        board.post(tariff(&[(ROUTE, "0.02")]), at(100));
        board.post(tariff(&[(ROUTE, "0.03")]), at(130));
        assert_eq!(past_prices(&board, at(159)), ["$0.02", "$0.01"]);
        assert_eq!(past_prices(&board, at(160)), ["$0.02"]);
        assert_eq!(past_prices(&board, at(190)), [""; 0]);
        assert_eq!(board.current().priced(), 1);
    }

    #[test]
    fn a_price_that_stayed_is_not_a_past_one() {
        let board = Board::new(tariff(&[(ROUTE, "0.01"), ("GET /b", "1")]));
        board.post(tariff(&[(ROUTE, "0.01"), ("GET /b", "2")]), at(100));
        assert_eq!(past_prices(&board, at(100)), [""; 0]);
        assert_eq!(board.posted.load().past[0].promises.len(), 1);
    }

    #[test]
    fn the_price_of_a_route_that_went_and_came_back_is_honoured() {
        let board = Board::new(tariff(&[(ROUTE, "0.01")]));
        board.post(tariff(&[]), at(100));
        board.post(tariff(&[(ROUTE, "0.02")]), at(110));
        assert_eq!(past_prices(&board, at(159)), ["$0.01"]);
    }

    #[test]
    fn the_past_is_forgotten_when_it_no_longer_counts_and_is_never_long() {
        let board = Board::new(tariff(&[(ROUTE, "1")]));
        for price in 2..50 {
            board.post(tariff(&[(ROUTE, &price.to_string())]), at(100));
        }
        assert_eq!(board.posted.load().past.len(), MAX_PAST);
        assert_eq!(past_prices(&board, at(100))[0], "$48");
        board.post(tariff(&[(ROUTE, "50")]), at(100).after(Duration::from_secs(60)));
        assert_eq!(board.posted.load().past.len(), 1);
    }
}
