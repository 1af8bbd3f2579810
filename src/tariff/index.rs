//! One host's routes, ready to be looked up.
//!
//! For every request an index has one winner or none. Take the routes that match a request, and of those one that no
//! other is more specific than. If another were not wider than it, the two would cross; then a route for exactly
//! their overlap and this method is in the table, it matches too, and it is more specific than both.

use std::borrow::Cow;
use std::sync::Arc;

use super::crossing::crossings;
use super::fold::Folded;
use super::lanes::{Lane, Lanes};
use super::methods::MethodSet;
use super::reading::{Reading, readings};
use super::trie::Trie;
use super::{Collision, Pattern, Route, Slash};

/// Every path, none of it spelled out.
static ANYTHING: Pattern = Pattern { segments: Vec::new(), subtree: true };

/// The routes of one table.
#[derive(Debug)]
pub(super) struct Index {
    /// Where a slash at the end is no other path, patterns and paths are without one from here on.
    slash: Slash,
    trie: Trie,
    lanes: Vec<Lanes>,
    folded: Option<Folded>,
}

/// How a path is looked up for another reading of it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// It is the path that was found, so only the slash at its end is asked about.
    Found,
    /// Among the patterns as they are listed.
    Exactly,
    /// Among the folded patterns.
    Folded,
}

impl Index {
    /// Sorts routes by what they match.
    ///
    /// # Errors
    /// With every duplicate and the first crossings.
    pub(super) fn build(routes: &[Arc<Route>], slash: Slash) -> Result<Self, Vec<Collision>> {
        let mut index = Self { slash, trie: Trie::default(), lanes: Vec::new(), folded: None };
        let mut collisions = Vec::new();
        for route in routes {
            let pattern = index.in_form(&route.pattern);
            let slot = index.trie.slot(&pattern);
            match index.lanes.get_mut(slot) {
                Some(lanes) => collisions.extend(lanes.open(route.clone()).err()),
                None => index.lanes.push(Lanes::new(pattern.into_owned(), route.clone())),
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
        match self.needless_slash(&segments) {
            None => self.trie.matching(segments, |slot| self.lanes[slot].lane(method)),
            Some(kept) => self.trie.matching(segments.take(kept), |slot| self.lanes[slot].lane(method)),
        }
    }

    /// What a slash at the end of a path means here.
    pub(super) fn slash(&self) -> Slash {
        self.slash
    }

    /// A pattern as it is kept here: without the slash at its end, where that is no other path.
    fn in_form<'p>(&self, pattern: &'p Pattern) -> Cow<'p, Pattern> {
        match self.slash {
            Slash::Distinct => Cow::Borrowed(pattern),
            Slash::Same => Cow::Owned(pattern.without_slash()),
        }
    }

    /// How many segments count, if there is a slash at the end and it makes no difference.
    fn needless_slash<'t>(&self, segments: &(impl Iterator<Item = &'t str> + Clone)) -> Option<usize> {
        if self.slash == Slash::Distinct {
            return None;
        }
        let (count, last) = segments.clone().fold((0, ""), |(count, _), segment| (count + 1, segment));
        (count > 1 && last.is_empty()).then(|| count - 1)
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
        match readings(segments.clone(), &found.route.pattern) {
            Some(readings) => self.any_stricter(found, method, loosely, &readings),
            None => {
                let look = if self.folded.is_none() { Look::Found } else { Look::Folded };
                self.reads_stricter(found, method, segments.clone(), look)
                    || (method != loosely && self.reads_stricter(found, loosely, segments, Look::Folded))
            }
        }
    }

    /// Whether a backend that divides segments at an escaped slash would take the request for one of a stricter or
    /// dearer route. `segments` are those that such a backend sees.
    pub(super) fn is_ambiguous_divided<'t>(
        &self,
        found: Lane<'_>,
        method: MethodSet,
        loosely: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
    ) -> bool {
        match readings(segments.clone(), &ANYTHING) {
            Some(readings) => self.any_stricter(found, method, loosely, &readings),
            None => {
                self.reads_stricter(found, method, segments.clone(), Look::Exactly)
                    || self.reads_stricter(found, method, segments.clone(), Look::Folded)
                    || (method != loosely && self.reads_stricter(found, loosely, segments, Look::Folded))
            }
        }
    }

    fn any_stricter(&self, found: Lane<'_>, method: MethodSet, loosely: MethodSet, readings: &[Reading]) -> bool {
        readings.iter().any(|reading| {
            let look = if reading.caseless { Look::Folded } else { Look::Exactly };
            let segments = reading.path.split('/');
            self.reads_stricter(found, method, segments.clone(), look)
                || (method != loosely && self.reads_stricter(found, loosely, segments, look))
        })
    }

    /// Whether this path, or the same with the slash at its end added or left out, reads as a stricter route than was
    /// found.
    fn reads_stricter<'t>(
        &self,
        found: Lane<'_>,
        method: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
        look: Look,
    ) -> bool {
        let stricter = |lane: Lane| lane.route.charge.is_stricter_than(&found.route.charge);
        if look != Look::Found && self.any_reading(method, segments.clone(), look, stricter) {
            return true;
        }
        let pattern = &found.route.pattern;
        if pattern.is_one_path() || self.slash == Slash::Same {
            return false;
        }
        // Where both spellings are listed, each is meant.
        let unlisted = |lane: Lane| stricter(lane) && !lane.route.pattern.is_twin_of(pattern);
        let length = segments.clone().count();
        if segments.clone().last().is_some_and(str::is_empty) {
            self.any_reading(method, segments.take(length - 1), look, unlisted)
        } else {
            self.any_reading(method, segments.chain(std::iter::once("")), look, unlisted)
        }
    }

    /// Whether a route that a path may be read as is like this.
    fn any_reading<'t>(
        &self,
        method: MethodSet,
        segments: impl Iterator<Item = &'t str> + Clone,
        look: Look,
        is: impl Fn(Lane<'_>) -> bool,
    ) -> bool {
        let Some(folded) = self.folded.as_ref().filter(|_| look == Look::Folded) else {
            return self.find(method, segments).is_some_and(is);
        };
        let lane = |slot: usize| self.lanes[slot].lane(method);
        let counts = |slot: usize| lane(slot).is_some();
        let slots = match self.needless_slash(&segments) {
            None => folded.matching(segments, counts),
            Some(kept) => folded.matching(segments.take(kept), counts),
        };
        slots.into_iter().filter_map(lane).any(is)
    }

    /// Every set of paths that is named.
    pub(super) fn lanes(&self) -> &[Lanes] {
        &self.lanes
    }

    /// The routes for exactly these paths.
    pub(super) fn at(&self, pattern: &Pattern) -> Option<&Lanes> {
        self.trie.get(&self.in_form(pattern)).map(|slot| &self.lanes[slot])
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
        let pattern = &*self.in_form(pattern);
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
