//! What does this route cost?
//!
//! The price table maps methods and paths to what a request costs. The more specific path wins, then the more
//! specific method; order never matters. A table in which some request would have no single winner is refused whole,
//! with the line that would settle it.

mod board;
mod change;
mod collision;
mod crossing;
mod detour;
mod fold;
mod index;
mod key;
mod lanes;
mod lint;
mod methods;
mod overlap;
mod pattern;
mod reading;
mod rewrite;
mod route;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod tests;
mod toll;
mod trie;
mod undercut;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use http::Method;

pub use board::Board;
pub use change::{Change, Mark, changes};
pub use collision::{Collision, MAX_ARRANGEMENTS, MAX_CROSSINGS};
pub use detour::Detour;
use index::Index;
pub use key::{KeyError, Mistake, parse_key};
use lanes::Lane;
pub use lint::Loosened;
use methods::MethodSet;
pub use methods::{Methods, NAMEABLE};
pub use pattern::{Pattern, Relation, Segment};
pub use rewrite::{NotInFront, Rewrite};
pub use route::{CountBy, EncodedSlash, Host, Limits, Place, Route, RouteKey, Slash};
pub use toll::{Charge, Toll, Tunnel};
pub use undercut::{Through, Undercut};

/// The routes of one host, as they stand in the file.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// `None` is the table for whatever the client calls us; it cannot stand beside tables with a host. Where hosts
    /// are listed, the main `routes:` belong to the host of `public_url`.
    pub host: Option<Host>,
    /// What a slash at the end of a path means. Of several tables of a host, the first says so.
    pub slash: Slash,
    /// In any order.
    pub routes: Vec<Arc<Route>>,
}

/// The price table.
#[derive(Debug)]
pub struct Tariff {
    routes: Vec<Arc<Route>>,
    hosts: Hosts,
    /// Whether any route takes an escaped slash inside a segment.
    keeps_slashes: bool,
}

#[derive(Debug)]
enum Hosts {
    Whatever(Index),
    Listed(BTreeMap<Arc<str>, Index>),
}

/// What a request is to the price table.
#[derive(Debug, Clone, Copy)]
pub enum Found<'a> {
    /// It matches this route and no more specific one.
    Route {
        /// The route.
        route: &'a Arc<Route>,
        /// A HEAD that only a route for GET lets in: paid, it is 405 and nothing is reserved (S39).
        through_get: bool,
    },
    /// Not for sale: 404, and the upstream is never asked (S42).
    Unlisted,
    /// Hosts are listed and this is none of them: 421 (S41).
    UnknownHost,
    /// There is a `%2F` in a segment, and the route takes none: 400 (S38).
    EncodedSlash,
    /// Read without regard to case, compatibility form, or blanks, dots and slashes at the end, the request would match
    /// a stricter or dearer route: 400 (S38).
    Ambiguous,
}

impl Tariff {
    /// A price table in which every request has one winner or none. Tables of the same host are one table.
    ///
    /// # Errors
    /// With every duplicate, and with at most [`MAX_CROSSINGS`] crossings of each host.
    pub fn new(tables: Vec<Table>) -> Result<Self, Vec<Collision>> {
        let routes: Vec<Arc<Route>> = tables.iter().flat_map(|table| table.routes.iter().cloned()).collect();
        let keeps_slashes = routes.iter().any(|route| route.encoded_slash == EncodedSlash::Keep);
        let mut by_host: HashMap<Option<Host>, (Slash, Vec<Arc<Route>>)> = HashMap::new();
        let mut order = Vec::new();
        for table in tables {
            let (_, known) = by_host.entry(table.host.clone()).or_insert_with(|| {
                order.push(table.host);
                (table.slash, Vec::new())
            });
            known.extend(table.routes);
        }
        let hostless = by_host.remove(&None);
        if by_host.is_empty() {
            let (slash, main) = hostless.unwrap_or_default();
            return Ok(Self { routes, hosts: Hosts::Whatever(Index::build(&main, slash)?), keeps_slashes });
        }
        let stray = hostless.iter().flat_map(|(_, routes)| routes).take(1);
        let mut collisions: Vec<Collision> = stray.map(|route| Collision::Hostless { route: route.clone() }).collect();
        let mut hosts = BTreeMap::new();
        for host in order {
            let Some((Some(host), (slash, routes))) = by_host.remove_entry(&host) else { continue };
            match Index::build(&routes, slash) {
                Ok(index) => drop(hosts.insert(host.0, index)),
                Err(more) => collisions.extend(more),
            }
        }
        if collisions.is_empty() {
            Ok(Self { routes, hosts: Hosts::Listed(hosts), keeps_slashes })
        } else {
            Err(collisions)
        }
    }

    /// What a request costs. `host` is canonical; `segments` are those of the canonical target, decoded.
    ///
    /// What it takes depends on the path and hardly on the size of the table.
    pub fn find<'t>(
        &self,
        host: Option<&str>,
        method: &Method,
        segments: impl Iterator<Item = &'t str> + Clone,
    ) -> Found<'_> {
        let Some(index) = self.index(host) else {
            return Found::UnknownHost;
        };
        let (method, loosely) = (MethodSet::of(method), MethodSet::read_loosely(method));
        match index.find(method, segments.clone()) {
            None => Found::Unlisted,
            Some(lane) if index.is_ambiguous(lane, method, loosely, segments) => Found::Ambiguous,
            Some(lane) => Found::Route { route: lane.route, through_get: lane.through_get },
        }
    }

    /// Whether any route takes an escaped slash inside a segment ([`EncodedSlash::Keep`]).
    pub fn keeps_slashes(&self) -> bool {
        self.keeps_slashes
    }

    /// What a request costs whose path has escaped slashes: as [`find`](Self::find), but only routes that keep them let
    /// it in, and not if the path would cost more where the escapes divide segments after all.
    ///
    /// `divided` are the segments that such a backend would see.
    pub fn find_kept<'t>(
        &self,
        host: Option<&str>,
        method: &Method,
        segments: impl Iterator<Item = &'t str> + Clone,
        divided: impl Iterator<Item = &'t str> + Clone,
    ) -> Found<'_> {
        let found = self.find(host, method, segments);
        let (Found::Route { route, through_get }, Some(index)) = (found, self.index(host)) else { return found };
        let (set, loosely) = (MethodSet::of(method), MethodSet::read_loosely(method));
        if route.encoded_slash == EncodedSlash::Refuse {
            return Found::EncodedSlash;
        }
        if index.is_ambiguous_divided(Lane { route, through_get }, set, loosely, divided) {
            return Found::Ambiguous;
        }
        found
    }

    /// The routes that a winning route beats for this method: the next broader ones.
    pub fn beaten_by(&self, host: Option<&str>, winner: &Route, method: &Method) -> Vec<&Arc<Route>> {
        let Some(index) = self.index(host) else { return Vec::new() };
        let broader = index.broader(&winner.pattern, MethodSet::of(method));
        broader.into_iter().map(|lane| lane.route).collect()
    }

    /// Every route, as the tables were given.
    pub fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.routes.iter()
    }

    /// How many routes have a price.
    pub fn priced(&self) -> usize {
        self.routes.iter().filter(|route| matches!(route.charge, Charge::Toll(_))).count()
    }

    /// Routes that undercut a broader one for a method they do not name (TH2104).
    pub fn loosened(&self) -> Vec<Loosened> {
        self.indexes().flat_map(|(_, index)| lint::loosened(index)).collect()
    }

    /// Routes that let what is sold nearby through for less (TH2106).
    pub fn undercut(&self) -> Vec<Undercut> {
        self.indexes().flat_map(|(_, index)| undercut::undercut(index)).collect()
    }

    /// Routes that lead to what another one sells at the backend, for less (TH2108).
    pub fn detours(&self) -> Vec<Detour> {
        self.indexes().flat_map(|(_, index)| detour::detours(index)).collect()
    }

    fn index(&self, host: Option<&str>) -> Option<&Index> {
        match &self.hosts {
            Hosts::Whatever(index) => Some(index),
            Hosts::Listed(hosts) => hosts.get(host?),
        }
    }

    fn indexes(&self) -> impl Iterator<Item = (Option<&str>, &Index)> {
        let (whatever, listed) = match &self.hosts {
            Hosts::Whatever(index) => (Some((None, index)), None),
            Hosts::Listed(hosts) => (None, Some(hosts)),
        };
        whatever.into_iter().chain(listed.into_iter().flatten().map(|(host, index)| (Some(&**host), index)))
    }
}
