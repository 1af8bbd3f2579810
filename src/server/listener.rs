//! Doors: sockets that clients connect to.
//!
//! We accept connections ourselves and hand them to Pingora's HTTP application. Pingora's own server closes its
//! listeners at the first signal, cannot say which port it was given, and runs one runtime a service, which would end
//! with settlements under way; here all of that is ours to decide.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, Peek as _, Ssl as _, Stream};
use pingora::services::listening::Service;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::StartError;
use super::http2::{Expected, PREFACE};

/// How many client connections may be open at once (S56, I7).
const MOST_CONNECTIONS: usize = 16_384;
/// File descriptors that clients cannot use up.
const RESERVED_DESCRIPTORS: usize = 64;
/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take over shaking hands, and then over its first word where that may be one of HTTP/2.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A bound socket.
pub(crate) struct Door {
    listener: Listener,
    address: SocketAddr,
    /// Shakes hands with clients that come here, where they speak TLS.
    acceptor: Option<Arc<Acceptor>>,
    /// Whether HTTP/2 is spoken without TLS.
    h2c: bool,
}

/// The connections that are open.
#[derive(Clone)]
pub(crate) struct Connections {
    open: Arc<Semaphore>,
    most: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self::most(most_connections(getrlimit(Resource::Nofile).current))
    }
}

impl Connections {
    /// None yet, and never more than these at once.
    pub(super) fn most(most: usize) -> Self {
        Self { open: Arc::new(Semaphore::new(most)), most }
    }
}

/// A client connection and the one to the backend take two file descriptors. Some are kept for the ledger, the
/// facilitators and the status listener, which must answer when nothing else does.
fn most_connections(descriptors: Option<u64>) -> usize {
    let free = descriptors.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    (free.saturating_sub(RESERVED_DESCRIPTORS) / 2).clamp(1, MOST_CONNECTIONS)
}

impl Connections {
    pub(super) async fn admit(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.open).acquire_owned().await.ok()
    }

    /// Returns when none is open any more.
    pub(crate) async fn all_closed(&self) {
        let all = u32::try_from(self.most).unwrap_or(u32::MAX);
        // Fails only for a closed semaphore, and nobody closes this one.
        let _ = self.open.acquire_many(all).await;
    }
}

impl Door {
    pub(crate) async fn open(
        address: SocketAddr,
        acceptor: Option<Arc<Acceptor>>,
        h2c: bool,
    ) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener: listener.into(), address, acceptor, h2c })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts connections until told to close, then closes those that wait for a next request.
    pub(crate) async fn serve<A>(self, app: Arc<A>, connections: Connections, closing: watch::Receiver<bool>)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        self.accept(&app, connections, closing).await;
        // Drops the listener first: whoever connects now is refused rather than left waiting.
        drop(self);
        app.cleanup().await;
    }

    async fn accept<A>(&self, app: &Arc<A>, connections: Connections, mut closing: watch::Receiver<bool>)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let told = closing.clone();
        loop {
            // Waiting for room ends with the rest: at the end all the room is asked for at once, before us.
            let (permit, accepted) = tokio::select! {
                biased;
                _ = closing.wait_for(|closing| *closing) => return,
                next = async { (connections.admit().await, self.listener.accept().await) } => next,
            };
            match accepted {
                Ok(mut stream) => {
                    if stream.set_nodelay().is_err() {
                        continue;
                    }
                    let (app, told, acceptor, h2c) = (Arc::clone(app), told.clone(), self.acceptor.clone(), self.h2c);
                    tokio::spawn(async move {
                        if let Some(stream) = greet(stream, acceptor, h2c).await {
                            Service::<A>::handle_event(stream, app, told).await;
                        }
                        drop(permit);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// The connection as HTTP sees it; `None` for a client that does not manage to shake hands.
async fn greet(stream: L4Stream, acceptor: Option<Arc<Acceptor>>, h2c: bool) -> Option<Stream> {
    let Some(acceptor) = acceptor else { return listen_for(stream, h2c).await };
    match timeout(HANDSHAKE, acceptor.tls_handshake(stream)).await {
        Ok(Ok(stream)) if matches!(stream.selected_alpn_proto(), Some(ALPN::H2)) => {
            Some(Box::new(Expected::within(HANDSHAKE, stream)))
        }
        Ok(Ok(stream)) => Some(Box::new(stream)),
        Ok(Err(error)) => {
            // Scanners and clients that distrust us fail by the minute.
            tracing::debug!(%error, "a client did not shake hands");
            None
        }
        Err(_) => None,
    }
}

/// Where HTTP/2 may be spoken without TLS, the first bytes say whether it is. Pingora looks at them too, and would wait
/// for them for ever (S56).
async fn listen_for(mut stream: L4Stream, h2c: bool) -> Option<Stream> {
    if h2c {
        timeout(HANDSHAKE, stream.try_peek(&mut [0; PREFACE])).await.ok()?.ok()?;
    }
    Some(Box::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s56_clients_leave_descriptors_for_everything_else() {
        assert_eq!(most_connections(None), MOST_CONNECTIONS);
        assert_eq!(most_connections(Some(1_000_000)), MOST_CONNECTIONS);
        assert_eq!(most_connections(Some(1024)), 480);
        assert_eq!(most_connections(Some(10)), 1);
    }
}
