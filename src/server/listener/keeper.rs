//! Whoever comes through a door: counted, heard, greeted and waited for, but not for ever.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{GetSocketDigest, IO, Stream};
use tokio::time::timeout;

use super::crowd::{Crowd, Place};
use super::desk::Desk;
use super::proxy_protocol;
use crate::config::ProxyProtocol;
use crate::proxy::Live;
use crate::proxy::patience::{Patient, Progress, Timeouts};
use crate::telemetry::Metrics;

/// How long a client may take over shaking hands.
const HANDSHAKE: Duration = Duration::from_secs(10);

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

/// A connection is closed, and has been counted.
pub(super) struct TurnedAway;

impl Keeper {
    /// Lets a connection in. On a door where proxies announce their clients nobody else may speak, or anybody could claim
    /// to be anybody.
    pub(super) fn admit(&self, stream: &L4Stream) -> Result<Option<Place>, TurnedAway> {
        let digest = stream.get_socket_digest();
        let peer = digest.as_ref().and_then(|digest| digest.peer_addr());
        if self.announced.is_some() && !self.live.load().trusted.include(peer) {
            return Err(self.turn_away("proxy_header"));
        }
        self.count(peer.and_then(|peer| peer.as_inet()).map(SocketAddr::ip))
    }

    /// Counts a client's connection. Proxies that we trust bring many clients, and a Unix socket has no address.
    fn count(&self, client: Option<IpAddr>) -> Result<Option<Place>, TurnedAway> {
        let Some(client) = client.filter(|client| !self.live.load().trusted.have(*client)) else { return Ok(None) };
        self.crowd.enter(client).map(Some).ok_or_else(|| self.turn_away("too_many"))
    }

    fn turn_away(&self, reason: &'static str) -> TurnedAway {
        self.metrics.connection_closed(reason);
        TurnedAway
    }

    /// Serves a connection to its end. It keeps its place among its client's until then.
    pub(super) async fn serve<A>(&self, mut stream: L4Stream, place: Option<Place>, desk: Desk<A>)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Ok(announced) = self.hear(&mut stream).await else { return };
        // Apart: shaking hands takes more memory than all the waiting after it.
        let Some((stream, progress)) = Box::pin(self.greet(stream)).await else { return };
        Arc::clone(&progress).follow(desk.serve(stream, self.timeouts.idle)).await;
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
        let stream = Patient::new(stream, self.timeouts.head);
        let progress = stream.progress();
        (Box::new(stream), progress)
    }
}
