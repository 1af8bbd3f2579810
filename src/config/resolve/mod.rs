//! What a file means: defaults filled in, names looked up, every mistake noted with its place and its remedy.

mod admin;
mod boot;
mod caps;
mod dust;
mod facilitator_url;
mod facilitators;
mod hosts;
mod keystore;
mod listen;
mod looking;
mod network;
mod offers;
mod paths;
mod payees;
mod price;
mod reference;
mod routes;
mod scalar;
mod screening;
mod signer;
mod tables;
mod tls;
mod upstreams;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::lists::ListFile;
use super::mistake::{Mistake, Mistakes};
use super::report::Money;
use super::source::Source;
use super::{Config, Live, Shutdown, codes, raw};
use crate::telemetry;
use network::Chains;
use payees::{Payees, Whose};
pub use signer::key_file;

/// What a file may refer to: the directory it stands in, and the variables of the process.
pub(super) struct Surroundings<'a> {
    pub directory: &'a Path,
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// What a file means.
pub(super) struct Meaning {
    /// `None` when there are errors.
    pub config: Option<Config>,
    pub money: Money,
    /// The lists that it names, usable or not.
    pub lists: Vec<ListFile>,
}

/// Gives a file its meaning; no `Config` when there are errors, all of which are in `mistakes`.
pub(super) fn resolve(
    file: &raw::File,
    source: &Source,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Meaning {
    version(file, mistakes);
    let chains = Chains::of(&file.networks, around, mistakes);
    let payees = Payees::of(file, &chains, mistakes);
    let facilitators = facilitators::resolve(file, &chains, &payees, around, mistakes);
    let breaker = facilitators::breaker(&file.breaker, mistakes);
    let caps = caps::Caps::of(&file.caps, mistakes);
    let (screening, mut lists) = screening::resolve(&file.screening, around, mistakes);
    let trusted = file.trusted_proxies.as_ref().and_then(|raw| screening::proxies(raw, mistakes));
    let mut upstreams = upstreams::Upstreams::of(&file.upstreams, around, mistakes);
    lists.append(&mut upstreams.files);
    let mut collected = Whose::default();
    let tables =
        tables::Tables { file, source, around, chains: &chains, payees: &payees, facilitators: &facilitators, caps };
    let tariff = tables.resolve(&mut upstreams, &mut collected, mistakes);
    signer::refuse_own_payees(&facilitators, &payees, &collected, mistakes);
    let boot = boot::resolve(file, &payees, caps.connections(), around, mistakes);
    let log = log(&file.log, mistakes);
    let shutdown = shutdown(&file.shutdown, mistakes);
    let money = payees.money();
    let resolved = (tariff, boot, log, shutdown, breaker, screening, mistakes.errors());
    let (Some(tariff), Some(boot), Some(log), Some(shutdown), Some(breaker), Some(screening), 0) = resolved else {
        return Meaning { config: None, money, lists };
    };
    let live = Live {
        upstreams: upstreams.into_configs(&tariff),
        tariff: Arc::new(tariff),
        facilitators: facilitators.into_iter().map(|facilitator| facilitator.config).collect(),
        breaker,
        caps: caps.held(),
        per_client: caps.per_client(),
        screening: Arc::new(screening),
        trusted: Arc::new(trusted.unwrap_or_default()),
        nodes: chains.nodes(),
        confirmations: chains.depths(),
        wallets: chains.factories(),
        shutdown,
        log,
        live_networks: payees.live_networks(),
        sandbox: payees.sandbox(),
    };
    Meaning { config: Some(Config { boot, live }), money, lists }
}

fn version(file: &raw::File, mistakes: &mut Mistakes) {
    if let Some(version) = file.version.as_ref().filter(|version| &*version.text != "1") {
        let message = format!("version `{}` is not known", scalar::shown(&version.text));
        mistakes.add(Mistake::error(&codes::VERSION, version.span, message).help("write version: 1"));
    }
}

fn shutdown(raw: &raw::Shutdown, mistakes: &mut Mistakes) -> Option<Shutdown> {
    let default = Shutdown::default();
    let sensible = Duration::ZERO..=Duration::from_secs(3600);
    let delay = scalar::duration(raw.delay.as_ref(), default.delay, sensible.clone(), mistakes);
    let grace = scalar::duration(raw.grace.as_ref(), default.grace, sensible, mistakes);
    Some(Shutdown { delay: delay?, grace: grace? })
}

fn log(raw: &raw::Log, mistakes: &mut Mistakes) -> Option<telemetry::Config> {
    use telemetry::{Format, PayerInLog};
    let default = telemetry::Config::default();
    let formats = [("auto", Format::Auto), ("human", Format::Human), ("json", Format::Json)];
    let levels = [
        ("error", tracing::Level::ERROR),
        ("warn", tracing::Level::WARN),
        ("info", tracing::Level::INFO),
        ("debug", tracing::Level::DEBUG),
        ("trace", tracing::Level::TRACE),
    ];
    let payers = [("hash", PayerInLog::Hash), ("full", PayerInLog::Full), ("none", PayerInLog::None)];
    let format = scalar::word(raw.format.as_ref(), &formats, default.format, mistakes);
    let level = scalar::word(raw.level.as_ref(), &levels, default.level, mistakes);
    let access = scalar::flag(raw.access.as_ref(), default.access, mistakes);
    let payer = scalar::word(raw.payer.as_ref(), &payers, default.payer, mistakes);
    let query = scalar::word(raw.query.as_ref(), &[("drop", false), ("keep", true)], default.keep_query, mistakes);
    Some(telemetry::Config { format: format?, level: level?, access: access?, payer: payer?, keep_query: query? })
}

/// A map that keeps the first of two equal keys and returns the place of it for the second.
fn first_of<K: std::hash::Hash + Eq, V: Copy>(seen: &mut HashMap<K, V>, key: K, value: V) -> Option<V> {
    match seen.entry(key) {
        std::collections::hash_map::Entry::Occupied(first) => Some(*first.get()),
        std::collections::hash_map::Entry::Vacant(free) => {
            free.insert(value);
            None
        }
    }
}
