//! A time limit for the head of an answer that is shorter than the one for pauses in its body.
//!
//! Pingora has one clock for both, which cannot be set anew between them. So it gets the longer time, and a connection
//! that may have to be given up earlier is made here, with a second handle to its socket by which it can be cut. Pingora
//! then finds it closed, as if by the backend.

use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use pingora::connectors::l4::Connect;
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result};
use pingora::protocols::l4::socket::SocketAddr;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{Digest, GetProxyDigest};
use tokio::task::JoinHandle;

use super::place::now;

/// Makes connections that can be cut.
#[derive(Debug)]
pub(super) struct Severable;

#[async_trait]
impl Connect for Severable {
    async fn connect(&self, address: &SocketAddr) -> Result<Stream> {
        let failed = |error: std::io::Error| {
            let kind = match error.kind() {
                std::io::ErrorKind::ConnectionRefused => ErrorType::ConnectRefused,
                _ => ErrorType::ConnectError,
            };
            Error::because(kind, "no connection to the backend", error)
        };
        let (mut stream, wire) = match address {
            SocketAddr::Inet(address) => {
                let stream = tokio::net::TcpStream::connect(address).await.map_err(failed)?;
                let stream = stream.into_std().map_err(failed)?;
                let wire = Wire::Tcp(stream.try_clone().map_err(failed)?);
                (Stream::from(tokio::net::TcpStream::from_std(stream).map_err(failed)?), wire)
            }
            SocketAddr::Unix(address) => {
                let path = address.as_pathname().unwrap_or(Path::new(""));
                let stream = tokio::net::UnixStream::connect(path).await.map_err(failed)?;
                let stream = stream.into_std().map_err(failed)?;
                let wire = Wire::Unix(stream.try_clone().map_err(failed)?);
                (Stream::from(tokio::net::UnixStream::from_std(stream).map_err(failed)?), wire)
            }
        };
        // The one thing that Pingora hands on with a connection, also with one that is used again.
        let answer = Box::new(ResponseHeader::build(200, None)?);
        stream.set_proxy_digest(ProxyDigest::new(answer, Some(Box::new(wire))));
        Ok(stream)
    }
}

/// The second handle to a socket.
#[derive(Debug)]
enum Wire {
    Tcp(std::net::TcpStream),
    Unix(UnixStream),
}

impl Wire {
    fn cut(&self) {
        // Fails only for a connection that is closed already.
        let _ = match self {
            Self::Tcp(stream) => stream.shutdown(Shutdown::Both),
            Self::Unix(stream) => stream.shutdown(Shutdown::Both),
        };
    }
}

/// The wait for the head of one answer. Over when it is dropped.
pub(in crate::proxy) struct Deadline {
    state: Arc<State>,
    task: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// When the last of the request was sent, in milliseconds of [`now`].
    last_sent: AtomicU64,
    passed: AtomicBool,
}

impl Deadline {
    /// Cuts the connection when the answer takes longer than `left` from now, or than `first_byte` from the last of the
    /// request. `None` for a connection that cannot be cut.
    pub(in crate::proxy) fn start(digest: &Digest, left: Duration, first_byte: Option<Duration>) -> Option<Self> {
        let connection = digest.proxy_digest.clone()?;
        connection.user_data.as_ref()?.downcast_ref::<Wire>()?;
        let state = Arc::new(State { last_sent: AtomicU64::new(now()), passed: AtomicBool::new(false) });
        let end = now().saturating_add(millis(left));
        let (watched, first_byte) = (Arc::clone(&state), first_byte.map(millis));
        let task = tokio::spawn(async move {
            watched.pass(end, first_byte).await;
            watched.passed.store(true, Ordering::Release);
            if let Some(wire) = connection.user_data.as_ref().and_then(|data| data.downcast_ref::<Wire>()) {
                wire.cut();
            }
        });
        Some(Self { state, task })
    }

    /// A piece of the request was sent.
    pub(in crate::proxy) fn sent(&self) {
        self.state.last_sent.store(now(), Ordering::Relaxed);
    }

    /// Whether the connection was cut.
    pub(in crate::proxy) fn has_passed(&self) -> bool {
        self.state.passed.load(Ordering::Acquire)
    }
}

impl Drop for Deadline {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    /// Returns when it is too late for a head.
    async fn pass(&self, end: u64, first_byte: Option<u64>) {
        loop {
            let sent = self.last_sent.load(Ordering::Relaxed);
            let due = first_byte.map_or(end, |limit| end.min(sent.saturating_add(limit)));
            match due.checked_sub(now()) {
                None | Some(0) => return,
                Some(left) => tokio::time::sleep(Duration::from_millis(left)).await,
            }
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
