//! The life of an entry as one pure function.

use std::sync::Arc;

use super::{Answer, Day, Declined, Delivery, Entry, Sale, State};
use crate::payment::{Receipt, SettleMode, TransactionHash};
use crate::primitives::{AtomicAmount, Timestamp};

/// What can happen to an entry.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request wants to hold the payment until then.
    Reserve {
        /// What it is presented for.
        sale: Arc<Sale>,
        /// When the hold lapses by itself.
        until: Timestamp,
        /// Whether it counts towards what its payer may spend in a day.
        counts: bool,
    },
    /// The holder lets go; nobody was charged. Counted when its request had been forwarded (S73).
    Release {
        /// Whether it counts towards `max_releases`.
        counted: bool,
        /// How many counted releases exhaust it.
        max_releases: u32,
    },
    /// The holder is about to ask for settlement.
    Begin {
        /// Who will be asked.
        facilitator: Arc<str>,
        /// The transaction, when it is already known.
        transaction: Option<TransactionHash>,
        /// When reconciliation may look.
        check_at: Timestamp,
    },
    /// The client that asked for it has left. Whose the settlement is to find out about stays as it was.
    Leave,
    /// Somebody is about to find out how the settlement ended, perhaps by asking for it again. Nobody else does until
    /// then, and from now on a *no* to what was asked before proves nothing (I4).
    Look {
        /// Until when it is theirs to find out.
        until: Timestamp,
    },
    /// Somebody looked and still cannot tell.
    StillUnknown {
        /// The transaction, when it has become known.
        transaction: Option<TransactionHash>,
        /// When to look again.
        check_at: Timestamp,
    },
    /// The money moved.
    Settle {
        /// The proof.
        receipt: Arc<Receipt>,
        /// Until when a waiting request holds the answer, so that no copy collects it meanwhile; `None` when nobody
        /// waits.
        delivering: Option<Timestamp>,
        /// Until when an answer that does not arrive may be collected.
        collect_by: Timestamp,
    },
    /// It is proven that the money did not and will not move by what was asked. Counted as a release where the
    /// backend had already done the work (S73): an authorization that never settles must not make it work for ever.
    Decline {
        /// Why, in the words or the code of whoever proved it.
        why: String,
        /// How many counted releases exhaust it.
        max_releases: u32,
        /// When to look at the chain, where it rests on the word of whoever was asked (S16).
        watch_from: Option<Timestamp>,
    },
    /// Somebody is about to look whether what was declined moved the money all the same. Nobody else does until then.
    Recheck {
        /// When to look again.
        check_at: Timestamp,
    },
    /// What was declined need not be looked at any more.
    EndWatch {
        /// Why, for the record.
        why: String,
    },
    /// A request wants to collect a settled, undelivered answer. This begins a new turn.
    Redeem {
        /// When its lease lapses by itself.
        until: Timestamp,
        /// How many redemptions are allowed.
        max_redemptions: u32,
    },
    /// The holder of this turn is still delivering.
    Renew {
        /// Whose lease: `redemptions` when it was granted.
        turn: u32,
        /// When it lapses now.
        until: Timestamp,
    },
    /// A delivery ended.
    Deliver {
        /// Whose: `redemptions` when it was granted.
        turn: u32,
        /// How.
        delivered: Delivered,
        /// What was written to the client, when a head was.
        response: Option<Response>,
    },
    /// The answer was not collected in time or in the allowed attempts.
    GiveUp,
    /// The kept answer has served its time.
    DropAnswer,
    /// The seller paid back what was owed.
    Refund {
        /// The transaction that did.
        transaction: TransactionHash,
        /// How much, in smallest units.
        amount: AtomicAmount,
        /// In which block.
        block: u64,
    },
}

/// What of an answer was written to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Response {
    /// HTTP status.
    pub status: u16,
    /// Bytes of the body.
    pub bytes: u64,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// No byte reached the client.
    Nothing {
        /// No byte of the request reached the backend either.
        untouched: bool,
    },
    /// Some did.
    Partial,
    /// Some did, and the backend had no more: the seller's failure, so the seller owes the money back.
    CutShort,
    /// All did.
    Done(Option<Arc<Answer>>),
}

/// The event does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger entry is in another state")]
pub struct Conflict;

impl Entry {
    /// What an entry becomes when `event` happens to it. `None` is a payment that was never seen.
    ///
    /// # Errors
    /// When the event does not fit the state. Then the entry stays as it is.
    pub fn apply(current: Option<Self>, event: Event, now: Timestamp) -> Result<Self, Conflict> {
        let Some(mut entry) = current else {
            let Event::Reserve { sale, until, counts } = event else { return Err(Conflict) };
            let state = State::Reserved { until };
            let day = counts.then(|| Day::of(now));
            let (declined, created, updated) = (None, now, now);
            return Ok(Self { sale, state, releases: 0, redemptions: 0, day, declined, created, updated });
        };
        entry.state = match (entry.state, event) {
            (State::Reserved { until: held }, Event::Reserve { .. }) if now < held => return Err(Conflict),
            (was @ (State::Released | State::Reserved { .. }), Event::Reserve { sale, until, counts }) => {
                // A hold that lapsed was never let go, so nothing has counted it yet (S73).
                entry.releases = entry.releases.saturating_add(u32::from(was != State::Released));
                entry.sale = sale;
                entry.day = counts.then(|| Day::of(now));
                State::Reserved { until }
            }
            (State::Reserved { .. }, Event::Release { counted: false, .. }) => State::Released,
            (State::Reserved { .. }, Event::Release { counted: true, max_releases }) => {
                entry.releases = entry.releases.saturating_add(1);
                if entry.releases < max_releases { State::Released } else { State::Exhausted }
            }
            (State::Reserved { .. }, Event::Begin { facilitator, transaction, check_at }) => {
                State::Settling { since: now, facilitator, transaction, check_at, checks: 0, left: false }
            }
            // Once somebody has looked, it says nothing new.
            (State::Settling { since, facilitator, transaction, check_at, checks: 0, left: false }, Event::Leave) => {
                State::Settling { since, facilitator, transaction, check_at, checks: 0, left: true }
            }
            (State::Settling { since, facilitator, transaction, checks, left, .. }, Event::Look { until }) => {
                let checks = checks.saturating_add(1);
                State::Settling { since, facilitator, transaction, check_at: until, checks, left }
            }
            (
                State::Settling { since, facilitator, transaction: known, checks, left, .. },
                Event::StillUnknown { transaction, check_at },
            ) => {
                // A look was counted when it began; the request that asked for the settlement has not looked before.
                State::Settling {
                    since,
                    facilitator,
                    transaction: transaction.or(known),
                    check_at,
                    checks: checks.max(1),
                    left,
                }
            }
            (State::Settling { facilitator, .. }, Event::Decline { max_releases, watch_from, .. }) => {
                // An earlier refusal is looked into for as long as that takes, whatever came of the payment since.
                if let Some(check_at) = watch_from {
                    entry.declined = Some(Declined { facilitator, check_at, checks: 0 });
                }
                let served = entry.sale.payment.offer.settle == SettleMode::OnResponse;
                entry.releases = entry.releases.saturating_add(u32::from(served));
                if entry.releases < max_releases { State::Released } else { State::Exhausted }
            }
            (was, Event::Recheck { check_at }) if is_idle(&was, now) => {
                let declined = entry.declined.as_mut().ok_or(Conflict)?;
                *declined = Declined { check_at, checks: declined.checks.saturating_add(1), ..declined.clone() };
                was
            }
            (was, Event::EndWatch { .. }) if is_idle(&was, now) => {
                entry.declined.take().ok_or(Conflict)?;
                was
            }
            // Whoever declined it has moved the money all the same (S16).
            (was, Event::Settle { receipt, delivering: None, collect_by }) if is_idle(&was, now) => {
                let Declined { facilitator, .. } = entry.declined.take().ok_or(Conflict)?;
                let delivery = undelivered(&entry.sale, entry.sale.payment.offer.settle == SettleMode::BeforeForward);
                State::Settled { receipt, facilitator, collect_by, delivery }
            }
            (State::Settling { facilitator, .. }, Event::Settle { receipt, delivering, collect_by }) => {
                entry.declined = None;
                let delivery = match delivering {
                    Some(until) => Delivery::Leased { until },
                    // Settled before it was to be forwarded, so whoever asked for it never reached the backend.
                    None => undelivered(&entry.sale, entry.sale.payment.offer.settle == SettleMode::BeforeForward),
                };
                State::Settled { receipt, facilitator, collect_by, delivery }
            }
            (State::Settled { receipt, facilitator, collect_by, delivery }, event) => {
                if matches!(event, Event::Redeem { .. }) && collect_by <= now {
                    return Err(Conflict);
                }
                let delivery = deliver(delivery, event, &entry.sale, &mut entry.redemptions, now)?;
                State::Settled { receipt, facilitator, collect_by, delivery }
            }
            _ => return Err(Conflict),
        };
        // Nobody was charged.
        if matches!(entry.state, State::Released | State::Exhausted) {
            entry.day = None;
        }
        entry.updated = now;
        Ok(entry)
    }
}

/// Whether nobody has anything under way with it: it was let go, or its hold has lapsed.
fn is_idle(state: &State, now: Timestamp) -> bool {
    match state {
        State::Released | State::Exhausted => true,
        State::Reserved { until } => *until <= now,
        State::Settling { .. } | State::Settled { .. } => false,
    }
}

/// What becomes of a paid answer. `turns` counts the holders: only the latest may say that nothing was delivered or
/// hold on longer, but any holder's word that bytes went out is the end of it.
fn deliver(
    delivery: Delivery,
    event: Event,
    sale: &Sale,
    turns: &mut u32,
    now: Timestamp,
) -> Result<Delivery, Conflict> {
    match (delivery, event) {
        (Delivery::Leased { until: held }, Event::Redeem { .. } | Event::GiveUp) if now < held => Err(Conflict),
        // Its holder vanished and did not say how far it had come.
        (Delivery::Leased { .. }, Event::Redeem { .. }) if !sale.deliverable(false) => Err(Conflict),
        (Delivery::Pending | Delivery::Leased { .. }, Event::Redeem { until, max_redemptions }) => {
            if *turns >= max_redemptions {
                return Err(Conflict);
            }
            *turns += 1;
            Ok(Delivery::Leased { until })
        }
        (Delivery::Pending | Delivery::Leased { .. }, Event::GiveUp) => Ok(Delivery::RefundDue),
        (Delivery::Leased { until: held }, Event::Renew { turn, until }) if turn == *turns => {
            Ok(Delivery::Leased { until: held.max(until) })
        }
        (Delivery::Leased { .. }, Event::Deliver { turn, delivered: Delivered::Nothing { untouched }, .. })
            if turn == *turns =>
        {
            Ok(undelivered(sale, untouched))
        }
        (Delivery::Pending | Delivery::Leased { .. }, Event::Deliver { delivered: Delivered::Partial, .. }) => {
            Ok(Delivery::Partial)
        }
        (Delivery::Pending | Delivery::Leased { .. }, Event::Deliver { delivered: Delivered::CutShort, .. }) => {
            Ok(Delivery::RefundDue)
        }
        (Delivery::Pending | Delivery::Leased { .. }, Event::Deliver { delivered: Delivered::Done(answer), .. }) => {
            Ok(Delivery::Done { answer })
        }
        (Delivery::Done { answer: Some(answer) }, Event::DropAnswer) if answer.until <= now => {
            Ok(Delivery::Done { answer: None })
        }
        (Delivery::RefundDue, Event::Refund { transaction, .. }) => Ok(Delivery::Refunded { transaction }),
        _ => Err(Conflict),
    }
}

/// A paid answer that did not arrive: to be collected, or to be paid back.
fn undelivered(sale: &Sale, untouched: bool) -> Delivery {
    if sale.deliverable(untouched) { Delivery::Pending } else { Delivery::RefundDue }
}
