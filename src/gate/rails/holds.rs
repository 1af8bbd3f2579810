//! Payers who are not sold to for now: a payment of theirs was undone after its answer had left (S26).
//!
//! Who they are follows from the ledger, so every process on it holds the same payers, also after a restart.

use std::collections::HashSet;

use crate::ledger::Unsettled;
use crate::payment::Payment;
use crate::primitives::{Caip2, Payer};

/// How many undone payments are looked at (I7). The payers of more are not held; the alarm was raised for each.
pub(super) const MOST_UNDONE: usize = 10_000;

/// Payers on hold, each on the network where a payment of theirs was undone: elsewhere the same address may be
/// somebody else's wallet.
#[derive(Debug, Default)]
pub(super) struct Holds(HashSet<(Caip2, Payer)>);

impl Holds {
    /// The payers of these payments.
    pub(super) fn of(undone: &[Unsettled]) -> Self {
        Self(undone.iter().map(|undone| who(&undone.entry.sale.payment)).collect())
    }

    /// Whether whoever pays this is on hold.
    pub(super) fn holds(&self, payment: &Payment) -> bool {
        !self.0.is_empty() && self.0.contains(&who(payment))
    }
}

fn who(payment: &Payment) -> (Caip2, Payer) {
    (payment.offer.network.id.clone(), payment.payer())
}
