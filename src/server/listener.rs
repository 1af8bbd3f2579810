//! Doors: sockets that clients connect to.
//!
//! We accept connections ourselves and hand them to Pingora's HTTP application. Pingora's own server closes its
//! listeners at the first signal, cannot say which port it was given, and runs one runtime a service, which would end
//! with settlements under way; here all of that is ours to decide.

pub(crate) mod crowd;
mod proxy_protocol;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::ServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::listener::Listener;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, IO, Stream};
use pingora::services::listening::Service;
use rustix::process::{Resource, getrlimit};
use tokio::net::TcpListener;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;

use super::StartError;
use crate::config::ProxyProtocol;
use crate::proxy::Live;
use crate::proxy::patience::{Patient, Progress, Timeouts};
use crate::telemetry::Metrics;
use crowd::{Crowd, Place};

/// How many client connections may be open at once (S56, I7).
const MOST_CONNECTIONS: usize = 16_384;
/// File descriptors that clients cannot use up.
const RESERVED_DESCRIPTORS: usize = 64;
/// How long accepting pauses when the process is out of file descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a client may take over shaking hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// A bound socket.
pub(crate) struct Door {
    listener: Listener,
    address: SocketAddr,
    /// Who looks after the clients that come here; nobody where only neighbours do.
    keeper: Option<Arc<Keeper>>,
}

/// Looks after the clients that come through a door.
pub(crate) struct Keeper {
    /// Shakes hands with them, where they speak TLS.
    pub acceptor: Option<Acceptor>,
    /// Which versions of the PROXY protocol their proxies speak, if they do.
    pub announced: Option<ProxyProtocol>,
    /// How long they are waited for.
    pub timeouts: Timeouts,
    /// All who are inside, through whichever door.
    pub crowd: Arc<Crowd>,
    /// Whoever stands between clients and us is not held back as one of them.
    pub live: Arc<ArcSwap<Live>>,
    /// Counts who was sent away.
    pub metrics: Arc<Metrics>,
}

/// The connections that are open.
#[derive(Clone)]
pub(crate) struct Connections {
    open: Arc<Semaphore>,
    most: usize,
}

impl Default for Connections {
    fn default() -> Self {
        Self::of_clients(None)
    }
}

impl Connections {
    /// None yet, and never more than these at once.
    pub(super) fn most(most: usize) -> Self {
        Self { open: Arc::new(Semaphore::new(most)), most }
    }

    /// None yet, and never more than the file says, or than there are file descriptors for.
    pub(crate) fn of_clients(wanted: Option<usize>) -> Self {
        let most = most_connections(wanted, getrlimit(Resource::Nofile).current);
        if let Some(wanted) = wanted.filter(|wanted| *wanted > most) {
            tracing::warn!(wanted, most, "the system does not let this process open files for so many connections");
        }
        Self::most(most)
    }

    /// How many there may be.
    pub(crate) fn room(&self) -> usize {
        self.most
    }

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

/// A client connection and the one to the backend take two file descriptors. Some are kept for the ledger, the
/// facilitators and the status listener, which must answer when nothing else does.
fn most_connections(wanted: Option<usize>, descriptors: Option<u64>) -> usize {
    let free = descriptors.map_or(usize::MAX, |all| usize::try_from(all).unwrap_or(usize::MAX));
    (free.saturating_sub(RESERVED_DESCRIPTORS) / 2).clamp(1, wanted.unwrap_or(MOST_CONNECTIONS))
}

impl Door {
    /// Listens at an address. Clients that come there are looked after by `keeper`.
    pub(crate) async fn open(address: SocketAddr, keeper: Option<Arc<Keeper>>) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener: listener.into(), address, keeper })
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
                    let (app, told) = (Arc::clone(app), told.clone());
                    match &self.keeper {
                        None => drop(tokio::spawn(async move {
                            Service::<A>::handle_event(Box::new(stream), app, told).await;
                            drop(permit);
                        })),
                        Some(keeper) => {
                            // Before anything is done for it: whoever has enough connections costs next to nothing.
                            let Ok(place) = keeper.admit(&stream) else { continue };
                            let keeper = Arc::clone(keeper);
                            tokio::spawn(async move {
                                keeper.serve(stream, place, app, told).await;
                                drop(permit);
                            });
                        }
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, address = %self.address, "a connection could not be accepted");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// A connection is closed, and has been counted.
struct TurnedAway;

impl Keeper {
    /// Lets a connection in. On a door where proxies announce their clients nobody else may speak, or anybody could claim
    /// to be anybody.
    fn admit(&self, stream: &L4Stream) -> Result<Option<Place>, TurnedAway> {
        let peer = peer_of(stream);
        if self.announced.is_some() && !peer.is_some_and(|peer| self.live.load().trusted.contains(peer)) {
            return Err(self.turn_away("proxy_header"));
        }
        self.count(peer)
    }

    /// Counts a client's connection. Proxies that we trust bring many clients, and a Unix socket has no address.
    fn count(&self, client: Option<IpAddr>) -> Result<Option<Place>, TurnedAway> {
        let Some(client) = client.filter(|client| !self.live.load().trusted.contains(*client)) else { return Ok(None) };
        self.crowd.enter(client).map(Some).ok_or_else(|| self.turn_away("too_many"))
    }

    fn turn_away(&self, reason: &'static str) -> TurnedAway {
        self.metrics.connection_closed(reason);
        TurnedAway
    }

    /// Serves a connection to its end. It keeps its place among its client's until then.
    async fn serve<A>(&self, mut stream: L4Stream, place: Option<Place>, app: Arc<A>, told: watch::Receiver<bool>)
    where
        A: ServerApp + Send + Sync + 'static,
    {
        let Ok(announced) = self.hear(&mut stream).await else { return };
        let Some((stream, progress)) = self.greet(stream).await else { return };
        Arc::clone(&progress).follow(Service::<A>::handle_event(stream, app, told)).await;
        if progress.was_late() {
            self.metrics.connection_closed("slow");
        }
        drop((place, announced));
    }

    /// Hears from its proxy whose connection it is, where proxies say so, and counts it as that client's.
    async fn hear(&self, stream: &mut L4Stream) -> Result<Option<Place>, TurnedAway> {
        let Some(accepted) = self.announced else { return Ok(None) };
        match timeout(self.timeouts.head, proxy_protocol::read(stream, accepted)).await {
            Ok(Ok(client)) => self.count(client.map(|client| client.ip())),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a proxy did not say who its client is");
                Err(self.turn_away("proxy_header"))
            }
            Err(_) => Err(self.turn_away("proxy_header")),
        }
    }

    /// The connection as HTTP sees it; `None` for a client that does not manage to shake hands.
    async fn greet(&self, stream: L4Stream) -> Option<(Stream, Arc<Progress>)> {
        let Some(acceptor) = &self.acceptor else { return Some(self.watch(stream)) };
        match timeout(HANDSHAKE, acceptor.tls_handshake(stream)).await {
            Ok(Ok(stream)) => return Some(self.watch(stream)),
            // Scanners and clients that distrust us fail by the minute.
            Ok(Err(error)) => tracing::debug!(%error, "a client did not shake hands"),
            Err(_) => {}
        }
        self.metrics.connection_closed("handshake");
        None
    }

    fn watch(&self, stream: impl IO + 'static) -> (Stream, Arc<Progress>) {
        let stream = Patient::new(stream, self.timeouts);
        let progress = stream.progress();
        (Box::new(stream), progress)
    }
}

/// The other end of a connection; a Unix socket has no address.
fn peer_of(stream: &L4Stream) -> Option<IpAddr> {
    stream.get_socket_digest()?.peer_addr()?.as_inet().map(SocketAddr::ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s56_clients_leave_descriptors_for_everything_else() {
        assert_eq!(most_connections(None, None), MOST_CONNECTIONS);
        assert_eq!(most_connections(None, Some(1_000_000)), MOST_CONNECTIONS);
        assert_eq!(most_connections(None, Some(1024)), 480);
        assert_eq!(most_connections(None, Some(10)), 1);
        assert_eq!(most_connections(Some(50_000), Some(1_000_000)), 50_000);
        assert_eq!(most_connections(Some(50_000), Some(1024)), 480);
        assert_eq!(most_connections(Some(100), Some(1024)), 100);
    }
}
