//! The table of GATEWAY_YAML, section 3, and what stands around it, line by line.

use http::Method;

use super::sample::{charge, offer, route, table, tariff, toll};
use super::*;
use crate::primitives::{Address, Payee};

/// The key of the route that wins, or why there is none.
fn winner(tariff: &Tariff, request: &str) -> String {
    winner_on(tariff, None, request)
}

fn winner_on(tariff: &Tariff, host: Option<&str>, request: &str) -> String {
    let (method, path) = request.split_once(' ').expect("a method and a path");
    let method = Method::from_bytes(method.as_bytes()).expect("a method");
    match tariff.find(host, &method, path[1..].split('/')) {
        Found::Route { route, through_get: false } => route.key.to_string(),
        Found::Route { route, through_get: true } => format!("{} through GET", route.key),
        other => format!("{other:?}"),
    }
}

fn collisions(lines: &[(&str, &str)]) -> Vec<String> {
    let describe = |collision: Collision| {
        let keys: Vec<String> = collision.routes().iter().map(|route| route.key.to_string()).collect();
        format!("{collision}: {} = help: {}", keys.join(" and "), collision.help())
    };
    Tariff::new(vec![table(lines)]).map_or_else(|found| found.into_iter().map(describe).collect(), |_| Vec::new())
}

#[test]
fn the_more_specific_path_wins() {
    let tariff = tariff(&[("GET /v1/**", "0.01"), ("/v1/admin/**", "deny"), ("GET /shop/{id}", "2"), ("/**", "free")]);
    assert_eq!(winner(&tariff, "GET /v1/admin/x"), "/v1/admin/**");
    assert_eq!(winner(&tariff, "GET /v1/admin"), "/v1/admin/**");
    assert_eq!(winner(&tariff, "GET /v1/other"), "GET /v1/**");
    assert_eq!(winner(&tariff, "GET /v1"), "GET /v1/**");
    assert_eq!(winner(&tariff, "GET /shop/7"), "GET /shop/{id}");
    assert_eq!(winner(&tariff, "GET /shop/"), "/**");
    assert_eq!(winner(&tariff, "GET /"), "/**");
}

#[test]
fn on_the_same_path_the_more_specific_method_wins() {
    let tariff = tariff(&[("/v1/chat", "0.05"), ("POST /v1/chat", "0.08")]);
    assert_eq!(winner(&tariff, "POST /v1/chat"), "POST /v1/chat");
    assert_eq!(winner(&tariff, "GET /v1/chat"), "/v1/chat");
}

#[test]
fn a_narrower_path_rules_only_the_methods_it_takes() {
    let tariff = tariff(&[("/v1/**", "deny"), ("GET /v1/chat", "0.05")]);
    assert_eq!(winner(&tariff, "GET /v1/chat"), "GET /v1/chat");
    assert_eq!(winner(&tariff, "DELETE /v1/chat"), "/v1/**");
}

#[test]
fn s42_what_is_not_listed_is_not_for_sale() {
    let tariff = tariff(&[("GET /v1/weather", "0.01"), ("GET /files/**", "free")]);
    for request in ["GET /", "GET /v1", "GET /v1/weather/", "POST /v1/weather", "GET /files2", "GET /V1/weather"] {
        assert_eq!(winner(&tariff, request), "Unlisted", "{request}");
    }
    assert_eq!(winner(&super::sample::tariff(&[]), "GET /"), "Unlisted");
}

#[test]
fn s39_get_includes_head_unless_head_is_named_on_the_same_path() {
    let tariff = tariff(&[
        ("GET /a", "0.01"),
        ("GET /b", "0.01"),
        ("HEAD /b", "free"),
        ("GET|HEAD /c", "0.01"),
        ("GET /d", "0.01"),
        ("/d", "free"),
        ("HEAD /e/**", "free"),
        ("GET /e/f", "0.01"),
    ]);
    assert_eq!(winner(&tariff, "HEAD /a"), "GET /a through GET");
    assert_eq!(winner(&tariff, "HEAD /b"), "HEAD /b");
    assert_eq!(winner(&tariff, "HEAD /c"), "GET|HEAD /c");
    assert_eq!(winner(&tariff, "HEAD /d"), "GET /d through GET");
    assert_eq!(winner(&tariff, "HEAD /e/f"), "GET /e/f through GET");
    assert_eq!(winner(&tariff, "HEAD /e/g"), "HEAD /e/**");
}

#[test]
fn s39_trace_and_connect_match_nothing() {
    let tariff = tariff(&[("/**", "free")]);
    assert_eq!(winner(&tariff, "TRACE /a"), "Unlisted");
    assert_eq!(winner(&tariff, "CONNECT /a"), "Unlisted");
    assert_eq!(winner(&tariff, "PURGE /a"), "/**");
}

#[test]
fn a_crossing_is_refused_with_the_line_that_settles_it() {
    assert_eq!(
        collisions(&[("/v1/{id}/x", "1"), ("/v1/a/{y}", "2")]),
        ["these two routes overlap and neither is more specific: /v1/{id}/x and /v1/a/{y} \
          = help: say what the overlap costs:  /v1/a/x: $…"]
    );
    assert_eq!(collisions(&[("/v1/{id}/x", "1"), ("/v1/a/{y}", "2"), ("/v1/a/x", "3")]), [""; 0]);
}

#[test]
fn a_crossing_is_settled_for_the_methods_it_is_about() {
    assert_eq!(collisions(&[("GET /{id}/x", "1"), ("POST /a/{y}", "2")]), [""; 0]);
    let found = collisions(&[("GET|POST /{id}/x", "1"), ("/a/{y}", "2"), ("GET /a/x", "3")]);
    assert_eq!(found.len(), 1);
    assert!(found[0].ends_with("POST /a/x: $…"), "{}", found[0]);
    let found = collisions(&[("HEAD /{id}/x", "1"), ("GET /a/{y}", "2")]);
    assert!(found[0].ends_with("HEAD /a/x: $…"), "{}", found[0]);
}

#[test]
fn routes_that_name_the_same_method_on_the_same_path_are_refused() {
    assert_eq!(
        collisions(&[("GET|POST /a", "1"), ("GET|PUT /a", "2"), ("GET /b/{x}", "1"), ("GET /b/{y}", "1")]),
        [
            "these two routes have the same paths and both name GET: GET|POST /a and GET|PUT /a \
             = help: leave GET out of one of them",
            "this route is listed twice: GET /b/{x} and GET /b/{y} = help: keep one of them",
        ]
    );
    assert_eq!(collisions(&[("/a", "1"), ("/a", "1")]).len(), 1);
}

#[test]
fn many_crossings_are_found_at_once_but_not_all_of_them() {
    let keys: Vec<String> = (0..500).flat_map(|n| [format!("/{{x}}/b{n}"), format!("/a{n}/{{y}}")]).collect();
    let lines: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    assert_eq!(collisions(&lines).len(), MAX_CROSSINGS);
}

#[test]
fn a_table_with_too_many_arrangements_is_refused() {
    let key = |number: usize| {
        let part = |bit: usize| if number >> bit & 1 == 1 { format!("/{{p{bit}}}") } else { "/a".into() };
        (0..10).map(part).collect::<String>() + &format!("/{number}")
    };
    let keys: Vec<String> = (0..=MAX_ARRANGEMENTS).map(key).collect();
    let lines: Vec<(&str, &str)> = keys.iter().map(|key| (key.as_str(), "1")).collect();
    assert_eq!(collisions(&lines[..MAX_ARRANGEMENTS]), [""; 0]);
    assert_eq!(collisions(&lines).len(), 1);
}

fn hosts() -> Tariff {
    let host = |name: &str, lines| Table { host: Some(Host(name.into())), ..table(lines) };
    let main = host("api.example.com", &[("GET /a", "1")]);
    let tiles = host("tiles.example.com", &[("GET /b", "1")]);
    let more = host("api.example.com", &[("GET /c", "1")]);
    Tariff::new(vec![main, tiles, more]).expect("no collision")
}

#[test]
fn s41_an_unknown_host_has_no_default_route() {
    let tariff = hosts();
    assert_eq!(winner_on(&tariff, Some("api.example.com"), "GET /a"), "GET /a");
    assert_eq!(winner_on(&tariff, Some("api.example.com"), "GET /c"), "GET /c");
    assert_eq!(winner_on(&tariff, Some("api.example.com"), "GET /b"), "Unlisted");
    assert_eq!(winner_on(&tariff, Some("other.example.com"), "GET /a"), "UnknownHost");
    assert_eq!(winner_on(&tariff, None, "GET /a"), "UnknownHost");
    assert_eq!(tariff.routes().count(), 3);
}

#[test]
fn s41_without_hosts_any_host_is_served() {
    let tariff = tariff(&[("GET /a", "1")]);
    assert_eq!(winner_on(&tariff, Some("anything.example"), "GET /a"), "GET /a");
}

#[test]
fn s41_a_table_without_a_host_cannot_stand_beside_others() {
    let host = Table { host: Some(Host("api.example.com".into())), ..table(&[("GET /a", "1")]) };
    let found = Tariff::new(vec![table(&[("GET /b", "1")]), host]).expect_err("refused");
    assert!(matches!(&found[..], [Collision::Hostless { route }] if route.key.to_string() == "GET /b"));
}

#[test]
fn s38_a_spelling_that_reads_as_a_stricter_route_is_refused() {
    let tariff = tariff(&[
        ("GET /**", "free"),
        ("GET /v1/**", "0.01"),
        ("/v1/admin/**", "deny"),
        ("GET /v1/getReport", "0.05"),
        ("GET /straße", "0.01"),
    ]);
    let paths = ["/V1/x", "/v1/Admin", "/v1/ADMIN/x", "/v1/ａｄｍｉｎ", "/v1/getreport", "/v1/GETREPORT", "/STRASSE"];
    // No capital in the path, one in the table, and an ending that is dropped.
    for path in paths.into_iter().chain(["/v1/getreport..", "/v1/getreport "]) {
        assert_eq!(winner(&tariff, &format!("GET {path}")), "Ambiguous", "{path}");
    }
    assert_eq!(winner(&tariff, "GET /v1/getReport"), "GET /v1/getReport");
    assert_eq!(winner(&tariff, "GET /Docs"), "GET /**");
    assert_eq!(winner(&tariff, "GET /v1/Weather"), "GET /v1/**");
    assert_eq!(winner(&tariff, "POST /V1/admin"), "Unlisted");
}

#[test]
fn s38_what_a_segment_ends_in_does_not_make_a_priced_path_free() {
    let tariff = tariff(&[
        ("/**", "free"),
        ("GET /v1/weather", "0.01"),
        ("GET /v1/weather/{day}", "0.02"),
        ("/v1/admin/**", "deny"),
        ("GET /v1/dear/", "0.05"),
    ]);
    for path in [
        "/v1/weather/",
        "/v1/weather.",
        "/v1/weather...",
        "/v1/weather ",
        "/v1/weather\u{a0}",
        "/v1/weather\u{3000}",
        "/v1/weather\u{feff}",
        "/v1/weather\u{2026}",
        "/v1/weather. /",
        "/v1/dear/ ",
        "/v1 /weather",
        "/v1./weather",
        "/v1/ /weather",
        "/V1/Weather/",
        "/v1/weather/monday/",
        "/v1/admin.",
        "/v1/admin /x",
        "/v1/dear",
    ] {
        assert_eq!(winner(&tariff, &format!("GET {path}")), "Ambiguous", "{path:?}");
    }
    for path in ["/", "/v1", "/v1/", "/v1/weather.json", "/v1/.weather", "/other.", "/other/", "/a b/c "] {
        assert_eq!(winner(&tariff, &format!("GET {path}")), "/**", "{path:?}");
    }
}

#[test]
fn s38_a_spelling_that_is_itself_listed_is_meant() {
    let tariff = tariff(&[
        ("/**", "free"),
        ("GET /a", "0.01"),
        ("GET /a/", "free"),
        ("GET /b/{x}", "free"),
        ("GET /b/{x}/", "0.01"),
        ("GET /b/c/", "0.02"),
        ("GET /d.", "free"),
        ("GET /d", "0.01"),
        ("/e/**", "free"),
        ("GET /e/", "0.01"),
    ]);
    assert_eq!(winner(&tariff, "GET /a"), "GET /a");
    assert_eq!(winner(&tariff, "GET /a/"), "GET /a/");
    assert_eq!(winner(&tariff, "GET /b/x"), "GET /b/{x}");
    assert_eq!(winner(&tariff, "GET /b/x/"), "GET /b/{x}/");
    assert_eq!(winner(&tariff, "GET /b/c"), "Ambiguous");
    assert_eq!(winner(&tariff, "GET /d."), "GET /d.");
    assert_eq!(winner(&tariff, "GET /d.."), "Ambiguous");
    assert_eq!(winner(&tariff, "GET /e"), "Ambiguous");
    assert_eq!(winner(&tariff, "GET /e/x"), "/e/**");
}

#[test]
fn s38_a_backend_may_fold_letters_and_keep_blanks() {
    let tariff = tariff(&[("/{x}/a", "deny"), ("/**", "free")]);
    assert_eq!(winner(&tariff, "GET / /A"), "Ambiguous", "whoever folds letters alone finds it");
    assert_eq!(winner(&tariff, "GET / /b"), "/**");
}

#[test]
fn s38_letters_without_a_shape_are_left_out() {
    let tariff = tariff(&[("/secret", "1"), ("/**", "free")]);
    for path in ["GET /sec\u{200c}ret", "GET /secret\u{ad}", "GET /\u{2060}SECRET"] {
        assert_eq!(winner(&tariff, path), "Ambiguous", "{path:?}");
    }
    assert_eq!(winner(&tariff, "GET /emo\u{fe0f}ji"), "/**");
}

fn same(lines: &[(&str, &str)]) -> Result<Tariff, Vec<Collision>> {
    Tariff::new(vec![Table { slash: Slash::Same, ..table(lines) }])
}

#[test]
fn where_a_slash_makes_no_difference_both_spellings_are_one_path() {
    let lines = [("GET /a", "1"), ("GET /b/", "2"), ("/c/{x}", "3"), ("/d/**", "4"), ("/", "5"), ("/D/e/", "deny")];
    let tariff = same(&lines).expect("no collision");
    for (request, key) in [
        ("GET /a/", "GET /a"),
        ("HEAD /a/", "GET /a through GET"),
        ("GET /b", "GET /b/"),
        ("GET /c/7/", "/c/{x}"),
        ("GET /c/", "Unlisted"),
        ("GET /d/", "/d/**"),
        ("GET /", "/"),
        ("GET /d/E/", "Ambiguous"),
        ("GET /D/e", "/D/e/"),
    ] {
        assert_eq!(winner(&tariff, request), key, "{request}");
    }
    assert!(tariff.undercut().iter().all(|undercut| !matches!(undercut.through, Through::Slash)));
}

#[test]
fn where_a_slash_makes_no_difference_two_spellings_are_listed_twice() {
    let found = same(&[("GET /a", "1"), ("GET /a/", "2")]).expect_err("they are one path");
    assert!(matches!(&found[..], [Collision::Duplicate { .. }]));
    assert_eq!(found[0].help(), "keep one of them, or write trailing_slash: distinct");
    let found = same(&[("GET /b/{x}/", "1"), ("/{y}/c", "2")]).expect_err("they cross");
    assert!(matches!(&found[..], [Collision::Crossing { witness, .. }] if witness == "GET /b/c"), "{found:?}");
    assert!(same(&[("GET /b/{x}/", "1"), ("/{y}/c", "2"), ("/b/c/", "3")]).is_ok());
}

#[test]
fn s38_an_escaped_slash_is_sold_only_where_it_is_kept_and_never_for_less() {
    let keeping = |key: &str, text: &str| {
        let route = Arc::unwrap_or_clone(route(key, charge(text)));
        Arc::new(Route { encoded_slash: EncodedSlash::Keep, ..route })
    };
    let refusing = table(&[("/packages/{x}/closed", "deny"), ("/packages/B/sub", "1"), ("/**", "free")]);
    let routes = [vec![keeping("/packages/{name}", "free")], refusing.routes].concat();
    let tariff = Tariff::new(vec![Table { routes, ..Table::default() }]).expect("no collision");
    assert!(tariff.keeps_slashes());
    let found = |path: &str| {
        let divided = path.replace("%2F", "/");
        match tariff.find_kept(None, &Method::GET, path[1..].split('/'), divided[1..].split('/')) {
            Found::Route { route, .. } => route.key.to_string(),
            other => format!("{other:?}"),
        }
    };
    assert_eq!(found("/packages/a%2Fb"), "/packages/{name}");
    assert_eq!(found("/elsewhere/a%2Fb"), "EncodedSlash");
    for path in [
        "/packages/a%2Fclosed",
        "/packages/a%2FCLOSED",
        "/packages/a %2Fclosed.",
        "/packages/B%2Fsub",
        "/packages/b%2FSub",
    ] {
        assert_eq!(found(path), "Ambiguous", "{path}");
    }
}

#[test]
fn s39_a_method_in_small_letters_does_not_make_a_priced_path_free() {
    let tariff = tariff(&[("/**", "free"), ("GET /a", "0.01"), ("/b", "0.01"), ("/v1/Admin", "deny")]);
    for request in ["get /a", "Get /a", "get /A", "head /a", "get /v1/admin"] {
        assert_eq!(winner(&tariff, request), "Ambiguous", "{request}");
    }
    assert_eq!(winner(&tariff, "get /b"), "/b");
    assert_eq!(winner(&tariff, "post /a"), "/**");
}

#[test]
fn s38_characters_that_fold_into_a_slash_are_read_as_one() {
    let tariff = tariff(&[("GET /**", "free"), ("GET /a/c", "1")]);
    assert_eq!(winner(&tariff, "GET /℀"), "Ambiguous");
}

#[test]
fn s38_the_other_reading_counts_for_the_same_method_only() {
    let tariff = tariff(&[("GET /**", "free"), ("POST /docs", "1"), ("GET /docs/**", "2")]);
    assert_eq!(winner(&tariff, "GET /docs"), "GET /docs/**");
    assert_eq!(winner(&tariff, "GET /Docs"), "Ambiguous");
    let tariff = super::sample::tariff(&[("GET /{x}", "free"), ("POST /docs", "1")]);
    assert_eq!(winner(&tariff, "GET /Docs"), "GET /{x}");
}

#[test]
fn a_price_is_stricter_unless_whoever_pays_the_other_pays_as_much() {
    let elsewhere = |mut offer: crate::payment::Offer| {
        offer.pay_to = Payee(Address::repeat_byte(0x22));
        offer
    };
    let base = |dollars: &str| offer("base", dollars);
    let both = |dollars: &str| toll(vec![base(dollars), offer("polygon", dollars)]);
    for (stricter, other, expected) in [
        (charge("deny"), charge("1"), true),
        (charge("deny"), charge("deny"), false),
        (charge("free"), charge("free"), false),
        (charge("0.01"), charge("free"), true),
        (charge("0.01"), charge("deny"), false),
        (charge("2"), charge("1"), true),
        (charge("1"), charge("1"), false),
        (charge("1"), charge("2"), false),
        (charge("1"), toll(vec![offer("polygon", "9")]), true),
        (charge("1"), toll(vec![elsewhere(base("9"))]), true),
        (both("1"), charge("1"), false),
        (charge("1"), both("1"), true),
    ] {
        assert_eq!(stricter.is_stricter_than(&other), expected, "{stricter} beside {other}");
    }
}

#[test]
fn a_route_that_undercuts_a_method_it_does_not_name_is_reported() {
    let loosened =
        |lines: &[(&str, &str)]| -> Vec<String> { tariff(lines).loosened().iter().map(ToString::to_string).collect() };
    assert_eq!(
        loosened(&[("DELETE|PUT /v1/**", "deny"), ("/v1/chat", "0.05")]),
        ["`/v1/chat` ($0.05) takes DELETE|PUT from `DELETE|PUT /v1/**` (deny) without naming it"]
    );
    assert_eq!(
        loosened(&[("HEAD /v1/**", "deny"), ("GET /v1/chat", "free")]),
        ["`GET /v1/chat` (free) takes HEAD from `HEAD /v1/**` (deny) without naming it"]
    );
    assert_eq!(loosened(&[("DELETE /v1/**", "deny"), ("DELETE|POST /v1/chat", "0.05")]), [""; 0]);
    assert_eq!(loosened(&[("GET /v1/**", "0.01"), ("GET /v1/health", "free")]), [""; 0]);
    assert_eq!(loosened(&[("DELETE /v1/**", "0.01"), ("/v1/chat", "0.05")]), [""; 0]);
    assert_eq!(loosened(&[("DELETE /v1/**", "deny"), ("/v1/a/**", "deny"), ("/v1/a/b", "free")]), [""; 0]);
}

#[test]
fn a_route_that_gives_away_what_is_sold_nearby_is_reported_once() {
    let undercut =
        |lines: &[(&str, &str)]| -> Vec<String> { tariff(lines).undercut().iter().map(ToString::to_string).collect() };
    assert_eq!(
        undercut(&[("/**", "free"), ("GET /a", "0.01"), ("GET|HEAD /b", "0.01"), ("/c", "0.01"), ("POST /c", "1")]),
        ["`/**` (free) lets DELETE|OPTIONS|PATCH|POST|PUT through on the paths of `GET /a` ($0.01) and 1 more"]
    );
    assert_eq!(
        undercut(&[("/**", "0.01"), ("DELETE /**", "deny"), ("GET /a", "1"), ("POST /a", "free")]),
        ["`/**` ($0.01) lets OPTIONS|PATCH|PUT through on the paths of `GET /a` ($1)"]
    );
    assert_eq!(
        undercut(&[("GET /a", "0.01"), ("GET /a/", "free"), ("GET /{x}/b/", "1"), ("GET /{y}/b", "1")]),
        ["`GET /a/` (free) is what many backends answer like `GET /a` ($0.01)"]
    );
    // What names the method means it, and what asks as much gives nothing away.
    assert_eq!(undercut(&[("POST /**", "free"), ("GET /a", "0.01")]), [""; 0]);
    assert_eq!(undercut(&[("/**", "0.01"), ("GET /a", "0.01"), ("GET /b", "free")]), [""; 0]);
    assert_eq!(undercut(&[("/**", "free"), ("/a", "0.01"), ("/b/**", "deny"), ("GET /b/c", "1")]), [""; 0]);
}

#[test]
fn a_price_is_shown_per_network_only_where_it_differs() {
    assert_eq!(toll(vec![offer("base", "0.05"), offer("polygon", "0.05")]).to_string(), "$0.05");
    let differing = toll(vec![offer("base", "0.05"), offer("polygon", "0.06")]);
    assert_eq!(differing.to_string(), "$0.05 on base, $0.06 on polygon");
}

#[test]
fn what_has_a_price_is_counted() {
    assert_eq!(tariff(&[("GET /a", "1"), ("GET /b", "free"), ("GET /c", "deny")]).priced(), 1);
    assert_eq!(route("GET /a", charge("1")).key.to_string(), "GET /a");
}
