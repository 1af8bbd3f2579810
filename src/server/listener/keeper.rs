//! Whoever comes through a door: counted, heard, greeted and waited for, but not for ever.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::apps::HttpServerApp;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::l4::stream::Stream as L4Stream;
use pingora::protocols::{ALPN, GetSocketDigest, IO, Ssl, Stream};
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
    /// Whether they may speak HTTP/2 without TLS.
    pub h2c: bool,
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
    pub(super) async fn serve<A>(&self, mut stream: L4Stream, place: Option<Place>, mut desk: Desk<A>)
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Ok(announced) = self.hear(&mut stream).await else { return };
        // Apart: shaking hands takes more memory than all the waiting after it.
        let Some(Guest { stream, progress, http2 }) = Box::pin(self.greet(stream, &mut desk)).await else { return };
        let idle = self.timeouts.idle;
        let following = Arc::clone(&progress);
        if http2 {
            following.follow(desk.serve_http2(stream, announced.or(place))).await;
        } else {
            following.follow(desk.serve_http1(stream, idle)).await;
            drop((place, announced));
        }
        if progress.was_late() {
            self.metrics.connection_closed("slow");
        }
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

    /// The connection as HTTP sees it; `None` for a client that does not manage to shake hands, or says nothing.
    async fn greet<A>(&self, stream: L4Stream, desk: &mut Desk<A>) -> Option<Guest>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let Some(acceptor) = &self.acceptor else { return self.listen_to(stream, desk).await };
        match timeout(HANDSHAKE, acceptor.tls_handshake(stream)).await {
            Ok(Ok(stream)) => {
                let http2 = stream.selected_alpn_proto() == Some(ALPN::H2);
                return Some(Guest::new(Patient::new(stream, self.timeouts.head), http2));
            }
            // Scanners and clients that distrust us fail by the minute.
            Ok(Err(error)) => tracing::debug!(%error, "a client did not shake hands"),
            Err(_) => {}
        }
        self.metrics.connection_closed("handshake");
        None
    }

    /// Without TLS nothing has been agreed on, so a client's first words tell what it speaks.
    async fn listen_to<A>(&self, stream: L4Stream, desk: &mut Desk<A>) -> Option<Guest>
    where
        A: HttpServerApp + Send + Sync + 'static,
    {
        let mut stream = Patient::new(stream, self.timeouts.head);
        if !self.h2c {
            return Some(Guest::new(stream, false));
        }
        let begins = desk.unless_closed(timeout(self.timeouts.idle, stream.begins_as_http2())).await;
        if stream.progress().was_late() {
            self.metrics.connection_closed("slow");
        }
        let http2 = begins?.ok()?.ok()?;
        Some(Guest::new(stream, http2))
    }
}

/// A client that has been let in.
struct Guest {
    stream: Stream,
    progress: Arc<Progress>,
    http2: bool,
}

impl Guest {
    fn new(stream: Patient<impl IO + 'static>, http2: bool) -> Self {
        let progress = stream.progress();
        Self { stream: Box::new(stream), progress, http2 }
    }
}
