//! Who may use a payment, and for what.

use std::sync::Arc;
use std::time::Duration;

use super::{
    Answer, Day, Delivering, Delivery, Entry, Event, LEASE, Lease, Ledger, Sale, State, StoreError, Swap, Versioned,
};
use crate::payment::{PaymentKey, Receipt, Replay};
use crate::primitives::{Dollars, Timestamp};

/// How often a claim looks again because somebody was faster.
const RACES: usize = 8;

/// When to ask again about a payment that may be somebody else's by now.
pub(super) const SOON: Duration = Duration::from_secs(1);

/// What a presented payment gets.
#[must_use]
#[derive(Debug)]
pub enum Claim {
    /// It is this request's alone.
    Granted(Lease),
    /// Another request holds it.
    InFlight {
        /// When that lapses, unless it is renewed.
        until: Timestamp,
    },
    /// Its settlement was asked for, and nobody knows how that ended.
    Unresolved {
        /// What is known.
        entry: Entry,
    },
    /// It is paid and its answer did not arrive: forward it again.
    Redeem(Delivering),
    /// It is paid and delivered, and the answer was kept.
    Repeat {
        /// The answer; only for a request body with the same digest.
        answer: Answer,
        /// The proof.
        receipt: Receipt,
    },
    /// It is paid, and there is nothing more to get for it.
    Spent {
        /// What it bought.
        receipt: Option<Receipt>,
    },
    /// It was released too often (S73).
    Exhausted,
    /// Its payer may spend no more today.
    Overspent {
        /// When there is room again at the latest.
        until: Timestamp,
    },
}

/// A sale, and what the ledger remembers its payment by: a digest that every step asks for, so it is worked out once.
#[derive(Debug, Clone)]
pub struct Keyed {
    pub(super) key: PaymentKey,
    pub(super) sale: Arc<Sale>,
}

impl Keyed {
    /// A sale whose payment has this key.
    pub fn new(key: PaymentKey, sale: Arc<Sale>) -> Self {
        debug_assert_eq!(key, sale.payment.key(), "a payment has one key");
        Self { key, sale }
    }

    /// What the ledger remembers the payment by.
    pub fn key(&self) -> PaymentKey {
        self.key
    }

    /// What the payment is presented for.
    pub fn sale(&self) -> &Arc<Sale> {
        &self.sale
    }
}

impl From<Arc<Sale>> for Keyed {
    fn from(sale: Arc<Sale>) -> Self {
        Self { key: sale.payment.key(), sale }
    }
}

/// What to do about an entry that is already there.
enum Found {
    Say(Claim),
    Try(Event),
}

impl Ledger {
    /// Claims a proven payment for one request. Of any number of copies exactly one is granted (S1, S2).
    ///
    /// `hold` is how long the reservation excludes others; `replay` is what the route lets a settled payment open.
    /// A claim that is dropped halfway may leave a reservation that lapses by itself.
    ///
    /// # Errors
    /// When the store fails. Then nothing may be granted (I6).
    pub async fn claim(
        self: &Arc<Self>,
        presented: impl Into<Keyed>,
        hold: Duration,
        replay: Replay,
    ) -> Result<Claim, StoreError> {
        let Keyed { key, sale } = presented.into();
        // The common case first: a payment nobody has seen costs one round trip.
        let mut seen: Option<Versioned> = None;
        for _ in 0..RACES {
            let now = self.clock.now();
            let event = match &seen {
                None => self.reserve(&sale, now.after(hold)),
                Some(found) => match self.judge(key, &found.entry, &sale, now.after(hold), replay, now) {
                    Found::Say(claim) => {
                        self.front.notice(key, &found.entry);
                        return Ok(claim);
                    }
                    Found::Try(event) => event,
                },
            };
            let current = seen.take().map(|found| (found.entry, found.version));
            match self.advance(key, current, event, &[]).await? {
                Some((entry, Swap::Applied(version))) => return Ok(self.granted(key, Versioned { entry, version })),
                Some((_, Swap::Stale(found))) => seen = found,
                Some((_, Swap::Overspent)) => return Ok(Claim::Overspent { until: Day::of(now).end() }),
                Some((_, Swap::Claimed(_))) => return Err(StoreError("a fact nobody claimed was refused".into())),
                None => return Err(StoreError("the ledger's rules contradict each other".into())),
            }
        }
        // As many others were served meanwhile; whoever is last holds it now.
        Ok(Claim::InFlight { until: self.clock.now().after(SOON) })
    }

    fn reserve(&self, sale: &Arc<Sale>, until: Timestamp) -> Event {
        let offer = &sale.payment.offer;
        let counts = self.allowance.is_limited() && Dollars::of(offer.amount, &offer.asset).is_some();
        Event::Reserve { sale: Arc::clone(sale), until, counts }
    }

    /// Decides about an entry that stands: an answer, or an event to try. The event always fits the entry.
    fn judge(
        &self,
        key: PaymentKey,
        entry: &Entry,
        presented: &Arc<Sale>,
        until: Timestamp,
        replay: Replay,
        now: Timestamp,
    ) -> Found {
        let reserve = || Found::Try(self.reserve(presented, until));
        match &entry.state {
            State::Released => reserve(),
            State::Reserved { until } if now < *until => Found::Say(Claim::InFlight { until: *until }),
            // The backend may have worked for a hold that lapsed (S73). Where that was the last time, it is written
            // down, so that its holder cannot come back and settle what was called worthless.
            State::Reserved { .. } => {
                let max_releases = self.limits.max_releases;
                let last = entry.releases.saturating_add(1) >= max_releases;
                if last { Found::Try(Event::Release { counted: true, max_releases }) } else { reserve() }
            }
            State::Exhausted => Found::Say(Claim::Exhausted),
            // Until somebody has looked in vain, the request that asked is still waiting for the outcome.
            State::Settling { check_at, checks: 0, .. } if now < *check_at => {
                Found::Say(Claim::InFlight { until: *check_at })
            }
            State::Settling { .. } => Found::Say(Claim::Unresolved { entry: entry.clone() }),
            State::Settled { receipt, collect_by, delivery, .. } => {
                let spent = || Found::Say(Claim::Spent { receipt: Some(Receipt::clone(receipt)) });
                if replay == Replay::Refuse || !same_buyer(&entry.sale, presented) {
                    return spent();
                }
                match delivery {
                    Delivery::Leased { until } if now < *until || self.delivers(key, entry) => {
                        Found::Say(Claim::InFlight { until: *until })
                    }
                    Delivery::Leased { .. } | Delivery::Pending => {
                        // A lapsed lease does not tell whether the backend was asked.
                        let known = matches!(delivery, Delivery::Pending) || entry.sale.deliverable(false);
                        let left = entry.redemptions < self.limits.max_redemptions && now < *collect_by;
                        Found::Try(if known && left {
                            Event::Redeem { until: now.after(LEASE), max_redemptions: self.limits.max_redemptions }
                        } else {
                            Event::GiveUp
                        })
                    }
                    Delivery::Done { answer: Some(answer) } if replay == Replay::SameAnswer && now < answer.until => {
                        Found::Say(Claim::Repeat { answer: Answer::clone(answer), receipt: Receipt::clone(receipt) })
                    }
                    Delivery::Done { .. } | Delivery::Partial | Delivery::RefundDue | Delivery::Refunded { .. } => {
                        spent()
                    }
                }
            }
        }
    }

    /// What a claim that was written amounts to. A process that stood still while it wrote comes too late: its hold
    /// may have lapsed and be another's by now, so it is granted nothing and lets go of what is still its own.
    pub(super) fn granted(self: &Arc<Self>, key: PaymentKey, seen: Versioned) -> Claim {
        let now = self.clock.now();
        let late = Claim::InFlight { until: now.after(SOON) };
        match &seen.entry.state {
            State::Settled { receipt, delivery, .. } => {
                let receipt = Arc::clone(receipt);
                if let Delivery::Leased { until } = *delivery {
                    let redeem = Delivering::new(self.clone(), key, seen, receipt, false);
                    return if now < until { Claim::Redeem(redeem) } else { late };
                }
                self.front.notice(key, &seen.entry);
                self.tell(key, &seen.entry);
                Claim::Spent { receipt: Some(Receipt::clone(&receipt)) }
            }
            State::Exhausted => {
                self.front.notice(key, &seen.entry);
                self.tell(key, &seen.entry);
                Claim::Exhausted
            }
            State::Reserved { until } if *until <= now => {
                drop(Lease::new(self.clone(), key, seen));
                late
            }
            _ => Claim::Granted(Lease::new(self.clone(), key, seen)),
        }
    }
}

/// Whether a settled payment comes back from whoever paid it, for what they bought. After settlement its signature
/// is public; the quote never is (S75).
fn same_buyer(sold: &Sale, presented: &Sale) -> bool {
    sold.request == presented.request && sold.quote.is_some() && sold.quote == presented.quote
}
