//! `facilitators`: who moves the money, in order of preference.

use super::fields::Fields;
use super::{Reference, missing, reference};
use crate::config::codes;
use crate::config::keys;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::source::Span;
use crate::config::tree::{Node, Text, Value};

pub(in crate::config) struct Facilitator {
    /// Where it stands.
    pub span: Span,
    pub name: Option<Text>,
    pub url: Option<Text>,
    pub networks: Option<Vec<Text>>,
    pub auth: Option<Auth>,
    pub timeout: FacilitatorTimeout,
    pub trust: Option<Text>,
    pub local: Option<Local>,
}

#[derive(Default)]
pub(in crate::config) struct FacilitatorTimeout {
    pub verify: Option<Text>,
    pub settle: Option<Text>,
}

pub(in crate::config) enum Auth {
    Bearer(Reference),
    Cdp { key_id: Reference, secret: Reference },
}

/// Where the key of a local facilitator is kept.
pub(in crate::config) enum Signer {
    /// In hex.
    Key(Reference),
    /// In an encrypted keystore.
    Keystore { file: Reference, password: Reference },
}

pub(in crate::config) struct Local {
    pub rpc: Vec<Reference>,
    pub signer: Option<Signer>,
    pub max_gas_price: Option<Text>,
    pub alarm_below: Option<Text>,
    pub coin_price: Option<Text>,
}

#[derive(Default)]
pub(in crate::config) struct Breaker {
    pub open_after: Option<Text>,
    pub half_open_after: Option<Text>,
}

pub(super) fn breaker(file: &Fields<'_>, mistakes: &mut Mistakes) -> Breaker {
    let Some(fields) = file.fields("breaker", &keys::BREAKER, mistakes) else { return Breaker::default() };
    Breaker {
        open_after: fields.text("open_after", mistakes),
        half_open_after: fields.text("half_open_after", mistakes),
    }
}

pub(super) fn facilitators(file: &Fields<'_>, mistakes: &mut Mistakes) -> Option<Vec<Facilitator>> {
    let items = file.list("facilitators", mistakes)?;
    Some(items.iter().filter_map(|item| facilitator(item, mistakes)).collect())
}

fn facilitator(node: &Node, mistakes: &mut Mistakes) -> Option<Facilitator> {
    let fields = Fields::of(node, &keys::FACILITATOR, mistakes)?;
    if fields.key_span("name").is_none() {
        mistakes.add(
            missing("name", "a facilitator", node.span).help("add name: primary; the ledger remembers payments by it"),
        );
    }
    let timeout = fields.fields("timeout", &keys::FACILITATOR_TIMEOUT, mistakes);
    Some(Facilitator {
        span: fields.key_span("name").unwrap_or(node.span),
        name: fields.text("name", mistakes),
        url: fields.text("url", mistakes),
        networks: fields.texts("networks", mistakes),
        auth: fields.fields("auth", &keys::AUTH, mistakes).and_then(|auth| self::auth(&auth, node.span, mistakes)),
        timeout: timeout.map_or_else(FacilitatorTimeout::default, |timeout| FacilitatorTimeout {
            verify: timeout.text("verify", mistakes),
            settle: timeout.text("settle", mistakes),
        }),
        trust: fields.text("trust", mistakes),
        local: fields.fields("local", &keys::LOCAL, mistakes).map(|local| self::local(&local, node.span, mistakes)),
    })
}

fn auth(fields: &Fields<'_>, span: Span, mistakes: &mut Mistakes) -> Option<Auth> {
    match (fields.key_span("bearer"), fields.key_span("cdp")) {
        (Some(_), Some(second)) => {
            mistakes.add(
                Mistake::error(&codes::SHAPE, second, "`auth` is either `bearer` or `cdp`").help("keep one of them"),
            );
            None
        }
        (None, None) => {
            if fields.all_known() {
                mistakes
                    .add(missing("bearer", "`auth`", span).help("write {bearer: {file: PATH}}, or leave `auth` out"));
            }
            None
        }
        (Some(_), None) => Some(Auth::Bearer(reference(fields.node("bearer", mistakes)?, mistakes)?)),
        (None, Some(span)) => {
            let cdp = fields.fields("cdp", &keys::CDP, mistakes)?;
            for key in ["key_id", "secret"] {
                if cdp.key_span(key).is_none() {
                    mistakes.add(missing(key, "`cdp`", span));
                }
            }
            let key_id = cdp.node("key_id", mistakes).and_then(|node| reference(node, mistakes));
            let secret = cdp.node("secret", mistakes).and_then(|node| reference(node, mistakes));
            Some(Auth::Cdp { key_id: key_id?, secret: secret? })
        }
    }
}

fn local(fields: &Fields<'_>, span: Span, mistakes: &mut Mistakes) -> Local {
    if fields.key_span("signer").is_none() {
        mistakes.add(missing("signer", "`local`", span).help("write signer: {file: PATH}; its key pays for gas"));
    }
    let rpc = fields.list("rpc", mistakes);
    if fields.key_span("rpc").is_none() || rpc.is_some_and(<[Node]>::is_empty) {
        mistakes.add(missing("rpc", "`local`", span).help("write rpc: [{env: NAME}]; the first node is preferred"));
    }
    let rpc = rpc.unwrap_or_default();
    Local {
        rpc: rpc.iter().filter_map(|node| reference(node, mistakes)).collect(),
        signer: fields.node("signer", mistakes).and_then(|node| signer(node, mistakes)),
        max_gas_price: fields.text("max_gas_price", mistakes),
        alarm_below: fields.text("alarm_below", mistakes),
        coin_price: fields.text("coin_price", mistakes),
    }
}

fn signer(node: &Node, mistakes: &mut Mistakes) -> Option<Signer> {
    let in_keystore = matches!(
        &node.value,
        Value::Map(entries) if entries.iter().any(|entry| keys::KEYSTORE.known.contains(&&*entry.key.text))
    );
    if !in_keystore {
        return reference(node, mistakes).map(Signer::Key);
    }
    let fields = Fields::of(node, &keys::KEYSTORE, mistakes)?;
    for key in keys::KEYSTORE.known {
        if fields.key_span(key).is_none() {
            mistakes.add(missing(key, "a keystore", node.span));
        }
    }
    let file = fields.node("keystore", mistakes).and_then(|node| reference(node, mistakes));
    let password = fields.node("password", mistakes).and_then(|node| reference(node, mistakes));
    Some(Signer::Keystore { file: file?, password: password? })
}
