//! Rails: when a route takes no payment although it has a price, and from whom it never does. A closed rail is 503,
//! never free (S65); whom a rail keeps out hears 403 (S35).
//!
//! A rail is looked at twice. Whoever asks for a price hears 503 instead of an offer; a payment that is presented all
//! the same is turned back before it is reserved. What was already paid is still served, and what is under way ends.

mod exposure;
mod holds;
mod meter;
mod pauses;
pub mod screening;
mod turnstile;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};

use crate::ledger::{Chore, StoreError};
use crate::payment::{Dialect, Payment};
use crate::primitives::{Rate, explain};

use super::{Admission, Event, Gate, Refusal, Visit};

pub use exposure::{Cap, Caps};
pub use pauses::{ChangeError, MOST_ROUTES, MOST_WORDS, NotSold, Pause, Pauses, Scope};
pub use screening::{Screened, Screening};
pub use turnstile::{Crowded, Slot, Turnstile, subscriber};

use exposure::{Exposure, price};
use holds::{Holds, MOST_UNDONE};
use meter::Meter;

/// How often the ledger is asked what is closed: a pause reaches every process on it this soon.
const EVERY: Duration = Duration::from_secs(1);
/// How many open settlements are added up. Where there are more, caps have no room.
const MOST_OPEN: usize = 10_000;
/// Every settlement that is open is looked at again before this has passed.
const HORIZON: Duration = Duration::from_secs(3600);

/// What is closed, as far as this process knows.
#[derive(Debug, Default)]
pub struct Rails {
    pauses: ArcSwap<Pauses>,
    /// Whoever asks the ledger about pauses or holds, or writes a pause, does so alone: an answer that was on its way while
    /// somebody paused must not end that pause here until the next look.
    turn: tokio::sync::Mutex<()>,
    caps: ArcSwap<Caps>,
    exposure: Mutex<Exposure>,
    holds: ArcSwap<Holds>,
    /// Counts unpaid requests by client.
    unpaid: ArcSwapOption<Meter>,
}

impl Rails {
    /// Why this route asks for no payment now.
    pub(super) fn bar(&self, visit: &Visit<'_>, dialect: Option<Dialect>) -> Option<Refusal> {
        if self.pauses.load().of(&visit.route.key).is_some() {
            return Some(Refusal::Paused(dialect));
        }
        let caps = self.caps.load();
        // Somebody may want to pay in a token that has no cap.
        let cheapest = visit.toll.offers.iter().map(price).collect::<Option<Vec<_>>>()?.into_iter().min()?;
        let full = (!caps.is_none()).then(|| self.exposure().full(&caps, None, cheapest)).flatten();
        full.map(|cap| Refusal::Capped(dialect, cap))
    }

    /// What a client hears instead of a price when it has asked for too many and paid for none.
    pub(super) fn weary(&self, visit: &Visit<'_>) -> Option<Refusal> {
        let unpaid = self.unpaid.load();
        let crowded = unpaid.as_ref()?.count_client(visit.client).err()?;
        Some(Refusal::Crowded { dialect: None, wait: crowded.wait })
    }

    /// Forgets clients that have not come for long.
    pub fn sweep(&self) {
        if let Some(unpaid) = &*self.unpaid.load() {
            unpaid.sweep();
        }
    }

    /// Why this payment is not taken now.
    pub(super) fn turn_back(&self, visit: &Visit<'_>, payment: &Payment) -> Option<Refusal> {
        let dialect = Some(payment.dialect);
        if self.pauses.load().of(&visit.route.key).is_some() {
            return Some(Refusal::Paused(dialect));
        }
        if self.is_on_hold(payment) {
            return Some(Refusal::PayerHeld(payment.dialect));
        }
        let caps = self.caps.load();
        if caps.is_none() {
            return None;
        }
        let full = self.exposure().full(&caps, Some(payment.payer()), price(&payment.offer)?);
        full.map(|cap| Refusal::Capped(dialect, cap))
    }

    /// Whether a payment of this payer was undone on this network (S26).
    pub(super) fn is_on_hold(&self, payment: &Payment) -> bool {
        self.holds.load().holds(payment)
    }

    /// Payments that end no longer count.
    pub(super) fn hear(&self, event: &Event) {
        if let Event::Released { key, .. } | Event::Settled { key, .. } | Event::Declined { key, .. } = event
            && !self.caps.load().is_none()
        {
            self.exposure().leave(*key);
        }
    }

    /// Counts unpaid requests at another rate from now on. At the same rate what was counted goes on counting.
    fn count_unpaid(&self, rate: Option<Rate>) {
        let unchanged = match (rate, &*self.unpaid.load()) {
            (Some(rate), Some(meter)) => meter.is_of(rate),
            (None, None) => true,
            _ => false,
        };
        if !unchanged {
            self.unpaid.store(rate.map(Meter::of).map(Arc::new));
        }
    }

    fn exposure(&self) -> MutexGuard<'_, Exposure> {
        self.exposure.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Gate {
    /// Holds payments against other caps from now on.
    pub fn cap(&self, caps: Caps) {
        self.ledger.allow_per_day(caps.per_payer_per_day);
        self.rails.count_unpaid(caps.unpaid_per_client);
        self.rails.caps.store(caps.into());
    }

    /// Lets a confirmed payment go on if the caps still have room for it. They had when it came; of those that came
    /// with it, others may have been confirmed first. Before that nothing is counted: a signature costs nothing, and
    /// whoever makes many without money would close the shop.
    pub(super) async fn hold_to_caps(&self, visit: &Visit<'_>, admission: Admission) -> Result<Admission, Refusal> {
        let caps = self.rails.caps.load_full();
        let Admission::Confirmed(confirmed) = admission else { return Ok(admission) };
        if caps.is_none() {
            return Ok(Admission::Confirmed(confirmed));
        }
        let until = self.clock.now().after(visit.toll.hold);
        let entered = self.rails.exposure().enter(&caps, confirmed.key(), confirmed.payment(), until);
        match entered {
            Ok(()) => Ok(Admission::Confirmed(confirmed)),
            Err(cap) => {
                let dialect = confirmed.payment().dialect;
                confirmed.release().await;
                Err(Refusal::Capped(Some(dialect), cap))
            }
        }
    }

    /// Pauses: here at once, and wherever else the ledger is read within a second.
    ///
    /// # Errors
    /// As [`Pauses::pause`].
    pub async fn pause(&self, scope: &Scope, pause: Pause) -> Result<Pauses, ChangeError> {
        let _turn = self.rails.turn.lock().await;
        let pauses = Pauses::pause(&**self.ledger.store(), scope, pause).await?;
        self.follow(&pauses);
        Ok(pauses)
    }

    /// Ends a pause: here at once, and wherever else the ledger is read within a second.
    ///
    /// # Errors
    /// As [`Pauses::resume`].
    pub async fn resume(&self, scope: &Scope, resumed: Pause) -> Result<Pauses, ChangeError> {
        let _turn = self.rails.turn.lock().await;
        let pauses = Pauses::resume(&**self.ledger.store(), scope, resumed).await?;
        self.follow(&pauses);
        Ok(pauses)
    }

    /// Holds to these pauses from now on, and tells the observer what has changed.
    fn follow(&self, found: &Pauses) {
        let before = self.rails.pauses.swap(found.clone().into());
        for (scope, pause) in found.each().filter(|(scope, pause)| before.at(scope) != Some(pause)) {
            self.observe(&Event::Paused { scope, pause: pause.clone() });
        }
        for (scope, _) in before.each().filter(|(scope, _)| found.at(scope).is_none()) {
            self.observe(&Event::Resumed { scope, by: found.resumed().cloned() });
        }
    }

    /// Keeps what is known of the rails fresh, until dropped. What was known stays while the ledger does not answer.
    pub async fn watch_rails(self: Arc<Self>) {
        let mut silent = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let looked = self.look_at_rails().await;
            if let (Err(error), false) = (&looked, silent) {
                tracing::warn!(cause = %explain(error), "pauses and open settlements cannot be looked up");
            }
            silent = looked.is_err();
        }
    }

    /// Asks the ledger whose payments were undone: they are on hold from now on, and nobody else.
    ///
    /// # Errors
    /// When the ledger does not answer; then those are on hold who were.
    pub(super) async fn look_at_holds(&self) -> Result<(), StoreError> {
        let _turn = self.rails.turn.lock().await;
        let undone = self.ledger.undone(self.clock.now().after(HORIZON), MOST_UNDONE).await?;
        self.rails.holds.store(Holds::of(&undone).into());
        Ok(())
    }

    /// Asks the ledger who is on hold, what is paused and, where there are caps, what is open; tells the observer what has changed.
    ///
    /// # Errors
    /// When the ledger does not answer; then what it did not tell is as it was.
    pub async fn look_at_rails(&self) -> Result<(), StoreError> {
        self.look_at_holds().await?;
        {
            let _turn = self.rails.turn.lock().await;
            let found = Pauses::read(&**self.ledger.store()).await?;
            self.follow(&found);
        }
        let capped = !self.rails.caps.load().is_none();
        if capped || self.overdraft.is_used() {
            let now = self.clock.now();
            let open = self.ledger.store().overdue(Chore::Settlements, now.after(HORIZON), MOST_OPEN).await?;
            let payments = || open.iter().map(|(key, found)| (*key, &found.entry.sale.payment));
            self.overdraft.take_over(payments(), now);
            if capped {
                self.rails.exposure().take_over(payments(), open.len() >= MOST_OPEN, now);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
