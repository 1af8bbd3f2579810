//! One host's routes, ready to be looked up.
//!
//! For every request an index has one winner or none. Take the routes that match a request, and of those one that no
//! other is more specific than. If another were not wider than it, the two would cross; then a route for exactly
//! their overlap and this method is in the table, it matches too, and it is more specific than both.

use std::sync::Arc;

use super::crossing::crossings;
use super::fold::{Folded, fold_path};
use super::lanes::{Lane, Lanes};
use super::methods::MethodSet;
use super::trie::Trie;
use super::{Collision, Pattern, Route};

/// The routes of one table.
#[derive(Debug)]
pub(super) struct Index {
    trie: Trie,
    lanes: Vec<Lanes>,
    folded: Option<Folded>,
}

impl Index {
    /// Sorts routes by what they match.
    ///
    /// # Errors
    /// With every duplicate and the first crossings.
    pub(super) fn build(routes: &[Arc<Route>]) -> Result<Self, Vec<Collision>> {
        let mut index = Self { trie: Trie::default(), lanes: Vec::new(), folded: None };
        let mut collisions = Vec::new();
        for route in routes {
            let slot = index.trie.slot(&route.pattern);
            match index.lanes.get_mut(slot) {
                Some(lanes) => collisions.extend(lanes.open(route.clone()).err()),
                None => index.lanes.push(Lanes::new(route.clone())),
            }
        }
        collisions.extend(crossings(&index));
        if !collisions.is_empty() {
            return Err(collisions);
        }
        index.folded = Folded::of(&index.lanes);
        Ok(index)
    }

    /// The most specific route that matches, if any does.
    pub(super) fn find<'t>(
        &self,
        method: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
    ) -> Option<Lane<'_>> {
        self.trie.matching(segments, |slot| self.lanes[slot].lane(method))
    }

    /// Whether a backend that is not particular about spelling would take the request for one of a stricter or dearer
    /// route (S38). `loosely` is the method as such a backend reads it.
    pub(super) fn is_ambiguous<'t>(
        &self,
        found: Lane<'_>,
        method: MethodSet,
        loosely: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
    ) -> bool {
        let path = fold_path(segments.clone(), &found.route.pattern);
        let stricter = |method, as_found| match &path {
            Some(path) => self.reads_stricter(found, method, path.split('/'), as_found),
            None => self.reads_stricter(found, method, segments.clone(), as_found),
        };
        let as_found = path.is_none() && self.folded.is_none();
        stricter(method, as_found) || (method != loosely && stricter(loosely, false))
    }

    /// Whether this path, or the same with the slash at its end added or left out, reads as a stricter route than was
    /// found. With `as_found` the path itself is what was found, so only the slash is asked about.
    fn reads_stricter<'t>(
        &self,
        found: Lane<'_>,
        method: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
        as_found: bool,
    ) -> bool {
        let stricter = |lane: Lane| lane.route.charge.is_stricter_than(&found.route.charge);
        if !as_found && self.any_reading(method, segments.clone(), stricter) {
            return true;
        }
        let pattern = &found.route.pattern;
        if pattern.is_one_path() {
            return false;
        }
        // Where both spellings are listed, each is meant.
        let unlisted = |lane: Lane| stricter(lane) && !lane.route.pattern.is_twin_of(pattern);
        let length = segments.clone().count();
        if segments.clone().last().is_some_and(str::is_empty) {
            self.any_reading(method, segments.take(length - 1), unlisted)
        } else {
            self.any_reading(method, segments.chain(std::iter::once("")), unlisted)
        }
    }

    /// Whether a route that a folded path may be read as is like this.
    fn any_reading<'t>(
        &self,
        method: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
        is: impl Fn(Lane<'_>) -> bool,
    ) -> bool {
        let Some(folded) = &self.folded else {
            return self.find(method, segments).is_some_and(is);
        };
        let lane = |slot: usize| self.lanes[slot].lane(method);
        folded.matching(segments, |slot| lane(slot).is_some()).into_iter().filter_map(lane).any(is)
    }

    /// Every set of paths that is named.
    pub(super) fn lanes(&self) -> &[Lanes] {
        &self.lanes
    }

    /// The routes for exactly these paths.
    pub(super) fn at(&self, pattern: &Pattern) -> Option<&Lanes> {
        self.trie.get(pattern).map(|slot| &self.lanes[slot])
    }

    /// What a request for these paths costs: the routes for exactly them, or the next broader ones.
    pub(super) fn covering(&self, pattern: &Pattern, method: MethodSet) -> Vec<Lane<'_>> {
        match self.at(pattern).and_then(|lanes| lanes.lane(method)) {
            Some(lane) => vec![lane],
            None => self.broader(pattern, method),
        }
    }

    /// What would match the paths of `pattern` with this method if nothing named exactly them: the next broader
    /// routes. There are several only where the pattern settles a crossing.
    pub(super) fn broader(&self, pattern: &Pattern, method: MethodSet) -> Vec<Lane<'_>> {
        let mut nearest: Vec<(&Pattern, Lane)> = Vec::new();
        self.trie.containing(pattern, |slot| {
            let lanes = &self.lanes[slot];
            if let Some(lane) = lanes.lane(method)
                && !lanes.pattern.within(pattern)
                && !nearest.iter().any(|(nearer, _)| nearer.within(&lanes.pattern))
            {
                nearest.push((&lanes.pattern, lane));
            }
            None::<()>
        });
        nearest.into_iter().map(|(_, lane)| lane).collect()
    }
}
