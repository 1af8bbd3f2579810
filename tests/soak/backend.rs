//! The API behind the gateway: small, large, streamed and upgraded answers, and a switch that breaks it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What every answer that has a price begins with.
pub const PRICED: &str = "paid content";
const EVENTS: usize = 5;
const LARGE: usize = 2 << 20;

pub struct Backend {
    pub api: SocketAddr,
    /// Speaks WebSocket and nothing else.
    pub feed: SocketAddr,
    broken: Arc<AtomicBool>,
    servers: [JoinHandle<()>; 2],
}

impl Backend {
    pub async fn start() -> Self {
        let (api, feed) = (listen().await, listen().await);
        let addresses = [&api, &feed].map(|listener| listener.local_addr().expect("it is bound"));
        let broken = Arc::<AtomicBool>::default();
        let servers = [tokio::spawn(serve(api, Arc::clone(&broken))), tokio::spawn(echo(feed))];
        Self { api: addresses[0], feed: addresses[1], broken, servers }
    }

    /// Closes connections in the middle of everything, or ends that.
    pub fn set_broken(&self, broken: bool) {
        self.broken.store(broken, Ordering::SeqCst);
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

async fn listen() -> TcpListener {
    TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port")
}

async fn serve(listener: TcpListener, broken: Arc<AtomicBool>) {
    while let Ok((stream, _)) = listener.accept().await {
        let broken = Arc::clone(&broken);
        // A client that leaves is no failure of the backend.
        tokio::spawn(async move { converse(stream, &broken).await.ok() });
    }
}

async fn converse(stream: TcpStream, broken: &AtomicBool) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    loop {
        let (mut line, mut length, mut chunked) = (String::new(), 0, false);
        if stream.read_line(&mut line).await? == 0 {
            return Ok(());
        }
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut field = String::new();
            stream.read_line(&mut field).await?;
            let field = field.trim().to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            length = field.strip_prefix("content-length: ").and_then(|length| length.parse().ok()).unwrap_or(length);
            chunked |= field == "transfer-encoding: chunked";
        }
        if broken.load(Ordering::SeqCst) || chunked {
            return Ok(());
        }
        tokio::io::copy(&mut (&mut stream).take(length), &mut tokio::io::sink()).await?;
        answer(stream.get_mut(), &path).await?;
    }
}

async fn answer(stream: &mut TcpStream, path: &str) -> io::Result<()> {
    match path.split('?').next().unwrap_or_default() {
        "/paid/events" | "/events" => {
            let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
            stream.write_all(head.as_bytes()).await?;
            for _ in 0..EVENTS {
                let event = format!("data: {PRICED}\n\n");
                stream.write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes()).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            stream.write_all(b"0\r\n\r\n").await
        }
        "/large" => {
            stream.write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n").as_bytes()).await?;
            stream.write_all(&vec![b'.'; LARGE]).await
        }
        path => {
            let body = if path.starts_with("/paid") { PRICED } else { "free content" };
            stream
                .write_all(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
                .await
        }
    }
}

async fn echo(listener: TcpListener) {
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let Ok(mut socket) = tokio_tungstenite::accept_async(stream).await else { return };
            while let Some(Ok(message)) = socket.next().await {
                if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
                    return;
                }
            }
        });
    }
}
