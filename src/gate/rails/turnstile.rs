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

use super::meter::Meter;
use crate::primitives::Payer;
use crate::tariff::{CountBy, Limits};

/// When to come back while a route is full: somebody inside is done within seconds.
const WHEN_FULL: Duration = Duration::from_secs(1);

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Who {
    /// Everybody's.
    Everybody,
    /// Those of one [`subscriber`].
    Client(IpAddr),
    /// Those that one payer pays for.
    Payer(Payer),
    /// Those of whoever came when the meter was full, told apart only so far.
    Crowd(u64),
}

/// Somebody has to wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Crowded {
    /// For this long.
    pub wait: Duration,
}

/// The turnstile of a route.
#[derive(Debug)]
pub struct Turnstile {
    limits: Limits,
    meter: Option<Arc<Meter>>,
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
    /// One that holds a route to its limits; `None` where they hold nobody back. It goes on counting where the one
    /// `before` counted the same: arrivals at the same rate, and whoever is inside, however many that may be from now on.
    pub fn of(limits: &Limits, before: Option<&Self>) -> Option<Self> {
        if !limits.hold_back() {
            return None;
        }
        let counted = before.filter(|before| before.limits.rate_by == limits.rate_by);
        let counted = counted.and_then(|before| before.meter.as_ref());
        let meter = limits.rate.map(|rate| match counted.filter(|meter| meter.is_of(rate)) {
            Some(meter) => Arc::clone(meter),
            None => Arc::new(Meter::of(rate)),
        });
        let inside = before.filter(|before| before.limits.concurrency_by == limits.concurrency_by);
        let inside = inside.map(|before| Arc::clone(&before.inside)).unwrap_or_default();
        Some(Self { limits: *limits, meter, inside })
    }

    /// A request arrives. On a free route it is about to be forwarded. Of a priced one nobody knows yet whether anybody
    /// pays for it: it counts only as its client's, so that whoever does not pay takes nothing from those who do.
    ///
    /// # Errors
    /// When it has to wait.
    pub fn arrive(&self, client: Option<IpAddr>, free: bool) -> Result<Option<Slot>, Crowded> {
        self.pass(|by| match by {
            CountBy::Client => Some(Who::client(client)),
            CountBy::Route => free.then_some(Who::Everybody),
            CountBy::Payer => None,
        })
    }

    /// It is proven who pays for it, with a payment that no other request holds or has held.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive).
    pub fn pay(&self, payer: Payer) -> Result<Option<Slot>, Crowded> {
        self.pass(|by| (by == CountBy::Payer).then_some(Who::Payer(payer)))
    }

    /// It is about to be forwarded, or to be settled for that.
    ///
    /// # Errors
    /// As [`arrive`](Self::arrive).
    pub fn forward(&self) -> Result<Option<Slot>, Crowded> {
        self.pass(|by| (by == CountBy::Route).then_some(Who::Everybody))
    }

    /// It was paid for earlier and is about to be forwarded for that. It is let in however many are inside, because each
    /// try at an answer that was paid for counts; others wait until it has left.
    pub fn collect(&self, payer: Payer) -> Option<Slot> {
        self.limits.concurrency?;
        let who = match self.limits.concurrency_by {
            CountBy::Route => Who::Everybody,
            CountBy::Payer => Who::Payer(payer),
            // It was counted when it arrived.
            CountBy::Client => return None,
        };
        self.enter(who, NonZeroU32::MAX).ok()
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
    pub(super) fn client(address: Option<IpAddr>) -> Self {
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
    use crate::primitives::Rate;

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
        (0..10).filter(|_| turnstile.arrive(client(from), true).is_ok()).count()
    }

    #[test]
    fn a_route_without_limits_has_no_turnstile() {
        assert!(Turnstile::of(&limits(), None).is_none());
    }

    #[test]
    fn a_client_is_an_address_or_a_network_of_ipv6() {
        let turnstile = Turnstile::of(&Limits { rate: an_hour(3), ..limits() }, None).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 3);
        assert_eq!(passes(&turnstile, "::ffff:192.0.2.1"), 0, "the same address, as a dual-stack socket shows it");
        assert_eq!(passes(&turnstile, "192.0.2.2"), 3);
        assert_eq!(passes(&turnstile, "2001:db8::1"), 3);
        assert_eq!(passes(&turnstile, "2001:db8::2:3:4"), 0, "the same subscriber");
        assert_eq!(passes(&turnstile, "2001:db8:0:1::1"), 3);
    }

    #[test]
    fn a_wait_is_as_long_as_a_share_of_the_time() {
        let turnstile = Turnstile::of(&Limits { rate: an_hour(2), ..limits() }, None).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 2);
        let crowded = turnstile.arrive(client("192.0.2.1"), true).expect_err("two have passed");
        assert!(crowded.wait <= Duration::from_secs(1800), "{crowded:?}");
        assert!(crowded.wait > Duration::from_secs(1700), "{crowded:?}");
    }

    #[test]
    fn who_leaves_makes_room() {
        let turnstile = Turnstile::of(&Limits { concurrency: some(2), ..limits() }, None).expect("a limit");
        let enter = || turnstile.arrive(client("192.0.2.1"), true);
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
        let turnstile = Turnstile::of(&by_payer, None).expect("a rate");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 10, "nobody has paid yet");
        assert!(turnstile.pay(payer(1)).is_ok());
        assert!(turnstile.pay(payer(1)).is_err());
        assert!(turnstile.pay(payer(2)).is_ok());
    }

    #[test]
    fn who_finds_no_room_has_used_up_no_share() {
        let both = Limits { rate: an_hour(2), concurrency: some(1), ..limits() };
        let turnstile = Turnstile::of(&both, None).expect("limits");
        let inside = turnstile.arrive(client("192.0.2.1"), true).expect("there is room");
        assert_eq!(passes(&turnstile, "192.0.2.1"), 0);
        drop(inside);
        assert_eq!(passes(&turnstile, "192.0.2.1"), 1, "one of the two is left");
    }

    #[test]
    fn rates_of_any_size_count() {
        for (requests, per) in [(u32::MAX, Duration::from_millis(1)), (1, Duration::from_secs(86_400 * 365))] {
            let rate = some(requests).map(|requests| Rate { requests, per });
            let turnstile = Turnstile::of(&Limits { rate, ..limits() }, None).expect("a rate");
            assert!(turnstile.arrive(client("192.0.2.1"), true).is_ok(), "{requests} in {per:?}");
            turnstile.sweep();
        }
    }

    #[test]
    fn who_does_not_pay_takes_nothing_from_those_who_do() {
        let by_route = Limits { rate: an_hour(2), rate_by: CountBy::Route, concurrency: some(1), ..limits() };
        let turnstile = Turnstile::of(&by_route, None).expect("limits");
        let unpaid: Vec<_> = (0..10).map(|_| turnstile.arrive(client("192.0.2.1"), false)).collect();
        assert!(unpaid.iter().all(|arrived| matches!(arrived, Ok(None))), "{unpaid:?}");
        let inside = turnstile.forward().expect("nobody has paid before").expect("it takes a place");
        assert!(turnstile.forward().is_err(), "it is full");
        drop(inside);
        assert!(turnstile.forward().is_ok());
        assert!(turnstile.forward().is_err(), "two have come");
    }

    #[test]
    fn what_was_paid_for_earlier_is_let_in_and_counts() {
        let turnstile = Turnstile::of(&Limits { concurrency: some(1), ..limits() }, None).expect("a limit");
        let inside = turnstile.forward().expect("there is room");
        let collected = turnstile.collect(payer(1));
        drop(inside);
        assert!(turnstile.forward().is_err(), "the other is still there");
        drop(collected);
        assert!(turnstile.forward().is_ok());
    }

    #[test]
    fn what_does_not_change_what_is_counted_goes_on_counting() {
        let before = Limits { rate: an_hour(2), concurrency: some(3), ..limits() };
        let old = Turnstile::of(&before, None).expect("limits");
        let inside = old.arrive(client("192.0.2.1"), true).expect("there is room");
        let after = Limits { request_body: 1, timeout: Duration::from_secs(9), concurrency: some(1), ..before };
        let new = Turnstile::of(&after, Some(&old)).expect("limits");
        assert!(new.arrive(client("192.0.2.2"), true).is_err(), "one is inside");
        drop(inside);
        assert_eq!(passes(&new, "192.0.2.1"), 1, "one of the two is left");
        let faster = Turnstile::of(&Limits { rate: an_hour(5), ..after }, Some(&new)).expect("limits");
        assert_eq!(passes(&faster, "192.0.2.1"), 5);
        assert!(Turnstile::of(&limits(), Some(&faster)).is_none());
    }
}
