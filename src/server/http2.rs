//! What one connection of HTTP/2 may take, and how soon it has to begin.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::http::v2::server::{H2Options, default_h2_options};
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::SslDigest;
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

/// What every client of HTTP/2 says first (RFC 9113, 3.4).
pub(super) const PREFACE: usize = 24;
/// How much of one request body waits here to be passed on: with a round trip of 50 ms, an upload of 5 MiB a second.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How much of all of them on one connection. More than a stream's, or one upload to a backend that has stopped reading
/// would stop all others (RFC 9113, 5.2.1).
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// Pingora's bounds: 100 streams at once, heads of 64 KiB, which also bounds CONTINUATION frames. Those of the `h2` crate
/// hold besides: who resets 20 streams before they were looked at, or errs 1,024 times, is told to go (CVE-2023-44487).
pub(super) fn bounds() -> H2Options {
    let mut options = default_h2_options();
    options.initial_window_size(STREAM_WINDOW).initial_connection_window_size(CONNECTION_WINDOW);
    options
}

/// A connection that has been agreed to speak HTTP/2. Pingora would wait for its first word for ever (S56).
#[derive(Debug)]
pub(super) struct Expected<S> {
    stream: S,
    /// How much of the first word is missing, and by when it has to be there; `None` once it is.
    missing: Option<(usize, Pin<Box<Sleep>>)>,
}

impl<S> Expected<S> {
    /// It has this long for its first word.
    pub(super) fn within(patience: Duration, stream: S) -> Self {
        Self { stream, missing: Some((PREFACE, Box::pin(sleep_until(Instant::now() + patience)))) }
    }
}

impl<S: IO> AsyncRead for Expected<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let Some((missing, deadline)) = &mut this.missing else { return Pin::new(&mut this.stream).poll_read(cx, buf) };
        if deadline.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        *missing = missing.saturating_sub(buf.filled().len() - before);
        if *missing == 0 {
            this.missing = None;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: IO> AsyncWrite for Expected<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[async_trait]
impl<S: IO> Shutdown for Expected<S> {
    async fn shutdown(&mut self) {
        Shutdown::shutdown(&mut self.stream).await;
    }
}

impl<S: IO> UniqueID for Expected<S> {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl<S: IO> Ssl for Expected<S> {
    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl<S: IO> GetTimingDigest for Expected<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }
}

impl<S: IO> GetProxyDigest for Expected<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }
}

impl<S: IO> GetSocketDigest for Expected<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }
}

impl<S: IO> Peek for Expected<S> {}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn s56_a_client_that_keeps_back_the_end_of_its_first_word_is_given_up() {
        let (mut client, server) = duplex(64);
        let mut server = Expected::within(PATIENCE, server);
        client.write_all(&[b'x'; PREFACE - 1]).await.expect("there is room");
        let error = server.read_exact(&mut [0; PREFACE]).await.expect_err("one byte is missing");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_said_its_first_word_may_be_silent() {
        let (mut client, server) = duplex(64);
        let mut server = Expected::within(PATIENCE, server);
        client.write_all(&[b'x'; PREFACE]).await.expect("there is room");
        server.read_exact(&mut [0; PREFACE]).await.expect("it is all there");
        let later = async {
            tokio::time::sleep(PATIENCE * 2).await;
            client.write_all(b"y").await
        };
        let (read, written) = tokio::join!(server.read_u8(), later);
        assert_eq!((read.expect("it comes"), written.is_ok()), (b'y', true));
    }
}
