//! The life of an entry as one pure function.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::B256;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::payment::{Payment, QuoteDigest, Receipt, TransactionHash};
use crate::primitives::Timestamp;

/// What a payment was presented for. Fixed when it is reserved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sale {
    /// The terms and the signature: enough to settle or to ask again after a restart.
    pub payment: Payment,
    /// The route that is sold (S7).
    pub route: String,
    /// A digest of host, method, canonical path and query: the identical request (SAFETY, "Identical request").
    pub request: B256,
    /// The request line, for people; the query is dropped.
    pub request_line: String,
    /// The quote it was first presented with; without one nothing is ever redelivered (S75).
    pub quote: Option<QuoteDigest>,
}

/// What the ledger remembers of one payment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it was presented for.
    pub sale: Arc<Sale>,
    /// How far it has come.
    pub state: State,
    /// How often it was released after its request had been forwarded (S73).
    pub releases: u32,
    /// How often its answer was asked for again.
    pub redemptions: u32,
    /// When it was first reserved.
    pub created: Timestamp,
    /// When it last changed.
    pub updated: Timestamp,
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
        facilitator: String,
        /// The transaction, when it is known.
        transaction: Option<TransactionHash>,
        /// When reconciliation looks at it next.
        check_at: Timestamp,
        /// How often reconciliation has looked.
        checks: u32,
    },
    /// Paid.
    Settled {
        /// The proof.
        receipt: Receipt,
        /// Who settled it.
        facilitator: String,
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
        answer: Option<Answer>,
    },
    /// The seller owes the money back.
    RefundDue,
}

/// An answer kept for `replay: same_answer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// Header fields as they were sent, without connection-level ones.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body, bounded.
    pub body: Bytes,
    /// SHA-256 of the request body it answers.
    pub request_body: B256,
    /// Until when it is repeated.
    pub until: Timestamp,
}

/// How a delivery ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivered {
    /// No byte reached the client: what was leased is pending again.
    Nothing,
    /// Some did.
    Partial,
    /// All did.
    Done(Option<Answer>),
}

/// What can happen to an entry.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request wants to hold the payment until then.
    Reserve {
        /// What it is presented for.
        sale: Arc<Sale>,
        /// When the hold lapses by itself.
        until: Timestamp,
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
        facilitator: String,
        /// The transaction, when it is already known.
        transaction: Option<TransactionHash>,
        /// When reconciliation may look.
        check_at: Timestamp,
    },
    /// Reconciliation looked and still cannot tell.
    StillUnknown {
        /// The transaction, when it has become known.
        transaction: Option<TransactionHash>,
        /// When to look again.
        check_at: Timestamp,
    },
    /// The money moved.
    Settle {
        /// The proof.
        receipt: Receipt,
    },
    /// It is proven that the money did not and will not move by what was asked.
    Decline,
    /// A request wants to collect a settled, undelivered answer.
    Redeem {
        /// When its lease lapses by itself.
        until: Timestamp,
        /// How many redemptions are allowed.
        max_redemptions: u32,
    },
    /// A delivery ended.
    Deliver(Delivered),
    /// The answer was not collected in time or in the allowed attempts, or cannot be redeemed at all.
    GiveUp,
}

/// The event does not fit the state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ledger entry is in another state")]
pub struct Conflict;

/// How long a release that is not counted, a lapse or a settled record outlives the authorization (S67).
pub const MARGIN: Duration = Duration::from_secs(3600);
