//! The way home: from a confirmed payment to a settled one.

mod departure;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::facilitator::chain::Disagreement;
use crate::facilitator::{BoxError, Contradiction, Facilitator, Outcome, SettleError, Standing, Unresolved};
use crate::ledger::{BeginError, Claimed, FileError, InSettlement, Lease};
use crate::payment::{FailedSettlement, Payment, PaymentKey, Receipt, TransactionHash};
use crate::primitives::{Timestamp, TransferMethod, at_once, explain};
use crate::tariff::RouteKey;

use super::attendance::Attending;
use super::declined::FIRST_RECHECK;
use super::overdraft::Hold;
use super::{Confirmed, Event, Gate, Refusal, Settled};
use departure::noting_departure;

/// How long after a facilitator's own deadline we stop waiting for it.
pub(super) const GRACE: Duration = Duration::from_secs(5);
/// How soon reconciliation asks about a settlement that ended unknown.
pub(super) const FIRST_CHECK: Duration = Duration::from_secs(1);

/// What a settlement task does.
type Work = dyn Future<Output = Result<Settled, Refusal>> + Send;

impl Gate {
    /// Settles a confirmed payment. What has to wait for anything does so in a task of its own, so neither a client that
    /// leaves nor an error on its connection can take a half-sent settlement along (S22).
    ///
    /// # Errors
    /// A [`Refusal`]: 402 only if it is proven that nothing moved.
    pub async fn settle(self: &Arc<Self>, confirmed: Confirmed) -> Result<Settled, Refusal> {
        let gate = Arc::clone(self);
        self.detached(Box::pin(gate.move_money(confirmed))).await
    }

    /// Finds out whether somebody else submitted what the payer signed, after we reserved it (S18).
    pub(super) async fn settled_by_others(self: &Arc<Self>, confirmed: Confirmed) -> Result<Settled, Refusal> {
        let gate = Arc::clone(self);
        self.detached(Box::pin(gate.look_for_money(confirmed))).await
    }

    /// Boxed: the work is large, and a task is moved several times before it is polled.
    async fn detached(self: &Arc<Self>, mut work: Pin<Box<Work>>) -> Result<Settled, Refusal> {
        self.settling.fetch_add(1, Ordering::AcqRel);
        let under_way = UnderWay(Arc::clone(self));
        // A sandbox over a ledger in memory waits for nothing. Nobody can leave in the middle of one poll, and work that
        // is not done after it goes on in its task before this function waits for anything.
        if let Some(ended) = at_once(&mut work).await {
            return ended;
        }
        let task = tokio::spawn(async move {
            let _under_way = under_way;
            work.await
        });
        match task.await {
            Ok(ended) => ended,
            // The task panicked or the runtime is going down. What it began is in the ledger; nobody is told to
            // pay again.
            Err(_) => Err(Refusal::LedgerUnavailable(None)),
        }
    }

    async fn move_money(self: Arc<Self>, confirmed: Confirmed) -> Result<Settled, Refusal> {
        let Confirmed { lease, facilitator, hold, attending } = confirmed;
        let sale = Arc::clone(lease.sale());
        let payment = &sale.payment;
        let deadline = facilitator.settle_timeout() + GRACE;
        let prepared = match within(deadline, facilitator.prepare(payment)).await {
            Ok(prepared) => prepared,
            Err(error) => return Err(Box::pin(self.not_begun(payment, lease, error)).await),
        };
        let transaction = prepared.transaction;
        let begun = self.begin(payment, lease, &*facilitator, transaction, deadline).await?;
        let submitted = match self.clock.now() < begun.since().after(deadline) {
            true => {
                let submitted = within(deadline, facilitator.submit(payment, prepared));
                noting_departure(&begun, &attending, submitted).await
            }
            // Whoever stood still for so long asks nobody: others have looked by now, and may have asked elsewhere (S13).
            false => Err(SettleError::NotSent("it was written down too long ago".into())),
        };
        let ended = self.record(payment, begun, &*facilitator, submitted, attending).await;
        count_on(hold, &ended);
        ended
    }

    async fn look_for_money(self: Arc<Self>, confirmed: Confirmed) -> Result<Settled, Refusal> {
        let Confirmed { lease, facilitator, hold, attending } = confirmed;
        let sale = Arc::clone(lease.sale());
        let payment = &sale.payment;
        let deadline = facilitator.settle_timeout() + GRACE;
        let unresolved = Unresolved {
            payment: payment.clone(),
            transaction: None,
            reserved_at: lease.reserved_at(),
            since: self.clock.now(),
        };
        let begun = self.begin(payment, lease, &*facilitator, None, deadline).await?;
        let found = tokio::time::timeout(deadline, facilitator.outcome(&unresolved));
        let found = match noting_departure(&begun, &attending, found).await {
            Ok(Outcome::Settled(receipt)) => Ok(receipt),
            Ok(Outcome::NotSettled(decline)) => Err(SettleError::Declined(decline)),
            Ok(Outcome::Unknown { transaction, source }) => Err(SettleError::Unknown { transaction, source }),
            Err(elapsed) => Err(SettleError::Unknown { transaction: None, source: elapsed.into() }),
        };
        let ended = self.record(payment, begun, &*facilitator, found, attending).await;
        count_on(hold, &ended);
        ended
    }

    /// Writes down that settlement is about to be asked for; durable before anyone is asked (S21).
    async fn begin(
        &self,
        payment: &Payment,
        lease: Lease,
        facilitator: &dyn Facilitator,
        transaction: Option<TransactionHash>,
        deadline: Duration,
    ) -> Result<InSettlement, Refusal> {
        let dialect = payment.dialect;
        let check_at = self.clock.now().after(deadline + FIRST_CHECK);
        let begun = lease.begin(facilitator.name(), transaction, check_at).await.map_err(|error| match error {
            BeginError::Lost => Refusal::InFlight { dialect, until: check_at },
            BeginError::Store(error) => Refusal::ledger(Some(dialect), &error),
        })?;
        self.observe(&Event::Settling {
            route: route_of(&begun),
            key: begun.key(),
            facilitator: facilitator.name().into(),
        });
        Ok(begun)
    }

    /// Settlement failed before anyone was asked for it.
    async fn not_begun(&self, payment: &Payment, lease: Lease, error: SettleError) -> Refusal {
        let key = lease.key();
        let route = RouteKey(Arc::clone(&lease.sale().route));
        lease.release().await;
        match error {
            SettleError::Declined(decline) => {
                self.observe(&Event::Declined { route, key, code: decline.code.clone() });
                declined(payment, decline.code)
            }
            // Nothing has been sent, so an unclear answer here is only an outage.
            SettleError::NotSent(cause) | SettleError::Unknown { source: cause, .. } => {
                tracing::warn!(payment = %key, cause = %explain(&*cause), "settlement could not be prepared");
                Refusal::FacilitatorUnavailable(Some(payment.dialect))
            }
        }
    }

    /// Writes down how it ended, and only then lets anyone act on it (I2).
    async fn record(
        &self,
        payment: &Payment,
        begun: InSettlement,
        facilitator: &dyn Facilitator,
        ended: Result<Receipt, SettleError>,
        attending: Arc<Attending>,
    ) -> Result<Settled, Refusal> {
        match ended {
            Ok(receipt) => self.file(payment, begun, receipt, attending).await,
            // Boxed: most settlements end well and need no room for this.
            Err(error) => Box::pin(self.record_failure(payment, begun, facilitator, error, attending)).await,
        }
    }

    async fn record_failure(
        &self,
        payment: &Payment,
        begun: InSettlement,
        facilitator: &dyn Facilitator,
        error: SettleError,
        attending: Arc<Attending>,
    ) -> Result<Settled, Refusal> {
        let (key, dialect) = (begun.key(), payment.dialect);
        match error {
            SettleError::Declined(decline) => {
                let watch_from = match self.second_look(payment, &begun, facilitator).await {
                    Standing::Stands | Standing::Dead(_) => None,
                    Standing::Open => Some(self.clock.now().after(FIRST_RECHECK)),
                    Standing::Moved(receipt) => {
                        self.belied(key, facilitator.name(), &receipt);
                        return self.file(payment, begun, receipt, attending).await;
                    }
                    // It said no and our node does not say so, too: money may have moved (S16).
                    Standing::Unclear(source) => return Err(self.record_unknown(payment, begun, None, source).await),
                };
                let event = Event::Declined { route: route_of(&begun), key, code: decline.code.clone() };
                let refusal = declined(payment, decline.code.clone());
                let refusal = self.nothing_moved(payment, begun, (&decline.code, watch_from), refusal).await;
                if !matches!(refusal, Refusal::Unresolved { .. }) {
                    self.observe(&event);
                }
                Err(refusal)
            }
            SettleError::NotSent(cause) => {
                tracing::warn!(facilitator = facilitator.name(), payment = %key, cause = %explain(&*cause), "settle was not sent");
                let refusal = Refusal::FacilitatorUnavailable(Some(dialect));
                Err(self.nothing_moved(payment, begun, ("it was not sent", None), refusal).await)
            }
            SettleError::Unknown { transaction, source } => {
                Err(self.record_unknown(payment, begun, transaction, source).await)
            }
        }
    }

    async fn record_unknown(
        &self,
        payment: &Payment,
        begun: InSettlement,
        transaction: Option<TransactionHash>,
        source: BoxError,
    ) -> Refusal {
        let (key, route) = (begun.key(), route_of(&begun));
        self.doubt(key, &source);
        self.observe(&Event::Unknown { route, key, transaction, cause: explain(&*source) });
        if let Err(error) = begun.unknown(transaction, self.clock.now().after(FIRST_CHECK)).await {
            tracing::warn!(payment = %key, cause = %explain(&error), "an unknown settlement will be noted later");
        }
        Refusal::pending(payment.dialect, payment, transaction)
    }

    /// Nothing moved by what we asked, so the payment is free again. Unless reconciliation took the question up
    /// meanwhile: it may have asked again, and nobody hears a *no* until it knows (I4). Beside the reason stands when to
    /// look at the chain, where the reason is only somebody's word.
    async fn nothing_moved(
        &self,
        payment: &Payment,
        begun: InSettlement,
        (why, watch_from): (&str, Option<Timestamp>),
        refusal: Refusal,
    ) -> Refusal {
        match begun.declined(why, watch_from).await {
            Ok(()) => refusal,
            Err(FileError::Store(error)) => Refusal::ledger(Some(payment.dialect), &error),
            Err(FileError::Overtaken | FileError::ClaimedBy(_)) => Refusal::pending(payment.dialect, payment, None),
        }
    }

    /// Raises an alarm when a facilitator's word contradicts itself or the chain (S5, S15, S16), or our own nodes
    /// contradict each other (S27).
    pub(super) fn doubt(&self, key: PaymentKey, cause: &BoxError) {
        if Contradiction::is_behind(&**cause) || Disagreement::is_behind(&**cause) {
            self.observe(&Event::Alarm { key: Some(key), what: explain(&**cause) });
        }
    }

    async fn file(
        &self,
        payment: &Payment,
        begun: InSettlement,
        receipt: Receipt,
        attending: Arc<Attending>,
    ) -> Result<Settled, Refusal> {
        let (key, route, dialect) = (begun.key(), route_of(&begun), payment.dialect);
        let (transaction, claims) = (receipt.transaction, claims_of(payment, &receipt));
        let pending = || Refusal::pending(dialect, payment, Some(transaction));
        match begun.settled(receipt, &claims, true).await {
            Ok(Some(delivering)) => {
                let receipt = delivering.receipt();
                self.observe(&Event::Settled {
                    route,
                    key,
                    payer: receipt.payer,
                    amount: receipt.amount,
                    asset: Arc::clone(&payment.offer.asset),
                    network: receipt.network.clone(),
                    transaction,
                    dialect,
                    reconciled: false,
                });
                Ok(Settled { delivering, dialect, _attending: Some(attending) })
            }
            // Reconciliation has ended it meanwhile; the same payment hears how.
            Ok(None) | Err(FileError::Overtaken) => Err(pending()),
            Err(FileError::ClaimedBy(other)) => {
                let what = format!("the transaction that is said to settle {key} has already settled {other}");
                self.observe(&Event::Alarm { key: Some(key), what });
                Err(pending())
            }
            // The money moved and could not be written down. No byte of the answer leaves without the record (I2);
            // the entry stays `Settling`, reconciliation files the receipt and the same payment redeems it.
            Err(FileError::Store(error)) => {
                self.observe(&Event::Unknown { route, key, transaction: None, cause: explain(&error) });
                Err(pending())
            }
        }
    }
}

/// What a settled payment rests on (S5).
///
/// A facilitator may settle many payments in one transaction. Where our node has shown the transfer of this
/// authorization, that transfer is claimed, and the transaction only if it is free: others may have transfers of their
/// own in it. A transaction that is merely said to have settled the payment is claimed as a whole, so of all payments
/// that are said to have settled in it one counts, and none beside those that are proven. Whether it was claimed
/// before or comes to be claimed later, and by which replica or version, makes no difference: every claim names the
/// transaction where that is possible.
///
/// The logs of Permit2 do not name the nonce, so what a node has shown of it is one payment in its transaction and no
/// more: it claims the whole of it, too.
pub fn claims_of(payment: &Payment, receipt: &Receipt) -> Vec<Claimed> {
    let network = payment.offer.network.id.as_str().as_bytes();
    let transaction = [b"transaction\0", network, b"\0", receipt.transaction.as_slice()].concat();
    let names_its_nonce = payment.authorization.method() == TransferMethod::Eip3009;
    if receipt.block.is_none() || !names_its_nonce {
        return vec![Claimed::alone(transaction)];
    }
    // The key stands for payer, token and nonce: a nonce alone is unique only for its payer and token.
    let transfer = [b"transfer\0", &transaction[..], payment.key().as_bytes()].concat();
    vec![Claimed::alone(transfer), Claimed::if_free(transaction)]
}

/// What may still be moving draws on its payer until it is known (S36).
fn count_on(hold: Option<Hold>, ended: &Result<Settled, Refusal>) {
    if let (Some(hold), Err(Refusal::Unresolved { .. } | Refusal::LedgerUnavailable(_))) = (hold, ended) {
        hold.keep();
    }
}

fn declined(payment: &Payment, code: String) -> Refusal {
    let settlement = FailedSettlement {
        payer: payment.payer(),
        network: payment.offer.network.id.clone(),
        network_v1: payment.offer.network.v1_name.clone(),
    };
    Refusal::Declined { dialect: payment.dialect, code, settlement: Some(settlement) }
}

fn route_of(begun: &InSettlement) -> RouteKey {
    RouteKey(Arc::clone(&begun.sale().route))
}

/// A net under the facilitator's own deadlines. What did not answer is unknown, never declined.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = Result<T, SettleError>>,
) -> Result<T, SettleError> {
    match tokio::time::timeout(deadline, call).await {
        Ok(ended) => ended,
        Err(elapsed) => Err(SettleError::Unknown { transaction: None, source: BoxError::from(elapsed) }),
    }
}

/// Counts a settlement as long as its task lives.
struct UnderWay(Arc<Gate>);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.settling.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests;
