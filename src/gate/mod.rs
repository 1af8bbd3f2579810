//! May it pass? The whole story of a payment, in order.
//!
//! [`Gate::admit`] is the way in and [`Gate::settle`] the way home. Both are straight runs of `?`: what each step
//! proves is in the type it returns ([`lifecycle`]), and why a request may not pass is a [`Refusal`].

mod attendance;
mod challenge;
mod declined;
pub mod event;
mod known;
pub mod lifecycle;
mod overdraft;
pub mod rails;
pub mod reconcile;
pub mod refusal;
mod settlement;
mod undone;
mod visit;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use crate::facilitator::{Pool, Wallets};
use crate::ledger::Ledger;
use crate::payment::{Credential, QuoteKey};
use crate::primitives::{Clock, Payer};
use crate::protocol::Protocol;
use crate::scheme::Scheme;
use crate::tariff::Board;

pub use attendance::Connection;
pub use event::{Event, Observer};
pub use lifecycle::{Admission, Confirmed, Repeat, Settled};
pub use rails::Rails;
pub use refusal::Refusal;
pub use settlement::claims_of;
pub use visit::Visit;

use attendance::Attendance;
use lifecycle::{Offered, Proof};
use overdraft::Overdraft;

/// Everything the gate asks on the way. Cheap to share; one for the life of the process.
pub struct Gate {
    parts: Parts,
    /// What is closed although it has a price.
    rails: Arc<Rails>,
    /// Which contract wallets are accepted.
    wallets: Wallets,
    /// What is drawn on payers who may have signed for more than they have.
    overdraft: Arc<Overdraft>,
    /// Settlements under way (S22).
    settling: AtomicUsize,
    attendance: Arc<Attendance>,
}

/// What a gate is made of.
pub struct Parts {
    /// How payment is spoken.
    pub protocol: Arc<dyn Protocol>,
    /// What is promised.
    pub scheme: Arc<dyn Scheme>,
    /// What is remembered.
    pub ledger: Arc<Ledger>,
    /// Who moves the money.
    pub pool: Arc<Pool>,
    /// What things cost, and cost a moment ago.
    pub board: Arc<Board>,
    /// What quotes are made under.
    pub quotes: QuoteKey,
    /// The present moment.
    pub clock: Arc<dyn Clock>,
    /// Who hears of it.
    pub observer: Arc<dyn Observer>,
}

impl Gate {
    /// A gate made of these parts.
    pub fn new(parts: Parts) -> Arc<Self> {
        let (observer, rails, overdraft) = (Arc::clone(&parts.observer), Arc::<Rails>::default(), Arc::default());
        let (hears, counts) = (Arc::clone(&rails), Arc::<Overdraft>::clone(&overdraft));
        parts.ledger.watch(move |key, entry| {
            if let Some(event) = Event::of_entry(key, entry) {
                hears.hear(&event);
                counts.hear(&event);
                observer.observe(&event);
            }
        });
        let (wallets, attendance) = (Wallets::default(), Arc::default());
        Arc::new(Self { parts, rails, wallets, overdraft, settling: AtomicUsize::new(0), attendance })
    }

    /// Decides about a request to a priced route: prove locally, then reserve, then call out (I5, S2, S33).
    ///
    /// # Errors
    /// A [`Refusal`] says why it may not pass and what its sender should do next.
    pub async fn admit(self: &Arc<Self>, visit: &Visit<'_>) -> Result<Admission, Refusal> {
        let decided = self.decide(visit).await;
        decided.map_err(|refusal| match refusal.is_cheap_to_cause() {
            true => self.rails.weary(visit).unwrap_or(refusal),
            false => refusal,
        })
    }

    async fn decide(self: &Arc<Self>, visit: &Visit<'_>) -> Result<Admission, Refusal> {
        if let Some(barred) = visit.screening.turn_away(visit, self.clock.now()) {
            return Err(self.screened(visit, barred, None));
        }
        let Some(credential) = self.protocol.decode(visit.fields)? else {
            return Err(self.rails.bar(visit, None).unwrap_or(Refusal::PaymentRequired));
        };
        // Boxed: most requests to a priced route carry no payment and need no room for what follows.
        Box::pin(self.take(visit, credential)).await
    }

    /// The way in of a request that carries a payment.
    async fn take(self: &Arc<Self>, visit: &Visit<'_>, credential: Credential) -> Result<Admission, Refusal> {
        let payer = Some(credential.authorization.payer());
        if let Some(screened) = visit.screening.turn_back(&credential) {
            return Err(self.screened(visit, screened, payer));
        }
        let proven = match Offered::to(visit).present(self, credential).and_then(|presented| presented.prove(self)) {
            Ok(Proof::Proven(proven)) => proven,
            Ok(Proof::Unjudged(unjudged)) => Box::pin(unjudged.vouched(self)).await?,
            // A payment that is no longer good as a new one may still be one we took: then asking for another
            // would charge twice (I4).
            Err(unpayable) => {
                let recalled = Box::pin(known::recall(self, visit, unpayable)).await;
                return recalled.map(|admission| visit.collect(admission));
            }
        };
        if let Some(screened) = visit.screening.spoil(&proven.payment.offer, proven.payment.dialect) {
            return Err(self.screened(visit, screened, payer));
        }
        match proven.reserve(self).await? {
            lifecycle::Reservation::Held(reserved) => {
                let admission = reserved.hold_to_limits().await?.confirm(self).await?;
                let admission = self.hold_to_caps(visit, admission).await?;
                lifecycle::hold_to_limits(visit, admission).await
            }
            lifecycle::Reservation::Bought(admission) => Ok(visit.collect(admission)),
        }
    }

    /// Tells of somebody who is not sold to: whoever keeps the lists wants to know.
    fn screened(&self, visit: &Visit<'_>, refusal: Refusal, payer: Option<Payer>) -> Refusal {
        if matches!(refusal, Refusal::Screened(..)) {
            self.observe(&Event::Screened { route: visit.route.key.clone(), reason: refusal.name(), payer });
        }
        refusal
    }

    /// What is closed.
    pub fn rails(&self) -> &Rails {
        &self.rails
    }

    /// Which contract wallets are accepted.
    pub fn wallets(&self) -> &Wallets {
        &self.wallets
    }

    /// Settlements under way.
    pub fn settling(&self) -> usize {
        self.settling.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Tells the observer.
    pub fn observe(&self, event: &Event) {
        self.rails.hear(event);
        self.overdraft.hear(event);
        if let Event::Settled { payer, .. } = event {
            self.wallets.saw_settled(*payer, self.clock.now());
        }
        self.observer.observe(event);
    }
}

impl std::ops::Deref for Gate {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}
