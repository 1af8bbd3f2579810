//! What a payer may spend in a day.
//!
//! A sum for each payer and day stands beside the entries, and every write that makes a payment count, or no longer
//! count, changes it in the same transaction. So it is at all times the sum over the entries that name the day, whatever
//! crashes, and of any number of payments at any number of replicas no more are reserved than there is room for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Entry;
use crate::primitives::{Dollars, Payer, Timestamp};

const DAY: Duration = Duration::from_secs(86_400);
/// As much as every database can hold in a number.
const MOST: u64 = i64::MAX as u64;

/// A day of UTC, counted from the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Day(u64);

/// What a write changes about what its payer spends. Amounts are millionths of a dollar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spending {
    /// Whose money.
    pub payer: Payer,
    /// A day that it counted for and does no longer, and how much.
    pub freed: Option<(Day, u64)>,
    /// A day that it counts for from now on, unless there is no room.
    pub used: Option<Use>,
}

/// Room that a write takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Use {
    /// On this day.
    pub day: Day,
    /// How much.
    pub amount: u64,
    /// What the day's sum may be at most, this included.
    pub most: u64,
}

impl Day {
    /// The day of a moment.
    pub fn of(moment: Timestamp) -> Self {
        Self(moment.as_secs() / DAY.as_secs())
    }

    /// When the next one begins.
    pub fn end(self) -> Timestamp {
        Timestamp::from_secs(self.0.saturating_add(1).saturating_mul(DAY.as_secs()))
    }

    /// The one before. What it sums up may still be taken back around midnight; what is older never is.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    /// As databases hold it.
    pub(super) fn number(self) -> i64 {
        i64::try_from(self.0).unwrap_or(i64::MAX)
    }
}

impl Use {
    /// What the day's sum may be so far, for this to have room; `None` when there is never room.
    pub fn so_far(&self) -> Option<u64> {
        self.most.checked_sub(self.amount)
    }
}

impl Spending {
    /// What changes when an entry that counted for the day `was` becomes `next`; `None` when nothing does.
    pub(super) fn between(was: Option<Day>, next: &Entry, allowance: &Allowance) -> Option<Self> {
        if was == next.day {
            return None;
        }
        let amount = worth(next)?;
        let used = next.day.map(|day| Use { day, amount, most: allowance.most() });
        Some(Self { payer: next.sale.payment.payer(), freed: was.map(|day| (day, amount)), used })
    }
}

/// What an entry counts for; `None` in a token that is not pegged to the dollar. Rounded up: what is too small to count
/// would be free of any cap.
pub(super) fn worth(entry: &Entry) -> Option<u64> {
    let offer = &entry.sale.payment.offer;
    Dollars::of(offer.amount, &offer.asset).map(|dollars| dollars.millionths_up().min(MOST))
}

/// How much one payer may spend in a day; without a limit nothing is counted.
#[derive(Debug)]
pub(super) struct Allowance(AtomicU64);

impl Default for Allowance {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Allowance {
    pub(super) fn set(&self, most: Option<Dollars>) {
        self.0.store(most.map_or(u64::MAX, |most| most.millionths().min(MOST)), Ordering::Relaxed);
    }

    /// Whether there is a limit.
    pub(super) fn is_limited(&self) -> bool {
        self.0.load(Ordering::Relaxed) != u64::MAX
    }

    fn most(&self) -> u64 {
        self.0.load(Ordering::Relaxed).min(MOST)
    }
}
