//! What accepted files mean.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use alloy::primitives::{U256, address};
use tollhouse::admin;
use tollhouse::config::{Config, Listener, PerClient, ProxyProtocol, Shutdown};
use tollhouse::facilitator::chain::Confirmations;
use tollhouse::facilitator::{self, Auth, Kind, Trust};
use tollhouse::gate::rails::Caps;
use tollhouse::gate::rails::screening::WhenStale;
use tollhouse::ledger;
use tollhouse::payment::Replay;
use tollhouse::payment::SettleMode;
use tollhouse::primitives::{Caip2, Clock, Dollars, Place, Rate, SystemClock, TransferMethod};
use tollhouse::proxy::Proxies;
use tollhouse::proxy::patience::Timeouts;
use tollhouse::proxy::upstream::{Address, Balance, Host, Retry, Tls};
use tollhouse::tariff::{Charge, CountBy, EncodedSlash, Route, Toll, Tunnel};

use crate::{Directory, meaning_of};

const TEST: &str = "version: 1\npublic_url: https://api.example.com\nupstream: http://127.0.0.1:3000\n\
                    pay_to:\n  base-sepolia: \"0x1111111111111111111111111111111111111111\"\n";

fn with(rest: &str) -> Config {
    meaning_of(&format!("{TEST}{rest}"))
}

fn everything() -> Config {
    meaning_of(include_str!("../fixtures/config/valid/everything.yaml"))
}

fn route<'c>(config: &'c Config, key: &str) -> &'c Arc<Route> {
    config.live.tariff.routes().find(|route| &*route.key.0 == key).unwrap_or_else(|| panic!("no route {key}"))
}

fn toll<'c>(config: &'c Config, key: &str) -> &'c Arc<Toll> {
    match &route(config, key).charge {
        Charge::Toll(toll) => toll,
        other => panic!("{key} is {other}"),
    }
}

/// `amount SYMBOL on network to 0x…`, in the order of the offers.
fn offers(toll: &Toll) -> Vec<String> {
    let offer = |offer: &tollhouse::payment::Offer| {
        format!(
            "{} {} on {} to {}",
            offer.amount,
            offer.asset.symbol,
            offer.network.name,
            &offer.pay_to.to_string()[..6]
        )
    };
    toll.offers.iter().map(offer).collect()
}

fn rate(requests: u32, per: Duration) -> Option<Rate> {
    NonZeroU32::new(requests).map(|requests| Rate { requests, per })
}

#[test]
fn a_limit_on_requests_is_inherited_until_a_route_says_none() {
    let config = everything();
    let limits = |key| route(&config, key).limits;
    let weather = limits("GET /v1/weather");
    assert_eq!((weather.rate, weather.rate_by), (rate(50, Duration::from_secs(1)), CountBy::Client));
    assert_eq!((weather.concurrency, weather.concurrency_by), (NonZeroU32::new(200), CountBy::Route));
    let reports = limits("POST /v1/reports");
    assert_eq!((reports.rate, reports.rate_by), (rate(3, Duration::from_secs(60)), CountBy::Payer));
    assert_eq!(reports.concurrency, None);
    let feed = limits("GET /v1/feed");
    assert_eq!((feed.rate, feed.concurrency), (None, NonZeroU32::new(20)));
    assert_eq!(feed.concurrency_by, CountBy::Client);
}

#[test]
fn a_process_that_is_told_to_stop_takes_no_time_for_others_unless_it_is_told_to() {
    let seconds = Duration::from_secs;
    assert_eq!(everything().live.shutdown, Shutdown { delay: seconds(5), grace: seconds(60) });
    let built_in = with("routes: {GET /a: $1}\n").live.shutdown;
    assert_eq!(built_in, Shutdown { delay: seconds(0), grace: seconds(30) });
}

#[test]
fn s38_paths_are_rewritten_as_the_nearest_line_says() {
    let config = meaning_of(include_str!("../fixtures/config/valid/paths.yaml"));
    let forwarded = |key: &str, target: &str| {
        let rewrite = &route(&config, key).rewrite;
        rewrite.as_ref().map(|rewrite| rewrite.apply(target))
    };
    let added = "/%C3%9Cbersicht/v2";
    assert_eq!(forwarded("GET /api/weather/", "/api/weather/?x"), Some(format!("{added}/weather/?x")));
    assert_eq!(forwarded("GET /api/v1/{id}", "/api/v1/7"), Some("/7".into()));
    assert_eq!(forwarded("/health", "/health"), None);
    assert_eq!(forwarded("tiles.example.com GET /tiles/", "/tiles/"), Some(format!("{added}/tiles/")));
    let keeps = |key: &str| route(&config, key).encoded_slash == EncodedSlash::Keep;
    assert!(keeps("GET /api/packages/{name}") && !keeps("GET /api/v1/{id}"));
}

#[test]
fn s51_a_websocket_is_sold_only_where_its_end_is_written() {
    let config = everything();
    let sold = Tunnel { lasts: Duration::from_secs(3600), bytes: 100 << 20 };
    assert_eq!(toll(&config, "GET /v1/feed").tunnel, Some(sold));
    assert_eq!(toll(&config, "GET /v1/weather").tunnel, None);
}

#[test]
fn ten_lines_are_enough() {
    let config = meaning_of(include_str!("../fixtures/config/valid/ten-lines.yaml"));
    let Config { boot, live } = &config;
    let timeouts = Timeouts { head: Duration::from_secs(10), idle: Duration::from_secs(75) };
    let place = Place::Port("0.0.0.0:8402".parse().expect("an address"));
    assert_eq!(boot.listen, [Listener { place, mode: 0o600, tls: None, h2c: false, proxy_protocol: None, timeouts }]);
    assert_eq!((boot.connections, live.per_client), (None, PerClient::BuiltIn));
    assert_eq!(boot.status, Some("0.0.0.0:9402".parse().unwrap()));
    assert!(matches!(&boot.ledger, ledger::Config::Sqlite { path, .. } if path.ends_with("tollhouse.db")));
    assert!(!live.sandbox && live.live_networks.is_empty());
    let upstream = &live.upstreams[0];
    assert_eq!(
        (&*upstream.name, &upstream.targets[0].address),
        ("http://127.0.0.1:3000", &Address::Tcp { host: "127.0.0.1".into(), port: 3000 })
    );
    assert_eq!((upstream.connect, upstream.idle), (Duration::from_secs(1), Duration::from_secs(60)));
    assert_eq!((upstream.first_byte, upstream.http2, &upstream.health), (None, false, &None));
    assert_eq!((upstream.balance, upstream.retry), (Balance::RoundRobin, Retry::ConnectError));
    assert_eq!((&upstream.host, &upstream.auth, &upstream.tls), (&Host::Preserve, &None, &Tls::default()));
    let facilitator = &live.facilitators[0];
    assert_eq!(facilitator.networks, [Caip2::evm(84_532)]);
    assert!(
        matches!(&facilitator.kind, Kind::Remote { url, auth: Auth::None, trust: Trust::Verify } if url.as_str() == "https://x402.org/facilitator")
    );
    let weather = route(&config, "GET /v1/weather");
    assert_eq!(&*weather.public_url, "https://api.example.com");
    assert_eq!((weather.place.line, weather.place.column), (8, 3));
    assert_eq!(offers(toll(&config, "GET /v1/weather")), ["10000 USDC on base-sepolia to 0x1111"]);
    assert_eq!(route(&config, "GET /v1/health").charge, Charge::Free);
}

#[test]
fn a_listener_says_how_long_it_waits_and_who_announces_clients() {
    let Config { boot, live } = everything();
    let heads: Vec<_> = boot.listen.iter().map(|listener| listener.timeouts.head.as_secs()).collect();
    assert_eq!(heads, [5, 10, 10]);
    assert_eq!(boot.listen[0].timeouts.idle, Duration::from_secs(120));
    let announced: Vec<_> = boot.listen.iter().map(|listener| listener.proxy_protocol).collect();
    assert_eq!(announced, [None, None, Some(ProxyProtocol::V2)]);
    assert_eq!(boot.connections, Some(20_000));
    assert_eq!(live.per_client, PerClient::Most(NonZeroU32::new(500).expect("not zero")));
    let any = with("caps: {connections_per_client: none}\nroutes: {GET /a: $10}\n");
    assert_eq!(any.live.per_client, PerClient::Any);
}

#[test]
fn the_sandbox_needs_nothing_and_promises_nothing() {
    let config = meaning_of(include_str!("../fixtures/config/valid/sandbox.yaml"));
    assert!(config.live.sandbox);
    assert_eq!(config.boot.ledger, ledger::Config::Memory);
    assert!(matches!(config.live.facilitators[..], [facilitator::Config { kind: Kind::Sandbox, .. }]));
    let toll = toll(&config, "GET /v1/weather");
    assert!(toll.offers.iter().all(|offer| offer.sandbox && offer.pay_to == facilitator::sandbox::PAYEE));
}

#[test]
fn offers_come_in_the_order_of_pay_to_whatever_the_order_of_the_price() {
    let config = everything();
    assert_eq!(
        offers(toll(&config, "GET /v1/weather")),
        [
            "10000 USDC on base to 0x036C",
            "10000000000000000 USDX on ourchain to 0x2222",
            "10000 USDC on celo to 0x2222",
            "10000 USDT on celo to 0x2222",
        ]
    );
    assert_eq!(
        offers(toll(&config, "GET /v1/history")),
        ["50000 USDC on base to 0x036C", "60000000000000000 USDX on ourchain to 0x2222"]
    );
    assert_eq!(offers(toll(&config, "GET /v1/points")), ["3 PTS on ourchain to 0x2222"]);
}

#[test]
fn a_route_may_pay_somebody_else_on_every_network_or_on_one() {
    let config = everything();
    let everywhere = toll(&config, "GET /v1/partner");
    assert!(everywhere.offers.iter().all(|offer| offer.pay_to.to_string().starts_with("0x6666")));
    let on_base = toll(&config, "POST /v1/reports");
    assert_eq!(
        offers(on_base)[..2],
        ["2000000 USDC on base to 0x5555", "2000000000000000000 USDX on ourchain to 0x2222"]
    );
}

#[test]
fn nearest_wins_and_limits_merge_key_by_key() {
    let config = everything();
    let reports = route(&config, "POST /v1/reports");
    assert_eq!((reports.limits.request_body, reports.limits.timeout), (2 << 20, Duration::from_secs(300)));
    assert_eq!(&*reports.upstream, "llm");
    let tiles = route(&config, "tiles.example.com GET /{z}/{x}/{y}");
    assert_eq!((tiles.limits.request_body, tiles.limits.timeout), (0, Duration::from_secs(30)));
    assert_eq!((&*tiles.upstream, &*tiles.public_url), ("http://127.0.0.1:3100", "https://tiles.example.com"));
    let (weather, reports) = (toll(&config, "GET /v1/weather"), toll(&config, "POST /v1/reports"));
    assert_eq!((weather.replay, weather.replay_explicit), (Replay::Redeliver, false));
    assert_eq!((reports.replay, reports.replay_explicit), (Replay::Redeliver, true));
    let tiles = toll(&config, "tiles.example.com GET /{z}/{x}/{y}");
    assert_eq!((tiles.replay, tiles.replay_explicit), (Replay::Refuse, false));
    assert_eq!(weather.offer_ttl, Duration::from_secs(120));
}

#[test]
fn one_upstream_serves_every_route_that_names_the_same_url() {
    let config = everything();
    let partner = &route(&config, "GET /v1/partner").upstream;
    assert_eq!(partner, &route(&config, "GET /v1/explicit").upstream);
    assert_eq!(config.live.upstreams.iter().filter(|upstream| upstream.name == *partner).count(), 1);
    let llm = config.live.upstreams.iter().find(|upstream| &*upstream.name == "llm").expect("it is in the file");
    assert_eq!(llm.targets[0].address, Address::Tcp { host: "::1".into(), port: 80 });
    assert_eq!((llm.targets[1].tls, &*llm.targets[1].name), (true, "https://llm.internal:8443"));
    assert_eq!(llm.targets[2].address, Address::Unix("/run/llm.sock".into()));
    assert_eq!((llm.balance, llm.retry, llm.http2), (Balance::Hash, Retry::Never, true));
    assert_eq!(llm.first_byte, Some(Duration::from_secs(30)));
    assert_eq!((llm.host.clone(), llm.tls.server_name.as_deref()), (Host::Upstream, Some("llm.example")));
    assert!(llm.auth.is_some());
    let health = llm.health.as_ref().expect("it is looked at");
    assert_eq!(
        (&*health.path, health.every, health.unhealthy_after, health.healthy_after),
        ("/healthz", Duration::from_secs(2), 4, 1)
    );
}

#[test]
fn a_hold_outlasts_the_upstream_and_the_slowest_settlement_and_an_authorization_outlasts_the_hold() {
    let config = everything();
    // 30 s for the answer; the slowest facilitator of these networks takes 30 s to settle; 36 s of slack and skew.
    let weather = toll(&config, "GET /v1/weather");
    assert_eq!((weather.hold, weather.margin), (Duration::from_secs(96), Duration::from_secs(96)));
    assert!(weather.offers.iter().all(|offer| offer.max_timeout == Duration::from_secs(156)));
    // Charged before it is forwarded, a payment needs to live for the settlement only.
    let reports = toll(&config, "POST /v1/reports");
    assert_eq!(reports.settle, SettleMode::BeforeForward);
    assert_eq!((reports.hold, reports.margin), (Duration::from_secs(366), Duration::from_secs(66)));
}

#[test]
fn facilitators_keep_their_order_and_their_secrets() {
    let config = everything();
    let names: Vec<_> = config.live.facilitators.iter().map(|facilitator| &*facilitator.name).collect();
    assert_eq!(names, ["cdp", "backup", "own"]);
    let [cdp, backup, own] = &config.live.facilitators[..] else { panic!("three facilitators") };
    assert_eq!(cdp.networks, [Caip2::evm(8453)]);
    assert_eq!((cdp.verify_timeout, cdp.settle_timeout), (Duration::from_secs(2), Duration::from_secs(20)));
    assert_eq!(backup.networks, [8453, 4242, 42_220].map(Caip2::evm), "all that are paid on");
    assert!(
        matches!(&backup.kind, Kind::Remote { auth: Auth::Bearer(token), trust: Trust::Facilitator, .. } if token.expose() == "s3cret")
    );
    assert!(matches!(
        &own.kind,
        Kind::Local { max_gas_price: Some(50_000_000), alarm_below: Some(2_000_000_000_000_000), coin_price, .. }
            if *coin_price == Dollars::from_decimal("3500").ok()
    ));
    assert!(
        matches!(&cdp.kind, Kind::Remote { url, .. } if url.as_str() == "https://api.cdp.coinbase.com/platform/v2/x402")
    );
    assert_eq!(config.live.nodes[&Caip2::evm(4242)].len(), 2);
    let units = |depth: &Confirmations| depth.safe_above.values().map(|above| above.units()).collect::<Vec<_>>();
    let base = &config.live.confirmations[&Caip2::evm(8453)];
    assert_eq!((base.blocks, units(base)), (2, vec![U256::from(100_000_000)]));
    let two: Vec<_> = base.two_nodes_from.values().map(|from| from.units()).collect();
    assert_eq!((two, config.live.nodes[&Caip2::evm(8453)].len()), (vec![U256::from(25_000_000)], 2));
    let own_chain = &config.live.confirmations[&Caip2::evm(4242)];
    assert_eq!((own_chain.blocks, units(own_chain)), (1, vec![U256::from(500)]));
    assert!(matches!(&own.kind, Kind::Local { confirmations, .. } if confirmations == own_chain));
}

#[test]
fn s30_contract_wallets_and_their_factories_are_accepted_where_the_file_says_so_and_nowhere_else() {
    let factory = address!("0x0BA5ED0c6AA8c49038F819E587E2633c4A9F428a");
    assert_eq!(everything().live.wallets, [(Caip2::evm(8453), vec![factory])].into());
}

#[test]
fn the_admin_api_is_off_unless_it_is_asked_for() {
    assert_eq!(meaning_of(include_str!("../fixtures/config/valid/ten-lines.yaml")).boot.admin, None);
    let place = |config: &Config| config.boot.admin.as_ref().map(admin::Config::place);
    let port = "127.0.0.1:9403".parse().expect("an address");
    assert_eq!(place(&everything()), Some(Place::Port(port)));
    let socket = meaning_of(include_str!("../fixtures/config/valid/admin-socket.yaml"));
    assert!(
        matches!(place(&socket), Some(Place::Socket(path)) if path.is_absolute() && path.ends_with("run/admin.sock"))
    );
}

#[test]
fn s60_a_config_does_not_print_its_secrets() {
    let printed = format!("{:?}", everything());
    assert!(!printed.contains("s3cret") && !printed.contains("0101010101"), "{printed}");
}

#[test]
fn a_denied_route_needs_no_upstream() {
    let config = meaning_of(
        "version: 1\npublic_url: http://localhost:8402\npay_to: sandbox\nroutes:\n  /admin/**: deny\n  \
         GET /a: {price: $1, upstream: http://127.0.0.1:1}\n",
    );
    assert_eq!(route(&config, "/admin/**").charge, Charge::Deny);
}

#[test]
fn s41_where_hosts_are_listed_the_main_routes_belong_to_the_public_url() {
    use tollhouse::tariff::Found;
    let config = everything();
    let find = |host| config.live.tariff.find(Some(host), &http::Method::GET, ["v1", "health"].into_iter());
    assert!(matches!(find("api.example.com"), Found::Route { .. }));
    assert!(matches!(find("tiles.example.com"), Found::Unlisted));
    assert!(matches!(find("evil.example.com"), Found::UnknownHost));
}

#[test]
fn s10_prices_are_whole_numbers_from_the_moment_they_are_read() {
    let config = with(
        "caps: {max_price: $123456789012345678901234567890}\nroutes:\n  GET /a: $0.000001\n  GET /b: $123456789012345678901234567890\n",
    );
    assert_eq!(offers(toll(&config, "GET /a")), ["1 USDC on base-sepolia to 0x1111"]);
    let amount = toll(&config, "GET /b").offers[0].amount.to_string();
    assert_eq!(amount, "123456789012345678901234567890000000");
}

#[test]
fn s35_screening_is_what_the_file_and_its_lists_say() {
    let screening = everything().live.screening;
    let lists: Vec<_> = screening.lists.iter().map(|list| (&*list.name, list.len(), list.max_age)).collect();
    assert_eq!(lists, [("list.txt", 1, Some(Duration::from_secs(7 * 86_400))), ("list-old.txt", 1, None)]);
    let listed = "0x7f367cc41522ce07553e823bf3be79a889debe1b".parse().expect("an address");
    assert!(screening.lists[0].names(listed) && screening.when_stale == WhenStale::Warn);
    let countries = screening.countries.as_ref().expect("they are screened");
    let denied: Vec<_> = countries.deny.iter().map(ToString::to_string).collect();
    assert_eq!((countries.header.as_str(), denied), ("cf-ipcountry", vec!["KP".to_owned(), "XX".to_owned()]));
    let ip = |text: &str| text.parse::<IpAddr>().expect("an address");
    assert!(countries.from.contains(ip("10.1.2.3")) && !countries.from.contains(ip("11.1.2.3")));
    let clients = &screening.clients;
    assert!(clients.deny.contains(ip("198.51.100.7")) && !clients.deny.contains(ip("198.51.100.8")));
    assert!(clients.allow.as_ref().is_some_and(|allow| allow.contains(ip("::1")) && allow.contains(ip("192.0.2.1"))));
    let trusted = everything().live.trusted;
    assert!(trusted.have(ip("10.1.2.3")) && trusted.have(ip("2001:db8::1")) && !trusted.have(ip("11.1.2.3")));
    assert_eq!(*with("routes: {GET /a: $10}\n").live.trusted, Proxies::default());
    let none = with("routes: {GET /a: $10}\n").live.screening;
    assert!(none.lists.is_empty() && none.countries.is_none() && none.clients.allow.is_none());
}

#[test]
fn s35_a_list_from_the_future_grows_old_from_the_day_it_is_read() {
    let directory = Directory::new();
    let list = std::fs::File::options().append(true).open(directory.0.path().join("list.txt")).expect("it is there");
    list.set_modified(SystemTime::now() + Duration::from_secs(400 * 86_400)).expect("the file is ours");
    let text = include_str!("../fixtures/config/valid/everything.yaml");
    let config = directory.read(text, "gateway.yaml").config.expect("the file is right");
    assert!(config.live.screening.lists[0].dated <= SystemClock.now());
}

#[test]
fn caps_are_dollars_whatever_the_assets_are() {
    let dollars = |text| Some(Dollars::from_decimal(text).expect("an amount"));
    assert_eq!(
        everything().live.caps,
        Caps {
            total: dollars("25"),
            per_payer: dollars("2.5"),
            per_payer_per_day: dollars("500"),
            unpaid_per_client: rate(20, Duration::from_secs(60)),
        }
    );
    let built_in = Caps { unpaid_per_client: rate(1000, Duration::from_secs(1)), ..Caps::default() };
    assert_eq!(with("routes: {GET /a: $10}\n").live.caps, built_in);
    assert_eq!(with("caps: {unpaid_per_client: none}\nroutes: {GET /a: $10}\n").live.caps, Caps::default());
}

#[test]
fn an_alias_stands_for_what_it_names() {
    let config = meaning_of(include_str!("../fixtures/config/valid/anchors.yaml"));
    assert_eq!(toll(&config, "GET /v1/b").description, "The same");
}

#[test]
fn live_money_is_loud() {
    let directory = Directory::new();
    let loaded = directory.read(include_str!("../fixtures/config/valid/live.yaml"), "gateway.yaml");
    assert_eq!(
        loaded.report.summary(),
        "gateway.yaml is valid: 7 routes, 4 priced.  LIVE: real money on base, polygon."
    );
}

#[test]
fn a_gas_key_may_stand_in_an_encrypted_keystore() {
    let config = meaning_of(include_str!("../fixtures/config/valid/keystore.yaml"));
    let Kind::Local { signer, .. } = &config.live.facilitators[0].kind else { panic!("it is local") };
    let expected = "7a28b5ba57c53603b0b07b56bba752f7784bf506fa95edc395f5cf6c7514fe9d";
    assert_eq!(alloy::primitives::hex::encode(signer.expose()), expected);
}

#[test]
fn a_token_says_what_its_payers_sign() {
    let config = meaning_of(include_str!("../fixtures/config/valid/permit2.yaml"));
    let methods: Vec<_> = toll(&config, "GET /v1/weather")
        .offers
        .iter()
        .map(|offer| (&*offer.network.name, offer.asset.method))
        .collect();
    assert_eq!(methods, [("radius-testnet", TransferMethod::Permit2), ("dev", TransferMethod::Permit2)]);
    let everything = everything();
    let others = toll(&everything, "GET /v1/weather").offers.iter();
    assert!(others.map(|offer| offer.asset.method).all(|method| method == TransferMethod::Eip3009));
}
