//! What a route asks for letting a request through.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::payment::{Offer, SettleMode};

/// What happens to a request that matches a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Charge {
    /// Let through; an operator wrote `free` where a reviewer sees it (S42).
    Free,
    /// Refused as if it were not listed.
    Deny,
    /// Let through once paid for.
    Toll(Arc<Toll>),
}

/// The price of a route and everything the payment pipeline needs to know about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toll {
    /// Terms, the preferred first. Never empty.
    pub offers: Vec<Offer>,
    /// When the client is charged.
    pub settle: SettleMode,
    /// What a settled payment still opens.
    pub replay: Replay,
    /// How long a quoted price is honoured after it changed.
    pub offer_ttl: Duration,
    /// How long a reservation excludes others: `limits.timeout` + settle timeout + 6 s + 30 s (SAFETY, "Times").
    pub hold: Duration,
    /// How much of an authorization's life must be left when it is presented.
    pub margin: Duration,
    /// What a person reads in the 402. May be empty.
    pub description: String,
    /// What the answer is. May be empty.
    pub mime_type: String,
}

/// What a settled payment still opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Nothing.
    Refuse,
    /// The request may be forwarded again if no byte of an answer reached the client (S25, S74, S75).
    Redeliver,
    /// As `redeliver`; and an answer that was delivered is repeated from store, for a while.
    SameAnswer,
}

impl Replay {
    /// The word in `gateway.yaml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Redeliver => "redeliver",
            Self::SameAnswer => "same_answer",
        }
    }
}
