//! What is remembered of one payment. How it changes is one pure function, [`Entry::apply`].

mod life;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::spending::Day;
use crate::payment::{Payment, QuoteDigest, Receipt, TransactionHash};
use crate::primitives::Timestamp;

pub use life::{Conflict, Delivered, Event, Response};

/// How long an entry outlives the authorization it stands for (S67).
pub const MARGIN: Duration = Duration::from_secs(3600);

/// How long the record of a paid request is kept, at least.
pub const RECORD: Duration = Duration::from_secs(400 * 24 * 3600);

/// What a payment was presented for. Fixed when it is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The terms and the signature: enough to settle or to ask again after a restart.
    pub payment: Payment,
    /// The route that is sold (S7).
    pub route: Arc<str>,
    /// A digest of host, method, canonical path and query: the identical request (SAFETY, "Identical request").
    pub request: B256,
    /// The request line, for people; the query is dropped.
    pub request_line: String,
    /// The quote it was first presented with; without one the same payment never collects an answer (S75).
    pub quote: Option<QuoteDigest>,
    /// Whether the backend may be asked again after it was asked once: the route's `replay:` is not `refuse`, and the
    /// method is GET or HEAD or the route wrote its `replay:` out (S25).
    pub redeemable: bool,
}

impl Sale {
    /// Whether the answer can still be had, given that no byte of it reached a client (S25).
    ///
    /// `untouched` means that no byte of the request reached the backend either: then any method may be sent again.
    pub fn deliverable(&self, untouched: bool) -> bool {
        self.redeemable || (untouched && self.quote.is_some())
    }

    /// Whether this very payment can collect it. Without a quote only its payer can, by signing again (S75).
    pub fn collectable(&self, untouched: bool) -> bool {
        self.quote.is_some() && self.deliverable(untouched)
    }
}

/// What the ledger remembers of one payment. It is copied and moved at every step, so what never changes is shared.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it was presented for.
    pub sale: Arc<Sale>,
    /// How far it has come.
    pub state: State,
    /// How often it was released after its request had been forwarded (S73).
    pub releases: u32,
    /// How often its answer was asked for again. Each number is one holder's turn.
    pub redemptions: u32,
    /// The day whose allowance of its payer it uses up; `None` when it uses none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub day: Option<Day>,
    /// Where settling it was declined by somebody whose word is not the last one; `None` when nobody has to look again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub declined: Option<Declined>,
    /// When it was first reserved.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
}

/// A facilitator has declined to settle, and our node showed nothing else. It may still send what was signed, so until
/// that is good for nothing any more somebody looks at the chain (S16).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Declined {
    /// Who declined.
    pub facilitator: Arc<str>,
    /// When somebody looks at the chain next.
    pub check_at: Timestamp,
    /// How often somebody has set out to look.
    pub checks: u32,
}

/// How far a payment has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum State {
    /// One request holds it; no money has moved.
    Reserved {
        /// When the hold lapses by itself.
        until: Timestamp,
    },
    /// Nobody holds it and nobody was charged; it may be presented again.
    Released,
    /// Released too often: it opens nothing any more (S73).
    Exhausted,
    /// Settlement was asked for. Money may have moved; only knowledge ends this.
    Settling {
        /// Since when.
        since: Timestamp,
        /// Who was asked; no other ever is.
        facilitator: Arc<str>,
        /// The transaction, when it is known.
        transaction: Option<TransactionHash>,
        /// When reconciliation looks at it next.
        check_at: Timestamp,
        /// How often somebody looked and could not tell.
        checks: u32,
        /// Whether the client that asked for it has left, so that nobody waits for it any more.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        left: bool,
    },
    /// Paid.
    Settled {
        /// The proof.
        receipt: Arc<Receipt>,
        /// Who settled it.
        facilitator: Arc<str>,
        /// Until when an answer that did not arrive may be collected.
        collect_by: Timestamp,
        /// What became of the answer.
        delivery: Delivery,
    },
}

/// What became of a paid answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "is")]
pub enum Delivery {
    /// No byte of it has reached the client.
    Pending,
    /// One request is collecting it.
    Leased {
        /// When that lapses by itself.
        until: Timestamp,
    },
    /// Some bytes reached the client (S74).
    Partial,
    /// All of it was written.
    Done {
        /// What was answered, where the route keeps answers.
        answer: Option<Arc<Answer>>,
    },
    /// The seller owes the money back.
    RefundDue,
    /// The seller paid it back.
    Refunded {
        /// In this transaction.
        transaction: TransactionHash,
    },
}

/// An answer kept for `replay: same_answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header fields as they were sent, without connection-level ones.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, bounded.
    #[serde(with = "base64")]
    pub body: Bytes,
    /// SHA-256 of the request body it answers.
    pub request_body: B256,
    /// Until when it is repeated.
    pub until: Timestamp,
}

impl Entry {
    /// When somebody has to look at it next; `None` when it waits for nothing.
    ///
    /// A settlement, and one that was declined, is looked at by reconciliation; a delivery that lapsed, was not collected
    /// in time, or keeps an answer that has served its time, by the ledger itself.
    pub fn due(&self) -> Option<Timestamp> {
        let declined = self.declined.as_ref().map(|declined| declined.check_at);
        match &self.state {
            State::Released | State::Exhausted => declined,
            // Whoever holds it may be about to settle it.
            State::Reserved { until } => declined.map(|check_at| check_at.max(*until)),
            State::Settling { check_at, .. } => Some(*check_at),
            State::Settled { delivery, collect_by, .. } => match delivery {
                Delivery::Pending => Some(*collect_by),
                Delivery::Leased { until } => Some(*until),
                Delivery::Done { answer } => answer.as_ref().map(|answer| answer.until),
                Delivery::Partial | Delivery::RefundDue | Delivery::Refunded { .. } => None,
            },
        }
    }

    /// From when on it may be forgotten: never while its authorization could still be presented (S67), and never
    /// (`None`) while something about it is open.
    pub fn forget_after(&self) -> Option<Timestamp> {
        let harmless = Timestamp::from_secs(self.sale.payment.authorization.valid_before()).after(MARGIN);
        match &self.state {
            // Somebody is still to look whether it was settled all the same.
            State::Reserved { .. } | State::Released | State::Exhausted if self.declined.is_some() => None,
            State::Reserved { until } => Some(harmless.max(*until)),
            State::Released | State::Exhausted => Some(harmless),
            State::Settling { .. } => None,
            State::Settled { delivery, .. } => match delivery {
                Delivery::Pending | Delivery::Leased { .. } => None,
                Delivery::Partial | Delivery::Done { .. } | Delivery::RefundDue | Delivery::Refunded { .. } => {
                    Some(harmless.max(self.updated.after(RECORD)))
                }
            },
        }
    }

    /// Whether its payer waits for something that is nobody's work just now: to learn how it ended, or to collect
    /// what it bought.
    pub fn left_open(&self) -> bool {
        matches!(self.state, State::Settling { .. } | State::Settled { delivery: Delivery::Pending, .. })
    }

    /// The transaction it settled in, or is thought to settle in.
    pub fn transaction(&self) -> Option<TransactionHash> {
        match &self.state {
            State::Settling { transaction, .. } => *transaction,
            State::Settled { receipt, .. } => Some(receipt.transaction),
            State::Reserved { .. } | State::Released | State::Exhausted => None,
        }
    }
}

impl State {
    /// Every word that `name` can say.
    pub const NAMES: [&'static str; 10] = [
        "reserved",
        "released",
        "exhausted",
        "settling",
        "undelivered",
        "delivering",
        "partial",
        "delivered",
        "refund_due",
        "refunded",
    ];

    /// The word for `ledger list --state` and for metrics. A settled payment is called by what became of its answer.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Reserved { .. } => "reserved",
            Self::Released => "released",
            Self::Exhausted => "exhausted",
            Self::Settling { .. } => "settling",
            Self::Settled { delivery, .. } => match delivery {
                Delivery::Pending => "undelivered",
                Delivery::Leased { .. } => "delivering",
                Delivery::Partial => "partial",
                Delivery::Done { .. } => "delivered",
                Delivery::RefundDue => "refund_due",
                Delivery::Refunded { .. } => "refunded",
            },
        }
    }
}

/// A kept body as one base64 text; JSON would spell it out as a list of numbers.
mod base64 {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(body))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD.decode(text).map(Bytes::from).map_err(serde::de::Error::custom)
    }
}
