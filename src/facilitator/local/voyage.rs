//! What was signed, on its way into a block: sent, watched, and looked at when it has arrived.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::broadcast::{Broadcast, broadcast};
use super::desk::{Signed, Unwritten};
use super::{Local, is_own_key};
use crate::facilitator::chain::{Found, NotThere, RpcError, Verdict};
use crate::facilitator::{BoxError, SettleError};
use crate::payment::{Payment, Receipt, TransactionHash};
use crate::primitives::{Timestamp, failpoint};

/// How often a receipt is asked for: soon at first, then less often.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// A transaction that is on its way.
pub(super) struct Sent {
    pub(super) hash: TransactionHash,
    pub(super) nonce: u64,
    pub(super) signed_at: Timestamp,
}

impl Local {
    /// Writes the transaction down and hands it to the network. An error other than *unknown* is proof that it was
    /// not sent and will not be.
    pub(super) async fn send(&self, signed: Signed, deadline: Instant) -> Result<(), SettleError> {
        let hash = signed.flight.latest().hash;
        let unknown = |source: BoxError| SettleError::Unknown { transaction: Some(hash), source };
        let raw = signed.raw().clone();
        let Signed { mut turn, flight, .. } = signed;
        let nonce = flight.nonce;
        match timeout_at(deadline, self.desk.write(&mut turn, |book| book.put(flight))).await {
            Ok(Ok(())) => {}
            Ok(Err(lost @ Unwritten::Lost)) => return Err(SettleError::NotSent(lost.into())),
            // If it stands in the notes after all, whoever tends the desk sends it.
            Ok(Err(error)) => return Err(unknown(error.into())),
            Err(late) => return Err(unknown(late.into())),
        }
        failpoint::reached("before", "broadcast");
        match timeout_at(deadline, broadcast(&self.chain, hash, &raw)).await {
            Ok(Broadcast::Sent) => {
                failpoint::reached("after", "broadcast");
                self.desk.finish(turn).await;
            }
            Ok(Broadcast::NotSent(error)) => {
                let withdrawn = timeout_at(deadline, self.desk.write(&mut turn, |book| book.withdraw(nonce))).await;
                // While it stands in the notes, somebody may still send it.
                return match withdrawn {
                    Ok(Ok(())) => Err(SettleError::NotSent(error.into())),
                    Ok(Err(_)) | Err(_) => Err(unknown(error.into())),
                };
            }
            Ok(Broadcast::Perhaps) | Err(_) => {
                self.desk.finish(turn).await;
                self.desk.trouble.notify_one();
            }
        }
        Ok(())
    }

    /// Every transaction that may have settled the payment, the one that is known from elsewhere included.
    pub(super) fn candidates(&self, payment: &Payment, known: Option<TransactionHash>) -> Vec<TransactionHash> {
        let mut hashes = self.desk.hashes(&payment.key());
        hashes.extend(known.filter(|known| !hashes.contains(known)));
        hashes
    }

    /// Looks at every transaction that may have settled the payment, until one of them is in a block.
    async fn mined(&self, payment: &Payment, known: TransactionHash) -> Result<(TransactionHash, Found), RpcError> {
        for hash in self.candidates(payment, Some(known)) {
            match self.chain.transfer_in(hash, payment).await? {
                Found::NotYet => {}
                found => return Ok((hash, found)),
            }
        }
        Ok((known, Found::NotYet))
    }

    /// Waits until the transaction, or a dearer one that took its place, is in a block, and looks at what it did.
    pub(super) async fn await_transfer(
        &self,
        payment: &Payment,
        sent: &Sent,
        deadline: Instant,
    ) -> Result<Receipt, SettleError> {
        let mut pause = FIRST_PAUSE;
        let mut obstacle: BoxError = "the transaction is in no block yet".into();
        while Instant::now() < deadline {
            match timeout_at(deadline, self.mined(payment, sent.hash)).await {
                Ok(Ok((hash, Found::Yes { block, .. }))) => {
                    self.desk.landed(sent.nonce);
                    return Ok(self.receipt(payment, hash, block));
                }
                Ok(Ok((_, Found::No(why)))) => {
                    self.desk.landed(sent.nonce);
                    return self.after_failure(payment, sent, why, deadline).await;
                }
                Ok(Ok((_, Found::Shallow { .. }))) => {
                    self.desk.landed(sent.nonce);
                    obstacle = "the transfer is not deep enough yet for its amount".into();
                }
                Ok(Ok((_, Found::NotYet))) => {}
                Ok(Err(error)) => obstacle = error.into(),
                Err(_) => break,
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(SettleError::Unknown { transaction: Some(sent.hash), source: obstacle })
    }

    /// Our transaction did not pay. Perhaps somebody else submitted the same authorization first: the simulation was
    /// good when ours was signed, so whoever it was came after the reservation (S18). Short of that, nobody can tell
    /// yet.
    async fn after_failure(
        &self,
        payment: &Payment,
        sent: &Sent,
        why: NotThere,
        deadline: Instant,
    ) -> Result<Receipt, SettleError> {
        match timeout_at(deadline, self.chain.find_settlement(payment, sent.signed_at)).await {
            Ok(Verdict::Settled { transaction, block, .. }) => Ok(self.receipt(payment, transaction, block)),
            Ok(Verdict::Never(_) | Verdict::CannotTell(_)) | Err(_) => {
                if why == NotThere::Reverted {
                    self.barrier.saw_revert(payment.payer().0, !is_own_key(payment), self.clock.now());
                }
                Err(SettleError::Unknown { transaction: Some(sent.hash), source: why.into() })
            }
        }
    }
}
