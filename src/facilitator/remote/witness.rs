//! A second opinion: the transfer log, read on our own node (S16).

use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::Contradiction;
use crate::facilitator::chain::{Unused, Verdict};
use crate::facilitator::{BoxError, Means};
use crate::payment::{Payment, TransactionHash};
use crate::primitives::{Caip2, Timestamp};

/// How long to wait before the node is asked again about a transaction it does not show yet.
const INTERVAL: Duration = Duration::from_millis(500);

/// What our own node says about a transaction that is said to have settled a payment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Witnessed {
    /// It holds exactly this transfer, under this authorization (S17).
    Yes {
        /// In this block.
        block: u64,
    },
    /// It is there and does not hold it. The text says what it holds instead, for the alarm.
    No(String),
    /// It is not there yet.
    NotYet,
}

/// Looks at the chain for itself, so that a facilitator's word need not be taken.
#[async_trait]
pub trait Witness: Send + Sync + 'static {
    /// Whether there is a node for this network. Where there is none, the facilitator's word is all there is.
    fn watches(&self, network: &Caip2) -> bool;

    /// What this transaction did for this payment. An error means that nobody can tell.
    async fn witnessed(&self, payment: &Payment, transaction: TransactionHash) -> Result<Witnessed, BoxError>;

    /// How this payment ended, whoever submitted it and in whatever transaction. A transfer counts only if it came
    /// after `reserved_at` (S18).
    async fn settlement(&self, payment: &Payment, reserved_at: Timestamp) -> Verdict;

    /// Whether payments on a network that is watched are unused, in their order. An error means that nobody can tell.
    async fn unused(&self, network: &Caip2, payments: &[&Payment]) -> Result<Vec<Unused>, BoxError>;

    /// What the payer could pay with through Permit2 (S36). An error means that nobody can tell.
    async fn means(&self, payment: &Payment) -> Result<Means, BoxError>;
}

/// Our node had nothing to say in time.
#[derive(Debug, thiserror::Error)]
#[error("our own node has not shown the transfer within the deadline")]
struct Unseen(#[source] Option<BoxError>);

/// Asks until the node has made up its mind or the deadline has come. Only `Ok` is proof; it names the block.
pub(super) async fn attest(
    witness: &dyn Witness,
    payment: &Payment,
    transaction: TransactionHash,
    deadline: Instant,
) -> Result<u64, BoxError> {
    let mut trouble = None;
    loop {
        match timeout_at(deadline, witness.witnessed(payment, transaction)).await {
            Ok(Ok(Witnessed::Yes { block })) => return Ok(block),
            Ok(Ok(Witnessed::No(what))) => {
                return Err(Contradiction(format!("settled in {transaction}, which {what}")).into());
            }
            Ok(Ok(Witnessed::NotYet)) => {}
            Ok(Err(error)) => trouble = Some(error),
            Err(_) => return Err(Unseen(trouble).into()),
        }
        let next = Instant::now() + INTERVAL;
        if next >= deadline {
            return Err(Unseen(trouble).into());
        }
        sleep_until(next).await;
    }
}
