//! Turnstiles: how many requests a route lets through in a time, and how many may be inside at once.
//!
//! What is counted lives in this process alone, and is forgotten when it ends: it protects a backend from a crowd and
//! decides nothing about money. Whoever is held back hears 429, with the payment untouched.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};

use crate::primitives::{Payer, Rate};
use crate::tariff::{CountBy, Limits};

/// When to come back while a route is full: somebody inside is done within seconds.
const WHEN_FULL: Duration = Duration::from_secs(1);

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Who {
    /// Everybody's.
    Everybody,
    /// Those of one [`subscriber`].
    Client(IpAddr),
    /// Those that one payer pays for.
    Payer(Payer),
}

/// Somebody has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded {
    /// For this long.
    pub wait: Duration,
}

/// Counts arrivals.
#[derive(Debug)]
pub(super) struct Meter {
    rate: Rate,
    arrivals: DefaultKeyedRateLimiter<Who>,
    clock: DefaultClock,
}

impl Meter {
    pub(super) fn of(rate: Rate) -> Self {
        Self { rate, arrivals: RateLimiter::keyed(quota(rate)), clock: DefaultClock::default() }
    }

    /// Whether it counts at this rate.
    pub(super) fn is_of(&self, rate: Rate) -> bool {
        self.rate == rate
    }

    /// Counts a request from this address.
    pub(super) fn count_client(&self, client: Option<IpAddr>) -> Result<(), Crowded> {
        self.count(Who::client(client))
    }

    fn count(&self, who: Who) -> Result<(), Crowded> {
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

/// The turnstile of a route.
#[derive(Debug)]
pub struct Turnstile {
    limits: Limits,
    meter: Option<Meter>,
    inside: Arc<DashMap<Who, u32>>,
}

/// Somebody is inside until this is dropped.
#[derive(Debug)]
pub struct Slot {
    who: Who,
    inside: Arc<DashMap<Who, u32>>,
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Entry::Occupied(mut inside) = self.inside.entry(self.who) {
            match inside.get().checked_sub(1) {
                None | Some(0) => drop(inside.remove()),
                Some(left) => *inside.get_mut() = left,
            }
        }
    }
}

impl Turnstile {
    /// One that holds a route to its limits; `None` where they hold nobody back.
    pub fn of(limits: &Limits) -> Option<Self> {
        let meter = limits.rate.map(Meter::of);
        limits.hold_back().then(|| Self { limits: *limits, meter, inside: Arc::default() })
    }

    /// Whether it holds a route to these limits, so that what it has counted goes on counting.
    pub fn holds_to(&self, limits: &Limits) -> bool {
        self.limits == *limits
    }

    /// A request arrives; nobody knows yet who pays for it, if anybody does.
    ///
    /// # Errors
    /// When it has to wait.
    pub fn arrive(&self, client: Option<IpAddr>) -> Result<Option<Slot>, Crowded> {
        self.pass(|by| match by {
            CountBy::Route => Some(Who::Everybody),
            CountBy::Client => Some(Who::client(client)),
            CountBy::Payer => None,
        })
    }

    /// It is proven who pays for it.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive).
    pub fn pay(&self, payer: Payer) -> Result<Option<Slot>, Crowded> {
        self.pass(|by| (by == CountBy::Payer).then_some(Who::Payer(payer)))
    }

    /// Forgets whoever has not come for long.
    pub fn sweep(&self) {
        if let Some(meter) = &self.meter {
            meter.sweep();
        }
    }

    /// Room first: whoever is held back for want of it has used up nothing.
    fn pass(&self, who: impl Fn(CountBy) -> Option<Who>) -> Result<Option<Slot>, Crowded> {
        let slot = match (self.limits.concurrency, who(self.limits.concurrency_by)) {
            (Some(most), Some(who)) => Some(self.enter(who, most)?),
            _ => None,
        };
        if let (Some(meter), Some(who)) = (&self.meter, who(self.limits.rate_by)) {
            meter.count(who)?;
        }
        Ok(slot)
    }

    fn enter(&self, who: Who, most: NonZeroU32) -> Result<Slot, Crowded> {
        let mut inside = self.inside.entry(who).or_insert(0);
        if *inside >= most.get() {
            return Err(Crowded { wait: WHEN_FULL });
        }
        *inside += 1;
        drop(inside);
        Ok(Slot { who, inside: Arc::clone(&self.inside) })
    }
}

impl Who {
    /// Clients without an address, on a Unix socket, are one.
    fn client(address: Option<IpAddr>) -> Self {
        Self::Client(address.map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), subscriber))
    }
}

/// Whom an address stands for where clients are counted: of IPv6 that is a network of 64 bits, which is what a single
/// subscriber has.
pub fn subscriber(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        // This machine is no network, and has one address.
        IpAddr::V6(address) if !address.is_loopback() => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::Address;

    use super::*;

    fn limits() -> Limits {
        Limits::new(0, Duration::from_secs(1))
    }

    fn some(number: u32) -> Option<NonZeroU32> {
        NonZeroU32::new(number)
    }

    /// Slow enough that no test lasts until somebody has a share again.
    fn an_hour(requests: u32) -> Option<Rate> {
        some(requests).map(|requests| Rate { requests, per: Duration::from_secs(3600) })
    }

    fn client(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    fn payer(byte: u8) -> Payer {
        Payer(Address::repeat_byte(byte))
    }

    fn passes(turnstile: &Turnstile, from: &str) -> usize {
        (0..10).filter(|_| turnstile.arrive(client(from)).is_ok()).count()
    }

    #[test]
    fn a_route_without_limits_has_no_turnstile() {
        assert!(Turnstile::of(&limits()).is_none());
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let turnstile = Turnstile::of(&Limits { rate: an_hour(3), ..limits() }).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 3);
        assert_eq!(passes(&turnstile, "::ffff:192.0.2.1"), 0, "the same address, as a dual-stack socket shows it");
        assert_eq!(passes(&turnstile, "192.0.2.2"), 3);
        assert_eq!(passes(&turnstile, "2001:db8::1"), 3);
        assert_eq!(passes(&turnstile, "2001:db8::2:3:4"), 0, "the same subscriber");
        assert_eq!(passes(&turnstile, "2001:db8:0:1::1"), 3);
    }

    #[test]
    fn a_wait_is_as_long_as_a_share_of_the_time() {
        let turnstile = Turnstile::of(&Limits { rate: an_hour(2), ..limits() }).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 2);
        let crowded = turnstile.arrive(client("192.0.2.1")).expect_err("two have passed");
        assert!(crowded.wait <= Duration::from_secs(1800), "{crowded:?}");
        assert!(crowded.wait > Duration::from_secs(1700), "{crowded:?}");
    }

    #[test]
    fn who_leaves_makes_room() {
        let turnstile = Turnstile::of(&Limits { concurrency: some(2), ..limits() }).expect("a limit");
        let enter = || turnstile.arrive(client("192.0.2.1"));
        let first = enter().expect("there is room");
        let second = enter().expect("there is room");
        assert_eq!(enter().expect_err("it is full"), Crowded { wait: WHEN_FULL });
        drop(first);
        let third = enter().expect("somebody has left");
        drop((second, third));
        assert!(turnstile.inside.is_empty(), "nobody is remembered who is not inside");
    }

    #[test]
    fn a_payer_is_counted_when_it_is_proven_who_pays() {
        let by_payer = Limits { rate: an_hour(1), rate_by: CountBy::Payer, ..limits() };
        let turnstile = Turnstile::of(&by_payer).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 10, "nobody has paid yet");
        assert!(turnstile.pay(payer(1)).is_ok());
        assert!(turnstile.pay(payer(1)).is_err());
        assert!(turnstile.pay(payer(2)).is_ok());
    }

    #[test]
    fn who_finds_no_room_has_used_up_no_share() {
        let both = Limits { rate: an_hour(2), concurrency: some(1), ..limits() };
        let turnstile = Turnstile::of(&both).expect("limits");
        let inside = turnstile.arrive(client("192.0.2.1")).expect("there is room");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 0);
        drop(inside);
        assert_eq!(passes(&turnstile, "192.0.2.1"), 1, "one of the two is left");
    }

    #[test]
    fn rates_of_any_size_count() {
        for (requests, per) in [(u32::MAX, Duration::from_millis(1)), (1, Duration::from_secs(86_400 * 365))] {
            let rate = some(requests).map(|requests| Rate { requests, per });
            let turnstile = Turnstile::of(&Limits { rate, ..limits() }).expect("a rate");
            assert!(turnstile.arrive(client("192.0.2.1")).is_ok(), "{requests} in {per:?}");
            turnstile.sweep();
        }
    }
}
