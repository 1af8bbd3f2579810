//! Exactly what a person may write, with the place of every value. Nothing is given a meaning yet.

mod caps;
mod facilitators;
mod fields;
mod listen;
mod networks;
mod routes;
mod screening;
mod upstreams;

pub(super) use caps::Caps;
pub(super) use facilitators::{Auth, Breaker, Facilitator, Local, Signer};
pub(super) use fields::{either, listed, nearest, not_supported};
pub(super) use listen::{Certificate, Listener, Timeouts, Tls};
pub(super) use networks::{Asset, Confirmations, Network, PayTo, Payee};
pub(super) use routes::{Charge, Defaults, Host, Limits, Price, Route, RoutePayTo, Target, Websocket};
pub(super) use screening::{Clients, Countries, List, Screening, Words};
pub(super) use upstreams::{Upstream, UpstreamAuth, UpstreamHealth, UpstreamTls};

use super::codes;
use super::keys;
use super::mistake::{Mistake, Mistakes};
use super::source::Span;
use super::tree::{Node, Text, Value};
use fields::{Fields, text, wrong_shape};

/// A whole file.
pub(super) struct File {
    pub version: Option<Text>,
    pub public_url: Option<Reference>,
    pub listen: Option<Vec<Listener>>,
    pub status: Option<Text>,
    pub admin: Option<Admin>,
    pub upstream: Option<Text>,
    pub upstreams: Vec<Upstream>,
    pub pay_to: Option<PayTo>,
    pub networks: Vec<Network>,
    /// `None` when the file does not speak of facilitators.
    pub facilitators: Option<Vec<Facilitator>>,
    pub breaker: Breaker,
    pub caps: Caps,
    pub trusted_proxies: Option<Words>,
    pub screening: Screening,
    pub ledger: Option<Ledger>,
    pub defaults: Defaults,
    pub routes: Option<Vec<Route>>,
    pub hosts: Vec<Host>,
    pub log: Log,
    pub shutdown: Shutdown,
}

/// In front of the path of a Unix socket.
pub(super) const SOCKET: &str = "unix:";

/// A value that may stand outside of the file.
#[derive(Debug, Clone)]
pub(super) enum Reference {
    Literal(Text),
    /// `{env: NAME}`
    Variable(Text),
    /// `{file: PATH}`
    File(Text),
}

impl Reference {
    pub(super) fn span(&self) -> Span {
        match self {
            Self::Literal(text) | Self::Variable(text) | Self::File(text) => text.span,
        }
    }
}

pub(super) struct Admin {
    /// An address, or `unix:PATH`.
    pub address: Text,
    pub token: Option<Reference>,
}

pub(super) enum Ledger {
    /// `memory` or `sqlite:PATH`.
    Short(Text),
    Sqlite {
        path: Text,
        single_instance: Option<Text>,
    },
    Postgres {
        url: Reference,
    },
}

#[derive(Default)]
pub(super) struct Log {
    pub format: Option<Text>,
    pub level: Option<Text>,
    pub access: Option<Text>,
    pub payer: Option<Text>,
    pub query: Option<Text>,
}

#[derive(Default)]
pub(super) struct Shutdown {
    pub delay: Option<Text>,
    pub grace: Option<Text>,
}

/// Reads a file. Whatever could not be read is left out; `mistakes` says what and why. `None` when it is no mapping.
pub(super) fn read(root: &Node, mistakes: &mut Mistakes) -> Option<File> {
    let file = Fields::of(root, &keys::FILE, mistakes)?;
    refuse_unfinished(&file, mistakes);
    Some(File {
        version: file.text("version", mistakes),
        public_url: file.node("public_url", mistakes).and_then(|node| reference(node, mistakes)),
        listen: file.node("listen", mistakes).and_then(|node| listen::listeners(node, mistakes)),
        status: file.text("status", mistakes),
        admin: admin(&file, mistakes),
        upstream: file.text("upstream", mistakes),
        upstreams: upstreams::upstreams(&file, mistakes),
        pay_to: file.node("pay_to", mistakes).and_then(|node| networks::pay_to(node, mistakes)),
        networks: networks::networks(&file, mistakes),
        facilitators: facilitators::facilitators(&file, mistakes),
        breaker: facilitators::breaker(&file, mistakes),
        caps: caps::caps(&file, mistakes),
        trusted_proxies: screening::words(&file, "trusted_proxies", mistakes),
        screening: screening::screening(&file, mistakes),
        ledger: file.node("ledger", mistakes).and_then(|node| ledger(node, mistakes)),
        defaults: routes::defaults(&file, mistakes),
        routes: routes::routes(&file, mistakes),
        hosts: routes::hosts(&file, mistakes),
        log: log(&file, mistakes),
        shutdown: shutdown(&file, mistakes),
    })
}

/// Notes what every file has to say. What is there but wrong is noted where it is read.
fn refuse_unfinished(file: &Fields<'_>, mistakes: &mut Mistakes) {
    let required = [
        ("version", "write version: 1"),
        ("public_url", "write what clients call you: public_url: https://api.example.com"),
        ("pay_to", "write pay_to: sandbox to try it with play money, or pay_to: {base-sepolia: \"0x…\"}"),
    ];
    for (key, help) in required {
        if file.key_span(key).is_none() {
            mistakes.add(missing(key, "the file", None).help(help));
        }
    }
    let none = match (file.key_span("routes"), file.key_span("hosts")) {
        (None, None) => true,
        (Some(_), None) => file
            .node("routes", mistakes)
            .is_some_and(|routes| matches!(&routes.value, Value::Map(routes) if routes.is_empty())),
        (_, Some(_)) => false,
    };
    if none {
        mistakes.add(
            Mistake::error(&codes::NO_ROUTES, None, "the file lists no routes, so nothing would be served")
                .help("write routes: {GET /v1/weather: $0.01}"),
        );
    }
}

/// A literal, `{env: NAME}` or `{file: PATH}`.
fn reference(node: &Node, mistakes: &mut Mistakes) -> Option<Reference> {
    let entries = match &node.value {
        Value::Text(text) => return Some(Reference::Literal(text.clone())),
        Value::Map(entries) => entries,
        Value::Empty | Value::List(_) => {
            wrong_shape(node, "a text, {env: NAME} or {file: PATH}", mistakes);
            return None;
        }
    };
    if let [entry] = &entries[..] {
        match &*entry.key.text {
            "env" => return text(&entry.node, mistakes).map(Reference::Variable),
            "file" => return text(&entry.node, mistakes).map(Reference::File),
            _ => {}
        }
    }
    mistakes.add(
        Mistake::error(&codes::SHAPE, node.span, "a reference is {env: NAME} or {file: PATH}, with nothing else in it")
            .help("write one of the two"),
    );
    None
}

/// An address, or a list of them, each alone or as `{address: …}`.
fn admin(file: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Admin> {
    let fields = file.fields("admin", &keys::ADMIN, mistakes)?;
    if fields.key_span("address").is_none() && fields.all_known() {
        mistakes.add(
            missing("address", "`admin`", file.key_span("admin"))
                .help("write address: unix:/run/tollhouse/admin.sock, or 127.0.0.1:9403 and a token"),
        );
    }
    let address = fields.text("address", mistakes)?;
    if fields.key_span("token").is_some() {
        let token = fields.node("token", mistakes).and_then(|node| reference(node, mistakes))?;
        return Some(Admin { address, token: Some(token) });
    }
    if !address.text.starts_with(SOCKET) && fields.all_known() {
        mistakes.add(
            missing("token", "an admin API on a port", address.span)
                .note("every process that reaches it could stop your sales, and the API behind this gateway is one of them")
                .help("write token: {file: /run/secrets/tollhouse-admin}, or address: unix:/run/tollhouse/admin.sock"),
        );
    }
    Some(Admin { address, token: None })
}

fn ledger(node: &Node, mistakes: &mut Mistakes) -> Option<Ledger> {
    if let Value::Text(text) = &node.value {
        return Some(Ledger::Short(text.clone()));
    }
    let fields = Fields::of(node, &keys::LEDGER, mistakes)?;
    if let Some(span) = fields.key_span("postgres") {
        for (other, message) in [
            ("sqlite", "the ledger is a file or a database, not both"),
            ("single_instance", "any number of replicas may share a database, so there is nothing to state"),
        ] {
            if let Some(other) = fields.key_span(other) {
                mistakes.add(
                    Mistake::error(&codes::LEDGER, other, message)
                        .related(span, "the database")
                        .help("remove one of the two"),
                );
            }
        }
        return postgres(fields, span, mistakes);
    }
    let single_instance = fields.text("single_instance", mistakes);
    match fields.text("sqlite", mistakes) {
        Some(path) => Some(Ledger::Sqlite { path, single_instance }),
        None => {
            if fields.all_known() {
                mistakes.add(missing("sqlite", "`ledger`", node.span).help("write ledger: sqlite:PATH"));
            }
            None
        }
    }
}

fn postgres(ledger: Fields<'_>, span: Span, mistakes: &mut Mistakes) -> Option<Ledger> {
    let fields = ledger.fields("postgres", &keys::POSTGRES, mistakes)?;
    if fields.key_span("url").is_none() && fields.all_known() {
        mistakes.add(missing("url", "`postgres`", span).help("write postgres: {url: {env: LEDGER_URL}}"));
    }
    let url = fields.node("url", mistakes).and_then(|node| reference(node, mistakes))?;
    Some(Ledger::Postgres { url })
}

fn shutdown(file: &Fields<'_>, mistakes: &mut Mistakes) -> Shutdown {
    let Some(fields) = file.fields("shutdown", &keys::SHUTDOWN, mistakes) else { return Shutdown::default() };
    Shutdown { delay: fields.text("delay", mistakes), grace: fields.text("grace", mistakes) }
}

fn log(file: &Fields<'_>, mistakes: &mut Mistakes) -> Log {
    let Some(fields) = file.fields("log", &keys::LOG, mistakes) else { return Log::default() };
    Log {
        format: fields.text("format", mistakes),
        level: fields.text("level", mistakes),
        access: fields.text("access", mistakes),
        payer: fields.text("payer", mistakes),
        query: fields.text("query", mistakes),
    }
}

/// A key that has no default is not there.
pub(super) fn missing(key: &str, within: &str, span: impl Into<Option<Span>>) -> Mistake {
    Mistake::error(&codes::MISSING, span, format!("{within} needs `{key}`")).help(format!("add `{key}: …`"))
}
