//! The nodes that the configuration names, for looking things up.

use std::sync::Arc;

use super::super::words::explain;
use super::Place;
use crate::facilitator::Kind;
use crate::facilitator::chain::Chain;
use crate::primitives::{Caip2, Network, SystemClock};

/// The chain of a network; `None` where the configuration names no node of it.
pub(super) fn connect(place: &Place, network: &Caip2) -> Result<Option<Chain>, String> {
    let Some(live) = place.live()? else { return Ok(None) };
    let own = live.facilitators.iter().find_map(|config| match &config.kind {
        Kind::Local { rpc, .. } if config.networks.contains(network) => Some(rpc),
        Kind::Local { .. } | Kind::Remote { .. } | Kind::Sandbox => None,
    });
    let named = live.nodes.iter().find(|(of, _)| *of == network).map(|(_, nodes)| nodes);
    let Some(nodes) = named.or(own) else { return Ok(None) };
    Chain::connect(network.clone(), nodes, Arc::new(SystemClock)).map(Some).map_err(|error| explain(&error))
}

/// The same, where nothing can be said without it.
pub(super) fn required(place: &Place, network: &Network) -> Result<Chain, String> {
    connect(place, &network.id)?.ok_or_else(|| {
        format!(
            "no node of {name} is configured: write networks: {{{name}: {{rpc: [https://…]}}}}",
            name = network.name
        )
    })
}
