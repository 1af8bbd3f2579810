//! How many requests came in a time, of each of those who are counted apart.
//!
//! Whoever may make up new names, addresses of IPv6 or payers, would fill the memory with them. So only so many are counted
//! each by itself; those who come when the meter is full share what is left, and those who are known stay known.

use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use governor::clock::{Clock, DefaultClock};
use governor::nanos::Nanos;
use governor::state::keyed::ShrinkableKeyedStateStore;
use governor::state::{InMemoryState, StateStore};
use governor::{Quota, RateLimiter};

use super::turnstile::{Crowded, Who};
use crate::primitives::Rate;

/// How many are counted each by itself: a few megabytes for each rate of a route.
const MOST_APART: usize = 100_000;
/// In how many groups everybody else is counted. One crowd is not held back for another, unless by chance.
const CROWDS: u64 = 1024;
/// How many entries more than are used a table may have room for before it is made smaller.
const SPARE: usize = 4096;

/// Counts arrivals.
#[derive(Debug)]
pub(super) struct Meter {
    rate: Rate,
    arrivals: RateLimiter<Who, Known, DefaultClock>,
    clock: DefaultClock,
}

impl Meter {
    pub(super) fn of(rate: Rate) -> Self {
        let clock = DefaultClock::default();
        Self { rate, arrivals: RateLimiter::new(quota(rate), Known::default(), clock.clone()), clock }
    }

    /// Whether it counts at this rate.
    pub(super) fn is_of(&self, rate: Rate) -> bool {
        self.rate == rate
    }

    /// Counts a request from this address.
    pub(super) fn count_client(&self, client: Option<IpAddr>) -> Result<(), Crowded> {
        self.count(Who::client(client))
    }

    pub(super) fn count(&self, who: Who) -> Result<(), Crowded> {
        let counted = self.arrivals.check_key(&who);
        counted.map_err(|not_until| Crowded { wait: not_until.wait_time_from(self.clock.now()) })
    }

    /// Forgets whoever has not come for so long that nothing of it counts any more.
    pub(super) fn sweep(&self) {
        self.arrivals.retain_recent();
        self.arrivals.shrink_to_fit();
    }
}

fn quota(rate: Rate) -> Quota {
    // A share of the time that is less than a nanosecond is one.
    let share = (rate.per / rate.requests.get()).max(Duration::from_nanos(1));
    let quota = Quota::with_period(share).unwrap_or_else(|| Quota::per_second(rate.requests));
    quota.allow_burst(rate.requests)
}

/// Those who came lately. Never more than [`MOST_APART`], those that come at the same moment, and the [`CROWDS`].
#[derive(Debug, Default)]
struct Known {
    table: DashMap<Who, InMemoryState>,
    /// Whether somebody is counted in a crowd. Said once, until there is room again.
    full: AtomicBool,
}

impl Known {
    /// As whom somebody is counted.
    fn place(&self, who: Who) -> Who {
        if self.table.contains_key(&who) || self.table.len() < MOST_APART {
            return who;
        }
        if !self.full.swap(true, Ordering::Relaxed) {
            tracing::warn!(most = MOST_APART, "a rate counts too many apart; whoever comes now shares it with others");
        }
        Who::Crowd(self.table.hasher().hash_one(who) % CROWDS)
    }
}

impl StateStore for Known {
    type Key = Who;

    fn measure_and_replace<T, F, E>(&self, who: &Who, measure: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        self.table.measure_and_replace(&self.place(*who), measure)
    }
}

impl ShrinkableKeyedStateStore<Who> for Known {
    fn retain_recent(&self, drop_below: Nanos) {
        ShrinkableKeyedStateStore::retain_recent(&self.table, drop_below);
        if self.table.len() < MOST_APART {
            self.full.store(false, Ordering::Relaxed);
        }
    }

    /// Making a table smaller moves every entry of it, so that is done where it gives back more than it moves.
    fn shrink_to_fit(&self) {
        if self.table.capacity() > self.table.len().saturating_mul(4) + SPARE {
            self.table.shrink_to_fit();
        }
    }

    fn len(&self) -> usize {
        self.table.len()
    }

    fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv6Addr;
    use std::num::NonZeroU32;

    use super::*;

    /// The clients of one provider of IPv6, each in a network of its own.
    fn client(number: usize) -> Option<IpAddr> {
        Some(Ipv6Addr::from_bits(0x2001_0db8 << 96 | (number as u128) << 64).into())
    }

    #[test]
    fn a_flood_of_new_names_fills_no_memory_and_holds_back_nobody_who_is_known() {
        let requests = NonZeroU32::new(2).expect("two");
        let meter = Meter::of(Rate { requests, per: Duration::from_secs(86_400) });
        assert!(meter.count_client(client(0)).is_ok());
        let strangers = MOST_APART + 10 * CROWDS as usize;
        let passed = (1..strangers).filter(|number| meter.count_client(client(*number)).is_ok()).count();
        assert!(meter.arrivals.len() <= MOST_APART + CROWDS as usize, "{}", meter.arrivals.len());
        assert!(passed < strangers - CROWDS as usize, "those that share a rate are held to it");
        assert!(meter.count_client(client(0)).is_ok(), "the second of its own two");
        assert!(meter.count_client(client(0)).is_err());
    }
}
