//! Whether the client is still there.

use std::sync::Arc;

use pingora::protocols::SocketDigest;
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

/// The connection, for as long as the request lasts.
pub(super) fn connection(session: &Session) -> Option<Arc<dyn Connection>> {
    let socket = session.digest()?.socket_digest.as_ref()?;
    Some(Arc::clone(socket) as Arc<dyn Connection>)
}

/// Whether the client has closed its side of the connection. A system call: ask it last.
pub(super) fn has_left(session: &Session) -> bool {
    let socket = session.digest().and_then(|digest| digest.socket_digest.as_ref());
    socket.is_some_and(|socket| socket.has_left())
}
