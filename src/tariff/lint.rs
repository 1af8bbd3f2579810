//! Routes that are cheaper than a reader of the file would think (TH2104).

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::Route;
use super::index::Index;
use super::lanes::Lanes;
use super::methods::{MethodSet, write_joined};

/// A route takes over methods it does not name from a broader route that names them, and asks less.
///
/// `DELETE /v1/**: deny` next to `/v1/chat: $0.05` sells DELETE on `/v1/chat`. A route that names the method says
/// that it means it, so `DELETE|POST /v1/chat: $0.05` is not reported.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loosened {
    /// The route with the narrower path.
    pub narrower: Arc<Route>,
    /// The stricter or dearer route that no longer counts there.
    pub broader: Arc<Route>,
    /// For these methods.
    pub methods: Vec<Method>,
}

impl fmt::Display for Loosened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (narrower, broader) = (&self.narrower, &self.broader);
        write!(f, "`{}` ({}) takes ", narrower.key, narrower.charge)?;
        write_joined(f, &self.methods)?;
        write!(f, " from `{}` ({}) without naming it", broader.key, broader.charge)
    }
}

pub(super) fn loosened(index: &Index) -> Vec<Loosened> {
    index.lanes().iter().flat_map(|lanes| loosened_by(index, lanes)).collect()
}

fn loosened_by(index: &Index, lanes: &Lanes) -> Vec<Loosened> {
    let mut found = Vec::new();
    for method in lanes.methods().each() {
        let Some(narrower) = lanes.lane(method).map(|lane| lane.route).filter(|route| !names(route, method)) else {
            continue;
        };
        for broader in index.broader(&lanes.pattern, method) {
            if names(broader.route, method) && broader.route.charge.is_stricter_than(&narrower.charge) {
                record(&mut found, narrower, broader.route, method);
            }
        }
    }
    found
}

fn names(route: &Route, method: MethodSet) -> bool {
    method != MethodSet::OTHERS && MethodSet::named(&route.methods).meets(method)
}

fn record(found: &mut Vec<Loosened>, narrower: &Arc<Route>, broader: &Arc<Route>, method: MethodSet) {
    let same = |known: &&mut Loosened| Arc::ptr_eq(&known.narrower, narrower) && Arc::ptr_eq(&known.broader, broader);
    match found.iter_mut().find(same) {
        Some(known) => known.methods.extend(method.names()),
        None => {
            let methods = method.names();
            found.push(Loosened { narrower: narrower.clone(), broader: broader.clone(), methods });
        }
    }
}
