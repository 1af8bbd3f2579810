//! Request bodies: who sends them, who waits for leave to, and who has sent too much.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tollhouse::payment::Dialect;
use tollhouse::testing::client::Request;

use crate::world::{World, assert_paid};

/// Sends all of it and only then reads, as simple clients do.
async fn send_before_reading(address: SocketAddr, head: &str, body: usize) -> std::io::Result<String> {
    let head = head.to_owned();
    let sending = tokio::task::spawn_blocking(move || {
        let mut stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.write_all(head.as_bytes())?;
        stream.write_all(&vec![b'.'; body])?;
        let mut answer = [0; 12];
        stream.read_exact(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    });
    sending.await.expect("the client does not panic")
}

#[tokio::test]
async fn whoever_sends_a_large_body_unpaid_gets_to_read_the_price() {
    const SIZE: usize = 48 << 20;
    let world = World::selling("POST /reports: {price: $0.01, limits: {request_body: 64MiB}}").await;
    let head = format!("POST /reports HTTP/1.1\r\nhost: api.test\r\ncontent-length: {SIZE}\r\n\r\n");
    let told = send_before_reading(world.gateway.address(), &head, SIZE).await;
    assert_eq!(told.expect("the connection holds until it is read"), "HTTP/1.1 402");
    world.assert_untouched();
}

#[tokio::test]
async fn whoever_asks_before_sending_hears_the_price_and_no_leave() {
    let world = World::selling("POST /reports: $0.01").await;
    let mut client = world.gateway.connect().await;
    let head = Request::new("POST", "/reports").with("content-length", "5").with("expect", "100-continue");
    client.send(&head).await;
    assert_eq!(client.next_status().await, Some(402), "and no 100 before it");
    world.assert_untouched();
}

/// A backend that gives leave, reads five bytes and answers with them. Yields the head that it was sent.
async fn lenient() -> (SocketAddr, JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
    let address = listener.local_addr().expect("it is bound");
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("the gateway comes");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a whole head"));
        }
        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.expect("the gateway listens");
        let mut body = [0; 5];
        stream.read_exact(&mut body).await.expect("the body comes");
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n").await.expect("the gateway listens");
        stream.write_all(&body).await.expect("the gateway listens");
        String::from_utf8_lossy(&head).into_owned()
    });
    (address, serving)
}

#[tokio::test]
async fn leave_to_send_comes_from_the_backend_once_it_is_paid_for_or_free() {
    for price in ["$0.01", "{price: $0.01, settle: before_forward}", "free"] {
        let (backend, serving) = lenient().await;
        let terms = price.trim_matches(['{', '}']);
        let terms = if terms == price { format!("price: {price}") } else { terms.to_owned() };
        let world = World::selling(&format!("POST /reports: {{{terms}, upstream: \"http://{backend}\"}}")).await;
        let plain = Request::new("POST", "/reports").with("content-length", "5").with("expect", "100-continue");
        let request = match price {
            "free" => plain,
            _ => plain.paying(&world.payment_for(&Request::post("/reports", "x"), Dialect::V2).await),
        };
        let mut client = world.send(&request).await;
        assert_eq!(client.next_status().await, Some(100), "{price}");
        client.write(b"hello").await;
        let reply = client.reply().await;
        assert_eq!((reply.status, reply.text().as_str()), (200, "hello"), "{price}");
        if price != "free" {
            assert_paid(&reply);
        }
        let head = serving.await.expect("the backend was asked").to_ascii_lowercase();
        assert!(head.contains("expect: 100-continue"), "{head}");
    }
}
