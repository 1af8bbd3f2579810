//! The price table against a reader who has all the time in the world: every path is enumerated, and "more specific"
//! is what it says, a strict subset of paths.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use tollhouse::tariff::{
    Charge, Collision, EncodedSlash, Found, Limits, Pattern, Place, Relation, Route, RouteKey, Slash, Table, Tariff,
    parse_key,
};

/// Every path of up to four segments over two names that patterns use and one they do not, with and without a slash
/// at the end. Patterns have at most three segments, so this tells any two of them apart.
fn universe() -> Vec<String> {
    let mut paths = vec!["/".to_owned()];
    let mut longest = vec![String::new()];
    for _ in 0..4 {
        longest = longest.iter().flat_map(|path| ["a", "b", "other"].map(|name| format!("{path}/{name}"))).collect();
        paths.extend(longest.iter().flat_map(|path| [path.clone(), format!("{path}/")]));
    }
    paths
}

fn methods() -> Vec<Method> {
    let purge = Method::from_bytes(b"PURGE").expect("a token");
    vec![Method::GET, Method::HEAD, Method::POST, Method::DELETE, purge]
}

/// What the pattern matches, segment by segment, straight from the words of the specification.
fn matches(pattern: &str, path: &str) -> bool {
    let mut path = path[1..].split('/');
    for segment in pattern[1..].split('/') {
        match (segment, path.next()) {
            ("**", _) => return true,
            (_, None) => return false,
            (parameter, Some(text)) if parameter.starts_with('{') && !text.is_empty() => {}
            (literal, Some(text)) if literal == text => {}
            _ => return false,
        }
    }
    path.next().is_none()
}

fn paths_of(pattern: &str) -> BTreeSet<String> {
    universe().into_iter().filter(|path| matches(pattern, path)).collect()
}

fn pattern() -> impl Strategy<Value = String> {
    let segment = prop_oneof![3 => Just("/a"), 2 => Just("/b"), 3 => Just("/{}")];
    let end = prop_oneof![4 => Just(""), 1 => Just("/"), 2 => Just("/**")];
    (prop::collection::vec(segment, 0..=3), end).prop_map(|(segments, end)| {
        let named = segments.iter().enumerate().map(|(place, text)| text.replace("{}", &format!("{{p{place}}}")));
        let text = named.collect::<String>() + end;
        if text.is_empty() { "/".into() } else { text }
    })
}

fn key() -> impl Strategy<Value = String> {
    let named = ["GET ", "GET ", "HEAD ", "POST ", "GET|HEAD ", "GET|POST ", "", ""];
    (prop::sample::select(named.to_vec()), pattern()).prop_map(|(methods, pattern)| format!("{methods}{pattern}"))
}

fn route(key: &str) -> Arc<Route> {
    let (methods, pattern) = parse_key(key).unwrap_or_else(|error| panic!("{key}: {error}"));
    Arc::new(Route {
        key: RouteKey(key.into()),
        methods,
        pattern,
        charge: Charge::Free,
        upstream: "app".into(),
        public_url: "https://api.example.com".into(),
        limits: Limits::new(0, Duration::ZERO),
        encoded_slash: EncodedSlash::Refuse,
        rewrite: None,
        place: Place { file: "gateway.yaml".into(), line: 1, column: 1 },
    })
}

fn tariff<'k>(keys: impl IntoIterator<Item = &'k String>) -> Result<Tariff, Vec<Collision>> {
    posted(Slash::Distinct, keys)
}

fn posted<'k>(slash: Slash, keys: impl IntoIterator<Item = &'k String>) -> Result<Tariff, Vec<Collision>> {
    Tariff::new(vec![Table { host: None, slash, routes: keys.into_iter().map(|key| route(key)).collect() }])
}

/// Without a slash at the end, but for that of the root.
fn bare(path: &str) -> &str {
    path.strip_suffix('/').filter(|rest| rest.contains('/')).unwrap_or(path)
}

/// A route as the naive reader sees it.
struct Line<'k> {
    key: &'k str,
    named: Option<Vec<&'k str>>,
    paths: BTreeSet<String>,
}

impl<'k> Line<'k> {
    fn of(key: &'k str) -> Self {
        let (named, pattern) = match key.split_once(' ') {
            Some((methods, pattern)) => (Some(methods.split('|').collect()), pattern),
            None => (None, key),
        };
        Self { key, named, paths: paths_of(pattern) }
    }

    fn names(&self, method: &str) -> bool {
        self.named.as_ref().is_some_and(|named| named.contains(&method))
    }

    /// How specifically it takes the method: by name, as a HEAD through GET, or as any; `None` if not at all.
    fn takes(&self, method: &Method, lines: &[Self]) -> Option<u8> {
        if self.names(method.as_str()) {
            return Some(2);
        }
        if *method == Method::HEAD && self.names("GET") {
            let head_is_named = lines.iter().any(|line| line.paths == self.paths && line.names("HEAD"));
            return (!head_is_named).then_some(1);
        }
        self.named.is_none().then_some(0)
    }
}

/// The routes that match a request and that no other such route is more specific than.
fn best<'k>(lines: &[Line<'k>], method: &Method, path: &str) -> Vec<(&'k str, bool)> {
    let candidates: Vec<(&Line, u8)> = lines
        .iter()
        .filter(|line| line.paths.contains(path))
        .filter_map(|line| Some((line, line.takes(method, lines)?)))
        .collect();
    let beats = |one: &(&Line, u8), other: &(&Line, u8)| {
        let same = one.0.paths == other.0.paths;
        (same && one.1 > other.1) || (!same && one.0.paths.is_subset(&other.0.paths))
    };
    let unbeaten = candidates.iter().filter(|one| !candidates.iter().any(|other| beats(other, one)));
    unbeaten.map(|(line, rank)| (line.key, *rank == 1)).collect()
}

fn some_request_is_ambiguous(keys: &[String]) -> bool {
    let lines: Vec<Line> = keys.iter().map(|key| Line::of(key)).collect();
    let ambiguous = |method: &Method| universe().iter().any(|path| best(&lines, method, path).len() > 1);
    methods().iter().any(ambiguous)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn in_an_accepted_table_every_request_has_one_winner_and_find_names_it(keys in prop::collection::vec(key(), 1..8)) {
        let Ok(tariff) = tariff(&keys) else { return Ok(()) };
        let backwards = self::tariff(keys.iter().rev()).expect("the order of a table never matters");
        let lines: Vec<Line> = keys.iter().map(|key| Line::of(key)).collect();
        for method in methods() {
            for path in universe() {
                let expected = best(&lines, &method, &path);
                prop_assert!(expected.len() <= 1, "{} {} has winners {:?}", method, path, expected);
                for tariff in [&tariff, &backwards] {
                    let found = match tariff.find(None, &method, path[1..].split('/')) {
                        Found::Route { route, through_get } => Some((&*route.key.0, through_get)),
                        Found::Unlisted => None,
                        other => panic!("{method} {path} is {other:?}"),
                    };
                    prop_assert_eq!(found, expected.first().copied(), "{} {} in {:?}", method, path, keys);
                }
            }
        }
    }

    /// Where a slash at the end makes no difference, a table is what it would be if nobody wrote or sent one.
    #[test]
    fn a_slash_that_makes_no_difference_could_as_well_be_left_out(keys in prop::collection::vec(key(), 1..7)) {
        let bare_keys: Vec<String> = keys.iter().map(|key| bare(key).to_owned()).collect();
        let (same, plain) = (posted(Slash::Same, &keys), tariff(&bare_keys));
        prop_assert_eq!(same.is_ok(), plain.is_ok(), "{:?}", keys);
        let (Ok(same), Ok(plain)) = (same, plain) else { return Ok(()) };
        let found = |tariff: &Tariff, method: &Method, path: &str| {
            match tariff.find(None, method, path[1..].split('/')) {
                Found::Route { route, through_get } => format!("{} {} {through_get}", route.methods, bare(&route.pattern.to_string())),
                other => format!("{other:?}"),
            }
        };
        for method in methods() {
            for path in universe() {
                prop_assert_eq!(found(&same, &method, &path), found(&plain, &method, bare(&path)), "{} {} {:?}", method, path, keys);
            }
        }
    }

    #[test]
    fn a_refused_table_is_refused_for_a_reason(keys in prop::collection::vec(key(), 1..8)) {
        let Err(collisions) = tariff(&keys) else { return Ok(()) };
        for collision in &collisions {
            let [first, second] = collision.routes()[..] else { panic!("{collision} is about two routes") };
            let (one, other) = (Line::of(&first.key.0), Line::of(&second.key.0));
            match collision {
                Collision::Duplicate { .. } => {
                    prop_assert_eq!(&one.paths, &other.paths);
                    prop_assert_eq!(&first.methods, &second.methods);
                }
                Collision::SameMethod { method, .. } => {
                    prop_assert_eq!(&one.paths, &other.paths);
                    prop_assert!(one.names(method.as_str()) && other.names(method.as_str()));
                }
                Collision::Crossing { witness, .. } => {
                    let common: BTreeSet<String> = one.paths.intersection(&other.paths).cloned().collect();
                    prop_assert!(!one.paths.is_subset(&other.paths) && !other.paths.is_subset(&one.paths));
                    prop_assert_eq!(&Line::of(witness).paths, &common, "{} of {:?}", witness, keys);
                    // A subtree can also be covered piece by piece; that it has to be written as one is our choice.
                    prop_assert!(witness.ends_with("/**") || some_request_is_ambiguous(&keys), "{:?}", keys);
                }
                other => panic!("{other}"),
            }
        }
    }

    #[test]
    fn the_suggested_lines_settle_every_crossing(mut keys in prop::collection::btree_set(key(), 1..7)) {
        for _ in 0..20 {
            let Err(collisions) = tariff(&keys) else { return Ok(()) };
            for collision in collisions {
                let Collision::Crossing { witness, .. } = collision else { return Ok(()) };
                keys.insert(witness);
            }
        }
        prop_assert!(false, "still refused: {:?}", keys);
    }

    #[test]
    fn the_relation_of_two_patterns_is_that_of_their_paths(one in pattern(), other in pattern()) {
        let (own, others) = (paths_of(&one), paths_of(&other));
        let relation = Pattern::parse(&one).expect("a pattern").relation(&Pattern::parse(&other).expect("a pattern"));
        let expected = match (own.is_subset(&others), others.is_subset(&own)) {
            (true, true) => Relation::Same,
            (true, false) => Relation::Narrower,
            (false, true) => Relation::Wider,
            (false, false) if own.is_disjoint(&others) => Relation::Disjoint,
            (false, false) => {
                let Relation::Crossing { witness } = &relation else { panic!("{one} and {other} cross") };
                prop_assert_eq!(paths_of(&witness.to_string()), own.intersection(&others).cloned().collect());
                return Ok(());
            }
        };
        prop_assert_eq!(relation, expected);
    }

    #[test]
    fn reading_a_key_never_panics_and_what_is_read_is_written_back(text in "(GET|POST|get|TRACE)? ?[/a{}*.%;?é]{0,12}") {
        match parse_key(&text) {
            Ok((methods, pattern)) => {
                let space = if methods.to_string().is_empty() { "" } else { " " };
                prop_assert_eq!(format!("{methods}{space}{pattern}"), text);
            }
            Err(error) => prop_assert!(text.get(error.offset..error.offset + error.length).is_some()),
        }
    }
}

/// Comparing each with each would be hundreds of millions of comparisons, and each pair has something in common.
#[test]
fn forty_thousand_routes_that_overlap_only_in_part_are_accepted() {
    let mut keys: Vec<String> = Vec::new();
    for number in 0..10_000 {
        keys.push(format!("/{{tenant}}/orders{number}/list"));
        keys.push(format!("/tenant{number}/{{kind}}/detail"));
        keys.push(format!("GET /{{tenant}}/b{number}"));
        keys.push(format!("POST /c{number}/{{kind}}"));
    }
    let tariff = tariff(&keys).expect("no two routes match one request");
    assert_eq!(tariff.routes().count(), 40_000);
    let found = tariff.find(None, &Method::GET, ["tenant7", "orders9999", "detail"].into_iter());
    assert!(matches!(found, Found::Route { route, .. } if &*route.key.0 == "/tenant7/{kind}/detail"));
}
