//! Whether the client is still there.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::FutureExt as _;
use pingora::protocols::SocketDigest;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;

use crate::gate::Connection;

/// `TCP_ESTABLISHED` of Linux: both ends may still talk.
const ESTABLISHED: u8 = 1;

impl Connection for SocketDigest {
    /// A system call: ask it last.
    fn has_left(&self) -> bool {
        self.tcp_info().is_some_and(|tcp| tcp.tcpi_state != ESTABLISHED)
    }
}

/// A request of HTTP/2: its connection goes on when it is given up.
#[derive(Debug)]
pub(super) struct Stream {
    connection: Arc<SocketDigest>,
    given_up: AtomicBool,
}

impl Connection for Stream {
    fn has_left(&self) -> bool {
        self.given_up.load(Ordering::Acquire) || self.connection.has_left()
    }

    fn shared_as(&self) -> Option<usize> {
        Some(Arc::as_ptr(&self.connection) as usize)
    }
}

/// The connection, for as long as the request lasts; and the stream, where it is one of several on it.
pub(super) fn connection(session: &Session) -> (Option<Arc<dyn Connection>>, Option<Arc<Stream>>) {
    let digest = session.digest().and_then(|digest| digest.socket_digest.as_ref());
    let Some(connection) = digest.map(Arc::clone) else { return (None, None) };
    if session.as_downstream().as_http2().is_none() {
        return (Some(connection), None);
    }
    let stream = Arc::new(Stream { connection, given_up: AtomicBool::new(false) });
    (Some(Arc::<Stream>::clone(&stream)), Some(stream))
}

/// Waits for money, and notices when the client gives its stream up meanwhile: Pingora does not look while we wait. From
/// then on the payment is one that nobody waits for, also for whoever signs again on another connection (I4).
pub(super) async fn watching<T>(session: &mut Session, stream: Option<&Stream>, asked: impl Future<Output = T>) -> T {
    let (ServerSession::H2(session), Some(stream)) = (session.as_downstream_mut(), stream) else { return asked.await };
    let mut asked = pin!(asked);
    tokio::select! {
        biased;
        answer = &mut asked => return answer,
        _ = session.idle() => stream.given_up.store(true, Ordering::Release),
    }
    asked.await
}

/// Whether the client has closed its side of the connection, or given up the stream of HTTP/2 that it asked on. A system
/// call: ask it last.
pub(super) fn has_left(session: &mut Session) -> bool {
    if let ServerSession::H2(stream) = session.as_downstream_mut()
        && stream.idle().now_or_never().is_some()
    {
        return true;
    }
    let socket = session.digest().and_then(|digest| digest.socket_digest.as_ref());
    socket.is_some_and(|socket| socket.has_left())
}
