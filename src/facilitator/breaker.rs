//! When to stop asking a facilitator, and when to try it again. Arithmetic only: time is an argument.
//!
//! What counts against a facilitator is silence: no answer, or one that is none. A refusal is an answer. An answer that
//! leaves a settlement in doubt may be the payer's doing (whoever cancels an authorization between *verify* and *settle*
//! brings one about for a fraction of a cent), so it counts once for each payer: nobody alone can close the shop.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::payment::PaymentKey;
use crate::primitives::{Payer, Timestamp};

/// How many calls are remembered for the ratio, in units of `open_after`.
const REMEMBERED: usize = 4;
/// How many of them there have to be before a ratio means anything.
const ENOUGH: usize = 2;
/// How far apart questions about open settlements are while the breaker is open: a facilitator that is in trouble is
/// asked for what it owes us, but not by a crowd.
const BETWEEN_LOOKS: Duration = Duration::from_secs(5);

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerConfig {
    /// After this many calls in a row without an answer. Never zero.
    pub open_after: u32,
    /// How long nobody is let through before one payment may try.
    pub half_open_after: Duration,
}

impl Default for BreakerConfig {
    fn default() -> Self {
        Self { open_after: 5, half_open_after: Duration::from_secs(30) }
    }
}

/// What a breaker lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Everything.
    Closed,
    /// One payment at a time, to see whether the trouble is over.
    HalfOpen,
    /// Nothing: what it would have to settle is not offered.
    Open,
}

/// What was asked. Each is counted by itself: a *verify* that works says nothing about *settle*.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Call {
    Verify,
    Settle,
}

/// How a call ended, as far as it tells something about the facilitator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It answered, and the payment goes on to its settlement.
    Passed,
    /// It answered, and that was the end of the payment here.
    Answered,
    /// It answered in so many words that it cannot tell.
    Doubted,
    /// It did not answer, or with nothing that can be used.
    Silent,
    /// Nobody waited for the answer.
    Abandoned,
}

/// A change that somebody should hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    pub to: BreakerState,
    pub why: String,
}

/// Nobody is let through for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the breaker is open")]
pub(super) struct Shut;

/// The breaker of one facilitator on one network.
pub(super) struct Breaker {
    config: BreakerConfig,
    /// The millisecond from which a payment may try; zero while closed. Read for every offer, so without the lock.
    shut_until: AtomicU64,
    state: Mutex<State>,
}

struct State {
    phase: Phase,
    verify: Tally,
    settle: Tally,
    next_look: Timestamp,
}

#[derive(Clone, Copy)]
enum Phase {
    Closed,
    /// Because of these calls.
    Open {
        until: Timestamp,
        because: Call,
    },
    /// This payment is trying. If it has not ended by then, another may.
    Trying {
        payment: PaymentKey,
        until: Timestamp,
        because: Call,
    },
}

impl Breaker {
    pub fn new(config: BreakerConfig) -> Self {
        let state = State {
            phase: Phase::Closed,
            verify: Tally::default(),
            settle: Tally::default(),
            next_look: Timestamp::EPOCH,
        };
        Self { config, shut_until: AtomicU64::new(0), state: Mutex::new(state) }
    }

    /// Whether a payment that is offered now could find it open.
    pub fn is_shut(&self, now: Timestamp) -> bool {
        now.as_millis() < self.shut_until.load(Ordering::Acquire)
    }

    /// What it lets through.
    pub fn standing(&self, now: Timestamp) -> BreakerState {
        match self.shut_until.load(Ordering::Acquire) {
            0 => BreakerState::Closed,
            until if now.as_millis() < until => BreakerState::Open,
            _ => BreakerState::HalfOpen,
        }
    }

    /// Lets a payment through, or not. Of those that come when a try is due, one is the try until it has ended; a
    /// payment that was let through once keeps its way.
    pub fn enter(&self, payment: PaymentKey, now: Timestamp) -> Result<Option<Change>, Shut> {
        let mut state = self.lock();
        let (due, because) = match state.phase {
            Phase::Closed => return Ok(None),
            Phase::Trying { payment: trying, .. } if trying == payment => return Ok(None),
            Phase::Open { until, because } | Phase::Trying { until, because, .. } => (until, because),
        };
        if now < due {
            return Err(Shut);
        }
        let until = now.after(self.config.half_open_after);
        self.turn(&mut state, Phase::Trying { payment, until, because });
        Ok(Some(Change { to: BreakerState::HalfOpen, why: "one payment tries it".to_owned() }))
    }

    /// Takes in how a call for this payment ended.
    pub fn note(&self, call: Call, payment: PaymentKey, payer: Payer, end: End, now: Timestamp) -> Option<Change> {
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => {
                let tally = match call {
                    Call::Verify => &mut state.verify,
                    Call::Settle => &mut state.settle,
                };
                let why = tally.count(end, payer, self.config.open_after)?;
                Some(self.open(&mut state, call, why, now))
            }
            Phase::Trying { payment: trying, because, .. } if trying == payment => match (call, end) {
                (_, End::Silent) => Some(self.open(&mut state, because, "the try failed".to_owned(), now)),
                // What has been seen to work is not what had failed: the settlement of this payment will tell.
                (Call::Verify, End::Passed) if because == Call::Settle => None,
                (Call::Verify, End::Answered) if because == Call::Settle => self.let_try_another(&mut state, now),
                (_, End::Passed | End::Answered) => Some(self.close(&mut state, "it answers again")),
                (_, End::Doubted | End::Abandoned) => self.let_try_another(&mut state, now),
            },
            // Calls that began before it opened say nothing about now.
            Phase::Open { .. } | Phase::Trying { .. } => None,
        }
    }

    /// Whether the facilitator may be asked how a settlement ended. Never denied for good: it alone may know.
    pub fn may_look(&self, now: Timestamp) -> bool {
        let mut state = self.lock();
        let may = matches!(state.phase, Phase::Closed) || state.next_look <= now;
        if may {
            state.next_look = now.after(BETWEEN_LOOKS);
        }
        may
    }

    /// It has told how a settlement ended.
    pub fn has_told(&self) -> Option<Change> {
        let mut state = self.lock();
        match state.phase {
            Phase::Closed => None,
            Phase::Open { .. } | Phase::Trying { .. } => {
                Some(self.close(&mut state, "it has told how a settlement ended"))
            }
        }
    }

    fn open(&self, state: &mut State, because: Call, why: String, now: Timestamp) -> Change {
        let until = now.after(self.config.half_open_after);
        self.turn(state, Phase::Open { until, because });
        Change { to: BreakerState::Open, why }
    }

    fn close(&self, state: &mut State, why: &str) -> Change {
        (state.verify, state.settle) = (Tally::default(), Tally::default());
        self.turn(state, Phase::Closed);
        Change { to: BreakerState::Closed, why: why.to_owned() }
    }

    /// The try ended without telling anything.
    fn let_try_another(&self, state: &mut State, now: Timestamp) -> Option<Change> {
        if let Phase::Trying { because, .. } = state.phase {
            self.turn(state, Phase::Open { until: now, because });
        }
        None
    }

    fn turn(&self, state: &mut State, phase: Phase) {
        state.phase = phase;
        let until = match phase {
            Phase::Closed => 0,
            Phase::Open { until, .. } => until.as_millis().max(1),
            // Offers go out again: whoever accepts one now will not pay before the try has ended.
            Phase::Trying { .. } => 1,
        };
        self.shut_until.store(until, Ordering::Release);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Every change is a whole one, so what a panic left behind is good.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How the latest calls of one kind ended.
#[derive(Default)]
struct Tally {
    silent_in_a_row: u32,
    latest: VecDeque<Mark>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Good,
    Silent,
    Doubted(Payer),
}

impl Tally {
    /// Counts one more; says why if that is too much.
    fn count(&mut self, end: End, payer: Payer, open_after: u32) -> Option<String> {
        let mark = match end {
            End::Passed | End::Answered => Mark::Good,
            End::Silent => Mark::Silent,
            End::Doubted => Mark::Doubted(payer),
            End::Abandoned => return None,
        };
        self.silent_in_a_row = if mark == Mark::Silent { self.silent_in_a_row.saturating_add(1) } else { 0 };
        let repeats_itself = matches!(mark, Mark::Doubted(_)) && self.latest.contains(&mark);
        if !repeats_itself {
            self.latest.push_back(mark);
        }
        let unit = usize::try_from(open_after).unwrap_or(usize::MAX);
        while self.latest.len() > unit.saturating_mul(REMEMBERED) {
            self.latest.pop_front();
        }
        if self.silent_in_a_row >= open_after {
            return Some(format!("{} calls in a row without an answer", self.silent_in_a_row));
        }
        let bad = self.latest.iter().filter(|mark| **mark != Mark::Good).count();
        let enough = self.latest.len() >= unit.saturating_mul(ENOUGH) && bad * 2 >= self.latest.len();
        (enough && mark != Mark::Good)
            .then(|| format!("{bad} of the last {} calls without a clear answer", self.latest.len()))
    }
}

#[cfg(test)]
mod tests;
