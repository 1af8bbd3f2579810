//! Who may say what: header fields between client, gateway and backend, and what the log repeats of them.

use std::io::Write;
use std::sync::{Arc, Mutex};

use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::Request;

use crate::world::{File, World, assert_no_invitation, assert_paid, decoded, eventually};

const WEATHER: &str = "GET /weather: $0.01";
const UPFRONT: &str = "GET /weather: {price: $0.01, settle: before_forward}";

#[tokio::test]
async fn the_backend_hears_who_paid_what() {
    let world = World::selling(WEATHER).await;
    let payment = world.payment("/weather").await;
    assert_paid(&world.pay("/weather", &payment).await);
    let hit = world.backend.last();
    assert_eq!(hit.field("tollhouse-payer"), Some(world.wallet.address().to_string().as_str()));
    assert_eq!(hit.field("tollhouse-amount"), Some("10000"));
    assert_eq!(hit.field("tollhouse-network"), Some("eip155:84532"));
    assert_eq!(hit.field("tollhouse-route"), Some("GET /weather"));
    assert!(hit.field("tollhouse-payment").is_some() && hit.field("tollhouse-asset").is_some());
}

#[tokio::test]
async fn s44_a_client_cannot_have_our_word_removed() {
    for route in [WEATHER, UPFRONT] {
        let world = World::selling(route).await;
        let payment = world.payment("/weather").await;
        let request = Request::get("/weather")
            .with("Connection", "close, Tollhouse-Payer, tollhouse-amount, Tollhouse-Payment")
            .with("TE", "trailers")
            .paying(&payment);
        assert_paid(&world.ask(&request).await);
        let hit = world.backend.last();
        let payer = world.wallet.address().to_string();
        assert_eq!(hit.field("tollhouse-payer"), Some(payer.as_str()), "{route}");
        assert!(hit.field("tollhouse-amount").is_some() && hit.field("tollhouse-payment").is_some());
    }
}

#[tokio::test]
async fn s45_a_client_cannot_say_our_word() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    let forged = [
        ("Tollhouse-Payer", "0xevil"),
        ("tollhouse_payer", "0xevil"),
        ("TOLLHOUSE-Paid", "evil"),
        ("X-Tollhouse-Payer", "0xevil"),
        ("x_tollhouse_payer", "0xevil"),
        ("X-Payment-Verified", "evil"),
        ("Payment-Info", "evil"),
        ("payment_info", "evil"),
        ("Tollhouse.Payer", "0xevil"),
        ("Tollhouse+Payer", "0xevil"),
        ("X.Tollhouse~Payer", "0xevil"),
        ("Payment!Info", "evil"),
    ];
    let dressed = |mut request: Request| {
        for (name, value) in forged {
            request = request.with(name, value);
        }
        request
    };
    assert_eq!(world.ask(&dressed(Request::get("/free"))).await.status, 200);
    let hit = world.backend.last();
    assert!(!hit.fields.values().any(|value| value.as_bytes().ends_with(b"evil")), "{:?}", hit.fields);
    assert!(!hit.fields.keys().any(|name| name.as_str().starts_with("tollhouse")), "nobody paid");

    let payment = world.payment("/weather").await;
    assert_paid(&world.ask(&dressed(Request::get("/weather").paying(&payment))).await);
    let hit = world.backend.last();
    assert!(!hit.fields.values().any(|value| value.as_bytes().ends_with(b"evil")), "{:?}", hit.fields);
    assert_eq!(hit.fields.get_all("tollhouse-payer").iter().count(), 1);
}

#[tokio::test]
async fn s47_a_backend_cannot_forge_receipts_or_challenges() {
    let forged = [
        ("PAYMENT-RESPONSE", "forged"),
        ("X-PAYMENT-RESPONSE", "forged"),
        ("PAYMENT-REQUIRED", "forged"),
        ("Payment-Receipt", "forged"),
        ("Tollhouse-Payer", "forged"),
        ("WWW-Authenticate", "Payment realm=\"forged\""),
        ("Content-Type", "text/plain"),
    ];
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    let answer = Behaviour::answer(200, &forged, "sunny");
    world.backend.always("/weather", answer.clone()).always("/free", answer);
    let payment = world.payment("/weather").await;
    let paid = world.pay("/weather", &payment).await;
    assert_paid(&paid);
    assert_eq!(paid.fields.get_all("payment-response").iter().count(), 1, "ours and no other");
    let free = world.get("/free").await;
    assert_eq!(free.settlement(), None);
    for reply in [paid, free] {
        assert!(!reply.fields.values().any(|value| value.as_bytes().windows(6).any(|word| word == b"forged")));
        assert_eq!((reply.text().as_str(), reply.field("content-type")), ("sunny", Some("text/plain")));
    }
}

#[tokio::test]
async fn s47_a_backend_that_asks_for_money_of_its_own_is_a_bad_gateway() {
    let challenge = r#"{"x402Version":1,"error":"pay me","accepts":[{"payTo":"0xevil"}]}"#;
    for (route, settled) in [(WEATHER, 0), (UPFRONT, 1)] {
        let world = World::selling(route).await;
        world.backend.on("/weather", [Behaviour::answer(402, &[("PAYMENT-REQUIRED", "forged")], challenge)]);
        let payment = world.payment("/weather").await;
        let reply = world.pay("/weather", &payment).await;
        assert_no_invitation(&reply, 502);
        assert!(reply.text().contains("the backend answered with a payment"), "{}", reply.text());
        assert_eq!(reply.settlement().is_some_and(|settlement| settlement.success), settled == 1);
        world.until(if settled == 1 { "undelivered" } else { "released" }).await;
        world.assert_counts(settled, 1);
    }
}

#[tokio::test]
async fn s48_a_credential_reaches_neither_the_backend_nor_the_facilitators_quote() {
    let world = World::selling("GET /weather: $0.01\nGET /free: free").await;
    let payment = world.payment("/weather").await;
    let secret = payment.1.to_str().expect("base64").to_owned();
    assert_paid(&world.pay("/weather", &payment).await);
    world.pay("/free", &payment).await;
    for hit in world.backend.requests() {
        let spilled = hit.fields.iter().any(|(name, value)| {
            value.as_bytes() == secret.as_bytes() || ["payment-signature", "x-payment"].contains(&name.as_str())
        });
        assert!(!spilled, "{:?}", hit.fields);
    }
    // S75: the quote is what later proves who paid, so it goes to nobody.
    let quote = decoded(&payment.1)["accepted"]["extra"]["quote"].as_str().map(str::to_owned);
    let quote = quote.expect("a v2 client echoes its quote");
    for call in world.facilitator.calls() {
        assert!(!call.body.to_string().contains(&quote), "{}", call.path);
    }
}

#[tokio::test]
async fn s49_a_paid_answer_is_private() {
    let world = World::selling(WEATHER).await;
    let public = [
        ("Cache-Control", "public, max-age=600, s-maxage=6000"),
        ("CDN-Cache-Control", "max-age=600"),
        ("Surrogate-Control", "max-age=600"),
        ("Vary", "Accept"),
        ("ETag", "\"1\""),
    ];
    world.backend.on("/weather", [Behaviour::answer(200, &public, "sunny")]);
    let payment = world.payment("/weather").await;
    let reply = world.pay("/weather", &payment).await;
    assert_paid(&reply);
    assert_eq!(reply.field("cache-control"), Some("private, max-age=600"));
    assert!(reply.field("cdn-cache-control").is_none() && reply.field("surrogate-control").is_none());
    let vary: Vec<_> = reply.fields.get_all("vary").iter().collect();
    assert_eq!(vary, ["Accept", "PAYMENT-SIGNATURE, X-PAYMENT"]);
    assert_eq!(reply.field("etag"), Some("\"1\""), "the rest is the backend's");
}

#[tokio::test]
async fn s50_a_part_and_a_confirmation_are_answers_like_any_other() {
    for status in [206, 304] {
        let world = World::selling(WEATHER).await;
        world.backend.on("/weather", [Behaviour::answer(status, &[("etag", "\"1\"")], "")]);
        let payment = world.payment("/weather").await;
        let request = Request::get("/weather").with("range", "bytes=0-1").with("if-none-match", "\"1\"");
        let reply = world.ask(&request.paying(&payment)).await;
        assert_eq!(reply.status, status);
        assert_paid(&reply);
        assert_eq!(world.backend.last().field("range"), Some("bytes=0-1"));
        world.until("delivered").await;
        world.assert_counts(1, 1);
    }
}

/// What was logged on this thread.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().expect("nobody panics while holding it")).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("nobody panics while holding it").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn s48_s63_the_log_repeats_no_credential_no_query_and_no_payer() {
    let log = Log::default();
    let writer = log.clone();
    let lines = tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE);
    // While there is one listener, tracing asks only the thread that speaks first whether to listen at all; with two
    // it asks both, and other tests cannot turn off what this one hears.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    // The gateway runs on this thread alone, so this is all it says.
    let _listening = tracing::subscriber::set_default(lines.with_writer(move || writer.clone()).finish());
    let world = World::selling("GET /weather: $0.01\nGET /open/**: free").await;
    let payment = world.payment("/weather?token=hunter2").await;
    let request = Request::get("/weather?token=hunter2").with("user-agent", "mine").with("cookie", "session=mine");
    assert_paid(&world.ask(&request.paying(&payment)).await);
    world.pay("/weather?token=hunter2", &payment).await;
    world.get("/open//x?token=hunter2").await;
    world.get("/open/%0d%0aforged=1").await;
    world.get("/open/%1b[31m\u{9b}1m").await;
    let logged = || log.text().matches(r#""message":"request""#).count();
    eventually("the last request was logged", || logged() >= 6).await;

    let text = log.text();
    let payload = &decoded(&payment.1)["payload"];
    let said = |value: &serde_json::Value| value.as_str().expect("text").trim_start_matches("0x").to_lowercase();
    let secrets = [
        payment.1.to_str().expect("base64").to_lowercase(),
        said(&payload["signature"]),
        said(&payload["authorization"]["nonce"]),
        said(&payload["authorization"]["from"]),
        "hunter2".into(),
        "mine".into(),
        "\u{9b}".into(),
        "\nforged".into(),
    ];
    for secret in secrets {
        let spilled = text.to_lowercase().find(&secret);
        assert!(spilled.is_none(), "{secret:?} in {:?}", spilled.map(|at| &text[at.saturating_sub(300)..at]));
    }
    assert!(text.contains(r#""path":"/weather""#), "the path is there");
}

#[tokio::test]
async fn s45_a_client_cannot_say_who_asks() {
    let world = World::selling("GET /free: free").await;
    let forged = Request::get("/free")
        .with("x-forwarded-for", "203.0.113.9")
        .with("X_Forwarded_For", "203.0.113.9")
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-host", "evil.test")
        .with("x-forwarded-port", "443")
        .with("x-real-ip", "203.0.113.9")
        .with("forwarded", "for=203.0.113.9");
    assert_eq!(world.ask(&forged).await.status, 200);
    let hit = world.backend.last();
    assert_eq!(hit.field("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(hit.field("x-forwarded-proto"), Some("http"));
    assert_eq!(hit.field("x-forwarded-host"), Some("api.test"));
    for gone in ["x_forwarded_for", "x-forwarded-port", "x-real-ip", "forwarded"] {
        assert_eq!(hit.field(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn a_trusted_proxy_says_who_asks() {
    let more = "trusted_proxies: [127.0.0.0/8]\nscreening: {clients: {deny: [203.0.113.0/24]}}".into();
    let routes = "GET /weather: $0.01\nGET /free: {price: free, limits: {rate: 1 per 1h}}";
    let world = World::of(File { more, ..File::selling(routes) }).await;
    let by = |path: &str, client: &str| Request::get(path).with("x-forwarded-for", client);
    let secure = by("/free", "192.0.2.1")
        .with("x-forwarded-proto", "https")
        .with("x-forwarded-host", "shop.test")
        .with("x-forwarded-prefix", "/admin")
        .with("forwarded", "host=shop.test");
    assert_eq!(world.ask(&secure).await.status, 200);
    let hit = world.backend.last();
    assert_eq!(hit.field("x-forwarded-for"), Some("192.0.2.1, 127.0.0.1"));
    assert_eq!(hit.field("x-forwarded-proto"), Some("https"));
    assert_eq!(hit.field("x-forwarded-host"), Some("api.test"), "what was priced");
    assert!(hit.field("x-forwarded-prefix").is_none() && hit.field("forwarded").is_none());
    assert_eq!(world.ask(&by("/free", "192.0.2.1")).await.status, 429, "a client is who the proxy says");
    assert_eq!(world.ask(&by("/free", "192.0.2.2")).await.status, 200);
    assert_eq!(world.ask(&by("/weather", "192.0.2.1")).await.status, 402);
    assert_eq!(world.ask(&by("/weather", "203.0.113.7")).await.status, 403);
    assert_eq!(world.ask(&by("/weather", "203.0.113.7, 192.0.2.1")).await.status, 402, "the word of a stranger");
    // What a client says need not be text, and does not hide it.
    for (path, client, status) in [("/weather", "203.0.113.7", 403), ("/free", "192.0.2.1", 429)] {
        let list = [b"\xff, ", client.as_bytes()].concat();
        assert_eq!(world.ask(&Request::get(path).with("x-forwarded-for", list)).await.status, status, "{path}");
    }
}
