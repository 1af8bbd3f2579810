//! What a new price table changes for customers, in money.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::index::Index;
use super::lanes::Lanes;
use super::methods::MethodSet;
use super::{Charge, Route, RouteKey, Slash, Tariff, Toll};
use crate::payment::Offer;
use crate::primitives::Payee;

/// One difference between two price tables, as `plan` and the log show it: `~ GET /v1/weather $0.01 → $0.02`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// How much attention it needs.
    pub mark: Mark,
    /// The key of a route, or `pay_to.` and a network.
    pub subject: Arc<str>,
    /// What held before; `None` when nothing was listed.
    pub before: Option<String>,
    /// What holds now; `None` when nothing is listed.
    pub after: Option<String>,
}

/// How much attention a change needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mark {
    /// Something opens for free, or money goes elsewhere or comes in another asset.
    Alarm,
    /// Newly for sale.
    Added,
    /// No longer for sale.
    Removed,
    /// Other terms.
    Changed,
}

impl fmt::Display for Mark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Alarm => "!",
            Self::Added => "+",
            Self::Removed => "-",
            Self::Changed => "~",
        })
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.mark, self.subject)?;
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, " {before} → {after}"),
            (Some(only), None) | (None, Some(only)) => write!(f, " {only}"),
            (None, None) => Ok(()),
        }
    }
}

/// What posting `new` in place of `old` changes, route by route; changed payees once per network at the end.
pub fn changes(old: &Tariff, new: &Tariff) -> Vec<Change> {
    let before: HashMap<&RouteKey, &Route> = old.routes().map(|route| (&route.key, &**route)).collect();
    let after: HashMap<&RouteKey, &Route> = new.routes().map(|route| (&route.key, &**route)).collect();
    let mut found = Vec::new();
    let mut payees = Payees::default();
    for listed in each_listed(old) {
        match after.get(&listed.route.key) {
            Some(now) => {
                compare(listed.route, now, &mut found, &mut payees);
                compare_ways(listed.route, now, &mut found);
            }
            None => found.push(delisted(listed, new)),
        }
    }
    let is_new = |listed: &Listed| !before.contains_key(&listed.route.key);
    found.extend(each_listed(new).filter(is_new).map(|listed| newly_listed(listed, old)));
    found.extend(slashes(old, new));
    found.extend(payees.into_changes());
    found
}

/// A route, where it stands in its tariff.
struct Listed<'a> {
    host: Option<&'a str>,
    lanes: &'a Lanes,
    route: &'a Arc<Route>,
}

fn each_listed(tariff: &Tariff) -> impl Iterator<Item = Listed<'_>> {
    tariff.indexes().flat_map(|(host, index)| {
        index.lanes().iter().flat_map(move |lanes| lanes.routes().map(move |route| Listed { host, lanes, route }))
    })
}

impl Listed<'_> {
    /// What another tariff asks for the same requests, one entry per method; `None` is not for sale.
    fn elsewhere<'t>(&self, other: &'t Tariff) -> Vec<Option<&'t Charge>> {
        let Some(index) = other.index(self.host) else { return vec![None] };
        let own = |method: &MethodSet| self.lanes.lane(*method).is_some_and(|lane| Arc::ptr_eq(lane.route, self.route));
        self.lanes.methods().each().filter(own).flat_map(|method| self.for_method(index, method)).collect()
    }

    fn for_method<'t>(&self, index: &'t Index, method: MethodSet) -> Vec<Option<&'t Charge>> {
        let covering = index.covering(&self.lanes.pattern, method);
        if covering.is_empty() {
            return vec![None];
        }
        covering.into_iter().map(|lane| Some(&lane.route.charge)).collect()
    }
}

fn newly_listed(listed: Listed<'_>, old: &Tariff) -> Change {
    let before = listed.elsewhere(old);
    let charge = &listed.route.charge;
    let mark = match charge {
        Charge::Free if before.iter().any(|before| *before != Some(&Charge::Free)) => Mark::Alarm,
        Charge::Deny if before.iter().flatten().any(|before| **before != Charge::Deny) => Mark::Removed,
        Charge::Deny => Mark::Changed,
        Charge::Free | Charge::Toll(_) => Mark::Added,
    };
    Change { mark, subject: listed.route.key.0.clone(), before: agreed(&before), after: Some(charge.to_string()) }
}

fn delisted(listed: Listed<'_>, new: &Tariff) -> Change {
    let after = listed.elsewhere(new);
    let charge = &listed.route.charge;
    let opens = *charge != Charge::Free && after.contains(&Some(&Charge::Free));
    let mark = if opens { Mark::Alarm } else { Mark::Removed };
    Change { mark, subject: listed.route.key.0.clone(), before: Some(charge.to_string()), after: agreed(&after) }
}

/// The charge, if it is the same for every method.
fn agreed(charges: &[Option<&Charge>]) -> Option<String> {
    let (first, rest) = charges.split_first()?;
    first.filter(|_| rest.iter().all(|other| other == first)).map(Charge::to_string)
}

fn compare(old: &Route, new: &Route, found: &mut Vec<Change>, payees: &mut Payees) {
    let mut push = |mark, before: String, after: String| {
        found.push(Change { mark, subject: new.key.0.clone(), before: Some(before), after: Some(after) });
    };
    let (Charge::Toll(was), Charge::Toll(is)) = (&old.charge, &new.charge) else {
        if old.charge != new.charge {
            let mark = match (&old.charge, &new.charge) {
                (_, Charge::Free) => Mark::Alarm,
                (_, Charge::Deny) => Mark::Removed,
                (Charge::Deny, _) => Mark::Added,
                _ => Mark::Changed,
            };
            push(mark, old.charge.to_string(), new.charge.to_string());
        }
        return;
    };
    let mut differ = |mark, before: String, after: String| {
        if before != after {
            push(mark, before, after);
        }
    };
    differ(Mark::Changed, was.to_string(), is.to_string());
    differ(Mark::Changed, networks(was), networks(is));
    differ(Mark::Alarm, assets(was, is), assets(is, was));
    differ(Mark::Changed, was.settle.as_str().to_owned(), is.settle.as_str().to_owned());
    payees.note(was, is);
}

/// What a route asks its backend for, and whom it asks.
fn compare_ways(old: &Route, new: &Route, found: &mut Vec<Change>) {
    let mut differ = |before: String, after: String| {
        if before != after {
            let subject = new.key.0.clone();
            found.push(Change { mark: Mark::Changed, subject, before: Some(before), after: Some(after) });
        }
    };
    differ(format!("at {}", old.behind()), format!("at {}", new.behind()));
    differ(format!("from {}", old.upstream), format!("from {}", new.upstream));
    let slash = |route: &Route| format!("encoded_slash: {}", route.encoded_slash.as_str());
    differ(slash(old), slash(new));
}

/// Tables in which a slash at the end of a path means something else than before.
fn slashes(old: &Tariff, new: &Tariff) -> Vec<Change> {
    let tables = new.indexes().filter_map(|(host, index)| Some((host, old.index(host)?.slash(), index.slash())));
    let changed = tables.filter(|(_, before, after)| before != after);
    let change = |(host, before, after): (Option<&str>, Slash, Slash)| Change {
        mark: Mark::Changed,
        subject: host.map_or_else(|| "trailing_slash".into(), |host| format!("trailing_slash of {host}").into()),
        before: Some(before.as_str().to_owned()),
        after: Some(after.as_str().to_owned()),
    };
    changed.map(change).collect()
}

fn networks(toll: &Toll) -> String {
    let mut names: Vec<&str> = toll.offers.iter().map(|offer| offer.network.name.as_str()).collect();
    names.dedup();
    names.join(", ")
}

/// The tokens a toll takes on the networks that both name.
fn assets(toll: &Toll, other: &Toll) -> String {
    let shared = |offer: &&Offer| other.offers.iter().any(|other| other.network.id == offer.network.id);
    let name = |offer: &Offer| format!("{} {}", offer.asset.symbol, offer.asset.address);
    toll.offers.iter().filter(shared).map(name).collect::<Vec<_>>().join(", ")
}

/// Where money went and goes, by network. One edit of `pay_to` moves every route, so routes are not told apart.
#[derive(Default)]
struct Payees(BTreeMap<String, Vec<(Payee, Payee)>>);

impl Payees {
    fn note(&mut self, old: &Toll, new: &Toll) {
        for offer in &new.offers {
            let on_network = |old: &&Offer| old.network.id == offer.network.id;
            let was: Vec<Payee> = old.offers.iter().filter(on_network).map(|old| old.pay_to).collect();
            if let Some(first) = was.first().filter(|_| !was.contains(&offer.pay_to)) {
                let moves = self.0.entry(offer.network.name.clone()).or_default();
                if !moves.contains(&(*first, offer.pay_to)) {
                    moves.push((*first, offer.pay_to));
                }
            }
        }
    }

    fn into_changes(self) -> impl Iterator<Item = Change> {
        self.0.into_iter().flat_map(|(network, moves)| {
            let subject: Arc<str> = format!("pay_to.{network}").into();
            moves.into_iter().map(move |(was, is)| Change {
                mark: Mark::Alarm,
                subject: subject.clone(),
                before: Some(was.to_string()),
                after: Some(is.to_string()),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::sample::{charge, offer, route, table, tariff, toll};
    use super::super::{EncodedSlash, Host, Pattern, Rewrite, Table};
    use super::*;
    use crate::payment::SettleMode;
    use crate::primitives::Address;

    fn told(old: &Tariff, new: &Tariff) -> Vec<String> {
        changes(old, new).iter().map(ToString::to_string).collect()
    }

    fn with(key: &str, charge: Charge) -> Tariff {
        Tariff::new(vec![Table { host: None, slash: Slash::Distinct, routes: vec![route(key, charge)] }])
            .expect("no collision")
    }

    #[test]
    fn a_change_is_told_in_money() {
        let old = [("GET /a", "0.01"), ("POST /b", "free"), ("GET /c", "1"), ("/d", "deny"), ("GET /e", "1")];
        let new = [("GET /a", "0.02"), ("POST /b", "2"), ("GET /c", "free"), ("/d", "3"), ("GET /f", "1")];
        assert_eq!(
            told(&tariff(&old), &tariff(&new)),
            [
                "~ GET /a $0.01 → $0.02",
                "~ POST /b free → $2",
                "! GET /c $1 → free",
                "+ /d deny → $3",
                "- GET /e $1",
                "+ GET /f $1",
            ]
        );
        assert_eq!(told(&tariff(&new), &tariff(&new)), [""; 0]);
    }

    #[test]
    fn a_change_of_what_the_backend_is_asked_for_is_told() {
        let leading = |upstream: &str, strip: &str, slash: Slash, encoded_slash: EncodedSlash| {
            let plain = Arc::unwrap_or_clone(route("GET /api/v1/{id}", charge("1")));
            let strip = Pattern::parse(strip).expect("a prefix");
            let rewrite = Rewrite::of(&plain.pattern, Some(&strip), None).expect("it fits");
            let routes = vec![Arc::new(Route { rewrite, encoded_slash, upstream: upstream.into(), ..plain })];
            Tariff::new(vec![Table { host: None, slash, routes }]).expect("no collision")
        };
        let old = leading("app", "/api", Slash::Distinct, EncodedSlash::Refuse);
        let new = leading("other", "/api/v1", Slash::Same, EncodedSlash::Keep);
        assert_eq!(
            told(&old, &new),
            [
                "~ GET /api/v1/{id} at /v1/{id} → at /{id}",
                "~ GET /api/v1/{id} from app → from other",
                "~ GET /api/v1/{id} encoded_slash: refuse → encoded_slash: keep",
                "~ trailing_slash distinct → same",
            ]
        );
        assert_eq!(told(&old, &old), [""; 0]);
    }

    #[test]
    fn what_opens_because_a_broader_route_takes_over_is_an_alarm() {
        let broad = ("GET /v1/**", "free");
        assert_eq!(told(&tariff(&[broad, ("GET /v1/a", "1")]), &tariff(&[broad])), ["! GET /v1/a $1 → free"]);
        assert_eq!(
            told(&tariff(&[("/v1/**", "1")]), &tariff(&[("/v1/**", "1"), ("/v1/a", "free")])),
            ["! /v1/a $1 → free"]
        );
        assert_eq!(told(&tariff(&[broad]), &tariff(&[broad, ("GET /v1/a", "deny")])), ["- GET /v1/a free → deny"]);
        assert_eq!(told(&tariff(&[]), &tariff(&[broad])), ["! GET /v1/** free"]);
        assert_eq!(told(&tariff(&[]), &tariff(&[("/x", "deny")])), ["~ /x deny"]);
    }

    #[test]
    fn a_new_payee_is_one_alarm_for_all_routes() {
        let pays = |byte: u8| {
            let mut offer = offer("base", "1");
            offer.pay_to = Payee(Address::repeat_byte(byte));
            let lines = ["GET /a", "GET /b"].map(|key| route(key, toll(vec![offer.clone()])));
            Tariff::new(vec![Table { host: None, slash: Slash::Distinct, routes: lines.into() }]).expect("no collision")
        };
        assert_eq!(
            told(&pays(0x11), &pays(0x99)),
            ["! pay_to.base 0x1111111111111111111111111111111111111111 → 0x9999999999999999999999999999999999999999"]
        );
    }

    #[test]
    fn networks_assets_and_the_moment_of_settlement_are_told() {
        let base = || offer("base", "1");
        let two = toll(vec![base(), offer("polygon", "1")]);
        assert_eq!(told(&with("/a", toll(vec![base()])), &with("/a", two)), ["~ /a base → base, polygon"]);

        let mut upfront = base();
        upfront.settle = SettleMode::BeforeForward;
        assert_eq!(
            told(&with("/a", charge("1")), &with("/a", toll(vec![upfront]))),
            ["~ /a on_response → before_forward"]
        );

        let mut other = base();
        Arc::make_mut(&mut other.asset).address = Address::repeat_byte(0x33);
        let found = changes(&with("/a", charge("1")), &with("/a", toll(vec![other])));
        assert_eq!(found.iter().map(|change| change.mark).collect::<Vec<_>>(), [Mark::Alarm]);
    }

    #[test]
    fn the_same_path_on_two_hosts_is_two_routes() {
        let on = |lines| {
            let host = Table { host: Some(Host("b.example".into())), slash: Slash::Distinct, routes: lines };
            Tariff::new(vec![Table { host: Some(Host("a.example".into())), ..table(&[("/**", "free")]) }, host])
        };
        let old = on(vec![route("/x", charge("1"))]);
        let new = on(vec![]);
        let (Ok(old), Ok(new)) = (old, new) else { panic!("no collision") };
        assert_eq!(told(&old, &new), ["- /x $1"]);
    }
}
