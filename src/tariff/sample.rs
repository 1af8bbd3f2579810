//! Small price tables for the tests of this module.

use std::sync::Arc;
use std::time::Duration;

use super::{Charge, EncodedSlash, Limits, Place, Route, RouteKey, Slash, Table, Tariff, Toll, parse_key};
use crate::payment::{Offer, Replay, SchemeName, SettleMode};
use crate::primitives::{Address, AtomicAmount, Payee, preset};

/// An offer of a decimal number of dollars on a preset network.
pub(super) fn offer(network: &str, dollars: &str) -> Offer {
    let preset = preset(network).expect("a preset");
    let asset = preset.assets[0].asset();
    Offer {
        scheme: SchemeName::Exact,
        network: preset.network().into(),
        amount: AtomicAmount::from_decimal(dollars, asset.decimals).expect("a price"),
        asset: asset.into(),
        pay_to: Payee(Address::repeat_byte(0x11)),
        max_timeout: Duration::from_secs(180),
        settle: SettleMode::OnResponse,
        sandbox: false,
    }
}

/// A toll with these offers; they hold for a minute.
pub(super) fn toll(offers: Vec<Offer>) -> Charge {
    Charge::Toll(Arc::new(Toll {
        settle: offers[0].settle,
        offers,
        replay: Replay::Redeliver,
        replay_explicit: false,
        offer_ttl: Duration::from_secs(60),
        hold: Duration::from_secs(120),
        margin: Duration::from_secs(120),
        description: String::new(),
        mime_type: String::new(),
        tunnel: None,
    }))
}

/// `free`, `deny` or a decimal number of dollars on Base.
pub(super) fn charge(text: &str) -> Charge {
    match text {
        "free" => Charge::Free,
        "deny" => Charge::Deny,
        dollars => toll(vec![offer("base", dollars)]),
    }
}

/// The route that a line of the file would make.
pub(super) fn route(key: &str, charge: Charge) -> Arc<Route> {
    let (methods, pattern) = parse_key(key).unwrap_or_else(|error| panic!("{key}: {error}"));
    Arc::new(Route {
        key: RouteKey(key.into()),
        methods,
        pattern,
        charge,
        upstream: "app".into(),
        public_url: "https://api.example.com".into(),
        limits: Limits::new(1 << 20, Duration::from_secs(60)),
        encoded_slash: EncodedSlash::Refuse,
        rewrite: None,
        place: Place { file: "gateway.yaml".into(), line: 1, column: 3 },
    })
}

/// The hostless table with these lines, in the words of [`charge`].
pub(super) fn table(lines: &[(&str, &str)]) -> Table {
    Table {
        host: None,
        slash: Slash::Distinct,
        routes: lines.iter().map(|(key, text)| route(key, charge(text))).collect(),
    }
}

/// A tariff of one hostless table.
pub(super) fn tariff(lines: &[(&str, &str)]) -> Arc<Tariff> {
    Arc::new(Tariff::new(vec![table(lines)]).unwrap_or_else(|collisions| panic!("{collisions:?}")))
}
