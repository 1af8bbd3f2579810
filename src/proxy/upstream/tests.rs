//! Which place takes a request, and what is known of each.

use super::*;

fn target(host: &str, port: u16) -> Target {
    let address = Address::Tcp { host: host.into(), port };
    Target { name: format!("http://{host}:{port}").into(), address, tls: false }
}

fn upstream(hosts: &[&str], change: impl FnOnce(&mut Config)) -> Upstream {
    let mut config = Config::at("app".into(), hosts.iter().map(|host| target(host, 9)).collect());
    change(&mut config);
    Upstream::new(config, None)
}

fn balanced(balance: Balance) -> Upstream {
    upstream(&["127.0.0.1", "127.0.0.2", "127.0.0.3"], |config| config.balance = balance)
}

fn chosen(upstream: &Upstream, client: Option<IpAddr>) -> String {
    upstream.choose(client, &[]).expect("a place").place().spot.to_string()
}

fn client(last: u8) -> Option<IpAddr> {
    Some(IpAddr::from([192, 0, 2, last]))
}

#[test]
fn targets_take_turns() {
    let upstream = balanced(Balance::RoundRobin);
    let spots: Vec<_> = (0..4).map(|_| chosen(&upstream, None)).collect();
    assert_eq!(spots, ["127.0.0.1:9", "127.0.0.2:9", "127.0.0.3:9", "127.0.0.1:9"]);
}

#[test]
fn the_least_busy_place_takes_the_next_request() {
    let upstream = balanced(Balance::LeastConnections);
    let mut seats: Vec<_> = (0..3).map(|_| upstream.choose(None, &[]).expect("a place")).collect();
    let freed = seats.remove(1);
    let spot = freed.place().spot.to_string();
    drop(freed);
    for _ in 0..5 {
        assert_eq!(chosen(&upstream, None), spot, "the others are still busy");
    }
}

#[test]
fn a_client_keeps_its_place_and_only_clients_of_a_lost_place_move() {
    let upstream = balanced(Balance::Hash);
    let before: Vec<_> = (0..50).map(|last| chosen(&upstream, client(last))).collect();
    let again: Vec<_> = (0..50).map(|last| chosen(&upstream, client(last))).collect();
    assert_eq!(before, again);
    let lost = "127.0.0.2:9";
    assert!((10..40).contains(&before.iter().filter(|spot| **spot == lost).count()), "clients are spread: {before:?}");
    let places = upstream.places.load();
    places.iter().filter(|place| place.spot.to_string() == lost).for_each(|place| place.standing.failed());
    for (last, spot) in (0..50).zip(&before) {
        let now = chosen(&upstream, client(last));
        assert!(now != lost && (spot == lost || now == *spot), "{spot} became {now}");
    }
}

#[test]
fn places_in_trouble_are_passed_over_until_all_are() {
    let upstream = balanced(Balance::RoundRobin);
    let first = upstream.choose(None, &[]).expect("a place").failed();
    for _ in 0..6 {
        assert_ne!(chosen(&upstream, None), "127.0.0.1:9");
    }
    let mut tried = vec![first];
    for _ in 0..2 {
        assert!(upstream.has_more(&tried));
        tried.push(upstream.choose(None, &tried).expect("a place").failed());
    }
    assert!(!upstream.has_more(&tried));
    assert!(upstream.choose(None, &[]).is_some(), "the last one is never given up on a guess");
}

#[test]
fn s77_nobody_pays_ahead_for_what_cannot_be_reached_and_others_find_out() {
    let upstream = upstream(&["127.0.0.1"], |_| {});
    for failures in 0..3 {
        assert_eq!(upstream.outage(true), None, "after {failures} failures it may still be there");
        upstream.choose(None, &[]).expect("a place").failed();
    }
    assert_eq!(upstream.outage(true), Some(health::TRY_AGAIN));
    assert_eq!(upstream.outage(false), None);
    upstream.choose(None, &[]).expect("a place").connected();
    assert_eq!(upstream.outage(true), None);
}

#[test]
fn without_a_retry_no_other_place_is_tried() {
    let upstream = upstream(&["127.0.0.1", "127.0.0.2"], |config| config.retry = Retry::Never);
    assert!(!upstream.has_more(&[upstream.choose(None, &[]).expect("a place").failed()]));
}

#[tokio::test]
async fn a_name_is_looked_up_and_a_lost_name_keeps_its_addresses() {
    let named = upstream(&["localhost"], |_| {});
    assert!(named.choose(None, &[]).is_none(), "nothing is looked up on the path of a request");
    assert_eq!(named.outage(true), Some(health::TRY_AGAIN));
    named.resolve().await;
    assert!(named.choose(None, &[]).is_some());

    let lost = upstream(&["127.0.0.1", "no-such-host.invalid"], |_| {});
    lost.resolve().await;
    assert_eq!(lost.places.load().len(), 1, "one lost name does not cost the others their addresses");
}

#[tokio::test]
async fn what_is_known_of_an_address_outlives_look_ups_and_reloads() {
    let before = upstream(&["localhost"], |_| {});
    before.resolve().await;
    before.choose(None, &[]).expect("a place").failed();
    before.resolve().await;
    let mut config = before.config.clone();
    config.idle = Duration::from_secs(5);
    let after = Upstream::new(config, Some(&before));
    let known = after.places.load();
    assert_eq!(known.len(), before.places.load().len(), "no look-up is needed for what was looked up");
    assert!(known.iter().any(|place| !place.standing.is_up()));
}

#[test]
fn s45_the_gateways_credential_replaces_every_spelling_of_the_clients() {
    let auth = Auth::new("X-App-Key", &crate::primitives::Secret::new("own".to_owned())).expect("a credential");
    let upstream = upstream(&["127.0.0.1"], |config| {
        config.auth = Some(auth);
        config.host = Host::Upstream;
    });
    let mut request = RequestHeader::build("GET", b"/", None).expect("a plain request");
    for name in ["X-App-Key", "x_app_key", "X.App.Key", "Host"] {
        request.append_header(name, "forged").expect("a plain field");
    }
    upstream.dress(&mut request, &upstream.choose(None, &[]).expect("a place")).expect("plain fields");
    let fields: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    assert_eq!(fields.len(), 2, "{fields:?}");
    assert_eq!(request.headers["x-app-key"], "own");
    assert_eq!(request.headers["host"], "127.0.0.1:9");
}

#[test]
fn a_request_of_http2_goes_under_the_host_it_names() {
    let http2 = upstream(&["127.0.0.1"], |config| config.http2 = true);
    let seat = http2.choose(None, &[]).expect("a place");
    for (uri, host) in [("http://shop.test/", None), ("/", Some("127.0.0.1:9"))] {
        let mut request = RequestHeader::build("GET", b"/", None).expect("a plain request");
        request.set_uri(uri.parse().expect("a URI"));
        http2.dress(&mut request, &seat).expect("plain fields");
        assert_eq!(request.headers.get("host").map(|host| host.to_str().expect("text")), host, "{uri}");
    }
}

#[test]
fn looks_that_are_taken_no_more_or_otherwise_say_nothing() {
    let health = Health { path: "/".into(), every: Duration::from_secs(3600), unhealthy_after: 1, healthy_after: 1 };
    let before = upstream(&["127.0.0.1"], |config| config.health = Some(health.clone()));
    let standing = Arc::clone(&before.places.load()[0].standing);
    let other = Health { every: Duration::from_secs(1), ..health.clone() };
    for (health, forgotten) in [(Some(health.clone()), false), (None, true), (Some(other), true)] {
        standing.looked(false, before.config.health.as_ref().expect("it is looked at"));
        standing.look_again(Duration::from_secs(3600));
        let config = Config { health, idle: Duration::from_secs(5), ..before.config.clone() };
        let after = Upstream::new(config, Some(&before));
        assert_eq!(after.outage(true).is_none(), forgotten);
        assert_eq!(standing.is_due(true), forgotten, "nobody waits for a look that was put off by the old terms");
    }
}

#[test]
fn a_reload_does_not_send_everybody_to_the_first_target_again() {
    let before = balanced(Balance::RoundRobin);
    assert_eq!(chosen(&before, None), "127.0.0.1:9");
    let after = Upstream::new(before.config.clone(), Some(&before));
    assert_eq!(chosen(&after, None), "127.0.0.2:9");
}
