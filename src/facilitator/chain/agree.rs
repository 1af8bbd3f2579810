//! Two nodes for large sums (S27): one that lies, or was led onto a branch of its own, does not make a payment.
//!
//! What one node shows is held against the others until one of them shows the same log in the same block. One that has
//! not come so far says nothing. One that has, and shows something else, contradicts the first: which of the two is
//! right only a person can find out, so that is told with both their hosts.

use alloy::primitives::B256;
use serde::Deserialize;

use super::Chain;
use super::node::{Node, RpcError};
use super::proof::{Found, transfer_in};
use super::search::quantity;
use crate::facilitator::{BoxError, is_behind};
use crate::payment::{Payment, TransactionHash};
use crate::primitives::Caip2;

/// Two of our own nodes contradict each other about a payment. Whoever finds one among an error's sources raises an
/// alarm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("on {network}, {shows} shows that {transaction} settled the payment, and {denies} does not: {how}")]
pub struct Disagreement {
    network: Caip2,
    /// Host and port of the one that shows it.
    shows: String,
    transaction: TransactionHash,
    /// Host and port of the one that does not.
    denies: String,
    how: String,
}

impl Disagreement {
    /// Whether one is this error or among its causes.
    pub fn is_behind(error: &(dyn std::error::Error + 'static)) -> bool {
        is_behind::<Self>(error)
    }
}

/// What a node shows of a payment: its transfer, in this transaction and this block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shown {
    pub(super) transaction: TransactionHash,
    pub(super) block: u64,
    pub(super) hash: B256,
}

/// What a second node says about it.
enum Opinion {
    Same,
    /// It has not come so far, or not far enough beyond it.
    NotYet,
    Other(String),
}

impl Chain {
    /// Returns when another node has shown the same.
    ///
    /// # Errors
    /// When none does.
    pub(super) async fn agreed(&self, shows: &Node, payment: &Payment, shown: Shown) -> Result<(), RpcError> {
        let mut dissent = None;
        let mut trouble: BoxError = "there is no other node".into();
        for other in self.nodes().into_iter().filter(|other| !std::ptr::eq(*other, shows)) {
            match self.opinion(other, payment, shown).await {
                Ok(Opinion::Same) => return Ok(()),
                Ok(Opinion::NotYet) => trouble = format!("{} has not come so far", other.host()).into(),
                Ok(Opinion::Other(how)) => dissent = Some(self.disagreement(shows, shown.transaction, other, how)),
                Err(error) => trouble = error.into(),
            }
        }
        Err(dissent.unwrap_or(RpcError::Alone(trouble)))
    }

    /// Whether a payment that one node does not show counts as missed: of a large sum only when another node does not show
    /// it either, and none does (S27).
    pub(super) async fn misses(&self, transaction: TransactionHash, payment: &Payment) -> bool {
        if !self.confirmations.wants_two(&payment.offer) {
            return true;
        }
        let mut missing = 0;
        for node in self.nodes() {
            match transfer_in(node, transaction, payment, &self.confirmations).await {
                Ok(Found::Yes { .. } | Found::Shallow { .. }) => return false,
                Ok(Found::No(_) | Found::NotYet) => missing += 1,
                Err(_) => {}
            }
        }
        missing >= 2
    }

    async fn opinion(&self, node: &Node, payment: &Payment, shown: Shown) -> Result<Opinion, RpcError> {
        Ok(match transfer_in(node, shown.transaction, payment, &self.confirmations).await? {
            Found::Yes { hash, .. } if hash == shown.hash => Opinion::Same,
            // How deep it lies is no matter for one node's word either: it could call any block safe (S26).
            Found::Shallow { hash, .. } if hash == shown.hash => Opinion::NotYet,
            Found::Yes { block, .. } | Found::Shallow { block, .. } => {
                Opinion::Other(format!("it has it in another block {block}"))
            }
            Found::No(why) => Opinion::Other(why.to_string()),
            Found::NotYet => {
                let question = serde_json::json!([quantity(shown.block), false]);
                match node.call::<Option<Named>>("eth_getBlockByNumber", question).await? {
                    None => Opinion::NotYet,
                    Some(block) if block.hash == shown.hash => Opinion::Other("its block is without it".to_owned()),
                    Some(_) => Opinion::Other(format!("it has another block {}", shown.block)),
                }
            }
        })
    }

    /// The error that names both. Of their addresses no more is told than the hosts (S60).
    pub(super) fn disagreement(
        &self,
        shows: &Node,
        transaction: TransactionHash,
        denies: &Node,
        how: String,
    ) -> RpcError {
        RpcError::Disagreement(Disagreement {
            network: self.network().clone(),
            shows: shows.host().to_owned(),
            transaction,
            denies: denies.host().to_owned(),
            how,
        })
    }
}

#[derive(Deserialize)]
struct Named {
    hash: B256,
}
