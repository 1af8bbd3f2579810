//! Holds those who declined to settle to their word (S16).
//!
//! A facilitator that has what the payer signed may say no and send it all the same, now or later. Where our node shows
//! that it has, the payment is settled and the contradiction an alarm. Where it shows nothing, the payer is told to pay
//! again, since most who say no mean it; and the payment stays on a list in the ledger until what was signed is good for
//! nothing any more. So a debt that comes into being afterwards is found without anybody looking for it.

use std::sync::Arc;
use std::time::Duration;

use crate::facilitator::{Facilitator, Outcome, Standing, Unresolved};
use crate::ledger::entry::MARGIN;
use crate::ledger::{Entry, InSettlement, StoreError, Unsettled};
use crate::payment::{Payment, PaymentKey, Receipt};
use crate::primitives::{Timestamp, explain};

use super::{Event, Gate};

/// How long our node may take over the first look, for which a client waits.
const FIRST_LOOK: Duration = Duration::from_secs(5);
/// How soon a declined payment is looked at again. Each later pause is twice as long.
pub(super) const FIRST_RECHECK: Duration = Duration::from_secs(8);
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// How often the ledger is asked for declined payments that are due for a look.
const EVERY: Duration = Duration::from_secs(4);
/// How many are looked at in one round (I7). The others wait; the longest overdue come first.
const ROUND: usize = 64;
/// How long a round may take at one facilitator's chains.
const DEADLINE: Duration = Duration::from_secs(60);

impl Gate {
    /// What our own node says of a settlement that has just been declined, before anybody acts on it.
    pub(super) async fn second_look(
        &self,
        payment: &Payment,
        begun: &InSettlement,
        facilitator: &dyn Facilitator,
    ) -> Standing {
        let unresolved = Unresolved {
            payment: payment.clone(),
            transaction: None,
            reserved_at: begun.reserved_at(),
            since: begun.since(),
        };
        let looked = tokio::time::timeout(FIRST_LOOK, facilitator.recheck(std::slice::from_ref(&unresolved))).await;
        match looked.map(|standings| standings.into_iter().next()) {
            Ok(Some(standing)) => standing,
            Ok(None) => Standing::Stands,
            Err(elapsed) => Standing::Unclear(elapsed.into()),
        }
    }

    /// Raises the alarm about a facilitator that said no and moved the money, or let somebody move it.
    pub(super) fn belied(&self, key: PaymentKey, facilitator: &str, receipt: &Receipt) {
        let what = format!("{facilitator} declined to settle what transaction {} has settled", receipt.transaction);
        self.observe(&Event::Alarm { key: Some(key), what });
    }

    /// The receipt of a payment that moved where it was declined before, while nobody can tell what became of it where it
    /// was asked for since. Asking our own node moves nothing.
    pub(super) async fn moved_where_declined(&self, key: PaymentKey, entry: &Entry) -> Option<Receipt> {
        let name = asked(entry)?;
        let facilitator = self.pool.named(&name)?;
        let standings = tokio::time::timeout(DEADLINE, facilitator.recheck(&[unresolved(entry)])).await.ok()?;
        let Some(Standing::Moved(receipt)) = standings.into_iter().next() else { return None };
        self.belied(key, &name, &receipt);
        Some(receipt)
    }

    /// Looks at declined payments until dropped.
    pub(super) async fn watch_declined(self: Arc<Self>) {
        let mut rounds = tokio::time::interval(EVERY);
        rounds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            rounds.tick().await;
            if let Err(error) = self.recheck_once().await {
                tracing::warn!(cause = %explain(&error), "the ledger could not be asked for declined payments");
            }
        }
    }

    /// One round: looks at declined payments that are due. Returns how many were looked at.
    ///
    /// # Errors
    /// When the ledger does not answer.
    pub async fn recheck_once(&self) -> Result<usize, StoreError> {
        let mut taken = Vec::new();
        for declined in self.ledger.overdue_declined(ROUND).await? {
            let check_at = self.clock.now().after(pause(checks(&declined.entry)));
            taken.extend(self.ledger.recheck(declined, check_at).await?);
        }
        let looked = taken.len();
        while let Some(name) = taken.first().and_then(|declined| asked(&declined.entry)) {
            let (of_one, others) =
                taken.into_iter().partition(|declined| asked(&declined.entry).as_ref() == Some(&name));
            taken = others;
            self.recheck_at(&name, of_one).await;
        }
        Ok(looked)
    }

    /// Looks at what one facilitator has declined.
    async fn recheck_at(&self, name: &str, declined: Vec<Unsettled>) {
        let unresolved: Vec<Unresolved> = declined.iter().map(|declined| unresolved(&declined.entry)).collect();
        let standings = match self.pool.named(name) {
            Some(facilitator) => {
                tokio::time::timeout(DEADLINE, facilitator.recheck(&unresolved)).await.unwrap_or_default()
            }
            None => Vec::new(),
        };
        let mut standings = standings.into_iter();
        for declined in declined {
            let untold = || Standing::Unclear("nobody could be asked".into());
            self.conclude(name, declined, standings.next().unwrap_or_else(untold)).await;
        }
    }

    async fn conclude(&self, name: &str, declined: Unsettled, standing: Standing) {
        let (key, over) = (declined.key, self.clock.now() >= end_of(&declined.entry));
        let ended = match standing {
            Standing::Moved(receipt) => {
                self.belied(key, name, &receipt);
                return self.file_finding(declined, Outcome::Settled(receipt), 0).await;
            }
            Standing::Dead(decline) => self.ledger.end_watch(declined, &decline.code).await,
            Standing::Stands | Standing::Open | Standing::Unclear(_) if over => {
                let what =
                    format!("{name} declined to settle it, and whether that is so could not be found out in time");
                self.observe(&Event::Alarm { key: Some(key), what: what.clone() });
                self.ledger.end_watch(declined, &what).await
            }
            // The next look is on record already.
            Standing::Stands | Standing::Open => return,
            Standing::Unclear(cause) => {
                self.doubt(key, &cause);
                return tracing::warn!(payment = %key, cause = %explain(&*cause), "a declined payment could not be looked at");
            }
        };
        if let Err(error) = ended {
            tracing::warn!(payment = %key, cause = %explain(&error), "a declined payment will be looked at once more");
        }
    }
}

fn unresolved(entry: &Entry) -> Unresolved {
    Unresolved {
        payment: entry.sale.payment.clone(),
        transaction: None,
        reserved_at: entry.created,
        since: entry.updated,
    }
}

fn asked(entry: &Entry) -> Option<Arc<str>> {
    entry.declined.as_ref().map(|declined| Arc::clone(&declined.facilitator))
}

fn checks(entry: &Entry) -> u32 {
    entry.declined.as_ref().map_or(0, |declined| declined.checks)
}

/// From when on nobody looks any more, whatever is known: what was signed has long lapsed.
fn end_of(entry: &Entry) -> Timestamp {
    Timestamp::from_secs(entry.sale.payment.authorization.valid_before()).after(MARGIN)
}

/// Between two looks at a payment that was looked at so often before.
fn pause(checks: u32) -> Duration {
    FIRST_RECHECK.saturating_mul(2 << checks.min(10)).min(LONGEST_PAUSE)
}
