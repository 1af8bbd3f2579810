//! A settled payment whose transfer is on the chain no more (S26): what may happen to it until it is back, or proven lost.

use serde::{Deserialize, Serialize};

use super::life::{Conflict, Event, deliver};
use super::{Sale, State};
use crate::payment::TransactionHash;
use crate::primitives::Timestamp;

/// What is known of a settled payment that the chain has undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Undone {
    /// Its transfer is missed, and may come back or be sent again. Until that is known its payer is on hold.
    Missed {
        /// Since when.
        since: Timestamp,
        /// When somebody looks for it next.
        check_at: Timestamp,
        /// How often somebody looked.
        checks: u32,
        /// How often it was sent again.
        sent: u32,
        /// The transaction it was sent in again, when that is known.
        transaction: Option<TransactionHash>,
    },
    /// It is proven that its money has not moved and never will.
    Lost,
}

impl Undone {
    /// When somebody looks for it next.
    pub const fn check_at(&self) -> Option<Timestamp> {
        match self {
            Self::Missed { check_at, .. } => Some(*check_at),
            Self::Lost => None,
        }
    }

    /// The word for `ledger list --state`.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Missed { .. } => "undone",
            Self::Lost => "lost",
        }
    }
}

/// What becomes of a settled payment that is undone. Its answer is neither collected nor owed meanwhile: nobody has paid
/// for it. Whoever is delivering it may still say how far that came.
pub(super) fn apply(
    settled: State,
    event: Event,
    sale: &Sale,
    turns: &mut u32,
    now: Timestamp,
) -> Result<State, Conflict> {
    let State::Settled { receipt, facilitator, collect_by, delivery, undone: Some(undone) } = settled else {
        return Err(Conflict);
    };
    let (delivery, undone) = match (undone, event) {
        (_, event @ (Event::Renew { .. } | Event::Deliver { .. })) => {
            (deliver(delivery, event, sale, turns, now)?, undone)
        }
        (Undone::Missed { since, checks, sent, transaction, .. }, Event::Look { until }) => {
            let checks = checks.saturating_add(1);
            (delivery, Undone::Missed { since, check_at: until, checks, sent, transaction })
        }
        (Undone::Missed { since, checks, sent, .. }, Event::SendAgain { transaction, check_at }) => {
            let sent = sent.saturating_add(1);
            (delivery, Undone::Missed { since, check_at, checks, sent, transaction })
        }
        (
            Undone::Missed { since, checks, sent, transaction: known, .. },
            Event::StillUnknown { transaction, check_at },
        ) => (delivery, Undone::Missed { since, check_at, checks, sent, transaction: transaction.or(known) }),
        (Undone::Missed { .. }, Event::Settle { receipt, collect_by, .. }) => {
            return Ok(State::Settled { receipt, facilitator, collect_by, delivery, undone: None });
        }
        (Undone::Missed { .. }, Event::Decline { .. }) => (delivery, Undone::Lost),
        _ => return Err(Conflict),
    };
    Ok(State::Settled { receipt, facilitator, collect_by, delivery, undone: Some(undone) })
}
