//! `pay_to` and `networks`: where the money goes.

use super::fields::{Fields, entries, text, wrong_shape};
use super::{Reference, missing, reference};
use crate::config::codes;
use crate::config::keys;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::source::Span;
use crate::config::tree::{Entry, Node, Text, Value};

/// Who is paid.
pub(in crate::config) enum PayTo {
    /// A single word; only `sandbox` means something.
    Word(Text),
    /// In the order of the file.
    Networks(Vec<Payee>),
}

/// Who is paid on a network.
pub(in crate::config) struct Payee {
    pub network: Text,
    pub address: Reference,
    pub assets: Option<Vec<Text>>,
}

/// What the presets do not know about a network.
pub(in crate::config) struct Network {
    pub name: Text,
    pub chain: Option<Text>,
    pub testnet: Option<Text>,
    pub explorer: Option<Text>,
    pub rpc: Vec<Reference>,
    pub confirmations: Option<Confirmations>,
    pub wallets: Option<Text>,
    pub factories: Option<Vec<Text>>,
    pub assets: Option<Vec<Asset>>,
}

pub(in crate::config) struct Confirmations {
    /// Where it stands.
    pub span: Span,
    pub blocks: Option<Text>,
    pub safe_above: Option<Text>,
    pub two_nodes_from: Option<Text>,
}

pub(in crate::config) struct Asset {
    pub symbol: Text,
    pub address: Option<Text>,
    pub decimals: Option<Text>,
    pub peg: Option<Text>,
    pub eip712: Option<Eip712>,
    pub permit2: Option<Text>,
}

pub(in crate::config) struct Eip712 {
    pub name: Option<Text>,
    pub version: Option<Text>,
}

pub(super) fn pay_to(node: &Node, mistakes: &mut Mistakes) -> Option<PayTo> {
    let entries = match &node.value {
        Value::Text(word) => return Some(PayTo::Word(word.clone())),
        Value::Map(entries) => entries,
        Value::Empty | Value::List(_) => {
            wrong_shape(node, "`sandbox` or a mapping of networks to addresses", mistakes);
            return None;
        }
    };
    if entries.is_empty() {
        mistakes.add(
            Mistake::error(&codes::EMPTY, node.span, "`pay_to` names no network").help("write base-sepolia: \"0x…\""),
        );
    }
    Some(PayTo::Networks(entries.iter().filter_map(|entry| payee(&entry.key, &entry.node, mistakes)).collect()))
}

fn payee(network: &Text, node: &Node, mistakes: &mut Mistakes) -> Option<Payee> {
    let with_fields = matches!(&node.value, Value::Map(entries) if !refers(entries));
    if !with_fields {
        return Some(Payee { network: network.clone(), address: reference(node, mistakes)?, assets: None });
    }
    let fields = Fields::of(node, &keys::PAYEE, mistakes)?;
    if fields.key_span("address").is_none() {
        mistakes.add(missing("address", "`pay_to`", network.span));
    }
    let assets = fields.texts("assets", mistakes);
    let address = reference(fields.node("address", mistakes)?, mistakes)?;
    Some(Payee { network: network.clone(), address, assets })
}

/// Whether a mapping is `{env: NAME}` or `{file: PATH}`.
pub(super) fn refers(entries: &[Entry]) -> bool {
    entries.iter().any(|entry| matches!(&*entry.key.text, "env" | "file"))
}

pub(super) fn networks(file: &Fields<'_>, mistakes: &mut Mistakes) -> Vec<Network> {
    let entries = file.entries("networks", mistakes).unwrap_or_default();
    entries.iter().filter_map(|entry| network(&entry.key, &entry.node, mistakes)).collect()
}

fn network(name: &Text, node: &Node, mistakes: &mut Mistakes) -> Option<Network> {
    let fields = Fields::of(node, &keys::NETWORK, mistakes)?;
    let rpc = fields.list("rpc", mistakes).unwrap_or_default();
    let assets = fields.entries("assets", mistakes);
    let confirmations = fields.fields("confirmations", &keys::CONFIRMATIONS, mistakes).map(|own| Confirmations {
        span: fields.key_span("confirmations").unwrap_or(name.span),
        blocks: own.text("blocks", mistakes),
        safe_above: own.text("safe_above", mistakes),
        two_nodes_from: own.text("two_nodes_from", mistakes),
    });
    Some(Network {
        confirmations,
        name: name.clone(),
        chain: fields.text("chain", mistakes),
        testnet: fields.text("testnet", mistakes),
        explorer: fields.text("explorer", mistakes),
        rpc: rpc.iter().filter_map(|node| reference(node, mistakes)).collect(),
        wallets: fields.text("wallets", mistakes),
        factories: fields.texts("factories", mistakes),
        assets: assets
            .map(|assets| assets.iter().filter_map(|asset| self::asset(&asset.key, &asset.node, mistakes)).collect()),
    })
}

fn asset(symbol: &Text, node: &Node, mistakes: &mut Mistakes) -> Option<Asset> {
    let fields = Fields::of(node, &keys::ASSET, mistakes)?;
    for key in ["address", "decimals", "eip712"] {
        if fields.key_span(key).is_none() {
            mistakes.add(missing(key, "an asset", symbol.span));
        }
    }
    let domain = fields.fields("eip712", &keys::EIP712, mistakes);
    let eip712 = domain.map(|domain| {
        for key in ["name", "version"] {
            if domain.key_span(key).is_none() {
                mistakes.add(missing(key, "`eip712`", fields.key_span("eip712")));
            }
        }
        Eip712 { name: domain.text("name", mistakes), version: domain.text("version", mistakes) }
    });
    Some(Asset {
        symbol: symbol.clone(),
        address: fields.text("address", mistakes),
        decimals: fields.text("decimals", mistakes),
        peg: fields.text("peg", mistakes),
        eip712,
        permit2: fields.text("permit2", mistakes),
    })
}

/// A mapping of networks to something written as text.
pub(super) fn by_network(node: &Node, mistakes: &mut Mistakes) -> Option<Vec<(Text, Text)>> {
    let entries = entries(node, mistakes)?;
    Some(entries.iter().filter_map(|entry| Some((entry.key.clone(), text(&entry.node, mistakes)?))).collect())
}
