//! Where requests go: the API behind the gateway.

mod balance;
mod config;
mod deadline;
mod health;
mod peer;
mod place;
mod tls;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;
use http::header::HOST;
use pingora::http::RequestHeader;
use pingora::prelude::{HttpPeer, Result};

use super::fields;

pub use config::{Address, Auth, AuthError, Balance, Config, Health, Host, Retry, Target};
pub(super) use deadline::Deadline;
pub use health::Patrol;
use place::{Place, Spot, Standing};
pub(super) use place::{Seat, Tried};
pub use tls::{Authorities, Identity, Tls, TlsError};

/// How long a name look-up may take.
const LOOKUP: Duration = Duration::from_secs(3);

/// An upstream with the places its names stand for just now.
pub struct Upstream {
    config: Config,
    places: ArcSwap<Vec<Arc<Place>>>,
    turn: AtomicUsize,
    /// Which targets have names that could not be looked up the last time.
    lost: Vec<AtomicBool>,
}

impl Upstream {
    /// An upstream whose names are still to be looked up. What was known `before` of addresses that stay is kept.
    pub fn new(config: Config, before: Option<&Self>) -> Self {
        let known = before.map(|before| before.places.load_full()).unwrap_or_default();
        let turn = before.map_or(0, |before| before.turn.load(Ordering::Relaxed));
        let lost = config.targets.iter().map(|_| AtomicBool::new(false)).collect();
        let upstream = Self { config, places: ArcSwap::default(), turn: AtomicUsize::new(turn), lost };
        if before.is_some_and(|before| before.config.health != upstream.config.health) {
            // What was found by other looks, or by looks that nobody takes any more, says nothing.
            known.iter().for_each(|place| place.standing.forget_looks());
        }
        let mut spots = Vec::new();
        for (number, target) in upstream.config.targets.iter().enumerate() {
            let earlier = before.and_then(|before| before.config.targets.iter().position(|other| other == target));
            let earlier = known.iter().filter(|place| Some(place.target) == earlier).map(|place| place.spot.clone());
            match at_once(&target.address) {
                Some(spot) => spots.push((number, spot)),
                None => spots.extend(earlier.map(|spot| (number, spot))),
            }
        }
        upstream.settle(spots, &known);
        upstream
    }

    /// What the file says of it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Each target, and whether it takes requests at one address at least.
    pub fn census(&self) -> Vec<(Arc<str>, bool)> {
        let places = self.places.load();
        let is_up = |number| places.iter().any(|place| place.target == number && place.standing.is_up());
        self.config
            .targets
            .iter()
            .enumerate()
            .map(|(number, target)| (Arc::clone(&target.name), is_up(number)))
            .collect()
    }

    /// Looks its names up anew. Never on the path of a request: Pingora would block there (PINGORA, 5). Every address of
    /// a name is a place of its own, as a headless Service means it; a name that cannot be looked up keeps the addresses
    /// it had.
    pub async fn resolve(&self) {
        let known = self.places.load_full();
        // All at once: names that nobody answers for must not hold up the others.
        let found = join_all(self.config.targets.iter().map(|target| look_up(&target.address))).await;
        let mut spots = Vec::new();
        for (number, found) in found.into_iter().enumerate() {
            let was_lost = self.lost[number].swap(found.is_err(), Ordering::Relaxed);
            match found {
                Ok(found) => spots.extend(found.into_iter().map(|spot| (number, spot))),
                Err(why) => {
                    if !was_lost {
                        let (upstream, target) = (&*self.config.name, &*self.config.targets[number].name);
                        tracing::warn!(upstream, target, why, "a backend's name cannot be looked up");
                    }
                    let kept = known.iter().filter(|place| place.target == number);
                    spots.extend(kept.map(|place| (number, place.spot.clone())));
                }
            }
        }
        if !known.iter().map(|place| (place.target, &place.spot)).eq(spots.iter().map(|(number, spot)| (*number, spot)))
        {
            self.settle(spots, &known);
        }
    }

    /// Makes these its places. An address that stays keeps its standing.
    fn settle(&self, spots: Vec<(usize, Spot)>, known: &[Arc<Place>]) {
        let places = spots.into_iter().filter_map(|(number, spot)| {
            let standing = known.iter().find(|place| place.spot == spot).map(|place| Arc::clone(&place.standing));
            let standing = standing.unwrap_or_else(|| Arc::new(Standing::new(&self.config.name, &spot)));
            Place::new(&self.config, number, spot, standing).map(Arc::new)
        });
        self.places.store(Arc::new(places.collect()));
    }

    /// How long a client should wait before it asks again, when nothing can be brought to the backend. What is `prepaid`
    /// is held back too where connections cannot be made: others may still find out whether they can (S77).
    pub(super) fn outage(&self, prepaid: bool) -> Option<Duration> {
        let places = self.places.load();
        if places.iter().any(|place| !place.standing.is_known_down()) {
            return None;
        }
        let looks = self.config.health.as_ref().map(|health| health.every * health.healthy_after);
        let sick = looks.filter(|_| places.iter().all(|place| place.standing.is_sick()));
        sick.or_else(|| prepaid.then_some(health::TRY_AGAIN))
    }

    /// Where a request goes that could not be brought to the places that were `tried`. `None` when no place is known.
    pub(super) fn choose(&self, client: Option<IpAddr>, tried: &[Tried]) -> Option<Seat> {
        let places = self.places.load();
        let place = match &places[..] {
            [] => return None,
            [only] => only,
            several => {
                let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                balance::choose(several, self.config.balance, turn, client, tried)?
            }
        };
        Some(Seat::take(place, self.config.balance == Balance::LeastConnections))
    }

    /// Whether another place may be tried after these.
    pub(super) fn has_more(&self, tried: &[Tried]) -> bool {
        let untried = |place: &Arc<Place>| !tried.iter().any(|tried| tried.is(place));
        self.config.retry == Retry::ConnectError && self.places.load().iter().any(untried)
    }

    /// How the chosen place is reached. `timeout` is how long the backend may take to answer. Pingora has one clock for
    /// the head and for pauses in the body, and gets the longer time; the shorter one is a [`Deadline`].
    pub(super) fn peer(&self, seat: &Seat, timeout: Duration, upgrades: bool) -> Box<HttpPeer> {
        seat.place().peer(self.config.head(timeout).max(self.config.idle), upgrades)
    }

    /// The request as this backend gets it: under its name, and with the gateway's credential instead of whatever the
    /// client put there.
    pub(super) fn dress(&self, request: &mut RequestHeader, seat: &Seat) -> Result<()> {
        match &self.config.host {
            // HTTP/2 has no request without a name (RFC 9113, 8.3.1), and has it in a place of its own.
            Host::Preserve if !self.config.http2 || is_named(request) => {}
            Host::Preserve | Host::Upstream => request.insert_header(HOST, seat.place().authority.clone())?,
            Host::Literal(host) => request.insert_header(HOST, host.clone())?,
        }
        if let Some(auth) = &self.config.auth {
            fields::set_alone(request, &auth.header, auth.value.clone())?;
        }
        Ok(())
    }
}

/// Whether a request says which host it is for.
fn is_named(request: &RequestHeader) -> bool {
    request.headers.contains_key(HOST) || request.uri.authority().is_some()
}

/// The address of a target that needs no look-up.
fn at_once(address: &Address) -> Option<Spot> {
    match address {
        Address::Unix(path) => Some(Spot::Unix(path.clone())),
        Address::Tcp { host, port } => Some(Spot::Tcp(SocketAddr::new(host.parse().ok()?, *port))),
    }
}

/// Every address of a target, in an order that does not depend on that of the answer.
async fn look_up(address: &Address) -> Result<Vec<Spot>, String> {
    let (host, port) = match address {
        Address::Tcp { host, port } => (host.as_str(), *port),
        Address::Unix(path) => return Ok(vec![Spot::Unix(path.clone())]),
    };
    let mut found: Vec<_> = match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(addresses)) => addresses.map(Spot::Tcp).collect(),
        Ok(Err(error)) => return Err(error.to_string()),
        Err(_) => return Err("the look-up took too long".to_owned()),
    };
    found.sort();
    found.dedup();
    if found.is_empty() { Err("the name has no address".to_owned()) } else { Ok(found) }
}

#[cfg(test)]
mod tests;
