//! Random price tables and random targets: wherever one of the four backends ends up, it costs no more than was asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use tollhouse::proxy::lookup;
use tollhouse::tariff::{
    Charge, EncodedSlash, Found, Limits, Pattern, Place, Rewrite, Route, RouteKey, Slash, Table, Tariff, parse_key,
};

use crate::toy::Manner;

/// What the backend's paths begin with where the table says so.
const ADDED: &str = "/behind";

/// A table as it was drawn.
#[derive(Debug, Clone)]
struct Drawn {
    /// Paths, and whether each is closed.
    lines: BTreeMap<String, bool>,
    slash: Slash,
    encoded_slash: EncodedSlash,
    /// Whether `/a` goes and [`ADDED`] comes, where that fits.
    rewritten: bool,
}

impl Drawn {
    /// `None` when some path would have no single price.
    fn tariff(&self, spelled: impl Fn(&str) -> String) -> Option<Tariff> {
        let mut routes = Vec::new();
        for (path, closed) in &self.lines {
            let key = spelled(path);
            let (methods, pattern) = parse_key(&key).expect("a key");
            let [strip, added] = ["/a", ADDED].map(|prefix| Pattern::parse(prefix).expect("a prefix"));
            let rewrite = Rewrite::of(&pattern, Some(&strip), Some((&added, ADDED))).ok().flatten();
            routes.push(Arc::new(Route {
                key: RouteKey(key.as_str().into()),
                methods,
                pattern,
                charge: if *closed { Charge::Deny } else { Charge::Free },
                upstream: "app".into(),
                public_url: "https://api.test".into(),
                limits: Limits::new(0, Duration::ZERO),
                encoded_slash: self.encoded_slash,
                rewrite: rewrite.filter(|_| self.rewritten),
                place: Place { file: "gateway.yaml".into(), line: 1, column: 1 },
            }));
        }
        Tariff::new(vec![Table { host: None, slash: self.slash, routes }]).ok()
    }
}

fn drawn() -> impl Strategy<Value = Drawn> {
    let segment = prop::sample::select(vec!["/a", "/a", "/b", "/A", "/{}", "/{}"]);
    let end = prop::sample::select(vec!["", "", "", "/**"]);
    let path = (prop::collection::vec(segment, 0..=3), end).prop_map(|(segments, end)| {
        let named = segments.iter().enumerate().map(|(place, text)| text.replace("{}", &format!("{{p{place}}}")));
        let path = named.collect::<String>() + end;
        if path.is_empty() { "/**".to_owned() } else { path }
    });
    let slash = prop::sample::select(vec![Slash::Distinct, Slash::Same]);
    let encoded_slash = prop::sample::select(vec![EncodedSlash::Refuse, EncodedSlash::Keep]);
    let lines = prop::collection::btree_map(path, any::<bool>(), 1..6);
    (lines, slash, encoded_slash, any::<bool>()).prop_map(|(lines, slash, encoded_slash, rewritten)| Drawn {
        lines,
        slash,
        encoded_slash,
        rewritten,
    })
}

fn target() -> impl Strategy<Value = String> {
    #[rustfmt::skip]
    let part = prop::sample::select(vec![
        "/", "/", "/", "/", "a", "a", "b", "A", "%61", "%41", "other", "..", ".", "%2e", "%2E%2e", "%2f", "%2F", "%2F",
        "%5c", "\\", ";", "%20", "%C2%A0", "%E2%80%8B", "%C2%AD", "%EF%BD%81", "%EF%BC%8E", "%EF%BC%8F", "%25", "%252f", "%00",
        "%c0%af", "?", "#", "61", "//",
    ]);
    prop::collection::vec(part, 0..9).prop_map(|parts| format!("/{}", parts.concat()))
}

/// Whether the table keeps this path closed.
fn is_closed(tariff: &Tariff, path: &str) -> bool {
    let segments = path.strip_prefix('/').unwrap_or(path).split('/');
    matches!(tariff.find(None, &Method::GET, segments), Found::Route { route, .. } if route.charge == Charge::Deny)
}

/// The path a client would have sent for what the backend resolved; `None` when it lies outside of the prefix.
fn seen_from_the_front(path: &str, route: &Route) -> Option<String> {
    if route.rewrite.is_none() {
        return Some(path.to_owned());
    }
    let rest = path.strip_prefix(ADDED)?;
    (rest.is_empty() || rest.starts_with('/')).then(|| format!("/a{rest}"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s38_wherever_a_backend_ends_up_is_not_dearer_than_what_was_asked(drawn in drawn(), target in target()) {
        // Who folds cases has the resources of the table under their folded names.
        let (Some(tariff), Some(folded)) = (drawn.tariff(str::to_owned), drawn.tariff(str::to_lowercase)) else {
            return Ok(());
        };
        let Ok(read) = lookup::read(&tariff, target.as_bytes()) else { return Ok(()) };
        let Found::Route { route, .. } = lookup::find(&tariff, None, &Method::GET, &read) else { return Ok(()) };
        if route.charge == Charge::Deny {
            return Ok(());
        }
        let forwarded = match &route.rewrite {
            None => read.path_and_query().to_owned(),
            Some(rewrite) => rewrite.apply(read.path_and_query()),
        };
        prop_assert!(lookup::read(&tariff, forwarded.as_bytes()).is_ok(), "{} is canonical", forwarded);
        let path = forwarded.split('?').next().unwrap_or_default();
        for manner in Manner::ALL {
            let Some(resolved) = manner.resolve(path.as_bytes()) else { continue };
            let Some(resolved) = seen_from_the_front(&resolved, route) else {
                return Err(TestCaseError::fail(format!("{target} left its prefix at {manner:?}: {resolved}")));
            };
            let table = if matches!(manner, Manner::Express | Manner::CaseInsensitive) { &folded } else { &tariff };
            prop_assert!(
                !is_closed(table, &resolved),
                "{} was let through by {} as {} and is {} to {:?}", target, route.key, forwarded, resolved, manner
            );
        }
    }
}
