//! What everybody else may not do through the admin API, whatever they have a browser send (S62).

use tollhouse::testing::client::Request;

use super::{House, TOKEN, asking, assert_refused, order, words};

#[tokio::test]
async fn s62_a_name_that_was_made_to_lead_here_is_refused() {
    let house = House::with_port().await;
    for host in ["evil.example", "evil.example:9403", "127.0.0.1.evil.example", "127.0.0.1, evil.example", ""] {
        let rebound = order("/pause", &words("all", "rebound")).to_host(host);
        assert_refused(&house.say(&rebound.bytes()).await, 421, "host_not_ours");
        assert_refused(&house.say(&asking("/pauses").to_host(host).bytes()).await, 421, "host_not_ours");
    }
    // What is more than one name, or somebody's at a name, is no request at all.
    let doubled = order("/pause", &words("all", "rebound")).with("host", "localhost");
    let of_somebody = order("/pause", &words("all", "rebound")).to_host("127.0.0.1@evil.example");
    for request in [doubled, of_somebody] {
        assert_eq!(house.heard(&request.bytes()).await, "", "{request:?}");
    }
    let absolute = order("http://evil.example/pause", &words("all", "rebound")).to_host("evil.example");
    assert_refused(&house.say(&absolute.bytes()).await, 421, "host_not_ours");
    house.assert_sells().await;
}

#[tokio::test]
async fn s62_a_page_of_another_site_cannot_give_orders() {
    let house = House::with_port().await;
    let body = words("all", "a form").to_string();
    let form = |kind: &str| Request::post("/pause", &body).to_host("127.0.0.1:9403").with("content-type", kind);
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"] {
        let posted = form(kind).with("origin", "https://evil.example").with("sec-fetch-site", "cross-site");
        assert_refused(&house.say(&posted.bytes()).await, 403, "sent_by_a_browser");
        let from_a_sandboxed_frame = form(kind).with("origin", "null");
        assert_refused(&house.say(&from_a_sandboxed_frame.bytes()).await, 403, "sent_by_a_browser");
        // Whoever takes all that away still has a form, which cannot say that it is JSON.
        let stripped = form(kind).with("authorization", format!("Bearer {TOKEN}"));
        assert_refused(&house.say(&stripped.bytes()).await, 415, "not_json");
    }
    let twice = order("/pause", &words("all", "which kind?")).with("content-type", "text/plain");
    assert_refused(&house.say(&twice.bytes()).await, 415, "not_json");
    let beside = order("/pause", &words("all", "the next port")).with("sec-fetch-site", "same-site");
    assert_refused(&house.say(&beside.bytes()).await, 403, "sent_by_a_browser");
    let preflight = Request::new("OPTIONS", "/pause")
        .to_host("127.0.0.1:9403")
        .with("origin", "https://evil.example")
        .with("access-control-request-method", "POST");
    assert_refused(&house.say(&preflight.bytes()).await, 403, "sent_by_a_browser");
    house.assert_sells().await;
}

#[tokio::test]
async fn s62_without_the_token_nothing_is_told_or_done() {
    for admin in ["{address: 127.0.0.1:0, token: {file: TOKEN}}", "{address: \"unix:SOCKET\", token: {file: TOKEN}}"] {
        let house = House::with(admin, |_| {}).await;
        let bare = |path: &str| {
            Request::post(path, &words("all", "let me in").to_string())
                .to_host("localhost")
                .with("content-type", "application/json")
        };
        let tries = ["Bearer wrong-wrong-wrong-wrong", "Bearer ", "Basic MDEyMzQ1Njc4OWFiY2RlZg==", TOKEN];
        let shown = tries.iter().map(|shown| bare("/pause").with("authorization", shown));
        for request in shown.chain([bare("/pause"), bare("/resume"), Request::get("/pauses").to_host("localhost")]) {
            let heard = house.say(&request.bytes()).await;
            assert_refused(&heard, 401, "token_wrong");
            assert!(heard.head.contains("www-authenticate: bearer"), "{heard:?}");
        }
        house.assert_sells().await;
    }
}

#[tokio::test]
async fn s62_only_a_post_changes_anything() {
    let house = House::with_port().await;
    for path in ["/pause", "/resume"] {
        for method in ["GET", "HEAD", "PUT", "DELETE"] {
            let request = Request::new(method, path).to_host("[::1]").with("authorization", format!("Bearer {TOKEN}"));
            let heard = house.heard(&request.bytes()).await;
            let head = heard.to_ascii_lowercase();
            assert!(head.starts_with("http/1.1 405 ") && head.contains("allow: post"), "{method} {path}: {heard}");
        }
    }
    assert_refused(&house.say(&order("/pauses", &words("all", "x")).bytes()).await, 405, "method_not_allowed");
    for path in
        ["/", "/pause/", "/pause?route=all", "/Pause", "//pause", "/metrics", "/%70ause", "http://localhost/pause"]
    {
        assert_refused(&house.say(&order(path, &words("all", "x")).bytes()).await, 404, "not_found");
    }
    house.assert_sells().await;
}

#[tokio::test]
async fn s62_what_is_sent_has_bounds() {
    let house = House::with_port().await;
    let long = words("all", &"x".repeat(9000));
    assert_refused(&house.say(&order("/pause", &long).bytes()).await, 413, "body_too_large");
    let chunk = format!("2000\r\n{}\r\n", "x".repeat(0x2000));
    let head = format!(
        "POST /pause HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\ncontent-type: application/json\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let endless = format!("{head}{chunk}{chunk}");
    assert_refused(&house.say(endless.as_bytes()).await, 413, "body_too_large");
    let padded = asking("/pauses").with("x-padding", "x".repeat(20_000));
    assert_refused(&house.say(&padded.bytes()).await, 431, "head_too_large");
    for wrong in ["", "all", "{}", r#"{"route": "all"}"#, r#"{"route": "all", "why": "x", "force": true}"#] {
        let order = format!(
            "{}content-length: {}\r\n\r\n{wrong}",
            head.replace("transfer-encoding: chunked\r\n\r\n", ""),
            wrong.len()
        );
        assert_refused(&house.say(order.as_bytes()).await, 400, "not_understood");
    }
    // A connection carries one request: what is hidden behind it is never read.
    let hidden = [asking("/pauses").bytes(), order("/pause", &words("all", "smuggled")).bytes()].concat();
    let heard = house.say(&hidden).await;
    assert_eq!(heard.status, 200, "{heard:?}");
    assert!(heard.head.contains("connection: close"), "{heard:?}");
    house.assert_sells().await;
}
