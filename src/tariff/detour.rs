//! Routes that lead to what another one sells at the backend, for less (TH2108).

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use super::index::Index;
use super::lanes::Lanes;
use super::methods::MethodSet;
use super::overlap::Overlaps;
use super::{Charge, Pattern, Relation, Rewrite, Route, Segment};

/// A cheaper or more open route reaches paths at the backend that a dearer or stricter one is asked for.
///
/// `/pub/**: {price: free, strip_prefix: /pub}` next to `GET /v1/weather: $0.01` gives the weather away: a request for
/// `/pub/v1/weather` is one for `/v1/weather` at the backend. Each price is right for the path it stands at, and only
/// rewriting makes the two one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Detour {
    /// The cheaper route.
    pub cheaper: Arc<Route>,
    /// The first route that it leads around.
    pub dearer: Arc<Route>,
    /// What to ask for to get there.
    pub way: Pattern,
    /// How many more routes it leads around.
    pub more: usize,
}

impl fmt::Display for Detour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cheaper, dearer, way) = (&self.cheaper, &self.dearer, &self.way);
        write!(
            f,
            "`{}` ({}) leads by {way} to what `{}` ({}) ",
            cheaper.key, cheaper.charge, dearer.key, dearer.charge
        )?;
        if self.more > 0 { write!(f, "and {} more are for", self.more) } else { f.write_str("is for") }
    }
}

/// One for each cheaper route.
pub(super) fn detours(index: &Index) -> Vec<Detour> {
    let entries: Vec<Entry> = index.lanes().iter().flat_map(Entry::of).collect();
    let mut found: Vec<Detour> = Vec::new();
    if entries.iter().all(|entry| entry.route.rewrite.is_none()) {
        return found;
    }
    let mut behind: HashMap<&str, Overlaps> = HashMap::new();
    for (number, entry) in entries.iter().enumerate() {
        behind.entry(&entry.route.upstream).or_default().add(&entry.behind, number);
    }
    let mut places: HashMap<*const Route, usize> = HashMap::new();
    for cheaper in &entries {
        let meeting = behind.get(&*cheaper.route.upstream).map(|all| all.of(&cheaper.behind)).unwrap_or_default();
        for dearer in meeting.into_iter().map(|number| &entries[number]) {
            let Some(way) = cheaper.way_around(dearer, index) else { continue };
            match places.get(&Arc::as_ptr(cheaper.route)) {
                Some(place) => found[*place].more += 1,
                None => {
                    places.insert(Arc::as_ptr(cheaper.route), found.len());
                    let (cheaper, dearer) = (Arc::clone(cheaper.route), Arc::clone(dearer.route));
                    found.push(Detour { cheaper, dearer, way, more: 0 });
                }
            }
        }
    }
    found
}

/// A route that lets requests through, or keeps them out, with what the backend would be asked for.
struct Entry<'t> {
    route: &'t Arc<Route>,
    methods: MethodSet,
    /// The paths at the backend.
    behind: Pattern,
}

impl<'t> Entry<'t> {
    fn of(lanes: &'t Lanes) -> impl Iterator<Item = Self> {
        lanes.routes().map(|route| {
            let own = |method: &MethodSet| lanes.lane(*method).is_some_and(|lane| Arc::ptr_eq(lane.route, route));
            let methods = lanes.methods().each().filter(own).fold(MethodSet::NONE, MethodSet::union);
            let behind =
                route.rewrite.as_ref().map_or_else(|| lanes.pattern.clone(), |rewrite| rewrite.behind(&lanes.pattern));
            Self { route, methods, behind }
        })
    }

    /// What is asked for to have through this route what the other one sells.
    fn way_around(&self, dearer: &Self, index: &Index) -> Option<Pattern> {
        let apart = self.prefixes() != dearer.prefixes();
        let closed = dearer.route.charge == Charge::Deny && dearer.route.pattern.is_everything();
        if !apart || closed || !dearer.route.charge.is_stricter_than(&self.route.charge) {
            return None;
        }
        // A narrower path that costs less is meant to, there as in front.
        if self.behind.relation(&dearer.behind) == Relation::Narrower {
            return None;
        }
        let methods = self.methods.both(dearer.methods);
        let there = self.behind.common(&dearer.behind)?;
        let (way, sold) = (self.in_front(&there), dearer.in_front(&there));
        let answers = |entry: &Self, path, method| {
            index.covering(path, method).iter().any(|lane| Arc::ptr_eq(lane.route, entry.route))
        };
        methods.each().any(|method| answers(self, &way, method) && answers(dearer, &sold, method)).then_some(way)
    }

    /// What goes and what comes in front.
    fn prefixes(&self) -> Option<(&[Segment], &Rewrite)> {
        self.route.rewrite.as_ref().map(|rewrite| (rewrite.gone(&self.route.pattern), rewrite))
    }

    /// What a client asks for to reach these paths at the backend.
    fn in_front(&self, there: &Pattern) -> Pattern {
        match &self.route.rewrite {
            None => there.clone(),
            Some(rewrite) => rewrite.in_front(there, &self.route.pattern),
        }
    }
}

impl Pattern {
    /// Whether it matches every path.
    fn is_everything(&self) -> bool {
        self.subtree && self.segments.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tariff::sample::{charge, route};
    use crate::tariff::{Table, Tariff};

    fn prefix(text: &str) -> Option<Pattern> {
        (!text.is_empty()).then(|| Pattern::parse(text).expect("a prefix"))
    }

    /// What is reported of routes, each with the prefix that goes and the one that comes.
    fn detours(lines: &[(&str, &str, &str, &str)]) -> Vec<String> {
        let routes = lines.iter().map(|(key, price, strip, add)| {
            let plain = Arc::unwrap_or_clone(route(key, charge(price)));
            let (strip, added) = (prefix(strip), prefix(add));
            let added = added.as_ref().map(|pattern| (pattern, *add));
            let rewrite = Rewrite::of(&plain.pattern, strip.as_ref(), added).expect("it fits");
            Arc::new(Route { rewrite, ..plain })
        });
        let table = Table { routes: routes.collect(), ..Table::default() };
        Tariff::new(vec![table]).expect("no collision").detours().iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_cheaper_way_to_the_same_path_of_the_backend_is_reported() {
        assert_eq!(
            detours(&[("/pub/**", "free", "/pub", ""), ("GET /v1/weather", "0.01", "", ""), ("/b", "1", "", "")]),
            ["`/pub/**` (free) leads by /pub/v1/weather to what `GET /v1/weather` ($0.01) and 1 more are for"]
        );
        assert_eq!(
            detours(&[("GET /{x}", "free", "", ""), ("GET /api/weather", "0.01", "/api", "")]),
            ["`GET /{x}` (free) leads by /weather to what `GET /api/weather` ($0.01) is for"]
        );
        assert_eq!(
            detours(&[("/a/**", "0.01", "/a", "/in"), ("/b/c/**", "deny", "/b", "/in"), ("/in/c/d", "free", "", "")]),
            ["`/a/**` ($0.01) leads by /a/c/** to what `/b/c/**` (deny) is for"]
        );
        assert_eq!(
            detours(&[("/api", "free", "/api", ""), ("/", "1", "", "")]),
            ["`/api` (free) leads by /api to what `/` ($1) is for"]
        );
    }

    #[test]
    fn ways_that_do_not_meet_are_not() {
        // The same prefixes: prices at the backend are as in front.
        assert!(detours(&[("/api/**", "free", "/api", ""), ("/api/weather", "1", "/api", "")]).is_empty());
        // Other methods.
        assert!(detours(&[("POST /pub/**", "free", "/pub", ""), ("GET /weather", "1", "", "")]).is_empty());
        // What it leads to has a price of its own, at both ends.
        let closed = ("/pub/weather", "1", "/pub", "");
        assert!(detours(&[("/pub/**", "free", "/pub", ""), ("/weather", "1", "", ""), closed]).is_empty());
        let open = ("/info", "free", "", "");
        assert!(detours(&[("/pub/info", "free", "/pub", ""), ("/**", "1", "", ""), open]).is_empty());
        assert!(detours(&[("/api/**", "1", "/api", ""), ("/health", "free", "", "")]).is_empty());
        // What is not listed is not sold, and saying so changes nothing.
        assert!(detours(&[("/api/**", "0.01", "/api", ""), ("/**", "deny", "", "")]).is_empty());
    }
}
