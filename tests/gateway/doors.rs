//! Clients that take their time, or too many connections. Raw bytes over real sockets, under deadlines of a moment.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tollhouse::primitives::SystemClock;
use tollhouse::testing::{Backend, Gateway, ScriptedFacilitator};

use crate::world::{File, eventually};

/// Far longer than any deadline here.
const PATIENCE: Duration = Duration::from_secs(20);
/// Shorter than any deadline here.
const MOMENT: Duration = Duration::from_millis(20);
pub const GET: &[u8] = b"GET /open HTTP/1.1\r\nHost: api.test\r\n\r\n";

/// A gateway with one listener.
pub struct House {
    pub gateway: Gateway,
    pub backend: Backend,
    _facilitator: ScriptedFacilitator,
}

impl House {
    /// With these keys of its listener, and these lines of the file.
    pub async fn with(listener: &str, more: &str) -> Self {
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let mut file = File::selling("GET /open: free\nPOST /open: free");
        file.more = more.to_owned();
        let text = file.text(&facilitator, &backend.url());
        let listen = format!("listen: [{{address: \"127.0.0.1:0\", {listener}}}]");
        let text = text.replace("listen: 127.0.0.1:0", &listen);
        let gateway = Gateway::start(&text, Arc::new(SystemClock)).await;
        Self { gateway, backend, _facilitator: facilitator }
    }

    pub async fn client(&self) -> TcpStream {
        TcpStream::connect(self.gateway.address()).await.expect("the door is open")
    }

    pub fn closed(&self, reason: &str) -> u64 {
        let line = format!("tollhouse_connections_closed_total{{reason=\"{reason}\"}} ");
        let metrics = self.gateway.metrics();
        let count = metrics.lines().find_map(|found| found.strip_prefix(&line));
        count.expect("it is counted").parse().expect("it is a number")
    }
}

/// Everything until the gateway closes the connection.
pub async fn rest(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is an end, too.
    let _ = timeout(PATIENCE, client.read_to_end(&mut bytes)).await.expect("it is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The head of one answer; its body is not waited for.
pub async fn head(client: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    while !bytes.windows(4).any(|end| end == b"\r\n\r\n") {
        let read = timeout(PATIENCE, client.read_buf(&mut bytes)).await.expect("it is answered").expect("it goes on");
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&bytes));
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Sends a byte now and then until the gateway has had enough.
async fn drip(client: &mut TcpStream, bytes: &[u8]) {
    for byte in bytes.iter().cycle() {
        if client.write_all(&[*byte]).await.is_err() || timeout(MOMENT, client.readable()).await.is_ok() {
            return;
        }
    }
}

#[tokio::test]
async fn s56_a_head_that_comes_in_drips_is_not_waited_for() {
    let house = House::with("timeouts: {head: 300ms}", "").await;
    let mut client = house.client().await;
    client.write_all(b"GET /open HTTP/1.1\r\nX-Slow: ").await.expect("it is open");
    timeout(PATIENCE, drip(&mut client, b"a")).await.expect("it is cut though it never paused");
    let heard = rest(&mut client).await;
    assert!(heard.starts_with("HTTP/1.1 408 "), "{heard}");
    eventually("it is counted", || house.closed("slow") == 1).await;
    assert_eq!(house.backend.hits(), 0);
}

#[tokio::test]
async fn s56_the_next_head_on_a_connection_has_the_same_time_and_no_more() {
    let house = House::with("timeouts: {head: 1s}", "").await;
    let mut client = house.client().await;
    for _ in 0..2 {
        client.write_all(GET).await.expect("it is open");
        assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
        // Between requests other time counts.
        sleep(Duration::from_millis(1200)).await;
    }
    // In pieces, but in time.
    client.write_all(&GET[..10]).await.expect("it is open");
    sleep(MOMENT).await;
    client.write_all(&GET[10..]).await.expect("it is open");
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    client.write_all(&GET[..10]).await.expect("it is open");
    let heard = rest(&mut client).await;
    assert!(heard.contains("HTTP/1.1 408 "), "{heard}");
    eventually("it is counted", || house.closed("slow") == 1).await;
    assert_eq!(house.backend.hits(), 3);
}

#[tokio::test]
async fn s56_a_body_takes_the_time_it_needs() {
    let house = House::with("timeouts: {head: 200ms, idle: 1s}", "").await;
    let mut client = house.client().await;
    let start = b"POST /open HTTP/1.1\r\nHost: api.test\r\nContent-Length: 30\r\n\r\n";
    client.write_all(start).await.expect("it is open");
    for _ in 0..30 {
        sleep(Duration::from_millis(50)).await;
        client.write_all(b"x").await.expect("it is waited for");
    }
    assert!(head(&mut client).await.starts_with("HTTP/1.1 200 "));
    assert_eq!(house.closed("slow"), 0);
}

#[tokio::test]
async fn s56_a_connection_that_says_nothing_is_closed() {
    let house = House::with("timeouts: {idle: 1s}", "").await;
    let mut silent = house.client().await;
    let mut once = house.client().await;
    once.write_all(GET).await.expect("it is open");
    assert!(rest(&mut once).await.starts_with("HTTP/1.1 200 "), "and closed after it has waited");
    assert_eq!(rest(&mut silent).await, "");
}

#[tokio::test]
async fn s56_what_http2_begins_with_is_not_waited_for_either() {
    let house = House::with("h2c: true, timeouts: {head: 300ms, idle: 1s}", "").await;
    let mut dripping = house.client().await;
    dripping.write_all(b"PRI * HTTP/2").await.expect("it is open");
    assert!(rest(&mut dripping).await.starts_with("HTTP/1.1 408 "), "it has agreed on nothing else");
    let mut first = house.client().await;
    first.write_all(b"GET /open HTTP/1.1\r\nHost: api.test\r\nX-").await.expect("it is open");
    assert!(rest(&mut first).await.starts_with("HTTP/1.1 408 "), "the beginning of another protocol, and then nothing");
    let mut whole = house.client().await;
    whole.write_all(GET).await.expect("it is open");
    assert!(head(&mut whole).await.starts_with("HTTP/1.1 200 "));
    eventually("they are counted", || house.closed("slow") == 2).await;
}

#[tokio::test]
async fn s56_a_client_with_enough_connections_gets_no_more_until_one_closes() {
    let house = House::with("h2c: false", "caps: {connections_per_client: 2}").await;
    let mut open = [house.client().await, house.client().await];
    for client in &mut open {
        client.write_all(GET).await.expect("it is open");
        assert!(head(client).await.starts_with("HTTP/1.1 200 "));
    }
    let mut third = house.client().await;
    let _ = third.write_all(GET).await;
    assert_eq!(rest(&mut third).await, "");
    assert_eq!(house.closed("too_many"), 1);
    let [first, mut second] = open;
    drop(first);
    let mut reply = String::new();
    while reply.is_empty() {
        let mut next = house.client().await;
        let _ = next.write_all(b"GET /open HTTP/1.1\r\nHost: api.test\r\nConnection: close\r\n\r\n").await;
        reply = rest(&mut next).await;
    }
    assert!(reply.starts_with("HTTP/1.1 200 "), "{reply}");
    second.write_all(GET).await.expect("who is inside stays inside");
    assert!(head(&mut second).await.starts_with("HTTP/1.1 200 "));
}

#[tokio::test]
async fn s56_a_proxy_we_trust_is_not_one_client() {
    let house = House::with("h2c: false", "trusted_proxies: [127.0.0.0/8]\ncaps: {connections_per_client: 1}").await;
    let mut open = [house.client().await, house.client().await, house.client().await];
    for client in &mut open {
        client.write_all(GET).await.expect("it is open");
        assert!(head(client).await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn s56_no_more_are_let_in_than_the_file_says() {
    let house = House::with("h2c: false", "caps: {connections: 1}").await;
    let mut first = house.client().await;
    first.write_all(GET).await.expect("it is open");
    assert!(head(&mut first).await.starts_with("HTTP/1.1 200 "));
    let mut second = house.client().await;
    second.write_all(GET).await.expect("the system takes it");
    assert!(timeout(Duration::from_millis(200), second.readable()).await.is_err(), "it waits its turn");
    drop(first);
    assert!(head(&mut second).await.starts_with("HTTP/1.1 200 "));
}
