//! Every reason not to pass, and what its sender should do next.

use std::borrow::Cow;
use std::time::Duration;

use crate::facilitator::ALLOWANCE_REQUIRED;
use crate::ledger::{Entry, State, StoreError};
use crate::payment::{Advice, Dialect, FailedSettlement, Payment, Problem, Receipt, Wait};
use crate::primitives::{Timestamp, explain};
use crate::protocol::DecodeError;
use crate::scheme::Mismatch;

use super::rails::{Cap, Screened};

/// How soon to ask again about something that ends in seconds.
const SOON: Duration = Duration::from_secs(2);
/// How soon to try again when something of ours is down.
const LATER: Duration = Duration::from_secs(5);
/// How soon to try again when a person has to act first.
const MUCH_LATER: Duration = Duration::from_secs(30);

/// Why a request may not pass.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// No payment.
    PaymentRequired,
    /// A payment header that cannot be read.
    Unreadable(Dialect, String),
    /// Several payment headers (S54).
    Repeated,
    /// A payment header above 16 KiB (S52).
    TooLarge,
    /// It accepts no offer of ours (S6).
    NoSuchOffer(Dialect),
    /// What was signed is not what the offer asks.
    Mismatch(Dialect, Mismatch),
    /// The facilitator says no, and nothing moved.
    Declined {
        /// The dialect that paid.
        dialect: Dialect,
        /// The facilitator's code.
        code: String,
        /// Set when settling was attempted and is proven to have failed.
        settlement: Option<FailedSettlement>,
    },
    /// The same payment is being served right now (S23).
    InFlight {
        /// The dialect that paid.
        dialect: Dialect,
        /// When its hold lapses at the latest.
        until: Timestamp,
    },
    /// Nobody knows whether money moved (S13).
    Unresolved {
        /// The dialect that paid.
        dialect: Dialect,
        /// What is known.
        wait: Wait,
    },
    /// A payment of the same payer was undone, and nobody knows yet what becomes of it (S26).
    PayerHeld(Dialect),
    /// The payment bought its answer, or its seller owes it back.
    Spent {
        /// The dialect that paid.
        dialect: Dialect,
        /// What it bought, where the presenter may know.
        receipt: Option<Receipt>,
    },
    /// Released too often (S73).
    Exhausted(Dialect),
    /// Nobody can confirm payments now (S65). Of a settlement it says, too, that nothing was sent and that the ledger
    /// has let the payment go: only then may another facilitator be asked (S13).
    FacilitatorUnavailable(Option<Dialect>),
    /// Nobody can tell now whether the payer's wallet accepts the signature, or too many ask (S32). Nothing is held.
    Unvouched(Dialect),
    /// Nobody can remember payments now (S65).
    LedgerUnavailable(Option<Dialect>),
    /// Not sold to whoever asks, or not paid to whom it would be (S35).
    Screened(Option<Dialect>, Screened),
    /// Nobody knows who is not to be sold to: a list is older than it may be (S35).
    ListStale,
    /// Somebody has paused the route.
    Paused(Option<Dialect>),
    /// Too much is not known to be settled, of everybody or of this payer.
    Capped(Option<Dialect>, Cap),
    /// This payer has spent what one may spend in a day.
    Overspent {
        /// The dialect that paid.
        dialect: Dialect,
        /// When there is room again at the latest.
        until: Timestamp,
    },
    /// More requests than the route takes, or more unpaid ones than one client may send.
    Crowded {
        /// The dialect that paid.
        dialect: Option<Dialect>,
        /// When there is room again.
        wait: Duration,
    },
}

impl Refusal {
    /// A store that did not answer.
    pub(super) fn ledger(dialect: Option<Dialect>, error: &StoreError) -> Self {
        tracing::error!(cause = %explain(error), "the ledger is unavailable");
        Self::LedgerUnavailable(dialect)
    }

    /// A settlement that nobody knows the end of.
    pub(super) fn unresolved(dialect: Dialect, entry: &Entry) -> Self {
        let transaction = match &entry.state {
            State::Settling { transaction, .. } => *transaction,
            // It is about the one that vanished, too.
            State::Settled { receipt, .. } => Some(receipt.transaction),
            State::Reserved { .. } | State::Released | State::Exhausted => None,
        };
        Self::pending(dialect, &entry.sale.payment, transaction)
    }

    /// As `unresolved`, from the payment itself.
    pub(super) fn pending(
        dialect: Dialect,
        payment: &Payment,
        transaction: Option<crate::payment::TransactionHash>,
    ) -> Self {
        let wait = Wait::Unresolved {
            transaction,
            network: payment.offer.network.id.clone(),
            network_v1: payment.offer.network.v1_name.clone(),
            payer: payment.payer(),
        };
        Self::Unresolved { dialect, wait }
    }

    /// A fixed word for logs and metrics.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PaymentRequired => "payment_required",
            Self::Unreadable(..) => "unreadable",
            Self::Repeated => "repeated",
            Self::TooLarge => "too_large",
            Self::NoSuchOffer(_) => "no_such_offer",
            Self::Mismatch(..) => "mismatch",
            Self::Declined { .. } => "declined",
            Self::InFlight { .. } => "in_flight",
            Self::Unresolved { .. } => "unresolved",
            Self::PayerHeld(_) => "payer_held",
            Self::Spent { .. } => "spent",
            Self::Exhausted(_) => "exhausted",
            Self::FacilitatorUnavailable(_) => "facilitator_unavailable",
            Self::Unvouched(_) => "wallet_unavailable",
            Self::LedgerUnavailable(_) => "ledger_unavailable",
            Self::Screened(_, screened) => screened.code(),
            Self::ListStale => "list_stale",
            Self::Paused(_) => "paused",
            Self::Capped(_, Cap::Total) => "unsettled_total",
            Self::Capped(_, Cap::Payer) => "unsettled_per_payer",
            Self::Overspent { .. } => "per_payer_per_day",
            Self::Crowded { .. } => "crowded",
        }
    }

    /// Whether a client can have any number of these without a coin: what counts is that offers are made out for it.
    pub(super) fn is_cheap_to_cause(&self) -> bool {
        match self {
            Self::Declined { settlement, .. } => settlement.is_none(),
            _ => matches!(self.advice(), Advice::Pay | Advice::Approve),
        }
    }

    /// What the client should do next. No wildcard: a new refusal must choose before it compiles.
    pub fn advice(&self) -> Advice {
        match self {
            // The payer has the money and only has to let Permit2 move it.
            Self::Declined { code, .. } if code == ALLOWANCE_REQUIRED => Advice::Approve,
            Self::PaymentRequired
            | Self::Unreadable(..)
            | Self::NoSuchOffer(_)
            | Self::Mismatch(..)
            | Self::Declined { .. } => Advice::Pay,
            Self::Repeated => Advice::Repeated,
            Self::TooLarge => Advice::TooLarge,
            // Money has moved, or may be moving: none of these may invite a second payment (I4).
            Self::InFlight { .. } => Advice::Wait(Wait::InFlight),
            Self::Unresolved { wait, .. } => Advice::Wait(wait.clone()),
            Self::Spent { receipt, .. } => Advice::Stop(receipt.clone()),
            Self::Exhausted(_) => Advice::GiveUp,
            Self::Crowded { .. } => Advice::SlowDown,
            // A better payment would not be taken either, so none is asked for.
            Self::Screened(..) => Advice::Leave,
            Self::FacilitatorUnavailable(_)
            | Self::Unvouched(_)
            | Self::LedgerUnavailable(_)
            | Self::ListStale
            | Self::Paused(_)
            | Self::PayerHeld(_)
            | Self::Capped(..)
            | Self::Overspent { .. } => Advice::TryLater,
        }
    }

    /// The same in the words the client gets.
    pub fn problem(&self, now: Timestamp) -> Problem {
        Problem {
            advice: self.advice(),
            reason: self.reason(),
            dialect: self.dialect(),
            failed_settlement: match self {
                Self::Declined { settlement, .. } => settlement.clone(),
                _ => None,
            },
            retry_after: self.retry_after(now),
        }
    }

    fn reason(&self) -> Cow<'static, str> {
        match self {
            Self::PaymentRequired => "Payment required".into(),
            Self::Unreadable(_, reason) => reason.clone().into(),
            Self::Repeated => "more than one payment header".into(),
            Self::TooLarge => "the payment header is too large".into(),
            Self::NoSuchOffer(_) => "No matching payment requirements".into(),
            Self::Mismatch(_, mismatch) => mismatch.code().into(),
            Self::Declined { code, .. } => code.clone().into(),
            Self::InFlight { .. } => "the same payment is being served right now".into(),
            Self::Unresolved { .. } => "settlement_pending".into(),
            Self::Spent { receipt: Some(_), .. } => "this payment has been spent".into(),
            Self::Spent { receipt: None, .. } => "this payment opens nothing any more".into(),
            Self::Exhausted(_) => {
                "this payment was tried too often and was never charged; it opens nothing any more".into()
            }
            Self::FacilitatorUnavailable(_) => "payments cannot be confirmed right now".into(),
            Self::Unvouched(_) => "the payer's wallet cannot be asked right now".into(),
            Self::LedgerUnavailable(_) => "payments cannot be recorded right now".into(),
            Self::Screened(_, screened) => screened.code().into(),
            Self::ListStale => "payments cannot be screened right now; nobody is charged".into(),
            Self::Paused(_) => "this route is paused; nobody is charged".into(),
            Self::PayerHeld(_) => {
                "an earlier payment of this payer was undone by its network; nobody is charged until it is back".into()
            }
            Self::Capped(_, Cap::Total) => "too many payments are not settled yet; nobody is charged".into(),
            Self::Capped(_, Cap::Payer) => {
                "too many payments of this payer are not settled yet; nobody is charged".into()
            }
            Self::Overspent { .. } => "this payer can spend no more today (UTC); nobody is charged".into(),
            Self::Crowded { .. } => "too many requests; nobody is charged".into(),
        }
    }

    fn dialect(&self) -> Option<Dialect> {
        match self {
            Self::PaymentRequired | Self::Repeated | Self::TooLarge | Self::ListStale => None,
            Self::Unreadable(dialect, _)
            | Self::NoSuchOffer(dialect)
            | Self::Mismatch(dialect, _)
            | Self::Declined { dialect, .. }
            | Self::InFlight { dialect, .. }
            | Self::Unresolved { dialect, .. }
            | Self::Spent { dialect, .. }
            | Self::Unvouched(dialect)
            | Self::PayerHeld(dialect)
            | Self::Exhausted(dialect)
            | Self::Overspent { dialect, .. } => Some(*dialect),
            Self::FacilitatorUnavailable(dialect)
            | Self::LedgerUnavailable(dialect)
            | Self::Screened(dialect, _)
            | Self::Paused(dialect)
            | Self::Crowded { dialect, .. }
            | Self::Capped(dialect, _) => *dialect,
        }
    }

    fn retry_after(&self, now: Timestamp) -> Option<Duration> {
        match self {
            // The holder usually ends long before its hold lapses.
            Self::InFlight { until, .. } => Some(until.since(now).clamp(Duration::from_secs(1), SOON)),
            // Earlier if a payment of theirs that is under way comes to nothing.
            Self::Overspent { until, .. } => Some(until.since(now).max(Duration::from_secs(1))),
            Self::Crowded { wait, .. } => Some(*wait),
            Self::Unresolved { .. } => Some(SOON),
            Self::FacilitatorUnavailable(_) | Self::Unvouched(_) | Self::LedgerUnavailable(_) | Self::Capped(..) => {
                Some(LATER)
            }
            Self::Paused(_) | Self::PayerHeld(_) | Self::ListStale => Some(MUCH_LATER),
            _ => None,
        }
    }
}

impl From<DecodeError> for Refusal {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Repeated => Self::Repeated,
            DecodeError::TooLarge => Self::TooLarge,
            DecodeError::Unreadable { dialect, reason } => Self::Unreadable(dialect, reason),
        }
    }
}
