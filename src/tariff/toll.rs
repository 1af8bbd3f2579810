//! What a route asks for letting a request through.

use std::sync::Arc;
use std::time::Duration;

use crate::payment::{Offer, Replay, SettleMode};

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
