//! One address of a backend: how it is reached, and how it is doing.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use http::HeaderValue;
use pingora::prelude::HttpPeer;

use super::config::Health;

/// After so many connections in a row that could not be made, a place is known to be down: nobody is charged for it.
const KNOWN_DOWN: u32 = 3;
/// For how long a place is passed over after the first connection that could not be made; twice as long each time.
const PASSED_OVER: Duration = Duration::from_secs(1);
/// And never longer.
const LONGEST_PASSED_OVER: Duration = Duration::from_secs(30);

/// Whoever looks at a place has found something by then; if not, it is looked at again.
const LONGEST_LOOK: u64 = 60_000;

/// Times are kept as milliseconds since then, so that they fit into an atomic.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since the first look at a clock; never 0.
pub(super) fn now() -> u64 {
    u64::try_from(BEGINNING.elapsed().as_millis()).unwrap_or(u64::MAX - 1).saturating_add(1)
}

/// An address, as a name was looked up.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Spot {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// One address of a backend.
pub(super) struct Place {
    /// Which target it belongs to, by its number.
    pub(super) target: usize,
    pub(super) spot: Spot,
    /// How it is reached; copied for each request.
    pub(super) peer: HttpPeer,
    /// What it is called where the backend is to hear its own name.
    pub(super) authority: HeaderValue,
    pub(super) standing: Arc<Standing>,
}

/// How an address is doing. Outlives a look-up and a reload that leave the address where it is.
pub(super) struct Standing {
    /// As the log calls it.
    upstream: Arc<str>,
    spot: String,
    /// Connections in a row that could not be made.
    failures: AtomicU32,
    /// Until when it is passed over for that; 0 when it is not.
    out_until: AtomicU64,
    /// What the looks at it found.
    sick: AtomicBool,
    /// Looks in a row that found otherwise.
    differing: AtomicU32,
    /// When it is looked at next.
    next_look: AtomicU64,
    /// Requests under way; counted only where that decides something.
    under_way: AtomicU32,
}

impl Standing {
    pub(super) fn new(upstream: &Arc<str>, spot: &Spot) -> Self {
        Self {
            upstream: Arc::clone(upstream),
            spot: spot.to_string(),
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
            sick: AtomicBool::new(false),
            differing: AtomicU32::new(0),
            next_look: AtomicU64::new(0),
            under_way: AtomicU32::new(0),
        }
    }

    /// Whether it takes requests while there are others.
    pub(super) fn is_fit(&self) -> bool {
        if self.is_sick() {
            return false;
        }
        // The clock is looked at only for a place that was in trouble.
        match self.out_until.load(Ordering::Relaxed) {
            0 => true,
            until => until <= now(),
        }
    }

    /// Whether nothing speaks against it.
    pub(super) fn is_up(&self) -> bool {
        !self.is_sick() && self.failures.load(Ordering::Relaxed) == 0
    }

    /// Whether looks at it found it unwell.
    pub(super) fn is_sick(&self) -> bool {
        self.sick.load(Ordering::Relaxed)
    }

    /// Whether money must not be taken for what it would have to do.
    pub(super) fn is_known_down(&self) -> bool {
        self.is_sick() || self.failures.load(Ordering::Relaxed) >= KNOWN_DOWN
    }

    pub(super) fn under_way(&self) -> u32 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// A connection could not be made.
    pub(super) fn failed(&self) {
        let before = self.failures.fetch_add(1, Ordering::Relaxed);
        let pause = PASSED_OVER.saturating_mul(1 << before.min(10)).min(LONGEST_PASSED_OVER);
        self.out_until.store(now() + pause.as_millis() as u64, Ordering::Relaxed);
        if before == 0 {
            tracing::warn!(upstream = &*self.upstream, backend = self.spot, "a backend cannot be connected to");
        }
    }

    /// A connection was made.
    pub(super) fn connected(&self) {
        if self.failures.load(Ordering::Relaxed) == 0 {
            return;
        }
        self.out_until.store(0, Ordering::Relaxed);
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!(upstream = &*self.upstream, backend = self.spot, "a backend can be connected to again");
        }
    }

    /// Whether it is time to look at it. Whoever hears yes does so, and says with [`look_again`](Self::look_again)
    /// when the next time is.
    pub(super) fn is_due(&self, watched: bool) -> bool {
        let (due, now) = (self.next_look.load(Ordering::Relaxed), now());
        if due > now || (!watched && self.failures.load(Ordering::Relaxed) == 0) {
            return false;
        }
        self.next_look.compare_exchange(due, now + LONGEST_LOOK, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// As if nobody had looked at it yet.
    pub(super) fn forget_looks(&self) {
        self.sick.store(false, Ordering::Relaxed);
        self.differing.store(0, Ordering::Relaxed);
        self.next_look.store(0, Ordering::Relaxed);
    }

    pub(super) fn look_again(&self, after: Duration) {
        let after = u64::try_from(after.as_millis()).unwrap_or(u64::MAX / 2);
        self.next_look.store(now().saturating_add(after), Ordering::Relaxed);
    }

    /// What one look found. One look at a time: see [`is_due`](Self::is_due).
    pub(super) fn looked(&self, well: bool, health: &Health) {
        let sick = self.is_sick();
        if well != sick {
            self.differing.store(0, Ordering::Relaxed);
            return;
        }
        let needed = if well { health.healthy_after } else { health.unhealthy_after };
        if self.differing.fetch_add(1, Ordering::Relaxed) + 1 < needed {
            return;
        }
        self.differing.store(0, Ordering::Relaxed);
        self.sick.store(!well, Ordering::Relaxed);
        let (upstream, backend) = (&*self.upstream, &self.spot);
        if well {
            tracing::info!(upstream, backend, path = health.path, "a backend is healthy again");
        } else {
            tracing::warn!(upstream, backend, path = health.path, "a backend is unhealthy");
        }
    }
}

/// A place that was chosen for a request, for as long as the request goes there.
pub(in crate::proxy) struct Seat {
    place: Arc<Place>,
    counted: bool,
}

impl Seat {
    pub(super) fn take(place: &Arc<Place>, counted: bool) -> Self {
        if counted {
            place.standing.under_way.fetch_add(1, Ordering::Relaxed);
        }
        Self { place: Arc::clone(place), counted }
    }

    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// A connection to it was made.
    pub(in crate::proxy) fn connected(&self) {
        self.place.standing.connected();
    }

    /// No connection to it could be made.
    pub(in crate::proxy) fn failed(self) -> Tried {
        self.place.standing.failed();
        self.passed_over()
    }

    /// It does not offer what this request needs, which says nothing of how it is doing.
    pub(in crate::proxy) fn passed_over(self) -> Tried {
        Tried(Arc::clone(&self.place.standing))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if self.counted {
            self.place.standing.under_way.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// A place that a request could not be brought to.
pub(in crate::proxy) struct Tried(Arc<Standing>);

impl Tried {
    pub(super) fn is(&self, place: &Place) -> bool {
        Arc::ptr_eq(&self.0, &place.standing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing() -> Standing {
        Standing::new(&"app".into(), &Spot::Unix("/app.sock".into()))
    }

    #[test]
    fn a_place_is_passed_over_at_the_first_failure_and_known_to_be_down_after_three() {
        let standing = standing();
        assert!(standing.is_fit() && standing.is_up());
        standing.failed();
        assert!(!standing.is_fit() && !standing.is_up() && !standing.is_known_down());
        standing.failed();
        standing.failed();
        assert!(standing.is_known_down());
        standing.connected();
        assert!(standing.is_fit() && standing.is_up() && !standing.is_known_down());
    }

    #[test]
    fn it_is_passed_over_for_a_bounded_time() {
        let standing = standing();
        (0..100).for_each(|_| standing.failed());
        let until = standing.out_until.load(Ordering::Relaxed);
        assert!(until <= now() + LONGEST_PASSED_OVER.as_millis() as u64);
    }

    #[test]
    fn looks_count_only_in_a_row() {
        let standing = standing();
        let health = Health { path: "/".into(), every: PASSED_OVER, unhealthy_after: 3, healthy_after: 2 };
        for (well, sick) in [
            (false, false),
            (false, false),
            (true, false),
            (false, false),
            (false, false),
            (false, true),
            (true, true),
            (false, true),
            (true, true),
            (true, false),
        ] {
            standing.looked(well, &health);
            assert_eq!(standing.is_sick(), sick);
        }
    }

    #[test]
    fn one_look_at_a_time() {
        let standing = standing();
        assert!(!standing.is_due(false), "a place in no trouble is only looked at where the file says so");
        assert!(standing.is_due(true));
        assert!(!standing.is_due(true));
        standing.look_again(Duration::ZERO);
        assert!(standing.is_due(true));
    }
}
