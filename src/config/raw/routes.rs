//! `routes`, `hosts` and `defaults`: the price table.

use super::fields::{Fields, not_supported, text, wrong_shape};
use super::networks::{by_network, refers};
use super::{Reference, reference};
use crate::config::codes;
use crate::config::keys;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::source::Span;
use crate::config::tree::{Entry, Node, Text, Value};

/// A line of the price table.
pub(in crate::config) struct Route {
    /// `GET /v1/weather`
    pub key: Text,
    pub charge: Charge,
    /// What it says besides; empty when its value is a single word.
    pub terms: Terms,
}

pub(in crate::config) enum Charge {
    /// `free`, `deny` or one price for every network.
    Word(Text),
    Price(Price),
}

/// A price by network.
pub(in crate::config) struct Price(pub Vec<(Text, Text)>);

#[derive(Default)]
pub(in crate::config) struct Terms {
    pub pay_to: Option<RoutePayTo>,
    pub description: Option<Text>,
    pub mime_type: Option<Text>,
    pub settle: Option<Text>,
    pub replay: Option<Text>,
    pub upstream: Option<Text>,
    pub target: Target,
    pub limits: Limits,
    pub websocket: Option<Websocket>,
}

/// How the paths of a route are read, and where the backend has them.
#[derive(Default)]
pub(in crate::config) struct Target {
    pub strip_prefix: Option<Text>,
    pub add_prefix: Option<Text>,
    pub encoded_slash: Option<Text>,
}

/// How long and how large a connection may become that is upgraded.
pub(in crate::config) struct Websocket {
    /// Where it stands.
    pub span: Span,
    pub lasts: Option<Text>,
    pub bytes: Option<Text>,
}

/// Who is paid for a route, when it is somebody else.
pub(in crate::config) enum RoutePayTo {
    /// The same account on every network.
    Everywhere(Reference),
    ByNetwork(Vec<(Text, Text)>),
}

#[derive(Default, Clone)]
pub(in crate::config) struct Limits {
    pub request_body: Option<Text>,
    pub timeout: Option<Text>,
    pub rate: Option<Text>,
    pub rate_by: Option<Text>,
    pub concurrency: Option<Text>,
    pub concurrency_by: Option<Text>,
}

#[derive(Default)]
pub(in crate::config) struct Defaults {
    pub settle: Option<Text>,
    pub replay: Option<Text>,
    pub offer_ttl: Option<Text>,
    pub trailing_slash: Option<Text>,
    pub target: Target,
    pub limits: Limits,
    pub browser: Option<Text>,
}

/// The table of a host.
pub(in crate::config) struct Host {
    pub name: Text,
    pub public_url: Option<Reference>,
    pub upstream: Option<Text>,
    pub defaults: Defaults,
    pub routes: Vec<Route>,
}

pub(super) fn defaults(within: &Fields<'_>, mistakes: &mut Mistakes) -> Defaults {
    let Some(fields) = within.fields("defaults", &keys::DEFAULTS, mistakes) else { return Defaults::default() };
    Defaults {
        settle: fields.text("settle", mistakes),
        replay: fields.text("replay", mistakes),
        offer_ttl: fields.text("offer_ttl", mistakes),
        trailing_slash: fields.text("trailing_slash", mistakes),
        target: target(&fields, mistakes),
        limits: limits(&fields, mistakes),
        browser: fields.text("browser", mistakes),
    }
}

fn target(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Target {
    Target {
        strip_prefix: fields.text("strip_prefix", mistakes),
        add_prefix: fields.text("add_prefix", mistakes),
        encoded_slash: fields.text("encoded_slash", mistakes),
    }
}

fn limits(within: &Fields<'_>, mistakes: &mut Mistakes) -> Limits {
    let Some(fields) = within.fields("limits", &keys::LIMITS, mistakes) else { return Limits::default() };
    let mut text = |key| fields.text(key, mistakes);
    Limits {
        request_body: text("request_body"),
        timeout: text("timeout"),
        rate: text("rate"),
        rate_by: text("rate_by"),
        concurrency: text("concurrency"),
        concurrency_by: text("concurrency_by"),
    }
}

fn websocket(within: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Websocket> {
    let span = within.key_span("websocket")?;
    let fields = within.fields("websocket", &keys::WEBSOCKET, mistakes)?;
    for key in ["lasts", "bytes"] {
        if fields.key_span(key).is_none() && fields.all_known() {
            mistakes.add(
                Mistake::error(&codes::MISSING, span, format!("`websocket` needs `{key}`"))
                    .note("one payment buys one connection, so what it buys has an end")
                    .help("write websocket: {lasts: 1h, bytes: 100MiB}"),
            );
        }
    }
    Some(Websocket { span, lasts: fields.text("lasts", mistakes), bytes: fields.text("bytes", mistakes) })
}

pub(super) fn hosts(file: &Fields<'_>, mistakes: &mut Mistakes) -> Vec<Host> {
    let entries = file.entries("hosts", mistakes).unwrap_or_default();
    let mut hosts = Vec::new();
    for entry in entries {
        let Some(fields) = Fields::of(&entry.node, &keys::HOST, mistakes) else { continue };
        hosts.push(Host {
            name: entry.key.clone(),
            public_url: fields.node("public_url", mistakes).and_then(|node| reference(node, mistakes)),
            upstream: fields.text("upstream", mistakes),
            defaults: defaults(&fields, mistakes),
            routes: routes(&fields, mistakes).unwrap_or_default(),
        });
    }
    hosts
}

pub(super) fn routes(within: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Vec<Route>> {
    let entries = within.entries("routes", mistakes)?;
    Some(entries.iter().filter_map(|entry| route(entry, mistakes)).collect())
}

fn route(entry: &Entry, mistakes: &mut Mistakes) -> Option<Route> {
    let key = entry.key.clone();
    match &entry.node.value {
        Value::Text(word) => Some(Route { key, charge: Charge::Word(word.clone()), terms: Terms::default() }),
        Value::Map(entries) if refers(entries) => {
            mistakes.add(not_literal(entry.node.span));
            None
        }
        Value::Map(_) => {
            let fields = Fields::of(&entry.node, &keys::ROUTE, mistakes)?;
            if fields.key_span("price").is_none() && fields.all_known() {
                mistakes.add(
                    Mistake::error(&codes::MISSING, entry.key.span, "a route needs `price`")
                        .help("add price: $0.01, price: free or price: deny"),
                );
            }
            let terms = terms(&fields, mistakes);
            let charge = fields.node("price", mistakes).and_then(|node| price(node, mistakes))?;
            Some(Route { key, charge, terms })
        }
        Value::Empty => {
            mistakes.add(
                Mistake::error(&codes::EMPTY, entry.key.span, format!("`{}` has no value", key.text))
                    .help("write a price such as $0.01, `free` or `deny`"),
            );
            None
        }
        Value::List(_) => {
            wrong_shape(&entry.node, "a price, `free`, `deny` or a mapping", mistakes);
            None
        }
    }
}

fn terms(fields: &Fields<'_>, mistakes: &mut Mistakes) -> Terms {
    Terms {
        pay_to: fields.node("pay_to", mistakes).and_then(|node| route_pay_to(node, mistakes)),
        description: fields.text("description", mistakes),
        mime_type: fields.text("mime_type", mistakes),
        settle: fields.text("settle", mistakes),
        replay: fields.text("replay", mistakes),
        upstream: fields.text("upstream", mistakes),
        target: target(fields, mistakes),
        limits: limits(fields, mistakes),
        websocket: websocket(fields, mistakes),
    }
}

fn price(node: &Node, mistakes: &mut Mistakes) -> Option<Charge> {
    let Value::Map(entries) = &node.value else { return text(node, mistakes).map(Charge::Word) };
    for entry in entries {
        let key = &*entry.key.text;
        if keys::COMPUTED_PRICE.contains(&key) {
            mistakes.add(not_supported(key, entry.key.span));
            return None;
        }
    }
    if refers(entries) {
        mistakes.add(not_literal(node.span));
        return None;
    }
    by_network(node, mistakes).map(|prices| Charge::Price(Price(prices)))
}

fn route_pay_to(node: &Node, mistakes: &mut Mistakes) -> Option<RoutePayTo> {
    match &node.value {
        Value::Map(entries) if !refers(entries) => by_network(node, mistakes).map(RoutePayTo::ByNetwork),
        _ => reference(node, mistakes).map(RoutePayTo::Everywhere),
    }
}

fn not_literal(span: Span) -> Mistake {
    Mistake::error(&codes::NOT_LITERAL, span, "a price has to stand in the file itself")
        .help("write the price out: what a reviewer approves is what is charged")
}
