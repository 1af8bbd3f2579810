//! What is matched is what is forwarded: the canonical form of request targets, alone and in front of a price table.

use std::sync::Arc;
use std::time::Duration;

use http::Method;
use proptest::prelude::*;
use tollhouse::proxy::target::{Ambiguous, MAX_PATH, Target, canonical_host};
use tollhouse::tariff::{Charge, EncodedSlash, Found, Limits, Place, Route, RouteKey, Slash, Table, Tariff, parse_key};

fn parse(target: &str) -> Result<Target, Ambiguous> {
    Target::parse(target.as_bytes())
}

fn segments(target: &Target) -> Vec<&str> {
    target.segments().collect()
}

#[test]
fn an_ordinary_target_is_forwarded_as_it_came() {
    for text in ["/", "/a", "/a/", "/a/b.c", "/a:b@c/!$&'()*+,=", "/-._~", "/...", "/a?b=c", "/a?", "/a?b?c/../%2e;//"]
    {
        let target = parse(text).expect(text);
        assert_eq!(target.path_and_query(), text);
    }
    assert_eq!(segments(&parse("/").expect("root")), [""]);
    assert_eq!(segments(&parse("/a/b/").expect("a path")), ["a", "b", ""]);
}

#[test]
fn escapes_have_one_spelling() {
    for (raw, canonical, decoded) in [
        ("/%61%2D%2e%7e", "/a-.~", "a-.~"),
        ("/caf%c3%a9", "/caf%C3%A9", "café"),
        ("/café", "/caf%C3%A9", "café"),
        ("/a%20b", "/a%20b", "a b"),
        ("/%21!", "/%21!", "!!"),
        ("/100%25", "/100%25", "100%"),
        ("/100%25x", "/100%25x", "100%x"),
        ("/a\"<>[]^`{|}", "/a%22%3C%3E%5B%5D%5E%60%7B%7C%7D", "a\"<>[]^`{|}"),
        ("/%3f%23", "/%3F%23", "?#"),
    ] {
        let target = parse(raw).expect(raw);
        assert_eq!((target.path(), segments(&target)), (canonical, vec![decoded]));
    }
}

#[test]
fn the_query_is_untouched() {
    let target = parse("/%7Ea?x=%7e&y=%2F..%00é").expect("a target");
    assert_eq!(target.query(), Some("x=%7e&y=%2F..%00é"));
    assert_eq!(target.path_and_query(), "/~a?x=%7e&y=%2F..%00é");
    assert_eq!(parse("/a").expect("a target").query(), None);
    assert_eq!(parse("/a?").expect("a target").query(), Some(""));
}

#[test]
fn s38_what_can_be_read_in_two_ways_is_refused() {
    for (target, reason) in [
        ("", Ambiguous::NotOriginForm),
        ("*", Ambiguous::NotOriginForm),
        ("a", Ambiguous::NotOriginForm),
        ("?a", Ambiguous::NotOriginForm),
        ("http://api.example.com/a", Ambiguous::NotOriginForm),
        ("//", Ambiguous::EmptySegment),
        ("//a", Ambiguous::EmptySegment),
        ("/a//b", Ambiguous::EmptySegment),
        ("/a//", Ambiguous::EmptySegment),
        ("/%61//b", Ambiguous::EmptySegment),
        ("/.", Ambiguous::DotSegment),
        ("/..", Ambiguous::DotSegment),
        ("/a/./b", Ambiguous::DotSegment),
        ("/a/../b", Ambiguous::DotSegment),
        ("/a/..?b", Ambiguous::DotSegment),
        ("/a/%2e/b", Ambiguous::DotSegment),
        ("/a/%2E%2e/b", Ambiguous::DotSegment),
        ("/a/.%2e", Ambiguous::DotSegment),
        ("/a/..%20/b", Ambiguous::DotSegment),
        ("/a/%20./b", Ambiguous::DotSegment),
        ("/a/..\u{a0}/b", Ambiguous::DotSegment),
        ("/a/.\u{200d}./b", Ambiguous::Disguised),
        ("/a%2fb", Ambiguous::Slash),
        ("/a%2Fb", Ambiguous::Slash),
        ("/a\\b", Ambiguous::Backslash),
        ("/a%5cb", Ambiguous::Backslash),
        ("/a;b=c", Ambiguous::Semicolon),
        ("/a%3Bb", Ambiguous::Semicolon),
        ("/a%00", Ambiguous::Control),
        ("/a%0d%0a", Ambiguous::Control),
        ("/a%7f", Ambiguous::Control),
        ("/a\u{7f}", Ambiguous::Control),
        ("/a%c2%85", Ambiguous::Control),
        ("/a\tb", Ambiguous::Control),
        ("/a b", Ambiguous::Control),
        ("/a%", Ambiguous::Escape),
        ("/a%4", Ambiguous::Escape),
        ("/a%zz", Ambiguous::Escape),
        ("/a%4/1", Ambiguous::Escape),
        ("/a%+1", Ambiguous::Escape),
        ("/a%u002f", Ambiguous::Escape),
        ("/%252e%252e", Ambiguous::EscapedTwice),
        ("/a%2541", Ambiguous::EscapedTwice),
        ("/a%25%34%31", Ambiguous::EscapedTwice),
        ("/a%ff", Ambiguous::NotUtf8),
        ("/a%c0%ae", Ambiguous::NotUtf8),
        ("/a%c3/%a9", Ambiguous::NotUtf8),
        ("/a/．．/b", Ambiguous::Disguised),
        ("/a/‥/b", Ambiguous::Disguised),
        ("/a／b", Ambiguous::Disguised),
        ("/a＼b", Ambiguous::Disguised),
        ("/a；b", Ambiguous::Disguised),
        ("/％2e％2e", Ambiguous::Disguised),
        ("/a#b", Ambiguous::Fragment),
        ("/a?b#c", Ambiguous::Fragment),
        ("/a?b c", Ambiguous::QueryControl),
        ("/a?b\r\nX: y", Ambiguous::QueryControl),
        ("/a?\0", Ambiguous::QueryControl),
    ] {
        assert_eq!(parse(target).err(), Some(reason), "{target:?}");
        assert!(reason.to_string().is_ascii());
    }
    assert_eq!(Target::parse(b"/a\xff").err(), Some(Ambiguous::NotUtf8));
    assert_eq!(Target::parse(b"/a?\xff").err(), Some(Ambiguous::QueryNotUtf8));
}

#[test]
fn s38_a_kept_slash_stays_in_its_segment() {
    for (raw, canonical, divided) in [
        ("/@scope%2fname", "/@scope%2Fname", "/@scope/name"),
        ("/a%2Fb%2fc/d?x=%2f", "/a%2Fb%2Fc/d", "/a/b/c/d"),
        ("/caf%c3%a9%2F%61", "/caf%C3%A9%2Fa", "/café/a"),
        ("/100%25%2Fa", "/100%25%2Fa", "/100%/a"),
        ("/a%2F..b", "/a%2F..b", "/a/..b"),
    ] {
        let target = Target::parse_keeping(raw.as_bytes()).expect(raw);
        assert_eq!((target.path(), target.divided().as_str()), (canonical, divided), "{raw}");
        assert!(target.keeps_slash());
        assert_eq!(segments(&target).len(), canonical.matches('/').count(), "{raw}");
        assert_eq!(parse(raw).err(), Some(Ambiguous::Slash));
    }
    assert!(!Target::parse_keeping(b"/a%20b").expect("a target").keeps_slash());
}

#[test]
fn s38_a_kept_slash_makes_no_way_out() {
    for (target, reason) in [
        ("/a%2F", Ambiguous::Slash),
        ("/%2Fa", Ambiguous::Slash),
        ("/a%2F%2fb", Ambiguous::Slash),
        ("/a%2F..", Ambiguous::Slash),
        ("/%2e%2e%2Fa", Ambiguous::Slash),
        ("/a%2F.%2Fb", Ambiguous::Slash),
        ("/a%2F..%20%2Fb", Ambiguous::DotSegment),
        ("/a%2F%5Cb", Ambiguous::Backslash),
        ("/a%2Fb;c", Ambiguous::Semicolon),
        ("/a%2Fb%00", Ambiguous::Control),
        ("/a%252Fb", Ambiguous::EscapedTwice),
        ("/a%25%32%46b", Ambiguous::EscapedTwice),
        ("/a%2F%252e", Ambiguous::EscapedTwice),
        ("/a%2F．．%2Fb", Ambiguous::Disguised),
        ("/a%2Fb／c", Ambiguous::Disguised),
        ("/a%2F%ff", Ambiguous::NotUtf8),
        ("/a%2Fb//c", Ambiguous::EmptySegment),
    ] {
        assert_eq!(Target::parse_keeping(target.as_bytes()).err(), Some(reason), "{target}");
    }
}

#[test]
fn a_path_has_a_longest_length() {
    let path = |length: usize| format!("/{}?query", "a".repeat(length - 1));
    assert!(parse(&path(MAX_PATH)).is_ok());
    assert_eq!(parse(&path(MAX_PATH + 1)).err(), Some(Ambiguous::TooLong));
}

#[test]
fn s41_a_host_has_one_spelling() {
    for (value, canonical) in [
        ("api.example.com", "api.example.com"),
        ("API.Example.COM", "api.example.com"),
        ("api.example.com:8443", "api.example.com"),
        ("api.example.com.", "api.example.com"),
        ("api.example.com.:80", "api.example.com"),
        ("my_api:3000", "my_api"),
        ("127.0.0.1:80", "127.0.0.1"),
        ("[0:0::1]:80", "[::1]"),
        ("[::1]", "[::1]"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
    ] {
        assert_eq!(canonical_host(value).as_deref(), Some(canonical), "{value}");
    }
}

#[test]
fn s41_what_is_not_a_host_is_refused() {
    #[rustfmt::skip]
    let refused = [
        "", ".", ":80", "a..b", ".a", "a..", "user@a", "a:b@c", "a:", "a:99999", "a:+1", "a:80:80", "a/b", "a b", "a\0",
        "bücher.example", "[::1", "[::1]x", "[::1]:", "[evil]", "::1", "a%2eb", "a,b", "a?b", "a#b",
    ];
    for value in refused {
        assert_eq!(canonical_host(value), None, "{value:?}");
    }
    assert_eq!(canonical_host(&"a".repeat(64)), None);
    assert_eq!(canonical_host(&format!("{}a", "a.".repeat(127))), None);
}

/// A little shop: what lies below `/v1` is closed but for its documentation, and everything else is given away.
fn shop() -> Tariff {
    let route = |(key, charge): (&str, Charge)| {
        let (methods, pattern) = parse_key(key).expect("a key");
        Arc::new(Route {
            key: RouteKey(key.into()),
            methods,
            pattern,
            charge,
            upstream: "app".into(),
            public_url: "https://api.example.com".into(),
            limits: Limits::new(0, Duration::ZERO),
            encoded_slash: EncodedSlash::Refuse,
            rewrite: None,
            place: Place { file: "gateway.yaml".into(), line: 1, column: 1 },
        })
    };
    let lines = [("/**", Charge::Free), ("/v1/**", Charge::Deny), ("/v1/docs/**", Charge::Free)];
    Tariff::new(vec![Table { host: None, slash: Slash::Distinct, routes: lines.map(route).into() }])
        .expect("no collision")
}

/// Where a backend ends up that decodes, folds, cuts and resolves everything it can.
fn as_a_careless_backend_reads(path: &str) -> String {
    let mut text = path.to_lowercase();
    for (from, to) in [("%25", "%"), ("%2e", "."), ("%2f", "/"), ("%5c", "\\"), ("\\", "/"), ("%76", "v"), ("%31", "1")]
    {
        text = text.replace(from, to);
    }
    let mut stack: Vec<&str> = Vec::new();
    for segment in text.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(stack.pop()),
            name => stack.push(name),
        }
    }
    stack.join("/")
}

fn decode(segment: &str) -> String {
    let segment = segment.replace("%2F", "%252F");
    let mut parts = segment.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).expect("two hexadecimal digits"));
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).expect("text")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn s38_no_spelling_of_a_closed_path_reaches_the_backend_as_an_open_one(
        parts in prop::collection::vec(
            prop::sample::select(vec![
                "/", "/", "//", ".", "..", "v1", "V1", "%76", "1", "docs", "secret", "%2e", "%2E%2e", "%2f", "%5C", "\\",
                ";x=y", "%3b", "%252e", "%252f", "%00", "free", "?", "%31",
            ]),
            0..9,
        )
    ) {
        let text = format!("/{}", parts.concat());
        let Ok(target) = parse(&text) else { return Ok(()) };
        if let Found::Route { route, .. } = shop().find(None, &Method::GET, target.segments()) {
            let read = as_a_careless_backend_reads(target.path());
            let below = |top: &str| read == top || read.strip_prefix(top).is_some_and(|rest| rest.starts_with('/'));
            let closed = below("v1") && !below("v1/docs");
            prop_assert!(!closed || route.charge == Charge::Deny, "{} passed as {}", text, route.key);
        }
    }

    #[test]
    fn parsing_never_panics_and_what_is_forwarded_is_parsed_alike(
        bytes in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..40),
            "/[a-zA-Z0-9%./;?#é\\\\~!{}]{0,40}".prop_map(String::into_bytes),
            "/([a-c.~!{é/]|%[2-7][0-9a-fA-F]){0,12}(\\?[a-c%/]{0,5})?".prop_map(String::into_bytes),
        ]
    ) {
        let Ok(target) = Target::parse_keeping(&bytes) else { return Ok(()) };
        prop_assert_eq!(Target::parse(&bytes).is_ok(), !target.keeps_slash());
        let again = Target::parse_keeping(target.path_and_query().as_bytes()).expect("what is canonical is accepted");
        prop_assert_eq!(again.path_and_query(), target.path_and_query());
        prop_assert_eq!(segments(&again), segments(&target));
        let decoded: Vec<String> = target.path()[1..].split('/').map(decode).collect();
        prop_assert_eq!(segments(&target), decoded);
    }
}
