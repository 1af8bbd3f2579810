//! Streams of HTTP/2: those that are given up, those that hold others up, and connections that are nothing but trouble.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tollhouse::payment::Dialect;
use tollhouse::testing::backend::{Behaviour, Step};
use tollhouse::testing::client::Request;
use tollhouse::testing::http2::{END_HEADERS, END_STREAM, Field, Outcome, Wire, encoded, kind, put};
use tollhouse::testing::{Latch, facilitator};

use crate::failure::{UPFRONT, WEATHER};
use crate::world::{File, Payment, World, assert_no_invitation, assert_paid, eventually};

/// `ENHANCE_YOUR_CALM` (RFC 9113, 7).
const CALM: u32 = 11;

/// A world whose door speaks HTTP/2 without TLS, beside HTTP/1.1.
async fn world(routes: &str) -> World {
    World::of(File { listen: "[{address: \"127.0.0.1:0\", h2c: true}]".into(), ..File::selling(routes) }).await
}

/// A connection to it, for as long as this lives.
struct Client {
    requests: SendRequest<Bytes>,
    /// Ends with the client, and the connection with it.
    _connection: JoinSet<()>,
}

impl Client {
    async fn of(world: &World) -> Self {
        let socket = TcpStream::connect(world.gateway.address()).await.expect("it listens");
        let (requests, connection) = h2::client::handshake(socket).await.expect("it speaks HTTP/2");
        let mut connections = JoinSet::new();
        connections.spawn(async move { drop(connection.await) });
        Self { requests, _connection: connections }
    }

    /// Begins a request; its stream takes the body.
    async fn begin(&mut self, method: &str, path: &str, fields: &[(&str, &str)], end: bool) -> Stream {
        let mut request = http::Request::builder().method(method).uri(format!("http://api.test{path}"));
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let mut ready = self.requests.clone().ready().await.expect("the connection holds");
        let request = request.body(()).expect("a request");
        let (answer, body) = ready.send_request(request, end).expect("it is sent");
        Stream { answer, body }
    }

    async fn get(&mut self, path: &str, payment: Option<&Payment>) -> Stream {
        let value = payment.map(|(name, value)| (name.as_str(), value.to_str().expect("base64")));
        self.begin("GET", path, value.as_slice(), true).await
    }
}

struct Stream {
    answer: ResponseFuture,
    body: SendStream<Bytes>,
}

impl Stream {
    fn reset(mut self) {
        self.body.send_reset(Reason::CANCEL);
    }

    /// Status, fields, and whether the head is all there is.
    async fn head(self) -> (u16, HeaderMap, bool) {
        let answer = self.answer.await.expect("it is answered");
        (answer.status().as_u16(), answer.headers().clone(), answer.body().is_end_stream())
    }

    async fn status(self) -> u16 {
        self.head().await.0
    }
}

#[tokio::test]
async fn s73_a_stream_that_is_reset_while_the_backend_works_is_let_go_three_times() {
    let world = world(&format!("{WEATHER}\nGET /free: free")).await;
    world.backend.always("/weather", Behaviour::hang());
    let payment = world.payment("/weather").await;
    let mut client = Client::of(&world).await;
    for turn in 1..=3 {
        let stream = client.get("/weather", Some(&payment)).await;
        eventually("the backend was asked", || world.backend.hits() == turn).await;
        stream.reset();
        world.until(if turn < 3 { "released" } else { "exhausted" }).await;
    }
    assert_eq!(client.get("/free", None).await.status().await, 200, "the connection goes on");
    assert_no_invitation(&world.pay("/weather", &payment).await, 409);
    world.assert_counts(0, 4);
}

#[tokio::test]
async fn s22_a_stream_that_is_reset_while_it_settles_finds_its_answer_paid_for() {
    let world = world(WEATHER).await;
    let settling = Latch::closed();
    world.facilitator.on_settle([facilitator::Behaviour::HonestWhen(settling.clone())]);
    let payment = world.payment("/weather").await;
    let mut client = Client::of(&world).await;
    let stream = client.get("/weather", Some(&payment)).await;
    eventually("settlement was asked for", || world.facilitator.count("/settle") == 1).await;
    stream.reset();
    // On the same connection, so the reset has been read when this is answered.
    assert_eq!(client.get("/weather", Some(&payment)).await.status().await, 409);
    settling.open();
    world.until("undelivered").await;
    world.assert_counts(1, 1);
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn s24_what_was_paid_upfront_by_a_stream_that_is_reset_can_be_collected() {
    let world = world(UPFRONT).await;
    world.backend.on("/weather", [Behaviour::hang()]);
    let payment = world.payment("/weather").await;
    let mut client = Client::of(&world).await;
    let stream = client.get("/weather", Some(&payment)).await;
    eventually("the backend was asked", || world.backend.hits() == 1).await;
    stream.reset();
    world.until("undelivered").await;
    assert_paid(&world.pay("/weather", &payment).await);
    world.assert_counts(1, 2);
}

#[tokio::test]
async fn a_refusal_of_a_call_is_a_single_frame() {
    let world = world("POST /pkg.Weather/Now: $0.01").await;
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    let mut client = Client::of(&world).await;
    let stream = client.begin("POST", "/pkg.Weather/Now", &fields, false).await;
    let (status, fields, alone) = stream.head().await;
    assert_eq!((status, fields["grpc-status"].as_bytes()), (200, &b"9"[..]));
    assert!(alone, "Trailers-Only: a call without trailers is broken for its caller");
    assert!(fields.contains_key("payment-required"));
}

#[tokio::test]
async fn a_call_may_be_paid_for_in_advance_and_is_owed_when_it_is_too_large() {
    let world = world("POST /pkg.Weather/Now: {price: $1, settle: before_forward, limits: {request_body: 1KiB}}").await;
    let mut client = Client::of(&world).await;
    for (size, status, end) in [(100, None, "delivered"), (2000, Some("8"), "refund_due")] {
        let payment = world.payment_for(&Request::post("/pkg.Weather/Now", "x"), Dialect::V2).await;
        let paid = (payment.0.as_str(), payment.1.to_str().expect("base64"));
        let mut call =
            client.begin("POST", "/pkg.Weather/Now", &[paid, ("content-type", "application/grpc")], false).await;
        call.body.send_data(vec![0; size].into(), true).expect("the stream is open");
        let (_, fields, _) = call.head().await;
        assert_eq!(fields.get("grpc-status").map(|code| code.to_str().expect("a number")), status);
        assert!(fields.contains_key("payment-response"));
        eventually_one(&world, end).await;
    }
    assert_eq!(world.facilitator.settlements(), 2);
}

/// Waits until some payment is in this state.
async fn eventually_one(world: &World, state: &str) {
    for _ in 0..400 {
        if world.gateway.entries().await.iter().any(|entry| entry.state.name() == state) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let states: Vec<_> = world.gateway.entries().await.iter().map(|entry| entry.state.name()).collect();
    panic!("{states:?} and not {state}");
}

#[tokio::test]
async fn an_upload_that_nobody_reads_does_not_hold_up_its_neighbours() {
    let world = world("POST /deaf: {price: free, limits: {request_body: 64MiB}}\nPOST /free: free").await;
    world.backend.always("/deaf", Behaviour::steps([Step::Hang]).without_reading());
    let mut client = Client::of(&world).await;
    let mut stuck = client.begin("POST", "/deaf", &[], false).await;
    stuck.body.reserve_capacity(64 << 20);
    // As much as anybody takes: what the gateway, its sockets and the backend's hold.
    let mut sent = 0;
    while let Ok(Some(Ok(leave))) =
        tokio::time::timeout(Duration::from_secs(1), std::future::poll_fn(|cx| stuck.body.poll_capacity(cx))).await
    {
        stuck.body.send_data(vec![b'.'; leave].into(), false).expect("the stream is open");
        sent += leave;
        assert!(sent < 48 << 20, "somebody keeps it");
    }
    let mut other = client.begin("POST", "/free", &[], false).await;
    other.body.send_data(vec![b'.'; 100_000].into(), true).expect("the stream is open");
    let answered = tokio::time::timeout(Duration::from_secs(10), other.status()).await;
    assert_eq!(answered.expect("it is not held up"), 200);
}

/// A backend that speaks HTTP/2 and resets each stream for a reason of its own, after a head and a piece or at once.
async fn resetting(after_head: bool) -> (SocketAddr, mpsc::UnboundedReceiver<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let (asked, hits) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("the gateway comes");
        let mut connection = h2::server::handshake(socket).await.expect("it speaks HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            asked.send(()).expect("the test goes on");
            if after_head {
                let mut body = respond.send_response(http::Response::new(()), false).expect("the stream is open");
                body.send_data("half".into(), false).expect("the stream is open");
                tokio::spawn(async move {
                    tokio::time::sleep(Duration::from_millis(300)).await;
                    body.send_reset(Reason::INTERNAL_ERROR);
                });
            } else {
                respond.send_reset(Reason::REFUSED_STREAM);
            }
        }
    });
    (address, hits)
}

/// A world that sells what this backend has.
async fn before(backend: SocketAddr) -> World {
    let mut file = File::selling("GET /weather: {price: $0.01, upstream: other}");
    // Ends the upstream of every other world, and begins one more.
    file.upstream = format!("}}\n  other: {{targets: [\"http://{backend}\"], http2: true");
    World::of(file).await
}

#[tokio::test]
async fn s25_a_backend_that_resets_a_stream_at_once_is_not_asked_again_and_not_paid() {
    let (backend, mut hits) = resetting(false).await;
    let world = before(backend).await;
    let payment = world.payment("/weather").await;
    assert_no_invitation(&world.pay("/weather", &payment).await, 502);
    world.until("released").await;
    assert!(hits.recv().await.is_some() && hits.try_recv().is_err(), "once");
    assert_eq!(world.facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s74_a_backend_that_resets_a_stream_in_the_middle_owes_the_answer() {
    let (backend, _hits) = resetting(true).await;
    let world = before(backend).await;
    let payment = world.payment("/weather").await;
    let mut client = world.send(&Request::get("/weather").paying(&payment)).await;
    let reply = client.reply().await;
    assert_eq!((reply.status, reply.whole), (200, false));
    world.until("refund_due").await;
}

fn fields(method: &str, path: &str) -> Vec<Field> {
    let field = |name: &str, value: &str| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
    vec![field(":method", method), field(":scheme", "http"), field(":authority", "api.test"), field(":path", path)]
}

#[tokio::test]
async fn s56_whoever_opens_and_resets_streams_without_end_is_sent_away() {
    let world = world("GET /free: free").await;
    let mut wire = Wire::open(world.gateway.address()).await;
    let block = encoded(&fields("GET", "/free"));
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        put(&mut flood, kind::HEADERS, END_HEADERS | END_STREAM, stream, &block);
        put(&mut flood, kind::RST_STREAM, 0, stream, &8u32.to_be_bytes());
    }
    wire.write(&flood).await;
    let reason = wire.farewell().await;
    assert!(reason.is_none_or(|reason| reason == CALM), "{reason:?}");
    assert!(world.backend.hits() < 500, "{} requests came through", world.backend.hits());
    assert_eq!(world.get("/free").await.status, 200, "others are served");
}

#[tokio::test]
async fn s52_fields_without_end_are_not_collected() {
    let world = world("GET /free: free").await;
    let mut wire = Wire::open(world.gateway.address()).await;
    let block = encoded(&fields("GET", "/free"));
    wire.send(kind::HEADERS, END_STREAM, 1, &block).await;
    let more = encoded(&[(b"x-a".to_vec(), vec![b'y'; 8000])]);
    let mut sent = 0;
    let mut flood = Vec::new();
    while sent < 8 << 20 {
        put(&mut flood, kind::CONTINUATION, 0, 1, &more);
        sent += more.len();
    }
    wire.write(&flood).await;
    let reason = wire.farewell().await;
    assert!(reason.is_none_or(|reason| reason == CALM), "{reason:?}");
    // A head that ends, and is too large.
    let mut wire = Wire::open(world.gateway.address()).await;
    wire.send(kind::HEADERS, END_STREAM, 1, &block).await;
    for at in 0..9 {
        wire.send(kind::CONTINUATION, if at == 8 { END_HEADERS } else { 0 }, 1, &more).await;
    }
    assert!(wire.outcome(1).await.status().is_none_or(|status| status == 431));
    assert_eq!(world.backend.hits(), 0);
}

#[tokio::test]
async fn s56_more_streams_than_are_allowed_are_refused_and_the_others_served() {
    let world = world("GET /free: free\nGET /slow: free").await;
    let working = Latch::closed();
    world.backend.always("/slow", Behaviour::text("done").when(&working));
    let mut wire = Wire::open(world.gateway.address()).await;
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(wire.begin(&fields("GET", "/slow"), true).await);
    }
    eventually("all are at the backend", || world.backend.hits() == 100).await;
    let surplus = wire.begin(&fields("GET", "/slow"), true).await;
    // REFUSED_STREAM: it may be sent again.
    assert_eq!(wire.outcome(surplus).await, Outcome::Reset(7));
    working.open();
    assert_eq!(wire.outcome(streams[99]).await.status(), Some(200));
    assert_eq!(world.backend.hits(), 100);
}

#[tokio::test]
async fn s56_a_stream_whose_body_stalls_is_given_up_and_nobody_is_charged() {
    let mut file = File::selling("POST /orders: {price: $0.01, limits: {timeout: 2s}}");
    file.listen = "[{address: \"127.0.0.1:0\", h2c: true}]".into();
    file.timeouts = "{connect: 1s, idle: 1s}".into();
    let world = World::of(file).await;
    let payment = world.payment_for(&Request::post("/orders", "x"), Dialect::V2).await;
    let paid = (payment.0.as_str(), payment.1.to_str().expect("base64"));
    let mut client = Client::of(&world).await;
    let stream = client.begin("POST", "/orders", &[paid, ("content-length", "5")], false).await;
    let status = tokio::time::timeout(Duration::from_secs(20), stream.status()).await;
    assert!(matches!(status.expect("it is given up"), 504));
    world.until("released").await;
    assert_eq!(world.facilitator.count("/settle"), 0);
}

#[tokio::test]
async fn s56_whoever_says_nothing_where_http2_may_be_spoken_is_not_waited_for() {
    let listen = "[{address: \"127.0.0.1:0\", h2c: true, timeouts: {head: 300ms, idle: 1s}}]".into();
    let world = World::of(File { listen, ..File::selling("GET /free: free") }).await;
    // Nothing, the beginning of a request, and what may become either.
    for words in ["", "GET /fr", "P", "PRI * HTTP/2.0\r\n\r\nSM"] {
        let mut silent = TcpStream::connect(world.gateway.address()).await.expect("it listens");
        silent.write_all(words.as_bytes()).await.expect("it is open");
        let mut heard = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut heard)).await;
        // A reset is an end, too.
        let _ = closed.expect("it is closed");
        assert!(heard.is_empty() || heard.starts_with(b"HTTP/1.1 408 "), "{words}: {heard:?}");
    }
}

#[tokio::test]
async fn a_request_that_is_shorter_than_the_preface_is_answered_where_http2_may_be_spoken() {
    let world = world("GET /: free\nPUT /: free").await;
    for request in ["GET / HTTP/1.0\r\n\r\n", "PUT / HTTP/1.0\r\n\r\n"] {
        let mut client = TcpStream::connect(world.gateway.address()).await.expect("it listens");
        client.write_all(request.as_bytes()).await.expect("it is open");
        let mut heard = [0; 9];
        let answered = tokio::time::timeout(Duration::from_secs(5), client.read_exact(&mut heard)).await;
        answered.expect("nothing more is waited for").expect("it is answered");
        assert_eq!(&heard[..7], b"HTTP/1.");
    }
}

#[tokio::test]
async fn s56_requests_of_one_connection_count_as_connections_do() {
    let file = File::selling("GET /slow: free\nGET /free: free");
    let listen = "[{address: \"127.0.0.1:0\", h2c: true}]".into();
    let world = World::of(File { listen, more: "caps: {connections_per_client: 2}".into(), ..file }).await;
    let working = Latch::closed();
    world.backend.always("/slow", Behaviour::text("at last").when(&working));
    let mut client = Client::of(&world).await;
    let (first, second) = (client.get("/slow", None).await, client.get("/slow", None).await);
    eventually("the backend was asked", || world.backend.hits() == 2).await;
    let (status, fields, _) = client.get("/free", None).await.head().await;
    assert_eq!((status, fields["retry-after"].as_bytes()), (503, &b"1"[..]));
    assert!(TcpStream::connect(world.gateway.address()).await.is_ok());
    working.open();
    assert_eq!((first.status().await, second.status().await), (200, 200));
    assert_eq!(client.get("/free", None).await.status().await, 200, "and it has its room again");
}

#[tokio::test]
async fn whoever_has_said_nothing_where_http2_may_be_spoken_does_not_hold_up_the_end() {
    let world = world("GET /free: free").await;
    let mut silent = TcpStream::connect(world.gateway.address()).await.expect("it listens");
    world.gateway.ask(&Request::get("/free")).await;
    assert!(world.gateway.stop().await, "everything has ended by itself");
    assert!(matches!(silent.read(&mut [0; 1]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn whoever_does_not_hear_that_the_end_has_come_is_not_waited_for() {
    let world = world("GET /free: free").await;
    let address = world.gateway.address();
    let mut silent = TcpStream::connect(address).await.expect("it listens");
    // A preface and its settings, and then no word more, not even when asked whether it is there.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.expect("it is open");
    let mut settings = [0; 9];
    silent.read_exact(&mut settings).await.expect("it is answered");
    assert!(world.gateway.stop().await, "everything has ended by itself");
}
