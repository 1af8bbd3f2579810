//! Routes that let what is sold nearby through for less (TH2106).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use http::Method;

use super::index::Index;
use super::lanes::Lanes;
use super::methods::{MethodSet, NAMEABLE, write_joined};
use super::{Methods, Route};

/// A cheaper or more open route takes requests that many backends answer like those of a dearer or stricter one.
///
/// `GET /v1/weather: $0.01` next to `/**: free` gives POST on `/v1/weather` away, and there are backends that answer a
/// POST, or an OPTIONS, as they answer a GET. A route that names the method says that it means it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undercut {
    /// The cheaper route.
    pub cheaper: Arc<Route>,
    /// The first route that it undercuts.
    pub dearer: Arc<Route>,
    /// How a request gets there.
    pub through: Through,
    /// How many more routes it undercuts in the same way.
    pub more: usize,
}

/// How a request comes to the cheaper route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Through {
    /// By a method that neither route names; among them these.
    Methods(Vec<Method>),
    /// By the same path with a slash at its end, or without.
    Slash,
}

impl fmt::Display for Undercut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cheaper, dearer) = (&self.cheaper, &self.dearer);
        write!(f, "`{}` ({}) ", cheaper.key, cheaper.charge)?;
        match &self.through {
            Through::Methods(methods) => {
                f.write_str("lets ")?;
                write_joined(f, methods)?;
                write!(f, " through on the paths of `{}` ({})", dearer.key, dearer.charge)?;
            }
            Through::Slash => write!(f, "is what many backends answer like `{}` ({})", dearer.key, dearer.charge)?,
        }
        if self.more > 0 { write!(f, " and {} more", self.more) } else { Ok(()) }
    }
}

/// One for each cheaper route and way, so that a catch-all beside a thousand prices is one warning.
pub(super) fn undercut(index: &Index) -> Vec<Undercut> {
    let mut found = Found::default();
    for lanes in index.lanes() {
        by_method(index, lanes, &mut found);
        by_slash(index, lanes, &mut found);
    }
    found.all
}

#[derive(Default)]
struct Found {
    all: Vec<Undercut>,
    /// Where in `all` a cheaper route stands, by its address.
    places: HashMap<(*const Route, bool), usize>,
}

impl Found {
    fn note(&mut self, cheaper: &Arc<Route>, dearer: &Arc<Route>, through: Through) {
        let key = (Arc::as_ptr(cheaper), through == Through::Slash);
        match self.places.get(&key) {
            Some(place) => self.all[*place].more += 1,
            None => {
                self.places.insert(key, self.all.len());
                let (cheaper, dearer) = (Arc::clone(cheaper), Arc::clone(dearer));
                self.all.push(Undercut { cheaper, dearer, through, more: 0 });
            }
        }
    }
}

fn by_method(index: &Index, lanes: &Lanes, found: &mut Found) {
    let taken = lanes.methods();
    let free = MethodSet::ALL.without(taken);
    if free.is_empty() {
        return;
    }
    // A method that no route can name goes to the route that names none.
    for cheaper in index.broader(&lanes.pattern, MethodSet::OTHERS) {
        if cheaper.route.methods != Methods::Any {
            continue;
        }
        let stricter = |dearer: &&Arc<Route>| dearer.charge.is_stricter_than(&cheaper.route.charge);
        let takes = |method: &Method| {
            let method = MethodSet::of(method);
            free.meets(method)
                && index.broader(&lanes.pattern, method).iter().any(|lane| Arc::ptr_eq(lane.route, cheaper.route))
        };
        let Some(dearer) = lanes.routes().find(stricter) else { continue };
        let methods: Vec<Method> = NAMEABLE.iter().filter(|method| takes(method)).cloned().collect();
        if !methods.is_empty() {
            found.note(cheaper.route, dearer, Through::Methods(methods));
        }
    }
}

fn by_slash(index: &Index, lanes: &Lanes, found: &mut Found) {
    let Some(twin) = lanes.pattern.twin().and_then(|twin| index.at(&twin)) else { return };
    let pairs = lanes.methods().both(twin.methods()).each();
    let pairs = pairs.filter_map(|method| Some((lanes.lane(method)?.route, twin.lane(method)?.route)));
    if let Some((dearer, cheaper)) = pairs.into_iter().find(|(one, other)| one.charge.is_stricter_than(&other.charge)) {
        found.note(cheaper, dearer, Through::Slash);
    }
}
