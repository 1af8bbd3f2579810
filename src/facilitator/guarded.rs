//! A facilitator behind its deadlines and breakers: what the gate sees of every one that is outside this process.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use super::breaker::{Breaker, BreakerConfig, BreakerState, Call, Change, End};
use super::chain::NotThere;
use super::remote::Inconclusive;
use super::{
    BoxError, Config, Decline, Facilitator, Means, Outcome, Prepared, SettleError, Shed, Standing, Unresolved,
    VerifyError, is_behind,
};
use crate::payment::{Dialect, Offer, Payment, PaymentKey, Receipt};
use crate::primitives::{Caip2, Clock, Dollars, Payer};

/// How long after its own deadline a facilitator is no longer waited for.
const GRACE: Duration = Duration::from_secs(1);

/// Something that happened between us and a facilitator.
#[derive(Debug, Clone)]
pub enum Notice {
    /// It was asked, and this came of it.
    Asked {
        /// Whom.
        facilitator: Arc<str>,
        /// A fixed word: `verify`, `settle` or `outcome`.
        call: &'static str,
        /// A fixed word: `valid`, `declined`, `unavailable`; `settled`, `not_sent`, `unknown`; `abandoned`; or, where a
        /// limit of our own kept the question back, `shed`.
        outcome: &'static str,
        /// How long it took.
        took: Duration,
    },
    /// Its breaker has turned.
    Breaker {
        /// Whose.
        facilitator: Arc<str>,
        /// For payments on this network.
        network: Caip2,
        /// What it lets through from now on.
        state: BreakerState,
        /// What turned it.
        why: String,
    },
}

impl Notice {
    /// A payment was turned away that this facilitator would have been asked about (S32).
    pub fn shed(facilitator: &str) -> Self {
        let call = Call::Verify.word();
        Self::Asked { facilitator: facilitator.into(), call, outcome: "shed", took: Duration::ZERO }
    }
}

/// Hears every [`Notice`]. Called on the path of a request: it must not block.
pub type Tell = Arc<dyn Fn(Notice) + Send + Sync>;

/// A facilitator behind its deadlines, with a breaker for each of its networks: one chain's trouble does not stop the
/// sale on another.
pub struct Guarded {
    inner: Arc<dyn Facilitator>,
    name: Arc<str>,
    verify_timeout: Duration,
    breakers: Vec<(Caip2, Breaker)>,
    clock: Arc<dyn Clock>,
    tell: Tell,
}

impl Guarded {
    /// Puts this facilitator, made from this description, behind breakers.
    pub fn new(
        inner: Arc<dyn Facilitator>,
        config: &Config,
        breaker: BreakerConfig,
        clock: Arc<dyn Clock>,
        tell: Tell,
    ) -> Self {
        let breakers = config.networks.iter().map(|network| (network.clone(), Breaker::new(breaker))).collect();
        Self { inner, name: config.name.clone(), verify_timeout: config.verify_timeout, breakers, clock, tell }
    }

    fn breaker(&self, network: &Caip2) -> Option<&(Caip2, Breaker)> {
        self.breakers.iter().find(|(own, _)| own == network)
    }

    /// Begins a call, unless the breaker is open.
    fn ask(&self, call: Call, payment: &Payment) -> Result<Asking<'_>, BoxError> {
        let breaker = self.breaker(&payment.offer.network.id);
        let (key, payer) = (payment.key(), payment.payer());
        if let Some((network, breaker)) = breaker {
            self.turned(network, breaker.enter(key, self.clock.now())?);
        }
        Ok(Asking { guarded: self, breaker, call, key, payer, began: Instant::now(), ended: false })
    }

    fn asked(&self, call: &'static str, outcome: &'static str, began: Instant) {
        (self.tell)(Notice::Asked { facilitator: self.name.clone(), call, outcome, took: began.elapsed() });
    }

    fn turned(&self, network: &Caip2, change: Option<Change>) {
        if let Some(Change { to, why }) = change {
            let (facilitator, network) = (self.name.clone(), network.clone());
            (self.tell)(Notice::Breaker { facilitator, network, state: to, why });
        }
    }
}

#[async_trait]
impl Facilitator for Guarded {
    fn name(&self) -> &str {
        &self.name
    }

    fn accepts(&self, offer: &Offer, dialect: Dialect) -> bool {
        let shut = |(_, breaker): &(Caip2, Breaker)| breaker.is_shut(self.clock.now());
        self.inner.accepts(offer, dialect) && !self.breaker(&offer.network.id).is_some_and(shut)
    }

    fn pays_off(&self, offer: &Offer) -> bool {
        self.inner.pays_off(offer)
    }

    fn gas_cost(&self) -> Option<Dollars> {
        self.inner.gas_cost()
    }

    fn settle_timeout(&self) -> Duration {
        self.inner.settle_timeout()
    }

    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        let asking = self.ask(Call::Verify, payment).map_err(VerifyError::Unavailable)?;
        let verdict = match timeout(self.verify_timeout + GRACE, self.inner.verify(payment)).await {
            Ok(verdict) => verdict,
            Err(elapsed) => Err(VerifyError::Unavailable(elapsed.into())),
        };
        asking.ended(match &verdict {
            Ok(()) => (End::Passed, "valid"),
            Err(VerifyError::Declined(_)) => (End::Answered, "declined"),
            Err(VerifyError::Unavailable(cause)) if is_behind::<Shed>(&**cause) => (End::Abandoned, "shed"),
            Err(VerifyError::Unavailable(cause)) => (silent_or_in_doubt(cause), "unavailable"),
        });
        verdict
    }

    /// Passes by the breaker: nobody is asked.
    fn foresee(&self, payment: &Payment) -> Option<VerifyError> {
        self.inner.foresee(payment)
    }

    /// Goes through a breaker like any payment and may be the try that closes it, but opens none: a wallet that takes
    /// long to judge a signature could bring silence about.
    async fn vouch(&self, payment: &Payment) -> Result<(), VerifyError> {
        let asking = self.ask(Call::Verify, payment).map_err(VerifyError::Unavailable)?;
        let is_try = asking.breaker.is_some_and(|(_, own)| own.standing(self.clock.now()) != BreakerState::Closed);
        let verdict = match timeout(self.verify_timeout + GRACE, self.inner.vouch(payment)).await {
            Ok(verdict) => verdict,
            Err(elapsed) => Err(VerifyError::Unavailable(elapsed.into())),
        };
        let (end, word) = match &verdict {
            Ok(()) => (End::Passed, "valid"),
            Err(VerifyError::Declined(_)) => (End::Answered, "declined"),
            Err(VerifyError::Unavailable(_)) => (End::Abandoned, "unavailable"),
        };
        asking.ended((if is_try { end } else { End::Abandoned }, word));
        verdict
    }

    /// Part of settling: what goes wrong here counts, what goes well is only the beginning.
    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError> {
        let asking = self.ask(Call::Settle, payment).map_err(SettleError::NotSent)?;
        let prepared = self.inner.prepare(payment).await;
        match &prepared {
            Ok(_) => asking.goes_on(),
            Err(error) => asking.ended(failed(error)),
        }
        prepared
    }

    async fn submit(&self, payment: &Payment, prepared: Prepared) -> Result<Receipt, SettleError> {
        let asking = self.ask(Call::Settle, payment).map_err(SettleError::NotSent)?;
        let settled = self.inner.submit(payment, prepared).await;
        asking.ended(match &settled {
            Ok(_) => (End::Answered, "settled"),
            Err(error) => failed(error),
        });
        settled
    }

    /// Only the facilitator that was asked to settle a payment may know how that ended, so an open breaker spaces
    /// these questions out and never refuses them for good. Looking at the chain by ourselves is always allowed.
    async fn outcome(&self, unresolved: &Unresolved) -> Outcome {
        let (began, network) = (Instant::now(), &unresolved.payment.offer.network.id);
        let breaker = self.breaker(network).map(|(_, breaker)| breaker);
        let closed = |breaker: &Breaker| breaker.standing(self.clock.now()) == BreakerState::Closed;
        if let Some(breaker) = breaker.filter(|breaker| !closed(breaker)) {
            if let Some(seen) = self.inner.look(unresolved).await {
                return seen;
            }
            if !breaker.may_look(self.clock.now()) {
                return Outcome::Unknown { transaction: unresolved.transaction, source: LeftInPeace.into() };
            }
        }
        let found = self.inner.outcome(unresolved).await;
        let word = match &found {
            Outcome::Settled(_) => "settled",
            Outcome::NotSettled(_) => "declined",
            Outcome::Unknown { .. } => "unknown",
        };
        self.asked("outcome", word, began);
        if let (Some(breaker), Outcome::Settled(_)) = (breaker, &found) {
            self.turned(network, breaker.has_told());
        }
        found
    }

    fn is_on_its_way(&self, payment: &Payment) -> bool {
        self.inner.is_on_its_way(payment)
    }

    async fn look(&self, unresolved: &Unresolved) -> Option<Outcome> {
        self.inner.look(unresolved).await
    }

    async fn recheck(&self, declined: &[Unresolved]) -> Vec<Standing> {
        self.inner.recheck(declined).await
    }

    async fn means(&self, payment: &Payment) -> Result<Option<Means>, BoxError> {
        timeout(self.verify_timeout + GRACE, self.inner.means(payment)).await?
    }

    fn sees_chain(&self) -> bool {
        self.inner.sees_chain()
    }

    fn is_up(&self) -> bool {
        self.inner.is_up()
    }

    fn purse(&self) -> Option<super::Purse> {
        self.inner.purse()
    }

    fn breakers(&self) -> Vec<(Caip2, BreakerState)> {
        let now = self.clock.now();
        self.breakers.iter().map(|(network, breaker)| (network.clone(), breaker.standing(now))).collect()
    }

    async fn refresh(&self) {
        self.inner.refresh().await;
    }
}

/// The breaker is open and somebody has asked a moment ago.
#[derive(Debug, thiserror::Error)]
#[error("the facilitator is in trouble and is asked one question at a time")]
struct LeftInPeace;

/// A call that has begun. What becomes of it is noted even if nobody waits for it any more.
struct Asking<'a> {
    guarded: &'a Guarded,
    breaker: Option<&'a (Caip2, Breaker)>,
    call: Call,
    key: PaymentKey,
    payer: Payer,
    began: Instant,
    ended: bool,
}

impl Asking<'_> {
    fn ended(mut self, (end, outcome): (End, &'static str)) {
        self.note(end, outcome);
    }

    /// The payment is on its way and another call follows.
    fn goes_on(mut self) {
        self.ended = true;
    }

    fn note(&mut self, end: End, outcome: &'static str) {
        self.ended = true;
        let Self { guarded, call, .. } = self;
        guarded.asked(call.word(), outcome, self.began);
        if let Some((network, breaker)) = self.breaker {
            guarded.turned(network, breaker.note(*call, self.key, self.payer, end, guarded.clock.now()));
        }
    }
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if self.ended {
            return;
        }
        match self.call {
            // The client left; that says nothing about the facilitator.
            Call::Verify => self.note(End::Abandoned, "abandoned"),
            // Settlements do not end with their clients: only a deadline drops one.
            Call::Settle => self.note(End::Silent, "unknown"),
        }
    }
}

impl Call {
    const fn word(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
        }
    }
}

fn failed(error: &SettleError) -> (End, &'static str) {
    match error {
        SettleError::Declined(_) => (End::Answered, "declined"),
        SettleError::NotSent(cause) if is_behind::<Shed>(&**cause) => (End::Abandoned, "shed"),
        SettleError::NotSent(_) => (End::Silent, "not_sent"),
        SettleError::Unknown { source, .. } => (silent_or_in_doubt(source), "unknown"),
    }
}

/// Whether somebody was there and said so. A payer can bring such answers about; silence he cannot.
fn silent_or_in_doubt(cause: &BoxError) -> End {
    let cause = &**cause;
    if is_behind::<Shed>(cause) {
        return End::Abandoned;
    }
    let said = is_behind::<Inconclusive>(cause) || is_behind::<Decline>(cause) || is_behind::<NotThere>(cause);
    if said { End::Doubted } else { End::Silent }
}

#[cfg(test)]
mod tests;
