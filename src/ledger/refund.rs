//! What is owed and was paid back, on record.

use super::write::Written;
use super::{Claimed, Delivery, Entry, Event, Ledger, State, StoreError, Versioned};
use crate::payment::{PaymentKey, TransactionHash};
use crate::primitives::{AtomicAmount, Caip2};

/// A transfer by which a seller paid a buyer back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refund {
    /// The transaction.
    pub transaction: TransactionHash,
    /// The place of the transfer's log in its block: one transaction may pay several back.
    pub log: u64,
    /// How much, in smallest units.
    pub amount: AtomicAmount,
    /// In which block.
    pub block: u64,
}

/// Why a refund is not on record.
#[derive(Debug, thiserror::Error)]
pub enum RefundError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Nothing is remembered of the payment.
    #[error("the ledger knows no payment {0}")]
    Unheard(PaymentKey),
    /// Nothing is owed for it.
    #[error("nothing is owed for this payment: it is {0}")]
    NotOwed(&'static str),
    /// The transfer is on record as another payment's refund.
    #[error("this transfer has already paid back payment {0}")]
    ClaimedBy(PaymentKey),
}

impl Ledger {
    /// Puts on record that what was owed was paid back by this transfer. Whoever calls it has seen the transfer.
    ///
    /// # Errors
    /// When nothing is owed, when the transfer has paid another payment back, or when the store fails.
    pub async fn refunded(&self, key: PaymentKey, refund: Refund) -> Result<Entry, RefundError> {
        let found = self.store.load(key).await?.ok_or(RefundError::Unheard(key))?;
        let network = found.entry.sale.payment.offer.network.id.clone();
        let claims = [claim(&network, &refund)];
        let Refund { transaction, amount, block, .. } = refund;
        let was = found.entry.state.name();
        let event = |found: &Versioned| match &found.entry.state {
            State::Settled { delivery: Delivery::RefundDue, .. } => Some(Event::Refund { transaction, amount, block }),
            _ => None,
        };
        match self.write(key, found, &claims, event).await? {
            Written::Applied(now) => Ok(now.entry),
            Written::Unfit => Err(RefundError::NotOwed(was)),
            Written::Claimed(owner) => Err(RefundError::ClaimedBy(owner)),
        }
    }
}

/// A transfer pays back one payment.
fn claim(network: &Caip2, refund: &Refund) -> Claimed {
    let mut fact = b"refund\0".to_vec();
    fact.extend_from_slice(network.as_str().as_bytes());
    fact.push(0);
    fact.extend_from_slice(refund.transaction.as_slice());
    fact.extend_from_slice(&refund.log.to_be_bytes());
    Claimed::alone(fact)
}
