//! What is for sale: every way to charge and to replay, at two prices.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use http::Method;
use tollhouse::config::{self, Format};
use tollhouse::proxy::target::Target;
use tollhouse::tariff::{Charge, Found, Route, Tariff, Toll};

const HEAD: &str = r#"
version: 1
public_url: https://api.example.com
upstream: http://127.0.0.1:9
pay_to: {base-sepolia: "0x1111111111111111111111111111111111111111"}
facilitators: [{name: f0, url: "https://f.example", timeout: {verify: 2s, settle: 10s}}]
defaults: {limits: {timeout: 5s}, offer_ttl: 60s}
routes:
"#;

/// Method, path, and what the line says besides its price.
pub const LINES: [(&str, &str, &str); 8] = [
    ("GET", "/redelivered", "settle: on_response"),
    ("GET", "/repeated", "settle: on_response, replay: same_answer"),
    ("GET", "/once", "settle: on_response, replay: refuse"),
    ("POST", "/done", "settle: on_response"),
    ("POST", "/done-again", "settle: on_response, replay: same_answer"),
    ("GET", "/prepaid", "settle: before_forward"),
    ("POST", "/prepaid-work", "settle: before_forward"),
    ("GET", "/prepaid-repeated", "settle: before_forward, replay: same_answer"),
];

/// The price tables, read once.
pub struct Town {
    tariffs: [Arc<Tariff>; 2],
}

pub fn town() -> &'static Town {
    static TOWN: OnceLock<Town> = OnceLock::new();
    TOWN.get_or_init(|| Town { tariffs: ["$0.01", "$0.02"].map(table) })
}

fn table(price: &str) -> Arc<Tariff> {
    let line = |(method, path, more): (&str, &str, &str)| format!("  {method} {path}: {{price: {price}, {more}}}\n");
    let text = HEAD.to_owned() + &LINES.map(line).concat();
    let loaded = config::parse(&text, "town.yaml", Path::new("."), &|_| None);
    let report = loaded.report.render(Format::Human, false);
    loaded.config.unwrap_or_else(|| panic!("{report}")).live.tariff
}

impl Town {
    pub fn tariff(&self, posted: usize) -> Arc<Tariff> {
        Arc::clone(&self.tariffs[posted])
    }

    /// The route of a request, and its price.
    pub fn find(&self, posted: usize, method: &Method, path: &str) -> (Arc<Route>, Arc<Toll>) {
        let target = Target::parse(path.as_bytes()).expect("the lines are plain paths");
        match self.tariffs[posted].find(None, method, target.segments()) {
            Found::Route { route, .. } => match &route.charge {
                Charge::Toll(toll) => (Arc::clone(route), Arc::clone(toll)),
                Charge::Free | Charge::Deny => unreachable!("every line has a price"),
            },
            _ => unreachable!("every line is listed"),
        }
    }
}
