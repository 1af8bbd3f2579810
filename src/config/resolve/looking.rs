//! Whether there is somebody to look at the chain wherever the file counts on it.

use std::collections::HashSet;

use url::Url;

use super::facilitators::Resolved;
use super::network::Chains;
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::facilitator::{Config, Kind};
use crate::primitives::{Caip2, Secret};

/// Whoever writes how deep a transfer has to lie expects somebody to look.
pub(super) fn refuse_blind(chains: &Chains, facilitators: &[Resolved], mistakes: &mut Mistakes) {
    let looks = |config: &Config, id: &Caip2| matches!(config.kind, Kind::Local { .. }) && config.networks.contains(id);
    for (chain, span) in chains.confirming() {
        let network = &chain.network;
        if chain.rpc.is_empty() && !facilitators.iter().any(|resolved| looks(&resolved.config, &network.id)) {
            let message = format!("`confirmations` needs a node of `{}`", network.name);
            mistakes.add(Mistake::error(&codes::NO_NODE, span, message).help("add rpc: [https://…] beside it"));
        }
    }
}

/// Two nodes can agree only where there are two, for each of those who look (S27).
pub(super) fn refuse_lonely(chains: &Chains, facilitators: &[Resolved], mistakes: &mut Mistakes) {
    let wanting = chains.confirming().filter(|(chain, _)| {
        chain.confirmations.as_ref().is_some_and(|(confirmations, _)| !confirmations.two_nodes_from.is_empty())
    });
    for (chain, span) in wanting {
        let network = &chain.network;
        let lonely = |rpc: &[Secret<String>]| different(rpc) < 2;
        if !chain.rpc.is_empty() && lonely(&chain.rpc) {
            let message = format!("`two_nodes_from` needs two different nodes of `{}`", network.name);
            mistakes.add(
                Mistake::error(&codes::NO_NODE, span, message)
                    .help("name a second one, of somebody else, in `rpc` beside it"),
            );
        }
        for resolved in facilitators.iter().filter(|resolved| resolved.config.networks.contains(&network.id)) {
            let Kind::Local { rpc, .. } = &resolved.config.kind else { continue };
            if lonely(rpc) {
                let message = format!("`two_nodes_from` of `{}` needs two different nodes here, too", network.name);
                mistakes.add(
                    Mistake::error(&codes::NO_NODE, resolved.span, message)
                        .related(span, "asked for here")
                        .help("name a second one, of somebody else, in `local.rpc`"),
                );
            }
        }
    }
}

/// How many different nodes these addresses lead to, as far as can be told from their text.
fn different(rpc: &[Secret<String>]) -> usize {
    let addresses: HashSet<Url> = rpc.iter().filter_map(|address| Url::parse(address.expose()).ok()).collect();
    addresses.len()
}
