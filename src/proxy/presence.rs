//! Whether the client is still there.

use std::sync::Arc;

use pingora::protocols::SocketDigest;
use pingora::proxy::Session;

use crate::gate::Client;

/// `TCP_ESTABLISHED` of Linux: both ends may still talk.
const ESTABLISHED: u8 = 1;

impl Client for SocketDigest {
    /// A system call: ask it last.
    fn has_left(&self) -> bool {
        self.tcp_info().is_some_and(|tcp| tcp.tcpi_state != ESTABLISHED)
    }
}

/// Whoever sent the request, for as long as it lasts.
pub(super) fn client(session: &Session) -> Option<Arc<dyn Client>> {
    let socket = session.digest()?.socket_digest.as_ref()?;
    Some(Arc::clone(socket) as Arc<dyn Client>)
}

/// Whether the client has closed its side of the connection. A system call: ask it last.
pub(super) fn has_left(session: &Session) -> bool {
    let socket = session.digest().and_then(|digest| digest.socket_digest.as_ref());
    socket.is_some_and(|socket| socket.has_left())
}
