//! Which of several places takes a request.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::sync::Arc;

use super::config::Balance;
use super::place::{Place, Spot, Tried};

/// The place for this request: among those that are fit, or where none is, among all that have not been tried. The last
/// one is never given up on a guess.
pub(super) fn choose<'p>(
    places: &'p [Arc<Place>],
    balance: Balance,
    turn: usize,
    client: Option<IpAddr>,
    tried: &[Tried],
) -> Option<&'p Arc<Place>> {
    let (before, from) = places.split_at(turn.checked_rem(places.len())?);
    let left = from.iter().chain(before).filter(|place| !tried.iter().any(|tried| tried.is(place)));
    let fit = left.clone().filter(|place| place.standing.is_fit());
    best(fit, balance, client).or_else(|| best(left, balance, client))
}

fn best<'p>(
    mut places: impl Iterator<Item = &'p Arc<Place>>,
    balance: Balance,
    client: Option<IpAddr>,
) -> Option<&'p Arc<Place>> {
    match (balance, client) {
        // The first of equals: they still take turns.
        (Balance::LeastConnections, _) => places.min_by_key(|place| place.standing.under_way()),
        (Balance::Hash, Some(client)) => places.max_by_key(|place| weight(client, &place.spot)),
        (Balance::RoundRobin | Balance::Hash, _) => places.next(),
    }
}

/// Rendezvous hashing: a place that comes or goes moves only the clients it takes or had. Every replica of one build
/// weighs alike.
fn weight(client: IpAddr, spot: &Spot) -> u64 {
    let mut hasher = DefaultHasher::new();
    client.hash(&mut hasher);
    spot.hash(&mut hasher);
    hasher.finish()
}
