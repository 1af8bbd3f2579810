//! Proof that money moved.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Payment;
use crate::primitives::{AtomicAmount, Caip2, Payer, Timestamp};

/// The transaction a payment settled in; a pseudo hash in the sandbox.
pub type TransactionHash = alloy::primitives::B256;

/// Proof that money moved, as the ledger keeps it and the client gets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// Whose money.
    pub payer: Payer,
    /// How much, in smallest units.
    pub amount: AtomicAmount,
    /// On which chain.
    pub network: Caip2,
    /// The same chain as v1 clients name it.
    pub network_v1: Option<Arc<str>>,
    /// In which transaction.
    pub transaction: TransactionHash,
    /// In which block, when whoever confirmed it could say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block: Option<u64>,
    /// When we learned of it.
    pub settled_at: Timestamp,
}

impl Receipt {
    /// What is proven once the payment has settled in this transaction: exactly the terms we offered.
    pub fn of(payment: &Payment, transaction: TransactionHash, settled_at: Timestamp) -> Self {
        let network = &payment.offer.network;
        Self {
            payer: payment.payer(),
            amount: payment.offer.amount,
            network: network.id.clone(),
            network_v1: network.v1_name.clone(),
            transaction,
            block: None,
            settled_at,
        }
    }

    /// The same, found in this block.
    #[must_use]
    pub fn in_block(self, block: u64) -> Self {
        Self { block: Some(block), ..self }
    }
}
