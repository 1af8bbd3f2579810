//! The networks a file may name: the presets, and its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::price::Price;
use super::scalar::{flag, shown, word};
use super::{Surroundings, first_of, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, listed, nearest};
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::facilitator::chain::Confirmations;
use crate::facilitator::{Depths, Factories, Nodes};
use crate::primitives::{
    Address, Asset, AtomicAmount, Caip2, Decimals, Eip712Name, Network, Peg, Secret, TransferMethod, preset,
    preset_by_id, presets,
};

/// The most blocks that somebody may wait for: about two hours of Ethereum's.
const MOST_BLOCKS: u64 = 600;

/// A network and what is known of it.
#[derive(Debug)]
pub(super) struct Chain {
    pub network: Arc<Network>,
    /// Its tokens, the default one first.
    pub tokens: Vec<Arc<Asset>>,
    /// Nodes to look transfers up on.
    pub rpc: Vec<Secret<String>>,
    /// How deep transfers have to lie; with the place where the file says so.
    pub confirmations: Option<(Confirmations, Span)>,
    /// The factories that may create a wallet; `None` when contract wallets are refused.
    pub factories: Option<Vec<Address>>,
}

/// Every network the file may name.
#[derive(Debug)]
pub(super) struct Chains(BTreeMap<String, Arc<Chain>>);

impl Chains {
    pub(super) fn of(raw: &[raw::Network], around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Self {
        let mut chains: BTreeMap<_, _> =
            presets().iter().map(|preset| (preset.name.to_owned(), Arc::new(preset_chain(preset.name)))).collect();
        let mut seen = HashMap::new();
        for network in raw {
            let rpc: Vec<_> = network.rpc.iter().filter_map(|rpc| reference::node(rpc, around, mistakes)).collect();
            let chain = match preset(&network.name.text) {
                Some(preset) => {
                    only_rpc(network, mistakes);
                    Chain { rpc, ..preset_chain(preset.name) }
                }
                None => match custom(network, rpc, &mut seen, mistakes) {
                    Some(chain) => chain,
                    None => continue,
                },
            };
            let confirmations = network.confirmations.as_ref().and_then(|raw| confirmations(raw, &chain, mistakes));
            let factories = factories(network, mistakes);
            chains.insert(network.name.text.to_string(), Arc::new(Chain { confirmations, factories, ..chain }));
        }
        Self(chains)
    }

    /// The network with this name or CAIP-2 identifier.
    pub(super) fn find(&self, name: &Text, mistakes: &mut Mistakes) -> Option<&Arc<Chain>> {
        let written = &*name.text;
        let found = self.0.get(written).or_else(|| {
            let id: Caip2 = written.parse().ok()?;
            self.0.values().find(|chain| chain.network.id == id)
        });
        if found.is_none() {
            mistakes.add(self.unknown(name));
        }
        found
    }

    fn unknown(&self, name: &Text) -> Mistake {
        let written = &*name.text;
        let message = format!("no network is called `{}`", shown(written));
        let mistake = Mistake::error(&codes::NETWORK, name.span, message);
        let near = match written.to_ascii_lowercase().as_str() {
            "mainnet" | "live" => Some("base"),
            "testnet" | "sepolia" => Some("base-sepolia"),
            "eth" | "ethereum-mainnet" => Some("ethereum"),
            lower => nearest(lower, self.0.keys().map(String::as_str)),
        };
        match near {
            Some(near) => mistake.label(format!("did you mean `{near}`?")),
            None => mistake.help("describe it under `networks`, with its chain id and its assets"),
        }
    }

    /// How deep transfers have to lie.
    pub(super) fn depths(&self) -> Depths {
        let of = |chain: &Arc<Chain>| Some((chain.network.id.clone(), chain.confirmations.as_ref()?.0.clone()));
        self.0.values().filter_map(of).collect()
    }

    /// Where contract wallets are accepted, and who may create one.
    pub(super) fn factories(&self) -> Factories {
        let of = |chain: &Arc<Chain>| Some((chain.network.id.clone(), chain.factories.clone()?));
        self.0.values().filter_map(of).collect()
    }

    /// Those of which the file says how deep transfers have to lie, with the place.
    pub(super) fn confirming(&self) -> impl Iterator<Item = (&Chain, Span)> {
        self.0.values().filter_map(|chain| Some((&**chain, chain.confirmations.as_ref()?.1)))
    }

    /// The nodes that transfers can be looked up on.
    pub(super) fn nodes(&self) -> Nodes {
        let with_nodes = self.0.values().filter(|chain| !chain.rpc.is_empty());
        with_nodes.map(|chain| (chain.network.id.clone(), chain.rpc.clone())).collect()
    }
}

fn preset_chain(name: &str) -> Chain {
    let preset = preset(name).expect("the name was taken from the table of presets");
    let tokens = preset.assets.iter().map(|token| Arc::new(token.asset())).collect();
    Chain { network: Arc::new(preset.network()), tokens, rpc: Vec::new(), confirmations: None, factories: None }
}

/// How deep transfers have to lie before they count (S26).
fn confirmations(raw: &raw::Confirmations, chain: &Chain, mistakes: &mut Mistakes) -> Option<(Confirmations, Span)> {
    let blocks = match &raw.blocks {
        None => Some(1),
        Some(text) => {
            let blocks = text.text.parse().ok().filter(|blocks| (1..=MOST_BLOCKS).contains(blocks));
            if blocks.is_none() {
                let message = format!("`{}` is not a number of blocks", shown(&text.text));
                mistakes.add(
                    Mistake::error(&codes::NUMBER, text.span, message)
                        .help(format!("write a whole number from 1 to {MOST_BLOCKS}")),
                );
            }
            blocks
        }
    };
    let safe_above = limits(raw.safe_above.as_ref(), chain, mistakes);
    let two_nodes_from = limits(raw.two_nodes_from.as_ref(), chain, mistakes);
    let confirmations = Confirmations { blocks: blocks?, safe_above: safe_above?, two_nodes_from: two_nodes_from? };
    Some((confirmations, raw.span))
}

/// A sum in each token that it can be counted in; `None` when that is wrong, and then it has been noted.
fn limits(text: Option<&Text>, chain: &Chain, mistakes: &mut Mistakes) -> Option<HashMap<Address, AtomicAmount>> {
    let Some(text) = text else { return Some(HashMap::new()) };
    let price = Price::parse(text).map_err(|mistake| mistakes.add(*mistake)).ok()?;
    let mut limits = HashMap::new();
    for token in chain.tokens.iter().filter(|token| price.fits(token)) {
        let amount = price.in_units_of(token, text).map_err(|mistake| mistakes.add(*mistake)).ok()?;
        limits.insert(token.address, amount);
    }
    if limits.is_empty() {
        let message = format!("no asset of {} is counted in `{}`", chain.network.name, shown(&text.text));
        mistakes.add(Mistake::error(&codes::ASSET, text.span, message).help("write the amount in a token: 100 USDC"));
        return None;
    }
    Some(limits)
}

/// The factories that may create a wallet (S30), where contract wallets are accepted at all.
fn factories(raw: &raw::Network, mistakes: &mut Mistakes) -> Option<Vec<Address>> {
    let accepted = word(raw.wallets.as_ref(), &[("accept", true), ("refuse", false)], false, mistakes)?;
    let listed = raw.factories.as_deref().unwrap_or_default();
    if let (false, Some(first)) = (accepted, listed.first()) {
        mistakes.add(
            Mistake::error(&codes::WALLETS, first.span, "a factory creates wallets, and contract wallets are refused")
                .help("add `wallets: accept`, or remove `factories`"),
        );
    }
    let addresses: Vec<_> = listed.iter().filter_map(|text| account(text, mistakes)).collect();
    accepted.then_some(addresses)
}

/// A preset is known; only what does not describe it may be added to it (S9).
fn only_rpc(network: &raw::Network, mistakes: &mut Mistakes) {
    let given =
        network.chain.is_some() || network.assets.is_some() || network.explorer.is_some() || network.testnet.is_some();
    if given {
        let message = format!("`{}` is a network that tollhouse knows", network.name.text);
        mistakes.add(
            Mistake::error(&codes::NETWORK_TWICE, network.name.span, message)
                .label("only `rpc`, `confirmations`, `wallets` and `factories` can be added to it")
                .help("remove the other keys, or give the network a name of its own"),
        );
    }
}

fn custom(
    network: &raw::Network,
    rpc: Vec<Secret<String>>,
    seen: &mut HashMap<Caip2, Span>,
    mistakes: &mut Mistakes,
) -> Option<Chain> {
    let Some(chain) = &network.chain else {
        mistakes.add(
            raw::missing("chain", "a network of your own", network.name.span).help("write chain: eip155:CHAIN_ID"),
        );
        return None;
    };
    let id = chain_id(chain, mistakes)?;
    if let Some(known) = preset_by_id(&id) {
        let message = format!("{id} is `{}`, which tollhouse knows", known.name);
        mistakes.add(
            Mistake::error(&codes::NETWORK_TWICE, chain.span, message).help(format!("use `{}` instead", known.name)),
        );
        return None;
    }
    if let Some(first) = first_of(seen, id.clone(), chain.span) {
        mistakes.add(
            Mistake::error(&codes::NETWORK_TWICE, chain.span, format!("{id} is described twice"))
                .related(first, "first here")
                .help("keep one name for it"),
        );
        return None;
    }
    let testnet = flag(network.testnet.as_ref(), false, mistakes)?;
    let assets = network.assets.as_deref().unwrap_or_default();
    if assets.is_empty() {
        mistakes.add(raw::missing("assets", "a network of your own", network.name.span));
    }
    let tokens = assets.iter().filter_map(|raw| asset(raw, mistakes)).collect();
    let network = Network {
        id,
        name: network.name.text.to_string(),
        v1_name: None,
        live: !testnet,
        explorer: network.explorer.as_ref().map(|text| text.text.to_string()),
    };
    Some(Chain { network: Arc::new(network), tokens, rpc, confirmations: None, factories: None })
}

fn chain_id(text: &Text, mistakes: &mut Mistakes) -> Option<Caip2> {
    let id = text.text.parse::<Caip2>().ok().filter(|id| id.chain_id().is_some());
    if id.is_none() {
        let mistake =
            Mistake::error(&codes::NETWORK, text.span, format!("`{}` is not an EVM chain", shown(&text.text)));
        let number = text.text.parse::<u64>().ok().filter(|number| *number > 0);
        mistakes.add(match number {
            Some(number) => mistake.help(format!("write eip155:{number}")),
            None => mistake.help("write it as CAIP-2 does: eip155:4242"),
        });
    }
    id
}

fn asset(raw: &raw::Asset, mistakes: &mut Mistakes) -> Option<Arc<Asset>> {
    let address = raw.address.as_ref().and_then(|text| account(text, mistakes));
    let decimals = raw.decimals.as_ref().and_then(|text| decimals(text, mistakes));
    let permit2 = flag(raw.permit2.as_ref(), false, mistakes);
    let peg = word(raw.peg.as_ref(), &[("usd", Some(Peg::Usd))], None, mistakes);
    let domain = raw.eip712.as_ref()?;
    let (name, version) = (domain.name.as_ref()?, domain.version.as_ref()?);
    Some(Arc::new(Asset {
        symbol: raw.symbol.text.to_string(),
        address: address?,
        decimals: decimals?,
        peg: peg?,
        eip712: Eip712Name { name: name.text.to_string(), version: version.text.to_string() },
        method: if permit2? { TransferMethod::Permit2 } else { TransferMethod::Eip3009 },
    }))
}

fn decimals(text: &Text, mistakes: &mut Mistakes) -> Option<Decimals> {
    let decimals = text.text.parse::<u8>().ok().and_then(|places| Decimals::new(places).ok());
    if decimals.is_none() {
        let message = format!("`{}` is not a number of decimal places", shown(&text.text));
        mistakes.add(Mistake::error(&codes::NUMBER, text.span, message).help("write a whole number from 0 to 36"));
    }
    decimals
}

/// An account or contract: quoted, checksum verified when it has one, never zero.
pub(super) fn account(text: &Text, mistakes: &mut Mistakes) -> Option<Address> {
    let written = &*text.text;
    let digits = written.strip_prefix("0x").filter(|digits| digits.len() == 40);
    let Some(address) = digits.and_then(|_| written.parse::<Address>().ok()) else {
        let shown = if written.len() > 42 { String::from("this") } else { format!("`{written}`") };
        mistakes.add(
            Mistake::error(&codes::ACCOUNT, text.span, format!("{shown} is not an address"))
                .help("write \"0x\" and 40 hexadecimal digits, in quotes"),
        );
        return None;
    };
    if !text.quoted {
        mistakes.add(
            Mistake::error(&codes::UNQUOTED, text.span, "an address has to stand in quotes")
                .note("other YAML tools read it as a number and write it back as another one")
                .help(format!("write \"{written}\"")),
        );
        return None;
    }
    let letters = || written[2..].bytes().filter(u8::is_ascii_alphabetic);
    let mixed = letters().any(|b| b.is_ascii_lowercase()) && letters().any(|b| b.is_ascii_uppercase());
    let correct = address.to_checksum(None);
    if mixed && correct != written {
        mistakes.add(
            Mistake::error(&codes::CHECKSUM, text.span, "the checksum of this address does not fit")
                .label("a digit is wrong, or the case of a letter")
                .help(format!("if every digit is right, write \"{correct}\"")),
        );
        return None;
    }
    if address.is_zero() {
        mistakes.add(
            Mistake::error(&codes::ZERO_ADDRESS, text.span, "money sent to the zero address is lost")
                .help("write an address that somebody holds the key of"),
        );
        return None;
    }
    Some(address)
}

impl Chain {
    /// The tokens with these symbols, or the default one.
    pub(super) fn choose(&self, symbols: Option<&[Text]>, place: Span, mistakes: &mut Mistakes) -> Vec<Arc<Asset>> {
        let Some(symbols) = symbols else {
            return self.tokens.first().cloned().into_iter().collect();
        };
        let mut chosen: Vec<Arc<Asset>> = Vec::new();
        for symbol in symbols {
            let Some(token) = self.tokens.iter().find(|token| token.symbol == *symbol.text) else {
                mistakes.add(self.no_such_asset(symbol));
                continue;
            };
            if !chosen.contains(token) {
                chosen.push(Arc::clone(token));
            }
        }
        if symbols.is_empty() {
            mistakes
                .add(Mistake::error(&codes::ASSET, place, "`assets` names none").help("leave it out for the default"));
        }
        chosen
    }

    fn no_such_asset(&self, symbol: &Text) -> Mistake {
        let symbols = || self.tokens.iter().map(|token| &*token.symbol);
        let message = format!("`{}` is not an asset of {}", shown(&symbol.text), self.network.name);
        let mistake = Mistake::error(&codes::ASSET, symbol.span, message);
        match nearest(&symbol.text, symbols()) {
            Some(near) => mistake.label(format!("did you mean `{near}`?")),
            None => mistake.help(format!("{} has {}", self.network.name, listed(symbols()))),
        }
    }
}
