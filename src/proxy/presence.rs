//! Whether the client is still there.

use std::sync::Arc;

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

/// A connection of HTTP/2: it goes on when a request on it is given up, and Pingora does not tell while we wait for money.
#[derive(Debug)]
struct Shared(Arc<SocketDigest>);

impl Connection for Shared {
    fn has_left(&self) -> bool {
        self.0.has_left()
    }

    fn shared_as(&self) -> Option<usize> {
        Some(Arc::as_ptr(&self.0) as usize)
    }
}

/// The connection, for as long as the request lasts.
pub(super) fn connection(session: &Session) -> Option<Arc<dyn Connection>> {
    let socket = Arc::clone(session.digest()?.socket_digest.as_ref()?);
    Some(match session.as_downstream().as_http2() {
        Some(_) => Arc::new(Shared(socket)),
        None => socket,
    })
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
