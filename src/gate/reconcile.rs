//! Finds out how unknown settlements ended, and what became of those that the chain took back.
//!
//! `Settling` never expires, because money may have moved. Whatever a crash, a timeout or a lost answer left there is
//! asked about again until it is known (S13). Only an answer changes the entry; silence never does.

use std::sync::Arc;
use std::time::Duration;

use crate::facilitator::{BoxError, Outcome, Unresolved};
use crate::ledger::{FileError, State, Unsettled};
use crate::payment::TransactionHash;
use crate::primitives::explain;
use crate::tariff::RouteKey;

use super::settlement::claims_of;
use super::{Event, Gate};

/// How often the ledger is asked for settlements that are due for a look.
const EVERY: Duration = Duration::from_secs(1);
/// How many are looked at in one round.
const ROUND: usize = 64;
/// The longest pause between two looks at the same settlement.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How long a facilitator or a chain may take over one question.
pub(super) const DEADLINE: Duration = Duration::from_secs(60);
/// How long a look belongs to whoever began it. One that is cut short is begun again this much later.
pub(super) const LOOK: Duration = DEADLINE.saturating_add(Duration::from_secs(5));

impl Gate {
    /// Asks about unknown settlements, and looks at declined ones, until dropped. Neither waits for the other.
    pub async fn reconcile(self: Arc<Self>) {
        tokio::join!(Arc::clone(&self).ask_about_unknown(), self.watch_declined());
    }

    async fn ask_about_unknown(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.reconcile_once().await {
                tracing::warn!(cause = %explain(&error), "the ledger could not be asked for open settlements");
            }
        }
    }

    /// One round: looks at every settlement that is due, undone ones too. Returns how many were looked at.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn reconcile_once(self: &Arc<Self>) -> Result<usize, crate::ledger::StoreError> {
        let due = self.ledger.overdue_settlements(ROUND).await?;
        let undone = self.ledger.undone(self.clock.now(), ROUND).await?;
        let mut looks = Vec::new();
        for unsettled in due {
            let gate = Arc::clone(self);
            looks.push(tokio::spawn(async move { gate.look(unsettled).await }));
        }
        for missed in undone {
            let gate = Arc::clone(self);
            looks.push(tokio::spawn(async move { gate.mend(missed).await }));
        }
        let looked = looks.len();
        for look in looks {
            if let Err(error) = look.await {
                tracing::error!(%error, "a look at an open settlement did not end");
            }
        }
        Ok(looked)
    }

    async fn look(&self, unsettled: Unsettled) {
        // Looking may ask for the settlement again. Before that, whoever asked first, and every other replica, must be
        // able to see it: their *no* no longer proves that nothing moves.
        let unsettled = match self.ledger.look(unsettled, self.clock.now().after(LOOK)).await {
            Ok(Some(unsettled)) => unsettled,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(cause = %explain(&error), "an open settlement could not be taken up");
                return;
            }
        };
        let entry = &unsettled.entry;
        let State::Settling { since, facilitator, transaction, checks, .. } = &entry.state else { return };
        // Looks before this one.
        let (transaction, checks) = (*transaction, checks.saturating_sub(1));
        let unresolved =
            Unresolved { payment: entry.sale.payment.clone(), transaction, reserved_at: entry.created, since: *since };
        let found = match self.pool.named(facilitator) {
            None => unknown(transaction, format!("facilitator {facilitator} is no longer configured").into()),
            Some(asked) => tokio::time::timeout(DEADLINE, asked.outcome(&unresolved))
                .await
                .unwrap_or_else(|elapsed| unknown(transaction, elapsed.into())),
        };
        let found = match found {
            // Whoever declined it before this one was asked may have settled it all the same (S16).
            Outcome::Unknown { .. } => {
                self.moved_where_declined(unsettled.key, entry).await.map_or(found, Outcome::Settled)
            }
            known => known,
        };
        self.file_finding(unsettled, found, checks).await;
    }

    pub(super) async fn file_finding(&self, unsettled: Unsettled, found: Outcome, checks: u32) {
        let key = unsettled.key;
        let payment = unsettled.entry.sale.payment.clone();
        let route = RouteKey(Arc::clone(&unsettled.entry.sale.route));
        match found {
            Outcome::Settled(receipt) => {
                let settled = Event::Settled {
                    route,
                    key,
                    payer: receipt.payer,
                    amount: receipt.amount,
                    asset: Arc::clone(&payment.offer.asset),
                    network: receipt.network.clone(),
                    transaction: receipt.transaction,
                    dialect: payment.dialect,
                    reconciled: true,
                };
                let claims = claims_of(&payment, &receipt);
                let again = unsettled.clone();
                match self.ledger.file(unsettled, receipt, &claims).await {
                    Ok(Some(_)) => self.observe(&settled),
                    // Somebody else found out first.
                    Ok(None) | Err(FileError::Overtaken) => {}
                    Err(FileError::ClaimedBy(other)) => {
                        let what = format!("the transaction that is said to settle {key} has already settled {other}");
                        self.observe(&Event::Alarm { key: Some(key), what });
                        self.look_again(again, None, checks).await;
                    }
                    Err(FileError::Store(error)) => {
                        tracing::error!(payment = %key, cause = %explain(&error), "a finding could not be filed");
                    }
                }
            }
            Outcome::NotSettled(decline) => match self.ledger.decline(unsettled, &decline.code).await {
                Ok(Some(_)) => self.observe(&Event::Declined { route, key, code: decline.code }),
                Ok(None) => {}
                Err(error) => tracing::error!(payment = %key, cause = %explain(&error), "a finding could not be filed"),
            },
            Outcome::Unknown { transaction, source } => {
                self.doubt(key, &source);
                tracing::warn!(payment = %key, checks, cause = %explain(&*source), "a settlement is still unknown");
                self.look_again(unsettled, transaction, checks).await;
            }
        }
    }

    pub(super) async fn look_again(&self, unsettled: Unsettled, transaction: Option<TransactionHash>, checks: u32) {
        let key = unsettled.key;
        let check_at = self.clock.now().after(pause(checks));
        if let Err(error) = self.ledger.still_unknown(unsettled, transaction, check_at).await {
            tracing::warn!(payment = %key, cause = %explain(&error), "the next look could not be scheduled");
        }
    }
}

pub(super) fn unknown(transaction: Option<TransactionHash>, source: BoxError) -> Outcome {
    Outcome::Unknown { transaction, source }
}

/// One second, then twice as long each time, up to a minute.
fn pause(checks: u32) -> Duration {
    Duration::from_secs(1 << checks.min(6)).min(LONGEST_PAUSE)
}
