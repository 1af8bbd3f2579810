//! The routes that share one set of paths, told apart by method.

use std::sync::Arc;

use super::methods::MethodSet;
use super::{Collision, Pattern, Route};

/// Routes with the same paths and no method in common, and perhaps one for every other method.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Their paths.
    pub(super) pattern: Pattern,
    /// Mostly the only one, so it is kept where a lookup finds it at once.
    first: (MethodSet, Arc<Route>),
    more: Vec<(MethodSet, Arc<Route>)>,
}

/// The lane a method takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) route: &'a Arc<Route>,
    /// A HEAD that only a route for GET lets in (S39).
    pub(super) through_get: bool,
}

impl Lanes {
    /// A single lane to these paths.
    pub(super) fn new(pattern: Pattern, route: Arc<Route>) -> Self {
        Self { pattern, first: (MethodSet::named(&route.methods), route), more: Vec::new() }
    }

    /// Opens a lane for one more route, unless one of its methods has a lane already.
    pub(super) fn open(&mut self, route: Arc<Route>) -> Result<(), Collision> {
        let own = MethodSet::named(&route.methods);
        let Some((taken, first)) = self.each().find(|(taken, _)| taken.meets(own)) else {
            self.more.push((own, route));
            return Ok(());
        };
        let first = first.clone();
        Err(match taken.both(own).names().into_iter().next() {
            Some(method) if *taken != own => Collision::SameMethod { first, second: route, method },
            _ => Collision::Duplicate { first, second: route },
        })
    }

    /// Named beats unnamed, and the lane for GET takes the HEAD that no lane names.
    pub(super) fn lane(&self, method: MethodSet) -> Option<Lane<'_>> {
        if method.is_empty() {
            return None;
        }
        let named = |method| self.each().find(|(own, _)| own.meets(method)).map(|(_, route)| route);
        if let Some(route) = named(method) {
            return Some(Lane { route, through_get: false });
        }
        if method == MethodSet::HEAD
            && let Some(route) = named(MethodSet::GET)
        {
            return Some(Lane { route, through_get: true });
        }
        named(MethodSet::OTHERS).map(|route| Lane { route, through_get: false })
    }

    /// Every method that has a lane.
    pub(super) fn methods(&self) -> MethodSet {
        let named = self.each().fold(MethodSet::NONE, |all, (own, _)| all.union(*own));
        if named.meets(MethodSet::OTHERS) {
            MethodSet::ALL
        } else if named.meets(MethodSet::GET) {
            named.union(MethodSet::HEAD)
        } else {
            named
        }
    }

    /// Every route.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.each().map(|(_, route)| route)
    }

    fn each(&self) -> impl Iterator<Item = &(MethodSet, Arc<Route>)> {
        std::iter::once(&self.first).chain(&self.more)
    }
}
