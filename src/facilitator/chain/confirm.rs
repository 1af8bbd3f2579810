//! When a transfer in a block counts: small sums at once, large ones when the block can hardly be undone (S26) and when
//! two nodes show it (S27).

use std::collections::HashMap;

use serde_json::json;

use super::node::{Node, RpcError};
use super::search::safe_block;
use super::{Block, Chain};
use crate::payment::Offer;
use crate::primitives::{Address, AtomicAmount};

/// How deep a transfer has to lie before it counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Confirmations {
    /// This many blocks, the one that holds it included; at least one.
    pub blocks: u64,
    /// From this much of a token on, only what is in a block that the chain calls safe. By token contract.
    pub safe_above: HashMap<Address, AtomicAmount>,
    /// From this much of a token on, only what two nodes agree on. By token contract.
    pub two_nodes_from: HashMap<Address, AtomicAmount>,
}

impl Default for Confirmations {
    fn default() -> Self {
        Self { blocks: 1, safe_above: HashMap::new(), two_nodes_from: HashMap::new() }
    }
}

impl Confirmations {
    fn wants_safe(&self, offer: &Offer) -> bool {
        self.safe_above.get(&offer.asset.address).is_some_and(|above| offer.amount.units() > above.units())
    }

    /// Whether one node's word is not enough for a sum like this.
    pub(super) fn wants_two(&self, offer: &Offer) -> bool {
        self.two_nodes_from.get(&offer.asset.address).is_some_and(|from| offer.amount.units() >= from.units())
    }

    /// Whether a transfer in this block counts by now. The node that showed it is asked, so that both answers are
    /// from one view of the chain (S27).
    pub(super) async fn suffice(&self, node: &Node, offer: &Offer, block: u64) -> Result<bool, RpcError> {
        if self.wants_safe(offer) {
            return Ok(block <= safe_block(node, &head(node).await?).await?.number());
        }
        if self.blocks <= 1 {
            return Ok(true);
        }
        Ok(head(node).await?.number().saturating_sub(block) + 1 >= self.blocks)
    }
}

async fn head(node: &Node) -> Result<Block, RpcError> {
    node.call("eth_getBlockByNumber", json!(["latest", false])).await
}

impl Chain {
    /// The same chain, on which transfers have to lie this deep.
    #[must_use]
    pub fn confirming(self, confirmations: Confirmations) -> Self {
        Self { confirmations, ..self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sales::sale;

    #[test]
    fn s26_only_large_sums_wait_for_a_safe_block() {
        let mut offer = sale(1).payment.offer;
        let token = offer.asset.address;
        let limit = AtomicAmount::new(alloy::primitives::U256::from(100));
        let confirmations = Confirmations { safe_above: HashMap::from([(token, limit)]), ..Confirmations::default() };
        offer.amount = limit;
        assert!(!confirmations.wants_safe(&offer));
        offer.amount = AtomicAmount::new(alloy::primitives::U256::from(101));
        assert!(confirmations.wants_safe(&offer));
        assert!(!Confirmations::default().wants_safe(&offer));
    }

    #[test]
    fn s27_from_the_sum_on_that_the_file_names_two_nodes_are_asked() {
        let mut offer = sale(1).payment.offer;
        let sum = |units: u64| AtomicAmount::new(alloy::primitives::U256::from(units));
        let two_nodes_from = HashMap::from([(offer.asset.address, sum(100))]);
        let confirmations = Confirmations { two_nodes_from, ..Confirmations::default() };
        offer.amount = sum(99);
        assert!(!confirmations.wants_two(&offer));
        offer.amount = sum(100);
        assert!(confirmations.wants_two(&offer) && !Confirmations::default().wants_two(&offer));
    }
}
