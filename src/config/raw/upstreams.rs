//! `upstreams`: where requests go, and on what terms.

use super::fields::Fields;
use super::{Reference, missing, reference};
use crate::config::keys;
use crate::config::mistake::Mistakes;
use crate::config::source::Span;
use crate::config::tree::{Entry, Node, Text};

pub(in crate::config) struct Upstream {
    pub name: Text,
    pub targets: Vec<Reference>,
    pub balance: Option<Text>,
    pub health: Option<UpstreamHealth>,
    pub connect: Option<Text>,
    pub first_byte: Option<Text>,
    pub idle: Option<Text>,
    pub retry: Option<Text>,
    pub host: Option<Text>,
    pub auth: Option<UpstreamAuth>,
    pub tls: Option<UpstreamTls>,
    pub http2: Option<Text>,
}

pub(in crate::config) struct UpstreamHealth {
    pub path: Text,
    pub every: Option<Text>,
    pub unhealthy_after: Option<Text>,
    pub healthy_after: Option<Text>,
}

pub(in crate::config) struct UpstreamAuth {
    pub header: Text,
    pub value: Reference,
}

pub(in crate::config) struct UpstreamTls {
    /// Where it stands.
    pub span: Span,
    pub ca: Option<Reference>,
    pub server_name: Option<Text>,
    pub verify: Option<Text>,
    pub cert: Option<Reference>,
    pub key: Option<Reference>,
}

pub(super) fn upstreams(file: &Fields<'_>, mistakes: &mut Mistakes) -> Vec<Upstream> {
    let entries = file.entries("upstreams", mistakes).unwrap_or_default();
    entries.iter().filter_map(|entry| upstream(entry, mistakes)).collect()
}

fn upstream(entry: &Entry, mistakes: &mut Mistakes) -> Option<Upstream> {
    let fields = Fields::of(&entry.node, &keys::UPSTREAM, mistakes)?;
    let targets = fields.list("targets", mistakes);
    if fields.key_span("targets").is_none() || targets.is_some_and(<[Node]>::is_empty) {
        mistakes.add(missing("targets", "an upstream", entry.key.span).help("write targets: [http://127.0.0.1:3000]"));
    }
    let targets = targets.unwrap_or_default();
    let timeouts = fields.fields("timeouts", &keys::UPSTREAM_TIMEOUTS, mistakes);
    let mut timeout = |key| timeouts.and_then(|timeouts| timeouts.text(key, mistakes));
    let (connect, first_byte, idle) = (timeout("connect"), timeout("first_byte"), timeout("idle"));
    Some(Upstream {
        name: entry.key.clone(),
        targets: targets.iter().filter_map(|target| reference(target, mistakes)).collect(),
        balance: fields.text("balance", mistakes),
        health: health(&fields, mistakes),
        connect,
        first_byte,
        idle,
        retry: fields.text("retry", mistakes),
        host: fields.text("host", mistakes),
        auth: auth(&fields, mistakes),
        tls: tls(&fields, mistakes),
        http2: fields.text("http2", mistakes),
    })
}

fn health(within: &Fields<'_>, mistakes: &mut Mistakes) -> Option<UpstreamHealth> {
    let fields = within.fields("health", &keys::UPSTREAM_HEALTH, mistakes)?;
    if fields.key_span("path").is_none() && fields.all_known() {
        mistakes.add(missing("path", "`health`", within.key_span("health")).help("write health: {path: /healthz}"));
    }
    let (every, unhealthy_after) = (fields.text("every", mistakes), fields.text("unhealthy_after", mistakes));
    let healthy_after = fields.text("healthy_after", mistakes);
    Some(UpstreamHealth { path: fields.text("path", mistakes)?, every, unhealthy_after, healthy_after })
}

fn auth(within: &Fields<'_>, mistakes: &mut Mistakes) -> Option<UpstreamAuth> {
    let fields = within.fields("auth", &keys::UPSTREAM_AUTH, mistakes)?;
    for key in keys::UPSTREAM_AUTH.known {
        if fields.key_span(key).is_none() && fields.all_known() {
            mistakes.add(
                missing(key, "`auth`", within.key_span("auth"))
                    .help("write auth: {header: Authorization, value: {file: PATH}}"),
            );
        }
    }
    let header = fields.text("header", mistakes);
    let value = fields.node("value", mistakes).and_then(|node| reference(node, mistakes));
    Some(UpstreamAuth { header: header?, value: value? })
}

fn tls(within: &Fields<'_>, mistakes: &mut Mistakes) -> Option<UpstreamTls> {
    let span = within.key_span("tls")?;
    let fields = within.fields("tls", &keys::UPSTREAM_TLS, mistakes)?;
    let mut file = |key| fields.node(key, mistakes).and_then(|node| reference(node, mistakes));
    let (ca, cert, key) = (file("ca"), file("cert"), file("key"));
    for (there, not_there) in [("cert", "key"), ("key", "cert")] {
        if fields.key_span(there).is_some() && fields.key_span(not_there).is_none() {
            mistakes.add(missing(not_there, "a client certificate", fields.key_span(there)));
        }
    }
    Some(UpstreamTls {
        span,
        ca,
        server_name: fields.text("server_name", mistakes),
        verify: fields.text("verify", mistakes),
        cert,
        key,
    })
}
