//! Where the requests of a connection are answered, one after the other.
//!
//! Pingora waits for a request with all at hand that a request needs, which is some 25 KB a connection. Most connections
//! wait most of the time, so here nothing waits but the connection itself (I7).

use std::future::poll_fn;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::task::ready;
use std::time::Duration;

use bytes::BytesMut;
use pingora::apps::{HttpPersistentSettings, HttpServerApp, ServerApp};
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use pingora::time::timeout;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::watch;

use super::Connections;
use super::crowd::Place;
use super::streams::Streams;
use crate::proxy::patience;

/// How much of a head is read at once; Pingora would read as much, and nearly all heads are shorter.
const FIRST_READ: usize = 4096;

/// Whoever answers what is asked at a door.
pub(super) struct Desk<A> {
    app: Arc<A>,
    connections: Connections,
    /// Turns true when each answer has to be the last on its connection.
    closing: watch::Receiver<bool>,
    /// Turns true when whoever asks nothing has to leave.
    closed: watch::Receiver<bool>,
}

impl<A> Clone for Desk<A> {
    fn clone(&self) -> Self {
        let (app, connections) = (Arc::clone(&self.app), self.connections.clone());
        Self { app, connections, closing: self.closing.clone(), closed: self.closed.clone() }
    }
}

impl<A: HttpServerApp + Send + Sync + 'static> Desk<A> {
    pub(super) fn new(
        app: Arc<A>,
        connections: Connections,
        closing: watch::Receiver<bool>,
        closed: watch::Receiver<bool>,
    ) -> Self {
        Self { app, connections, closing, closed }
    }

    /// Answers everything on a connection of HTTP/2, whose client has this place.
    pub(super) async fn serve_http2(mut self, stream: Stream, place: Option<Place>) {
        let streams = Streams::new(self.app, self.connections, place);
        let closed = async {
            let _ = self.closed.wait_for(|closed| *closed).await;
            streams.all_over().await;
        };
        tokio::select! {
            _ = streams.process_new(stream, &self.closing) => {}
            // By then its client has heard that nothing more is taken here; one that does not say that it has heard is
            // not waited for.
            () = closed => {}
        }
    }

    /// Answers everything on a connection of HTTP/1.1, which may be `idle` for so long.
    pub(super) async fn serve_http1(mut self, mut stream: Stream, idle: Duration) {
        let mut settings = None;
        while let Some(beginning) = self.next(&mut stream, idle).await {
            let mut session = ServerSession::new_http1(stream);
            match settings {
                Some(settings) => HttpPersistentSettings::apply_to_session(settings, &mut session),
                None => self.settle_in(&mut session, idle),
            }
            session.set_pipelined_prefix(beginning);
            let Some(reused) = self.app.process_new_http(session, &self.closing).await else { return };
            patience::request_is_over();
            (stream, settings) = reused.consume();
        }
    }

    /// What holds from the first request of a connection on.
    fn settle_in(&self, session: &mut ServerSession, idle: Duration) {
        session.set_keepalive((!*self.closing.borrow()).then(|| idle.as_secs().max(1)));
        session.set_keepalive_reuses_remaining(
            self.app.server_options().and_then(|options| options.keepalive_request_limit),
        );
    }

    /// The beginning of the next request; `None` if there is none.
    async fn next(&mut self, stream: &mut Stream, idle: Duration) -> Option<BytesMut> {
        self.unless_closed(timeout(idle, beginning(stream))).await?.ok()?
    }

    /// Waits for a client, unless it is time to leave for whoever asks nothing.
    pub(super) async fn unless_closed<T>(&mut self, waiting: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            came = waiting => Some(came),
            _ = self.closed.wait_for(|closed| *closed) => None,
        }
    }
}

/// What has come of a head; `None` at the end of the connection.
async fn beginning(stream: &mut Stream) -> Option<BytesMut> {
    poll_fn(|context| {
        // On the stack, so that nobody has a buffer who only waits.
        let mut room = [MaybeUninit::uninit(); FIRST_READ];
        let mut into = ReadBuf::uninit(&mut room);
        let read = ready!(Pin::new(&mut *stream).poll_read(context, &mut into));
        let came = read.ok().map(|()| into.filled()).filter(|came| !came.is_empty());
        came.map(|came| {
            // With room for the rest of a head that comes in pieces.
            let mut beginning = BytesMut::with_capacity(FIRST_READ);
            beginning.extend_from_slice(came);
            beginning
        })
        .into()
    })
    .await
}
