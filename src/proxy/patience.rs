//! How long a client may take over the head of a request (S56).
//!
//! Pingora waits anew for each read, so whoever sends a byte now and then is waited for for ever. Here the time runs on
//! from the first read that finds nothing in the middle of a head. A head that comes whole, as nearly all do, costs a
//! comparison; only one that comes in pieces gets a timer.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use async_trait::async_trait;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::tls::{SslDigest, TlsRef};
use pingora::protocols::{
    ALPN, GetProxyDigest, GetSocketDigest, GetTimingDigest, IO, Peek, Shutdown, SocketDigest, Ssl, TimingDigest,
    UniqueID, UniqueIDType,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};

use super::parcel::Parcel;

/// How HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// How much is read to find that out: more than that, and less than most heads.
const FIRST_LOOK: usize = 256;
/// How long a client may take to take what is left for it when its connection is closed.
const GOODBYE: Duration = Duration::from_secs(5);
/// What a client hears that takes too long: Pingora would only hang up.
const TOO_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\nCache-Control: no-store\r\n\r\n";

/// How long clients are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    /// From the beginning of a head to its end.
    pub head: Duration,
    /// Before the first request of a connection, and from one to the next.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { head: Duration::from_secs(10), idle: Duration::from_secs(75) }
    }
}

/// What a connection is waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Stage {
    /// The rest of a head, or of what HTTP/2 begins with.
    Head,
    /// A body, an answer, or whatever HTTP/2 does: others have an eye on it.
    Busy,
    /// The next request, or the first one; the door has an eye on it.
    Between,
    /// Nothing more: the client was too late.
    Late,
}

/// How far a connection is. Requests of HTTP/1.1 tell it as they go.
#[derive(Debug)]
pub struct Progress(AtomicU8);

tokio::task_local! {
    /// The connection that this task serves. Requests of HTTP/2 have tasks of their own, and none.
    static PROGRESS: Arc<Progress>;
}

impl Progress {
    fn new() -> Self {
        Self(AtomicU8::new(Stage::Between as u8))
    }

    fn is(&self, stage: Stage) -> bool {
        self.0.load(Ordering::Relaxed) == stage as u8
    }

    fn enter(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// Whether it was closed because its client took too long.
    pub fn was_late(&self) -> bool {
        self.is(Stage::Late)
    }

    /// Serves the connection, so that its requests find this.
    pub async fn follow<F: Future>(self: Arc<Self>, serving: F) -> F::Output {
        PROGRESS.scope(self, serving).await
    }
}

/// A head has been read whole.
pub(super) fn head_is_read() {
    // Fails where there is nothing to tell: with HTTP/2, and where nobody is waited for.
    let _ = PROGRESS.try_with(|progress| progress.enter(Stage::Busy));
}

/// A request is over; on its connection there may be another one.
pub fn request_is_over() {
    let _ = PROGRESS.try_with(|progress| progress.enter(Stage::Between));
}

/// A connection whose client is waited for, but not for ever.
#[derive(Debug)]
pub struct Patient<S> {
    stream: S,
    /// How long a head may take.
    patience: Duration,
    progress: Arc<Progress>,
    /// What has to be read before HTTP/2 begins, in bytes; zero for HTTP/1.1.
    preface: usize,
    /// Made once it is needed.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether it runs for what is being read.
    running: bool,
    /// What goes to the client and has not left yet.
    parcel: Parcel,
    /// What has been looked at and is still to be read.
    unread: Vec<u8>,
}

impl<S: IO> Patient<S> {
    /// One that has just been opened. A head may take this long.
    pub fn new(stream: S, patience: Duration) -> Self {
        let preface = if stream.selected_alpn_proto() == Some(ALPN::H2) { PREFACE.len() } else { 0 };
        let progress = Arc::new(Progress::new());
        Self {
            stream,
            patience,
            progress,
            preface,
            timer: None,
            running: false,
            parcel: Parcel::default(),
            unread: Vec::new(),
        }
    }

    /// How far it is.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Whether the client begins as HTTP/2 does. It is waited for no longer than that is open, since a whole request may
    /// be shorter than the preface. What was read for this will be read again.
    ///
    /// # Errors
    /// When the connection breaks, or the client is too late.
    pub async fn begins_as_http2(&mut self) -> io::Result<bool> {
        let mut came = Vec::with_capacity(FIRST_LOOK);
        while PREFACE.starts_with(&came) && came.len() < PREFACE.len() {
            if self.read_buf(&mut came).await? == 0 {
                break;
            }
        }
        let begins = came.starts_with(PREFACE);
        if begins {
            self.progress.enter(Stage::Busy);
        }
        self.unread = came;
        Ok(begins)
    }

    /// Bytes have come.
    fn advance(&mut self, bytes: usize) {
        if self.preface > 0 {
            self.preface = self.preface.saturating_sub(bytes);
            if self.preface == 0 {
                // Beyond its first words HTTP/2 has bounds of its own.
                self.progress.enter(Stage::Busy);
                return;
            }
        }
        if !self.progress.is(Stage::Head) {
            self.progress.enter(Stage::Head);
            self.running = false;
        }
    }

    /// Nothing has come: ends with an error once that has lasted too long.
    fn wait(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.progress.is(Stage::Head) && self.preface == 0 {
            return Poll::Pending;
        }
        let span = self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(span)));
        if !self.running {
            self.running = true;
            timer.as_mut().reset(Instant::now() + span);
        }
        ready!(timer.as_mut().poll(context));
        if self.progress.is(Stage::Head) {
            if self.preface == 0 {
                // Best effort: one that does not read is not waited for, either.
                let _ = Pin::new(&mut self.stream).poll_write(context, TOO_LATE);
                let _ = Pin::new(&mut self.stream).poll_flush(context);
            }
            self.progress.enter(Stage::Late);
        }
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: IO> AsyncRead for Patient<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.unread.is_empty() {
            let bytes = self.unread.len().min(into.remaining());
            into.put_slice(&self.unread[..bytes]);
            self.unread.drain(..bytes);
            if self.unread.is_empty() {
                self.unread = Vec::new();
            }
            return Poll::Ready(Ok(()));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        if self.progress.is(Stage::Busy) {
            return read;
        }
        match read {
            Poll::Pending => self.wait(context),
            Poll::Ready(read) => {
                let bytes = into.filled().len() - before;
                if bytes > 0 {
                    self.advance(bytes);
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: IO> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, parcel, .. } = &mut *self;
        parcel.poll_write(Pin::new(stream), context, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, parcel, .. } = &mut *self;
        ready!(parcel.poll_send(Pin::new(&mut *stream), context))?;
        Pin::new(stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Self { stream, parcel, .. } = &mut *self;
        ready!(parcel.poll_send(Pin::new(&mut *stream), context))?;
        Pin::new(stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        from: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { stream, parcel, .. } = &mut *self;
        parcel.poll_write_vectored(Pin::new(stream), context, from)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[async_trait]
impl<S: IO> Peek for Patient<S> {
    /// Pingora looks here once more for the beginning of HTTP/2, and would wait for all of it without end. It finds what
    /// has [come](Self::begins_as_http2).
    async fn try_peek(&mut self, into: &mut [u8]) -> io::Result<bool> {
        let found = self.unread.get(..into.len());
        if let Some(found) = found {
            into.copy_from_slice(found);
        }
        Ok(found.is_some())
    }
}

#[async_trait]
impl<S: IO> Shutdown for Patient<S> {
    /// Sends what is left, if its client takes it: Pingora would wait for one that does not read, without end.
    async fn shutdown(&mut self) {
        let Self { stream, parcel, .. } = self;
        let goodbye = async {
            // Fails for a client that has left.
            let _ = poll_fn(|context| parcel.poll_send(Pin::new(&mut *stream), context)).await;
            stream.shutdown().await;
        };
        let _ = timeout(GOODBYE, goodbye).await;
    }
}

impl<S: IO> UniqueID for Patient<S> {
    fn id(&self) -> UniqueIDType {
        self.stream.id()
    }
}

impl<S: IO> Ssl for Patient<S> {
    fn get_ssl(&self) -> Option<&TlsRef> {
        self.stream.get_ssl()
    }

    fn get_ssl_digest(&self) -> Option<Arc<SslDigest>> {
        self.stream.get_ssl_digest()
    }

    fn selected_alpn_proto(&self) -> Option<ALPN> {
        self.stream.selected_alpn_proto()
    }
}

impl<S: IO> GetTimingDigest for Patient<S> {
    fn get_timing_digest(&self) -> Vec<Option<TimingDigest>> {
        self.stream.get_timing_digest()
    }

    fn get_read_pending_time(&self) -> Duration {
        self.stream.get_read_pending_time()
    }

    fn get_write_pending_time(&self) -> Duration {
        self.stream.get_write_pending_time()
    }
}

impl<S: IO> GetProxyDigest for Patient<S> {
    fn get_proxy_digest(&self) -> Option<Arc<ProxyDigest>> {
        self.stream.get_proxy_digest()
    }

    fn set_proxy_digest(&mut self, digest: ProxyDigest) {
        self.stream.set_proxy_digest(digest);
    }
}

impl<S: IO> GetSocketDigest for Patient<S> {
    fn get_socket_digest(&self) -> Option<Arc<SocketDigest>> {
        self.stream.get_socket_digest()
    }

    fn set_socket_digest(&mut self, digest: SocketDigest) {
        self.stream.set_socket_digest(digest);
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn s56_a_client_that_does_not_read_does_not_hold_up_the_end_of_its_connection() {
        let (near, mut far) = duplex(4);
        let mut patient = Patient::new(near, Duration::from_secs(10));
        patient.write_all(b"more than it takes").await.expect("it is held");
        let before = Instant::now();
        Shutdown::shutdown(&mut patient).await;
        assert_eq!(before.elapsed(), GOODBYE);
        let mut read = [0; 4];
        far.read_exact(&mut read).await.expect("as much as there was room for");
        assert_eq!(&read, b"more");
    }
}
