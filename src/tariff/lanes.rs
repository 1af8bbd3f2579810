//! The routes that share one set of paths, told apart by method.

use std::sync::Arc;

use http::Method;

use super::methods::MethodSet;
use super::{Collision, Methods, Pattern, Route};

/// Routes with the same paths and no method in common, and perhaps one for every other method.
#[derive(Debug)]
pub(super) struct Lanes {
    /// Their paths.
    pub(super) pattern: Pattern,
    named: Vec<(MethodSet, Arc<Route>)>,
    any: Option<Arc<Route>>,
}

/// The lane a method takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lane<'a> {
    pub(super) route: &'a Arc<Route>,
    /// A HEAD that only a route for GET lets in (S39).
    pub(super) through_get: bool,
}

impl Lanes {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, named: Vec::new(), any: None }
    }

    /// Opens a lane for the route, unless one of its methods has a lane already.
    pub(super) fn open(&mut self, route: Arc<Route>) -> Result<(), Collision> {
        let Methods::Named(methods) = &route.methods else {
            if let Some(first) = &self.any {
                return Err(Collision::Duplicate { first: first.clone(), second: route });
            }
            self.any = Some(route);
            return Ok(());
        };
        let set = MethodSet::named(&route.methods);
        if let Some((taken, first)) = self.named.iter().find(|(taken, _)| taken.meets(set)) {
            let first = first.clone();
            if *taken == set {
                return Err(Collision::Duplicate { first, second: route });
            }
            let shared = |method: &&Method| taken.meets(MethodSet::of(method));
            let method = methods.iter().find(shared).cloned().unwrap_or_default();
            return Err(Collision::SameMethod { first, second: route, method });
        }
        self.named.push((set, route));
        Ok(())
    }

    /// Named beats unnamed, and the lane for GET takes the HEAD that no lane names.
    pub(super) fn lane(&self, method: MethodSet) -> Option<Lane<'_>> {
        if method.is_empty() {
            return None;
        }
        let named = |method| self.named.iter().find(|(set, _)| set.meets(method)).map(|(_, route)| route);
        if let Some(route) = named(method) {
            return Some(Lane { route, through_get: false });
        }
        if method == MethodSet::HEAD
            && let Some(route) = named(MethodSet::GET)
        {
            return Some(Lane { route, through_get: true });
        }
        self.any.as_ref().map(|route| Lane { route, through_get: false })
    }

    /// Every method that has a lane.
    pub(super) fn methods(&self) -> MethodSet {
        if self.any.is_some() {
            return MethodSet::ALL;
        }
        let named = self.named.iter().fold(MethodSet::NONE, |all, (set, _)| all.union(*set));
        if named.meets(MethodSet::GET) { named.union(MethodSet::HEAD) } else { named }
    }

    /// Every route.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Arc<Route>> {
        self.named.iter().map(|(_, route)| route).chain(&self.any)
    }
}
