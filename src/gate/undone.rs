//! Settled payments that the chain took back (S26): looked for, sent again, and found again or proven lost.
//!
//! Only the facilitator that settled a payment is ever asked to settle it again, with the same authorization, which
//! moves money once however often it is presented. So sending again cannot charge twice, and asking anybody else
//! could. That nothing will move any more only the chain can prove: a refusal may describe the world after a success, and
//! what is said of the very transaction that vanished is nothing new.

use std::sync::Arc;

use crate::facilitator::{Facilitator, Outcome, Unresolved};
use crate::ledger::{Entry, FileError, State, StoreError, Undone, Unsettled};
use crate::payment::{PaymentKey, Receipt, TransactionHash};
use crate::primitives::explain;
use crate::tariff::RouteKey;

use super::event::Turn;
use super::reconcile::{DEADLINE, LOOK, unknown};
use super::settlement::{FIRST_CHECK, GRACE, claims_of, within};
use super::{Event, Gate};

/// How often somebody looks before it is sent again: most transactions that lost their block get another by themselves.
const PATIENCE: u32 = 3;
/// How often our own key pays for sending a payment again (S30).
const MOST_SENT_BY_US: u32 = 3;
/// How often a facilitator elsewhere is asked again.
const MOST_SENT_ELSEWHERE: u32 = 1;

impl Gate {
    /// Somebody who watches the chain misses the transaction that settled this payment. Its payer is on hold until it
    /// is back, or proven lost.
    ///
    /// # Errors
    /// When the ledger does not answer. Then nobody else knows.
    pub async fn undo(&self, key: PaymentKey, transaction: TransactionHash) -> Result<(), StoreError> {
        let undone = self.ledger.undo(key, transaction, self.clock.now().after(FIRST_CHECK)).await?;
        let Some(entry) = undone else { return Ok(()) };
        self.tell(key, &entry, Turn::Undone, Some(transaction));
        let price = entry.sale.payment.offer.price();
        let what = format!(
            "REORGED: transaction {transaction} settled {price} and is on the chain no more; its payer is on hold"
        );
        self.observe(&Event::Alarm { key: Some(key), what });
        self.look_at_holds().await
    }

    /// Somebody who watches the chain sees the transaction again, in this block.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn found_again(
        &self,
        key: PaymentKey,
        transaction: TransactionHash,
        block: u64,
    ) -> Result<(), StoreError> {
        let Some(undone) = self.ledger.missed(key).await? else { return Ok(()) };
        let receipt = Receipt::of(&undone.entry.sale.payment, transaction, self.clock.now()).in_block(block);
        self.restore(undone, receipt, 0).await?;
        self.look_at_holds().await
    }

    /// One look for a payment that is undone.
    pub(super) async fn mend(&self, undone: Unsettled) {
        let Some(undone) = self.take_up(undone).await else { return };
        let entry = &undone.entry;
        let State::Settled { receipt, facilitator, undone: Some(missed), .. } = &entry.state else { return };
        let Undone::Missed { since, checks, sent, transaction, .. } = *missed else { return };
        // Looks before this one.
        let checks = checks.saturating_sub(1);
        let unresolved = Unresolved {
            payment: entry.sale.payment.clone(),
            transaction: Some(transaction.unwrap_or(receipt.transaction)),
            reserved_at: entry.created,
            since,
        };
        let Some(asked) = self.pool.named(facilitator) else {
            let source = format!("facilitator {facilitator} is no longer configured");
            return self.file_sighting(undone, unknown(None, source.into()), checks).await;
        };
        let found = match tokio::time::timeout(DEADLINE, seen(&*asked, &unresolved)).await {
            Ok(found) => found,
            Err(elapsed) => unknown(None, elapsed.into()),
        };
        let most = if asked.sees_chain() { MOST_SENT_BY_US } else { MOST_SENT_ELSEWHERE };
        match found {
            Outcome::Unknown { .. } if checks >= PATIENCE && sent < most => {
                self.send_again(undone, asked, checks).await
            }
            found => self.file_sighting(undone, found, checks).await,
        }
    }

    /// Has whoever settled it settle it again.
    async fn send_again(&self, undone: Unsettled, asked: Arc<dyn Facilitator>, checks: u32) {
        let payment = undone.entry.sale.payment.clone();
        let deadline = asked.settle_timeout() + GRACE;
        let lapses = payment.authorization.valid_before();
        if !asked.accepts(&payment.offer, payment.dialect) || lapses <= self.clock.now().after(deadline).as_secs() {
            let source = "it cannot be sent again now".into();
            return self.file_sighting(undone, unknown(None, source), checks).await;
        }
        if asked.is_on_its_way(&payment) {
            let source = "a transaction that settles it is on its way".into();
            return self.file_sighting(undone, unknown(None, source), checks).await;
        }
        let prepared = match within(deadline, asked.prepare(&payment)).await {
            Ok(prepared) => prepared,
            Err(error) => return self.file_sighting(undone, unknown(None, error.into()), checks).await,
        };
        let (key, transaction) = (undone.key, prepared.transaction);
        let check_at = self.clock.now().after(deadline + FIRST_CHECK);
        let sent = match self.ledger.send_again(undone, transaction, check_at).await {
            Ok(Some(sent)) => sent,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(payment = %key, cause = %explain(&error), "an undone payment could not be sent again");
                return;
            }
        };
        self.tell(key, &sent.entry, Turn::SentAgain, transaction);
        let found = match self.clock.now() < check_at {
            true => match within(deadline, asked.submit(&payment, prepared)).await {
                Ok(receipt) => Outcome::Settled(receipt),
                Err(error) => unknown(transaction, error.into()),
            },
            // Whoever stood still for so long asks nobody: others look by now.
            false => return,
        };
        self.file_sighting(sent, found, checks).await;
    }

    /// Takes the question over, so that no other replica asks meanwhile.
    async fn take_up(&self, undone: Unsettled) -> Option<Unsettled> {
        let key = undone.key;
        match self.ledger.look(undone, self.clock.now().after(LOOK)).await {
            Ok(taken) => taken,
            Err(error) => {
                tracing::warn!(payment = %key, cause = %explain(&error), "an undone payment could not be taken up");
                None
            }
        }
    }

    async fn file_sighting(&self, undone: Unsettled, found: Outcome, checks: u32) {
        let key = undone.key;
        match found {
            Outcome::Settled(receipt) => {
                if let Err(error) = self.restore(undone, receipt, checks).await {
                    tracing::error!(payment = %key, cause = %explain(&error), "a finding could not be filed");
                }
            }
            Outcome::NotSettled(decline) => match self.ledger.decline(undone, &decline.code).await {
                Ok(Some(entry)) => {
                    self.tell(key, &entry, Turn::Lost, None);
                    let price = entry.sale.payment.offer.price();
                    let what = format!("{price} that had settled were undone and will not come: {}", decline.code);
                    self.observe(&Event::Alarm { key: Some(key), what });
                }
                Ok(None) => {}
                Err(error) => tracing::error!(payment = %key, cause = %explain(&error), "a finding could not be filed"),
            },
            Outcome::Unknown { transaction, source } => {
                tracing::warn!(payment = %key, checks, cause = %explain(&*source), "an undone payment is still missed");
                self.look_again(undone, transaction, checks).await;
            }
        }
    }

    /// It is on the chain. What a facilitator merely says of the very transaction that vanished is nothing new.
    async fn restore(&self, undone: Unsettled, receipt: Receipt, checks: u32) -> Result<(), StoreError> {
        let (key, transaction) = (undone.key, receipt.transaction);
        if receipt.block.is_none() && undone.entry.transaction() == Some(transaction) {
            self.look_again(undone, None, checks).await;
            return Ok(());
        }
        let claims = claims_of(&undone.entry.sale.payment, &receipt);
        let again = undone.clone();
        match self.ledger.file(undone, receipt, &claims).await {
            Ok(Some(entry)) => self.tell(key, &entry, Turn::Restored, Some(transaction)),
            // Somebody else found out first.
            Ok(None) | Err(FileError::Overtaken) => {}
            Err(FileError::ClaimedBy(other)) => {
                let what = format!("the transaction that is said to settle {key} has already settled {other}");
                self.observe(&Event::Alarm { key: Some(key), what });
                self.look_again(again, None, checks).await;
            }
            Err(FileError::Store(error)) => return Err(error),
        }
        Ok(())
    }

    fn tell(&self, key: PaymentKey, entry: &Entry, turn: Turn, transaction: Option<TransactionHash>) {
        let route = RouteKey(Arc::clone(&entry.sale.route));
        let payer = entry.sale.payment.payer();
        self.observe(&Event::Reorganised { route, key, payer, turn, transaction });
    }
}

/// What the chain shows by itself: our own facilitator looks at nothing else, one elsewhere is not asked anything here.
async fn seen(asked: &dyn Facilitator, unresolved: &Unresolved) -> Outcome {
    if asked.sees_chain() {
        return asked.outcome(unresolved).await;
    }
    asked.look(unresolved).await.unwrap_or_else(|| unknown(None, "no node shows how it ended".into()))
}

#[cfg(test)]
mod tests;
