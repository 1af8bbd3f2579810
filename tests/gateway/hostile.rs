//! Requests that try to be two things at once, or to take without asking.

use std::time::Duration;

use tollhouse::payment::Dialect;
use tollhouse::testing::backend::{Behaviour, Step};
use tollhouse::testing::client::Request;

use crate::world::{File, World, assert_invites, assert_no_invitation, assert_paid, decoded, eventually};

const SHOP: &str = "GET /secret: $1\nGET /open/**: free\n/closed: deny";

#[tokio::test]
async fn s38_no_spelling_of_a_priced_path_goes_through_unpaid() {
    // Whatever is not recognised as the priced path is free here, so nothing but recognising it protects it.
    let world = World::selling("GET /secret: $1\n/**: free").await;
    let ambiguous: [&[u8]; 42] = [
        b"//secret",
        b"/./secret",
        b"/open/../secret",
        b"/open/./x",
        b"/open/%2e%2e/secret",
        b"/open/%2E%2E/secret",
        b"/open/.%2e/secret",
        b"/open/..%2fsecret",
        b"/open%2f..%2fsecret",
        b"/open/..%5csecret",
        b"/open/..\\secret",
        b"/open/..;/secret",
        b"/open//secret",
        b"/secret;a=b",
        b"/secret%3Ba=b",
        b"/secret%00",
        b"/secret%0a",
        b"/secret%",
        b"/secret%zz",
        b"/%2573ecret",
        b"/open/%252e%252e/secret",
        b"/secret%ff",
        b"/SECRET",
        b"/Secret",
        "/ｓecret".as_bytes(),
        "/open/．．/secret".as_bytes(),
        b"\\secret",
        b"/secret/",
        b"/secret.",
        b"/secret%2e",
        b"/secret...",
        b"/secret%20",
        b"/secret ",
        b"/secret%C2%A0",
        b"/secret%E3%80%80",
        b"/secret%EF%BB%BF",
        b"/secret%E2%80%A6",
        b"/SECRET/",
        b"/%20/secret",
        b"/secret/%20",
        b"/secret#x",
        b"/open#/../secret",
    ];
    for target in ambiguous {
        let reply = send_raw(&world, target).await;
        assert!(reply.is_none_or(|status| status == 400), "{}: {reply:?}", String::from_utf8_lossy(target));
    }
    for target in ["/secret", "/%73ecret", "/secret?x=/../open", "/secret?", "/s%65cret"] {
        assert_invites(&world.get(target).await);
    }
    for method in ["get", "Get", "head"] {
        assert_no_invitation(&world.ask(&Request::new(method, "/secret")).await, 400);
    }
    for method in ["trace", "Connect"] {
        assert_no_invitation(&world.ask(&Request::new(method, "/open")).await, 405);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s38_a_slash_that_is_listed_is_served() {
    let world = World::selling("GET /secret: $1\nGET /secret/: free\n/**: free").await;
    assert_invites(&world.get("/secret").await);
    assert_eq!(world.get("/secret/").await.status, 200);
    assert_eq!(world.get("/elsewhere/").await.status, 200);
    assert_eq!(world.backend.last().target, "/elsewhere/");
}

#[tokio::test]
async fn what_is_turned_away_is_not_counted_as_free() {
    let world = World::selling(
        "GET /secret: $1\nPOST /upfront: {price: $1, settle: before_forward}\nGET /open/**: free\n/closed: deny",
    )
    .await;
    let payment = world.payment("/secret").await;
    assert_eq!(world.ask(&Request::new("HEAD", "/secret").paying(&payment)).await.status, 405);
    let upgrade = Request::get("/secret").with("connection", "upgrade").with("upgrade", "websocket");
    assert_eq!(world.ask(&upgrade).await.status, 403);
    let mut client = world.gateway.connect().await;
    client.write(b"POST /upfront HTTP/1.1\r\nhost: api.test\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n").await;
    assert_eq!(client.reply().await.status, 411);
    assert_eq!(world.get("/open/x").await.status, 200);
    let count = |route: &str, outcome: &str| {
        world.metric(&format!("tollhouse_requests_total{{route=\"{route}\",outcome=\"{outcome}\"}}"))
    };
    eventually("the last one is counted", || count("GET /open/**", "free") == Some(1)).await;
    assert_eq!((count("GET /secret", "turned_away"), count("POST /upfront", "turned_away")), (Some(2), Some(1)));
    assert_eq!((count("GET /secret", "free"), count("POST /upfront", "free")), (None, None));
}

/// The status of the answer to a GET of exactly these bytes; `None` when the connection is just closed.
async fn send_raw(world: &World, target: &[u8]) -> Option<u16> {
    let mut client = world.gateway.connect().await;
    let head = [b"GET ", target, b" HTTP/1.1\r\nhost: api.test\r\n\r\n"].concat();
    client.write(&head).await;
    client.try_reply().await.map(|reply| reply.status)
}

#[tokio::test]
async fn s38_i9_what_was_matched_is_what_is_forwarded() {
    let world = World::selling("GET /secret/{name}: $1\nGET /open/**: free").await;
    let cases = [
        ("/open/%7Euser/a%2Db?q=%7e&r=/../", "/open/~user/a-b?q=%7e&r=/../"),
        ("/open/caf%c3%a9", "/open/caf%C3%A9"),
        ("/open/a%20b/", "/open/a%20b/"),
        ("/open/?", "/open/?"),
    ];
    for (sent, forwarded) in cases {
        assert_eq!(world.get(sent).await.status, 200, "{sent}");
        assert_eq!(world.backend.last().target, forwarded);
    }
    let payment = world.payment("/secret/%61?b=1").await;
    assert_paid(&world.pay("/secret/%61?b=1", &payment).await);
    assert_eq!(world.backend.last().target, "/secret/a?b=1");
}

#[tokio::test]
async fn s42_what_is_not_listed_or_denied_is_404_and_never_forwarded() {
    let world = World::selling(SHOP).await;
    for request in [
        Request::get("/"),
        Request::get("/elsewhere"),
        Request::get("/closed"),
        Request::get("/secret/"),
        Request::get("/SECRET"),
        Request::post("/secret", "x"),
        Request::post("/open/x", "x"),
        Request::new("DELETE", "/secret"),
        Request::new("OPTIONS", "/secret"),
        Request::new("get", "/secret"),
        Request::new("BREW", "/secret"),
    ] {
        assert_no_invitation(&world.ask(&request).await, 404);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s39_trace_and_connect_are_not_served() {
    let world = World::selling("/secret: $1\n/open/**: free").await;
    assert_no_invitation(&world.ask(&Request::new("TRACE", "/open/x")).await, 405);
    let mut client = world.gateway.connect().await;
    client.write(b"CONNECT api.test:80 HTTP/1.1\r\nhost: api.test:80\r\n\r\n").await;
    let status = client.try_reply().await.map(|reply| reply.status);
    assert!(matches!(status, None | Some(400 | 405)), "{status:?}");
    world.assert_untouched();
}

#[tokio::test]
async fn s39_s40_a_header_that_names_another_method_or_path_changes_neither_price_nor_request() {
    let world = World::selling("GET /secret: $1\nPOST /secret: $2\nGET /open/**: free").await;
    let overrides = [
        ("X-HTTP-Method-Override", "POST"),
        ("X-HTTP-Method", "POST"),
        ("X-Method-Override", "POST"),
        ("x_http_method_override", "POST"),
        ("X.HTTP.Method.Override", "POST"),
        ("X-Original-Method", "POST"),
        ("X-Original-URL", "/secret"),
        ("X-Original-URI", "/secret"),
        ("X-Rewrite-URL", "/secret"),
        ("X-Forwarded-URI", "/secret"),
    ];
    let mut request = Request::get("/open/x");
    for (name, value) in overrides {
        request = request.with(name, value);
    }
    assert_eq!(world.ask(&request).await.status, 200);
    let hit = world.backend.last();
    assert_eq!((hit.method.as_str(), hit.target.as_str()), ("GET", "/open/x"));
    for (name, _) in overrides {
        assert_eq!(hit.field(name), None, "{name}");
    }
    let reply = world.ask(&Request::get("/secret").with("X-HTTP-Method-Override", "POST")).await;
    assert_eq!(decoded(&reply.fields["payment-required"])["accepts"][0]["amount"], "1000000");
}

#[tokio::test]
async fn s40_an_absolute_target_is_priced_by_its_path_and_must_agree_with_its_host() {
    let world = World::selling(SHOP).await;
    assert_invites(&world.get("http://api.test/secret").await);
    assert_no_invitation(&world.get("http://api.test/open/../secret").await, 400);
    let disagreeing = world.get("http://other.test/open/x").await;
    assert_eq!(disagreeing.status, 400);
    assert_no_invitation(&world.get("*").await, 400);
    assert_eq!(world.get("open/x").await.status, 400);
    world.assert_untouched();
    assert_eq!(world.get("http://api.test/open/x?y").await.status, 200);
    let hit = world.backend.last();
    assert_eq!((hit.target.as_str(), hit.field("host")), ("/open/x?y", Some("api.test")));
}

#[tokio::test]
async fn s41_with_hosts_an_unknown_one_is_421_and_each_has_its_own_prices() {
    let backend = "http://127.0.0.1:1";
    let more = format!(
        "hosts:\n  tiles.test:\n    public_url: http://tiles.test\n    upstream: {backend}\n    routes:\n      GET /secret: $2"
    );
    let world = World::of(File { more, ..File::selling(SHOP) }).await;
    let amount = async |host: &str| {
        let reply = world.ask(&Request::get("/secret").to_host(host)).await;
        (reply.status == 402).then(|| decoded(&reply.fields["payment-required"])["accepts"][0]["amount"].clone())
    };
    for host in ["tiles.test", "TILES.test", "tiles.test.", "tiles.test:8402", "Tiles.Test.:80"] {
        assert_eq!(amount(host).await, Some("2000000".into()), "{host}");
    }
    for host in ["evil.test", "tiles.test.evil.test", "evil-tiles.test", "127.0.0.1"] {
        assert_no_invitation(&world.ask(&Request::get("/secret").to_host(host)).await, 421);
    }
    for host in ["user@tiles.test", "tiles.test:x", "tiles test", "tiles.test/", ""] {
        let reply = world.ask(&Request::get("/secret").to_host(host)).await;
        assert!(matches!(reply.status, 400 | 421), "{host}: {}", reply.status);
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s41_without_hosts_any_is_served_and_none_is_echoed() {
    let world = World::selling(SHOP).await;
    let reply = world.ask(&Request::get("/secret").to_host("evil.test")).await;
    assert_invites(&reply);
    assert_eq!(decoded(&reply.fields["payment-required"])["resource"]["url"], "http://api.test/secret");
    assert!(!reply.text().contains("evil.test"));
}

#[tokio::test]
async fn s41_no_host_and_two_hosts_are_400() {
    let world = World::selling(SHOP).await;
    for head in [
        "GET /open/x HTTP/1.1\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nhost: a.test\r\nhost: b.test\r\n\r\n",
        "GET /open/x HTTP/1.1\r\nhost: a.test\r\nHost: a.test\r\n\r\n",
    ] {
        let mut client = world.gateway.connect().await;
        client.write(head.as_bytes()).await;
        assert_eq!(client.reply().await.status, 400, "{head}");
    }
    world.assert_untouched();
}

#[tokio::test]
async fn s43_what_two_readers_could_read_as_two_requests_is_refused_or_is_one() {
    let smuggled = "GET /open/smuggled HTTP/1.1\r\nhost: api.test\r\n\r\n";
    let heads = [
        "content-length: 5\r\ncontent-length: 6\r\n",
        "content-length: 0\r\ncontent-length: 0\r\n",
        "content-length: +0\r\n",
        "content-length: -1\r\n",
        "content-length: 0x10\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding : chunked\r\n",
        "content-length: 6\r\ntransfer-encoding: chunked\r\n",
    ];
    for head in heads {
        let world = World::selling("POST /secret: $1\nGET /open/**: free\nPOST /open/**: free").await;
        for path in ["/secret", "/open/x"] {
            let mut client = world.gateway.connect().await;
            client
                .write(format!("POST {path} HTTP/1.1\r\nhost: api.test\r\n{head}\r\n0\r\n\r\n{smuggled}").as_bytes())
                .await;
            while client.try_reply().await.is_some() {}
        }
        let reached: Vec<_> = world.backend.requests().into_iter().map(|hit| hit.target).collect();
        assert!(!reached.iter().any(|target| target.contains("smuggled")), "{head:?} let through {reached:?}");
    }
}

#[tokio::test]
async fn s43_the_body_of_an_unpaid_request_is_not_the_next_request() {
    let world = World::selling("POST /secret: $1\nGET /open/**: free").await;
    let inner = "GET /open/smuggled HTTP/1.1\r\nhost: api.test\r\n\r\n";
    let mut client = world.send(&Request::post("/secret", inner)).await;
    assert_eq!(client.reply().await.status, 402);
    assert!(client.try_reply().await.is_none(), "there was one request");
    world.assert_untouched();
}

#[tokio::test]
async fn s43_s51_a_priced_route_sells_no_tunnel() {
    let world = World::selling(SHOP).await;
    let payment = world.payment("/secret").await;
    let upgrade = Request::get("/secret").with("connection", "upgrade").with("upgrade", "websocket");
    assert_no_invitation(&world.ask(&upgrade.clone().paying(&payment)).await, 403);
    assert_no_invitation(&world.ask(&upgrade).await, 403);
    world.assert_untouched();
    assert!(world.gateway.entries().await.is_empty(), "the payment is still good");
}

#[tokio::test]
async fn s56_a_body_that_stalls_is_cut_and_nobody_is_charged() {
    let timeouts = "{connect: 1s, idle: 200ms}".into();
    let more = "defaults: {limits: {timeout: 60s}}".into();
    let world = World::of(File { timeouts, more, ..File::selling("POST /reports: $0.01") }).await;
    let payment = world.payment_for(&Request::post("/reports", "x"), Dialect::V2).await;
    let mut client = world.gateway.connect().await;
    let head = Request::new("POST", "/reports").with("content-length", "100").paying(&payment);
    client.send(&head).await;
    client.write(b"the first half").await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    let status = client.try_reply().await.map(|reply| reply.status);
    assert_eq!(status, Some(408));
    world.until("released").await;
    assert_eq!(world.facilitator.settlements(), 0);
}

#[tokio::test]
async fn s71_no_metric_is_named_by_a_client() {
    let world = World::selling(SHOP).await;
    world.backend.always("/open/visited", Behaviour::text("x"));
    let payment = world.payment("/secret?query=mine").await;
    assert_paid(&world.pay("/secret?query=mine", &payment).await);
    world.until("delivered").await;
    for target in ["/open/visited?token=mine", "/guessed/path", "//ambiguous", "/closed"] {
        world.get(target).await;
    }
    world.ask(&Request::new("BREW", "/secret").with("user-agent", "mine")).await;
    let payer = world.wallet.address().to_string().to_lowercase();
    eventually("everything was counted", || world.gateway.metrics().matches("turned_away").count() >= 2).await;
    let metrics = world.gateway.metrics().to_lowercase();
    // Where backends listen stands in the file.
    let lines = metrics.lines().filter(|line| !line.starts_with("tollhouse_backend_up"));
    let metrics = lines.collect::<Vec<_>>().join("\n");
    for word in ["visited", "mine", "guessed", "ambiguous", "brew", "127.0.0.1", payer.as_str()] {
        assert!(!metrics.contains(word), "{word} in\n{metrics}");
    }
    assert!(metrics.contains(r#"tollhouse_requests_total{route="get /secret",outcome="paid"} 1"#), "{metrics}");
    assert!(
        metrics.contains(r#"tollhouse_revenue_units_total{network="eip155:84532",asset="usdc"} 1000000"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_slow_client_of_an_unpaid_upload_is_let_go() {
    let world = World::selling("POST /reports: $0.01").await;
    let mut client = world.gateway.connect().await;
    client.send(&Request::new("POST", "/reports").with("content-length", "100000")).await;
    let reply = client.reply().await;
    assert_invites(&reply);
    let closed = tokio::time::timeout(Duration::from_secs(10), client.try_reply()).await;
    assert!(closed.is_ok_and(|reply| reply.is_none()), "the connection is not kept for a body nobody wants");
    world.assert_untouched();
}

#[tokio::test]
async fn s43_a_length_that_is_not_one_number_is_refused() {
    let world = World::selling("POST /open: free").await;
    for length in ["5, 5", "5,5", "+5", "5 5", "0x5"] {
        let mut client = world.gateway.connect().await;
        let request = format!("POST /open HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\nhello");
        client.write(request.as_bytes()).await;
        assert_eq!(client.reply().await.status, 400, "{length}");
    }
    assert_eq!(world.backend.hits(), 0);
}

#[tokio::test]
async fn nobody_pays_in_advance_for_a_body_of_unknown_length() {
    let world = World::selling("POST /report: {price: $1, settle: before_forward}").await;
    let payment = world.payment_for(&Request::post("/report", "x"), Dialect::V2).await;
    let mut client = world.gateway.connect().await;
    let value = payment.1.to_str().expect("base64");
    let request = format!(
        "POST /report HTTP/1.1\r\nHost: api.test\r\n{}: {value}\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n",
        payment.0
    );
    client.write(request.as_bytes()).await;
    assert_no_invitation(&client.reply().await, 411);
    world.assert_untouched();
    assert_paid(&world.ask(&Request::post("/report", "x").paying(&payment)).await);
}

#[tokio::test]
async fn s51_a_tunnel_that_nobody_asked_for_is_not_sold() {
    let world = World::selling("GET /secret: $1").await;
    let tunnel = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nTUNNEL";
    world.backend.on("/secret", [Behaviour::steps([Step::Write(tunnel.as_slice().into())])]);
    let payment = world.payment("/secret").await;
    let reply = world.pay("/secret", &payment).await;
    assert_eq!(reply.status, 502, "{}", reply.text());
    assert!(!reply.text().contains("TUNNEL"));
    assert!(reply.text().contains("a protocol of its own"), "{}", reply.text());
    world.assert_counts(0, 1);
}
