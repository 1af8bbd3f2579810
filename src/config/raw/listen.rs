//! `listen`, as it is written.

use super::fields::{Fields, text};
use super::{Reference, missing, reference};
use crate::config::keys;
use crate::config::mistake::Mistakes;
use crate::config::source::Span;
use crate::config::tree::{Node, Text, Value};

pub(in crate::config) struct Listener {
    pub address: Text,
    pub mode: Option<Text>,
    pub tls: Option<Tls>,
    pub h2c: Option<Text>,
    pub proxy_protocol: Option<Text>,
    pub timeouts: Timeouts,
}

#[derive(Default)]
pub(in crate::config) struct Timeouts {
    pub head: Option<Text>,
    pub idle: Option<Text>,
}

pub(in crate::config) struct Tls {
    pub certificates: Vec<Certificate>,
    pub min_version: Option<Text>,
}

pub(in crate::config) struct Certificate {
    pub cert: Reference,
    pub key: Reference,
}

/// An address, or several; each alone or with what it speaks.
pub(super) fn listeners(node: &Node, mistakes: &mut Mistakes) -> Option<Vec<Listener>> {
    match &node.value {
        Value::List(items) => Some(items.iter().filter_map(|item| listener(item, mistakes)).collect()),
        _ => listener(node, mistakes).map(|one| vec![one]),
    }
}

fn listener(node: &Node, mistakes: &mut Mistakes) -> Option<Listener> {
    let Value::Map(_) = &node.value else {
        let timeouts = Timeouts::default();
        return text(node, mistakes).map(|address| Listener {
            address,
            mode: None,
            tls: None,
            h2c: None,
            proxy_protocol: None,
            timeouts,
        });
    };
    let fields = Fields::of(node, &keys::LISTENER, mistakes)?;
    if fields.key_span("address").is_none() && fields.all_known() {
        mistakes.add(missing("address", "a listener", node.span));
    }
    let tls = fields.key_span("tls").and_then(|span| tls(&fields, span, mistakes));
    let mode = fields.text("mode", mistakes);
    let h2c = fields.text("h2c", mistakes);
    let proxy_protocol = fields.text("proxy_protocol", mistakes);
    let timeouts = timeouts(&fields, mistakes);
    Some(Listener { address: fields.text("address", mistakes)?, mode, tls, h2c, proxy_protocol, timeouts })
}

fn timeouts(listener: &Fields<'_>, mistakes: &mut Mistakes) -> Timeouts {
    let Some(fields) = listener.fields("timeouts", &keys::LISTENER_TIMEOUTS, mistakes) else {
        return Timeouts::default();
    };
    Timeouts { head: fields.text("head", mistakes), idle: fields.text("idle", mistakes) }
}

/// One certificate is written beside `tls`'s other keys, several in a list.
fn tls(listener: &Fields<'_>, span: Span, mistakes: &mut Mistakes) -> Option<Tls> {
    let fields = listener.fields("tls", &keys::TLS, mistakes)?;
    let mut certificates = Vec::new();
    if fields.key_span("cert").is_some() || fields.key_span("key").is_some() {
        certificates.extend(certificate(&fields, "`tls`", span, mistakes));
    }
    for item in fields.list("certificates", mistakes).unwrap_or_default() {
        let one = Fields::of(item, &keys::CERTIFICATE, mistakes);
        certificates.extend(one.and_then(|one| certificate(&one, "a certificate", item.span, mistakes)));
    }
    let said_nothing = ["cert", "key", "certificates"].into_iter().all(|key| fields.key_span(key).is_none());
    if said_nothing && fields.all_known() {
        mistakes.add(missing("cert", "`tls`", span).help("write {cert: {file: tls.crt}, key: {file: tls.key}}"));
    }
    Some(Tls { certificates, min_version: fields.text("min_version", mistakes) })
}

fn certificate(fields: &Fields<'_>, of: &str, span: Span, mistakes: &mut Mistakes) -> Option<Certificate> {
    for key in ["cert", "key"] {
        if fields.key_span(key).is_none() && fields.all_known() {
            mistakes.add(missing(key, of, span).help("write {cert: {file: tls.crt}, key: {file: tls.key}}"));
        }
    }
    let cert = fields.node("cert", mistakes).and_then(|node| reference(node, mistakes));
    let key = fields.node("key", mistakes).and_then(|node| reference(node, mistakes));
    Some(Certificate { cert: cert?, key: key? })
}
