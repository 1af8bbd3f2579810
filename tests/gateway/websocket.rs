//! Connections that are sold: one payment, one WebSocket, for a time and a number of bytes (S51).

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{self, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use tollhouse::testing::client::Request;

use crate::world::{Payment, World, assert_no_invitation, eventually};

/// Says back what it hears. `bye` makes it close.
struct Echo {
    url: String,
    /// Connections that are open.
    open: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

impl Echo {
    async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let open = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&open);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let count = Arc::clone(&count);
                tokio::spawn(async move {
                    count.fetch_add(1, Ordering::SeqCst);
                    // An end is an end, whichever way it comes.
                    let _ = echo(stream).await;
                    count.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        Self { url, open, server }
    }

    fn line(&self, terms: &str) -> String {
        format!("GET /feed: {{price: $0.01, upstream: \"{}\", {terms}}}", self.url)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn echo(stream: TcpStream) -> tungstenite::Result<()> {
    let mut socket = tokio_tungstenite::accept_async(stream).await?;
    while let Some(message) = socket.next().await {
        match message? {
            Message::Text(text) if text.as_str() == "bye" => return socket.close(None).await,
            message @ (Message::Text(_) | Message::Binary(_)) => socket.send(message).await?,
            _ => {}
        }
    }
    Ok(())
}

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Opens a WebSocket with this payment. Returns the receipt, too.
async fn open(world: &World, payment: Option<&Payment>) -> Result<(Socket, Option<String>), tungstenite::Error> {
    let url = format!("ws://{}/feed", world.gateway.address());
    let mut request = url.into_client_request()?;
    if let Some((name, value)) = payment {
        request.headers_mut().insert(name, value.clone());
    }
    let (socket, answer) = tokio_tungstenite::connect_async(request).await?;
    let receipt = answer.headers().get("payment-response").map(|value| value.to_str().unwrap_or_default().to_owned());
    Ok((socket, receipt))
}

async fn say(socket: &mut Socket, text: &str) -> Option<String> {
    socket.send(Message::text(text)).await.ok()?;
    match socket.next().await? {
        Ok(Message::Text(text)) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// A connection that is paid for, on these terms.
async fn sold(terms: &str) -> (Echo, World, Socket) {
    let echo = Echo::start().await;
    let world = World::selling(&echo.line(terms)).await;
    let payment = world.payment("/feed").await;
    let (socket, _) = open(&world, Some(&payment)).await.expect("it is paid for");
    (echo, world, socket)
}

#[tokio::test]
async fn s51_one_payment_buys_one_connection_of_so_many_bytes() {
    for settle in ["on_response", "before_forward"] {
        let echo = Echo::start().await;
        let terms = format!("settle: {settle}, websocket: {{lasts: 1h, bytes: 1KiB}}");
        let world = World::selling(&echo.line(&terms)).await;
        let unpaid = open(&world, None).await;
        assert!(matches!(unpaid, Err(tungstenite::Error::Http(answer)) if answer.status() == 402));
        let payment = world.payment("/feed").await;
        let (mut socket, receipt) = open(&world, Some(&payment)).await.expect("it is paid for");
        assert!(receipt.is_some(), "the handshake says what was paid");
        assert_eq!(say(&mut socket, "hello").await.as_deref(), Some("hello"));
        assert_eq!(world.facilitator.settlements(), 1);
        assert_eq!(say(&mut socket, &"x".repeat(600)).await, None, "1,200 bytes are more than were sold");
        eventually("the backend is let go", || echo.open.load(Ordering::SeqCst) == 0).await;
        world.until("delivered").await;
        let again = open(&world, Some(&payment)).await;
        assert!(matches!(again, Err(tungstenite::Error::Http(answer)) if answer.status() == 409), "it is spent");
        assert_eq!(world.facilitator.settlements(), 1);
    }
}

#[tokio::test]
async fn s51_a_connection_ends_with_its_time() {
    let (echo, _world, mut socket) = sold("websocket: {lasts: 1s, bytes: 1GiB}").await;
    let mut rounds = 0_u64;
    while say(&mut socket, "tick").await.is_some() {
        rounds += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert!(rounds > 0, "it lasted for a while");
    eventually("the backend is let go", || echo.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn s51_a_connection_that_its_ends_close_was_delivered() {
    let (echo, world, mut socket) = sold("websocket: {lasts: 1h, bytes: 1MiB}").await;
    assert_eq!(say(&mut socket, &"x".repeat(100_000)).await.map(|text| text.len()), Some(100_000));
    assert_eq!(say(&mut socket, "bye").await, None);
    drop(socket);
    world.until("delivered").await;
    eventually("the backend is let go", || echo.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn s51_a_client_that_vanishes_frees_the_backend() {
    let (echo, _world, mut socket) = sold("websocket: {lasts: 1h, bytes: 1MiB}").await;
    assert_eq!(say(&mut socket, "hello").await.as_deref(), Some("hello"));
    drop(socket);
    eventually("the backend is let go", || echo.open.load(Ordering::SeqCst) == 0).await;
}

#[tokio::test]
async fn s51_only_a_websocket_is_sold_as_one() {
    let echo = Echo::start().await;
    let world = World::selling(&echo.line("websocket: {lasts: 1h, bytes: 1MiB}")).await;
    let payment = world.payment("/feed").await;
    for upgrade in ["h2c", "websocket, h2c", "tcp"] {
        let asked = Request::get("/feed").with("connection", "upgrade").with("upgrade", upgrade).paying(&payment);
        assert_no_invitation(&world.ask(&asked).await, 403);
    }
    let asked = Request::get("/feed").with("connection", "upgrade").with("upgrade", "websocket").with("upgrade", "h2c");
    assert_no_invitation(&world.ask(&asked.paying(&payment)).await, 403);
    world.assert_untouched();
}

#[tokio::test]
async fn a_free_connection_may_be_larger_than_a_request_body() {
    let echo = Echo::start().await;
    let line = format!("GET /feed: {{price: free, upstream: \"{}\", limits: {{request_body: 1KiB}}}}", echo.url);
    let world = World::selling(&line).await;
    let (mut socket, _) = open(&world, None).await.expect("it is free");
    assert_eq!(say(&mut socket, &"x".repeat(100_000)).await.map(|text| text.len()), Some(100_000));
}
