//! Counts for Prometheus. Labels are route keys, networks, assets and fixed words: never a path, a payer or anything
//! else a client chooses (S71).

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::facilitator::chain::Health;
use crate::facilitator::{BreakerState, Notice, Purse};
use crate::gate::Event;
use crate::gate::event::{Answered, PHASES};
use crate::ledger::Census;
use crate::primitives::{Caip2, Dollars};
use crate::tariff::{Charge, Tariff};

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByOutcome {
    route: Arc<str>,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByReason {
    route: Arc<str>,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRoute {
    route: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByState {
    state: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByRouteState {
    route: Arc<str>,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByAsset {
    network: String,
    asset: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByPhase {
    phase: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCause {
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByResult {
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByFacilitator {
    facilitator: String,
}

/// A node is known by its place in the file: its address may hold a key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNode {
    network: String,
    named_in: String,
    node: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNodes {
    network: String,
    named_in: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCall {
    facilitator: Arc<str>,
    call: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByCallOutcome {
    facilitator: Arc<str>,
    call: &'static str,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByNetworkOutcome {
    network: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByList {
    list: Arc<str>,
}

/// A target is known by its line in the file, not by the addresses that its name stands for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByTarget {
    upstream: Arc<str>,
    target: Arc<str>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ByBreaker {
    facilitator: String,
    network: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ConfigInfo {
    hash: String,
    version: &'static str,
}

/// How a set of nodes is doing.
#[derive(Debug, Clone)]
pub struct NodesOf {
    /// The chain they serve.
    pub network: String,
    /// Which part of the file names them: `networks`, or a facilitator.
    pub named_in: String,
    /// How far the chain's clock and ours are apart, above what is usual.
    pub skew: Duration,
    /// Each of them, in the order of the file.
    pub health: Vec<Health>,
}

/// A list of accounts that are not dealt with.
#[derive(Debug, Clone)]
pub struct ListInForce {
    /// As the file names it.
    pub name: Arc<str>,
    /// How many accounts it names.
    pub addresses: usize,
    /// How old it is.
    pub age: Duration,
    /// Whether it is older than it may be.
    pub stale: bool,
}

/// Every metric of the process.
pub struct Metrics {
    registry: Registry,
    requests: Family<ByOutcome, Counter>,
    offers: Family<ByRoute, Counter>,
    refusals: Family<ByReason, Counter>,
    payments: Family<ByRouteState, Counter>,
    revenue: Family<ByAsset, Counter<u64, AtomicU64>>,
    undelivered: Family<ByRoute, Counter>,
    alarms: Counter,
    /// By name; there are few, and every request has all of them.
    phases: Vec<(&'static str, Histogram)>,
    at_risk: Family<ByAsset, Gauge<i64, AtomicI64>>,
    entries: Family<ByState, Gauge>,
    oldest_settling: Gauge,
    facilitators: Family<ByFacilitator, Gauge>,
    gas_balance: Family<ByFacilitator, Gauge<f64, AtomicU64>>,
    gas_low: Family<ByFacilitator, Gauge>,
    gas_in_flight: Family<ByFacilitator, Gauge>,
    gas_cost: Family<ByFacilitator, Gauge<f64, AtomicU64>>,
    routes_below_gas: Family<ByFacilitator, Gauge>,
    node_up: Family<ByNode, Gauge>,
    node_behind: Family<ByNode, Gauge<f64, AtomicU64>>,
    chain_skew: Family<ByNodes, Gauge<f64, AtomicU64>>,
    calls: Family<ByCallOutcome, Counter>,
    call_times: Family<ByCall, Histogram>,
    wallets: Family<ByNetworkOutcome, Counter>,
    breakers: Family<ByBreaker, Gauge>,
    paused: Family<ByRoute, Gauge>,
    list_addresses: Family<ByList, Gauge>,
    list_age: Family<ByList, Gauge<f64, AtomicU64>>,
    list_stale: Family<ByList, Gauge>,
    backend_up: Family<ByTarget, Gauge>,
    config: Family<ConfigInfo, Gauge>,
    reloads: Family<ByResult, Counter>,
    certificates: Family<ByResult, Counter>,
    closed: Family<ByCause, Counter>,
    restart_needed: Gauge,
    live: Gauge,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// All of them at zero.
    pub fn new() -> Self {
        let call_times =
            Family::<ByCall, Histogram>::new_with_constructor(|| Histogram::new(exponential_buckets(0.005, 2.0, 14)));
        let mut metrics = Self {
            registry: Registry::with_prefix("tollhouse"),
            requests: Family::default(),
            offers: Family::default(),
            refusals: Family::default(),
            payments: Family::default(),
            revenue: Family::default(),
            undelivered: Family::default(),
            alarms: Counter::default(),
            phases: Vec::new(),
            at_risk: Family::default(),
            entries: Family::default(),
            oldest_settling: Gauge::default(),
            facilitators: Family::default(),
            gas_balance: Family::default(),
            gas_low: Family::default(),
            gas_in_flight: Family::default(),
            gas_cost: Family::default(),
            routes_below_gas: Family::default(),
            node_up: Family::default(),
            node_behind: Family::default(),
            chain_skew: Family::default(),
            calls: Family::default(),
            call_times,
            wallets: Family::default(),
            breakers: Family::default(),
            paused: Family::default(),
            list_addresses: Family::default(),
            list_age: Family::default(),
            list_stale: Family::default(),
            backend_up: Family::default(),
            config: Family::default(),
            reloads: Family::default(),
            certificates: Family::default(),
            closed: Family::default(),
            restart_needed: Gauge::default(),
            live: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let to = &mut self.registry;
        to.register("requests", "Requests by route and outcome", self.requests.clone());
        to.register("offers", "Answers 402 with offers", self.offers.clone());
        to.register("refusals", "Payments refused, by reason", self.refusals.clone());
        to.register("payments", "Steps of payments", self.payments.clone());
        to.register("revenue_units", "Settled, in smallest units of the asset", self.revenue.clone());
        to.register(
            "delivery_failed_after_payment",
            "Paid answers of which no byte reached the client",
            self.undelivered.clone(),
        );
        to.register(
            "alarms",
            "Words of a facilitator that do not add up, and settled payments that were undone",
            self.alarms.clone(),
        );
        let phases = Family::<ByPhase, Histogram>::new_with_constructor(|| {
            Histogram::new(exponential_buckets(0.000_05, 2.5, 14))
        });
        self.phases = PHASES.map(|phase| (phase, phases.get_or_create_owned(&ByPhase { phase }))).into();
        to.register_with_unit("phase", "Time of a step of a request", Unit::Seconds, phases);
        to.register("at_risk_units", "Asked for and not known to be settled, in smallest units", self.at_risk.clone());
        to.register("ledger_entries", "Entries of the ledger by state", self.entries.clone());
        to.register_with_unit(
            "ledger_oldest_settling",
            "Age of the oldest settlement that nobody knows the end of",
            Unit::Seconds,
            self.oldest_settling.clone(),
        );
        to.register("facilitator_up", "Whether a facilitator answers", self.facilitators.clone());
        to.register("gas_balance_wei", "What a gas key holds", self.gas_balance.clone());
        to.register("gas_low", "Whether a gas key holds too little", self.gas_low.clone());
        to.register("gas_cost_dollars", "What a settlement costs in gas, as last seen", self.gas_cost.clone());
        to.register("routes_below_gas", "Routes whose price is below that", self.routes_below_gas.clone());
        to.register("gas_in_flight", "Transactions of a gas key that are in no block yet", self.gas_in_flight.clone());
        to.register("node_up", "Whether a node answers, for the right chain", self.node_up.clone());
        to.register_with_unit(
            "node_behind",
            "How far a node's head is behind the best one's",
            Unit::Seconds,
            self.node_behind.clone(),
        );
        to.register_with_unit(
            "chain_skew",
            "How far the chain's clock and ours are apart, above what is usual",
            Unit::Seconds,
            self.chain_skew.clone(),
        );
        to.register("facilitator_calls", "Calls to facilitators by outcome", self.calls.clone());
        to.register_with_unit(
            "facilitator_call",
            "Time of a call to a facilitator",
            Unit::Seconds,
            self.call_times.clone(),
        );
        to.register("wallet_signatures", "Signatures that only a contract wallet can judge", self.wallets.clone());
        to.register("breaker_state", "0 closed, 1 half open, 2 open", self.breakers.clone());
        to.register("paused", "Routes that somebody has paused; all of them as `all`", self.paused.clone());
        to.register("screening_list_addresses", "Accounts on a screening list", self.list_addresses.clone());
        to.register_with_unit("screening_list_age", "Age of a screening list", Unit::Seconds, self.list_age.clone());
        to.register("screening_list_stale", "Whether a screening list is too old", self.list_stale.clone());
        to.register("backend_up", "Whether a target of an upstream takes requests", self.backend_up.clone());
        to.register("config_info", "The configuration in force", self.config.clone());
        for result in ["ok", "failed"] {
            drop(self.reloads.get_or_create(&ByResult { result }));
            drop(self.certificates.get_or_create(&ByResult { result }));
        }
        for reason in ["too_many", "handshake", "proxy_header", "slow"] {
            drop(self.closed.get_or_create(&ByCause { reason }));
        }
        to.register("connections_closed", "Client connections that were closed on, by reason", self.closed.clone());
        to.register("certificate_renewals", "Changed certificates by result", self.certificates.clone());
        to.register("config_reload", "Reloads of the configuration by result", self.reloads.clone());
        to.register(
            "restart_needed",
            "Whether the file asks for what only a restart gives",
            self.restart_needed.clone(),
        );
        to.register("live", "Whether real money is charged", self.live.clone());
    }

    /// In the text format of Prometheus.
    pub fn render(&self) -> String {
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            let _ = writeln!(text, "# a metric could not be written");
        }
        text
    }

    pub(super) fn count(&self, event: &Event) {
        let step = |route: &crate::tariff::RouteKey, state| {
            self.payments.get_or_create(&ByRouteState { route: Arc::clone(&route.0), state }).inc();
        };
        match event {
            Event::Offered { route, .. } => {
                self.offers.get_or_create(&ByRoute { route: Arc::clone(&route.0) }).inc();
            }
            Event::Refused { route, reason } => {
                self.refusals.get_or_create(&ByReason { route: Arc::clone(&route.0), reason }).inc();
            }
            // Counted where it is refused.
            Event::Screened { .. } => {}
            Event::Reserved { route, .. } => step(route, "reserved"),
            Event::Released { route, exhausted: false, .. } => step(route, "released"),
            Event::Released { route, exhausted: true, .. } => step(route, "exhausted"),
            Event::Settling { route, .. } => step(route, "settling"),
            Event::Settled { route, amount, asset, network, .. } => {
                step(route, "settled");
                let asset = ByAsset { network: network.to_string(), asset: asset.symbol.clone() };
                self.revenue.get_or_create(&asset).inc_by(amount.units().saturating_to());
            }
            Event::Declined { route, .. } => step(route, "declined"),
            Event::Unknown { route, .. } => step(route, "unknown"),
            Event::Delivered { route, outcome, .. } => {
                let arrived = matches!(*outcome, "partial" | "done");
                step(route, if arrived { "delivered" } else { "undelivered" });
                if !arrived {
                    self.undelivered.get_or_create(&ByRoute { route: Arc::clone(&route.0) }).inc();
                }
            }
            Event::Redeemed { route, .. } => step(route, "redeemed"),
            Event::SignedAgain { route, .. } => step(route, "signed_again"),
            Event::Reorganised { route, turn, .. } => step(route, turn.word()),
            Event::Alarm { .. } => {
                self.alarms.inc();
            }
            Event::Facilitator(Notice::Asked { facilitator, call, outcome, took }) => {
                let facilitator = Arc::clone(facilitator);
                let by_outcome = ByCallOutcome { facilitator: Arc::clone(&facilitator), call, outcome };
                self.calls.get_or_create(&by_outcome).inc();
                // Nobody was asked: in a flood such calls would make a slow facilitator look fast.
                if *outcome == "shed" {
                    return;
                }
                self.call_times.get_or_create(&ByCall { facilitator, call }).observe(took.as_secs_f64());
            }
            Event::WalletAsked { network, outcome } => {
                let by_outcome = ByNetworkOutcome { network: network.to_string(), outcome };
                self.wallets.get_or_create(&by_outcome).inc();
            }
            Event::Facilitator(Notice::Breaker { facilitator, network, state, .. }) => {
                self.breaker(facilitator, network, *state)
            }
            Event::Paused { scope, .. } => {
                self.paused.get_or_create(&ByRoute { route: scope.as_str().into() }).set(1);
            }
            Event::Resumed { scope, .. } => {
                self.paused.remove(&ByRoute { route: scope.as_str().into() });
            }
            Event::Answered(answered) => self.answered(answered),
        }
    }

    fn answered(&self, answered: &Answered) {
        let route = answered.route.as_ref().map(|route| Arc::clone(&route.0)).unwrap_or_default();
        self.requests.get_or_create(&ByOutcome { route, outcome: answered.outcome }).inc();
        for (phase, took) in &answered.phases {
            if let Some((_, times)) = self.phases.iter().find(|(name, _)| name == phase) {
                times.observe(took.as_secs_f64());
            }
        }
    }

    /// Notes what a look at the whole ledger found.
    pub fn take_census(&self, census: &Census) {
        self.entries.clear();
        for (state, count) in &census.entries {
            let state = ByState { state: state.clone() };
            self.entries.get_or_create(&state).set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
        self.oldest_settling.set(i64::try_from(census.oldest_settling.as_secs()).unwrap_or(i64::MAX));
        self.at_risk.clear();
        for ((network, asset), units) in &census.at_risk {
            let asset = ByAsset { network: network.clone(), asset: asset.clone() };
            self.at_risk.get_or_create(&asset).set(units.units().saturating_to());
        }
    }

    /// Notes which facilitators answer.
    pub fn facilitators(&self, up: impl Iterator<Item = (String, bool)>) {
        self.facilitators.clear();
        for (facilitator, up) in up {
            self.facilitators.get_or_create(&ByFacilitator { facilitator }).set(i64::from(up));
        }
    }

    /// Notes how the keys that pay gas are doing.
    pub fn gas_keys(&self, purses: impl Iterator<Item = (String, Purse)>) {
        self.gas_balance.clear();
        self.gas_low.clear();
        self.gas_in_flight.clear();
        for (facilitator, purse) in purses {
            let of = ByFacilitator { facilitator };
            self.gas_balance.get_or_create(&of).set(f64::from(purse.balance));
            self.gas_low.get_or_create(&of).set(i64::from(purse.is_low));
            self.gas_in_flight.get_or_create(&of).set(i64::try_from(purse.in_flight).unwrap_or(i64::MAX));
        }
    }

    /// Notes what a settlement costs each facilitator of ours, and how many routes ask less.
    pub fn dust(&self, costs: impl Iterator<Item = (String, Dollars, usize)>) {
        self.gas_cost.clear();
        self.routes_below_gas.clear();
        for (facilitator, cost, routes) in costs {
            let of = ByFacilitator { facilitator };
            self.gas_cost.get_or_create(&of).set(cost.millionths_up() as f64 / 1e6);
            self.routes_below_gas.get_or_create(&of).set(i64::try_from(routes).unwrap_or(i64::MAX));
        }
    }

    /// Notes how the nodes of each chain are doing.
    pub fn nodes(&self, sets: impl Iterator<Item = NodesOf>) {
        self.node_up.clear();
        self.node_behind.clear();
        self.chain_skew.clear();
        for NodesOf { network, named_in, skew, health } in sets {
            for (node, health) in (1..).zip(health) {
                let of = ByNode { network: network.clone(), named_in: named_in.clone(), node };
                self.node_up.get_or_create(&of).set(i64::from(health.up));
                self.node_behind.get_or_create(&of).set(health.behind.as_secs_f64());
            }
            self.chain_skew.get_or_create(&ByNodes { network, named_in }).set(skew.as_secs_f64());
        }
    }

    /// Notes what the breakers let through.
    pub fn breakers(&self, standing: impl Iterator<Item = (String, Caip2, BreakerState)>) {
        self.breakers.clear();
        for (facilitator, network, state) in standing {
            self.breaker(&facilitator, &network, state);
        }
    }

    fn breaker(&self, facilitator: &str, network: &Caip2, state: BreakerState) {
        let level = match state {
            BreakerState::Closed => 0,
            BreakerState::HalfOpen => 1,
            BreakerState::Open => 2,
        };
        let by = ByBreaker { facilitator: facilitator.to_owned(), network: network.to_string() };
        self.breakers.get_or_create(&by).set(level);
    }

    /// Notes the screening lists in force.
    pub fn lists(&self, lists: impl Iterator<Item = ListInForce>) {
        self.list_addresses.clear();
        self.list_age.clear();
        self.list_stale.clear();
        for ListInForce { name, addresses, age, stale } in lists {
            let of = ByList { list: name };
            self.list_addresses.get_or_create(&of).set(i64::try_from(addresses).unwrap_or(i64::MAX));
            self.list_age.get_or_create(&of).set(age.as_secs_f64());
            self.list_stale.get_or_create(&of).set(i64::from(stale));
        }
    }

    /// Notes which targets take requests: the upstream, the target, and whether it does. Those that are not named are gone.
    pub fn backends(&self, targets: &[(Arc<str>, Arc<str>, bool)]) {
        self.backend_up.clear();
        for (upstream, target, up) in targets {
            let of = ByTarget { upstream: Arc::clone(upstream), target: Arc::clone(target) };
            self.backend_up.get_or_create(&of).set(i64::from(*up));
        }
    }

    /// Notes the configuration in force. What an alert watches is there from the start: `increase()` sees no change where
    /// a series begins with its first event.
    pub fn configured(&self, hash: &str, live: bool, tariff: &Tariff) {
        for route in tariff.routes().filter(|route| matches!(route.charge, Charge::Toll(_))) {
            drop(self.undelivered.get_or_create(&ByRoute { route: Arc::clone(&route.key.0) }));
        }
        self.config.clear();
        let info = ConfigInfo { hash: hash.to_owned(), version: env!("CARGO_PKG_VERSION") };
        self.config.get_or_create(&info).set(1);
        self.live.set(i64::from(live));
    }

    /// Notes a connection that its client did not close: it had `too_many`, did not manage the `handshake`, came
    /// without the `proxy_header` that had to be there, or was `slow` in saying what it wants.
    pub fn connection_closed(&self, reason: &'static str) {
        self.closed.get_or_create(&ByCause { reason }).inc();
    }

    /// Notes what became of certificates that had changed: `ok` or `failed`.
    pub fn certificates_renewed(&self, result: &'static str) {
        self.certificates.get_or_create(&ByResult { result }).inc();
    }

    /// Notes a reload: `ok` or `failed`.
    pub fn reloaded(&self, result: &'static str) {
        self.reloads.get_or_create(&ByResult { result }).inc();
    }

    /// Notes whether the file asks for what only a restart gives.
    pub fn restart_needed(&self, needed: bool) {
        self.restart_needed.set(i64::from(needed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::RouteKey;

    #[test]
    fn s71_labels_are_route_keys_and_fixed_words() {
        let metrics = Metrics::new();
        for path in ["/v1/users/1", "/v1/users/2"] {
            metrics.count(&Event::Answered(Box::new(Answered {
                route: Some(RouteKey("GET /v1/users/{id}".into())),
                outcome: "offered",
                method: http::Method::GET,
                path: path.to_owned(),
                query: Some("token=secret".to_owned()),
                status: 402,
                bytes: 0,
                client: None,
                payment: None,
                error: None,
                took: std::time::Duration::from_millis(1),
                phases: vec![("admit", std::time::Duration::from_millis(1))],
            })));
        }
        let text = metrics.render();
        assert!(text.contains(r#"tollhouse_requests_total{route="GET /v1/users/{id}",outcome="offered"} 2"#), "{text}");
        assert!(!text.contains("/v1/users/1") && !text.contains("secret"), "{text}");
    }
}
