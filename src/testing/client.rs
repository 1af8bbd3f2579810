//! A client that sees, and chooses, every byte.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tokio::io::{AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

use super::http1::{self, Framing, Stream};
use crate::protocol::x402::client::{self, Challenge, Settlement};

/// Nothing in a test takes longer; what does, is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request, field by field. Nothing is added to it but a `Host` and the length of its body.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    fields: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    /// A request with any method.
    pub fn new(method: &str, target: &str) -> Self {
        let host = ("host".to_owned(), b"api.test".to_vec());
        Self { method: method.into(), target: target.into(), fields: vec![host], body: Vec::new() }
    }

    /// A GET.
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// A POST with a body.
    pub fn post(target: &str, body: &str) -> Self {
        Self { body: body.into(), ..Self::new("POST", target) }
    }

    /// The same with one more field, whether it is there already or not.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.fields.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// The same to another host.
    #[must_use]
    pub fn to_host(mut self, host: &str) -> Self {
        self.fields.retain(|(name, _)| name != "host");
        self.with("host", host)
    }

    /// The same with a payment.
    #[must_use]
    pub fn paying(self, payment: &(HeaderName, HeaderValue)) -> Self {
        self.with(payment.0.as_str(), payment.1.as_bytes())
    }

    /// As it goes over the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("{} {} HTTP/1.1\r\n", self.method, self.target).into_bytes();
        for (name, value) in &self.fields {
            bytes.extend_from_slice(name.as_bytes());
            bytes.extend_from_slice(b": ");
            bytes.extend_from_slice(value);
            bytes.extend_from_slice(b"\r\n");
        }
        if !self.body.is_empty() {
            bytes.extend_from_slice(format!("content-length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// An answer as it arrived.
#[derive(Debug, Clone)]
pub struct Reply {
    /// Statuses of the interim answers before it.
    pub interim: Vec<u16>,
    /// Its status.
    pub status: u16,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its body, as far as it came.
    pub body: Bytes,
    /// Whether the body came to its end.
    pub whole: bool,
}

impl Reply {
    /// The value of a field, if it is there and is text.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.get(name)?.to_str().ok()
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    /// What it asks for, when it is a 402 of x402.
    pub fn challenge(&self) -> Option<Challenge> {
        Challenge::read(&self.fields, &self.body).ok()
    }

    /// What it says about money that moved or did not.
    ///
    /// # Panics
    /// When it says it in a way that cannot be read.
    pub fn settlement(&self) -> Option<Settlement> {
        client::settlement(&self.fields).expect("a receipt can be read")
    }
}

/// One connection to a server.
pub struct Connection {
    stream: Stream,
    framing: Framing,
    head_only: bool,
}

impl Connection {
    /// Connects.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Self {
        Self::try_open(address).await.expect("the server listens")
    }

    /// Connects; `None` when nobody listens there.
    pub async fn try_open(address: SocketAddr) -> Option<Self> {
        let stream = TcpStream::connect(address).await.ok()?;
        Some(Self { stream: BufStream::new(stream), framing: Framing::DONE, head_only: false })
    }

    /// Sends a request. Whether it arrives is seen by what comes back.
    pub async fn send(&mut self, request: &Request) {
        self.head_only = request.method == "HEAD";
        self.write(&request.bytes()).await;
    }

    /// Sends these bytes as they are. A server that hangs up in the middle is part of many a test.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// Whether what was [written](Self::write) is a HEAD, whose answer has no body whatever it announces.
    pub fn heads_only(&mut self, heads_only: bool) {
        self.head_only = heads_only;
    }

    /// The whole next answer.
    ///
    /// # Panics
    /// When there is none.
    pub async fn reply(&mut self) -> Reply {
        let reply = self.try_reply().await;
        reply.expect("the connection was closed without an answer")
    }

    /// The whole next answer; `None` when the connection is closed without one.
    pub async fn try_reply(&mut self) -> Option<Reply> {
        let mut reply = self.try_head().await?;
        let mut body = Vec::new();
        loop {
            match self.try_piece().await {
                Ok(Some(piece)) => body.extend_from_slice(&piece),
                Ok(None) => break,
                Err(_) => {
                    reply.whole = false;
                    break;
                }
            }
        }
        reply.body = body.into();
        Some(reply)
    }

    /// The next answer up to its body.
    ///
    /// # Panics
    /// When there is none.
    pub async fn head(&mut self) -> Reply {
        self.try_head().await.expect("the connection was closed without an answer")
    }

    /// The next piece of a body; `None` at its end, or where it was cut.
    pub async fn piece(&mut self) -> Option<Bytes> {
        self.try_piece().await.ok().flatten()
    }

    /// Says that nothing more will be sent, and goes on reading.
    pub async fn half_close(&mut self) {
        let _ = self.stream.shutdown().await;
    }

    /// Closes the connection as clients do that have lost interest.
    pub async fn leave(mut self) {
        self.half_close().await;
    }

    /// Leaves at once: what is under way is reset.
    pub fn abort(self) {
        // A socket that is gone already needs no reset.
        let _ = http1::reset(&self.stream);
    }

    /// The status of the next answer, be it an interim one; its body, if it has one, comes next.
    pub async fn next_status(&mut self) -> Option<u16> {
        self.next_head().await.map(|(status, _)| status)
    }

    async fn try_head(&mut self) -> Option<Reply> {
        let mut interim = Vec::new();
        loop {
            let (status, fields) = self.next_head().await?;
            if (100..200).contains(&status) && status != 101 {
                interim.push(status);
                continue;
            }
            return Some(Reply { interim, status, fields, body: Bytes::new(), whole: true });
        }
    }

    async fn next_head(&mut self) -> Option<(u16, HeaderMap)> {
        let head = patiently(http1::read_head(&mut self.stream)).await.ok().flatten()?;
        let status = head.first.split(' ').nth(1)?.parse().ok()?;
        let empty = self.head_only || matches!(status, 100..200 | 204 | 304);
        self.framing = if empty { Framing::DONE } else { Framing::of_answer(&head.fields) };
        Some((status, head.fields))
    }

    async fn try_piece(&mut self) -> io::Result<Option<Bytes>> {
        patiently(self.framing.piece(&mut self.stream)).await
    }
}

async fn patiently<T>(waiting: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, waiting).await.expect("the server is stuck")
}
