//! What a route asks for letting a request through.

use std::fmt;
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

impl Charge {
    /// Whether this asks more than `other` does: `deny` more than any price, a price more than nothing.
    ///
    /// Of two prices this one is no stricter if whoever pays `other`, in any of its ways, pays at least as much of
    /// the same asset to the same payee as here. Prices in different assets cannot be compared, so they count as
    /// stricter.
    pub fn is_stricter_than(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Free, _) | (_, Self::Deny) => false,
            (Self::Deny, _) | (Self::Toll(_), Self::Free) => true,
            (Self::Toll(own), Self::Toll(other)) => {
                !Arc::ptr_eq(own, other)
                    && !other.offers.iter().all(|paid| own.offers.iter().any(|asked| covers(paid, asked)))
            }
        }
    }
}

/// As people write it: `free`, `deny`, `$0.01`, or `$0.05 on base, $0.06 on polygon`.
impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Free => f.write_str("free"),
            Self::Deny => f.write_str("deny"),
            Self::Toll(toll) => toll.fmt(f),
        }
    }
}

/// The price, with networks only where it depends on them.
impl fmt::Display for Toll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let prices: Vec<String> = self.offers.iter().map(Offer::price).collect();
        if let Some(price) = prices.first().filter(|first| prices.iter().all(|price| price == *first)) {
            return f.write_str(price);
        }
        for (position, (price, offer)) in prices.iter().zip(&self.offers).enumerate() {
            let comma = if position > 0 { ", " } else { "" };
            write!(f, "{comma}{price} on {}", offer.network.name)?;
        }
        Ok(())
    }
}

fn covers(paid: &Offer, asked: &Offer) -> bool {
    paid.network.id == asked.network.id
        && paid.asset.address == asked.asset.address
        && paid.pay_to == asked.pay_to
        && paid.amount >= asked.amount
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
    /// Whether the route itself says so: only then is anything but GET and HEAD asked of the backend twice (S25).
    pub replay_explicit: bool,
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
    /// What one payment buys of a WebSocket; none are sold if there is none (S51).
    pub tunnel: Option<Tunnel>,
}

/// How much of an upgraded connection one payment buys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tunnel {
    /// For how long.
    pub lasts: Duration,
    /// How many bytes may pass, both ways together.
    pub bytes: u64,
}
