//! Looks at backends from beside the requests: whether they answer, and whether those that were out are back.
//!
//! Done with Pingora's own connector, so a look meets the same TLS and HTTP as a request. Its load-balancing crate has
//! such looks too, but keeps one TLS description for all backends, knows no sockets by path beside them, no connections
//! counted and no eviction by what requests meet, which would have to live beside it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::StatusCode;
use http::header::{HOST, USER_AGENT};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::protocols::http::client::HttpSession;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::Upstream;
use super::config::{Config, Health, Host};
use super::place::Place;

/// How often a place that could not be connected to is tried from beside the requests.
pub(super) const TRY_AGAIN: Duration = Duration::from_secs(1);
/// No look takes longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at backends. Dropping it ends the looks under way.
#[derive(Default)]
pub struct Patrol {
    looks: JoinSet<()>,
}

/// Made at the first look: it reads the certificates that the system trusts.
static CONNECTOR: LazyLock<Connector> = LazyLock::new(|| Connector::new(None));

impl Patrol {
    /// Begins the looks that are due. To be called again and again.
    pub fn tend(&mut self, upstream: &Arc<Upstream>) {
        while self.looks.try_join_next().is_some() {}
        let watched = upstream.config.health.is_some();
        for place in upstream.places.load().iter().filter(|place| place.standing.is_due(watched)) {
            let (upstream, place) = (Arc::clone(upstream), Arc::clone(place));
            self.looks.spawn(async move { look(&upstream.config, &place).await });
        }
    }
}

async fn look(config: &Config, place: &Place) {
    let (every, limit) = match &config.health {
        Some(health) => (health.every, health.every),
        None => (TRY_AGAIN, config.connect),
    };
    let until = Instant::now() + limit.min(PATIENCE);
    let peer = on_its_own(place);
    let connected = timeout_at(until, CONNECTOR.get_http_session(&peer)).await;
    let mut well = false;
    if let Ok(Ok((mut session, _))) = connected {
        place.standing.connected();
        if let Some(health) = &config.health {
            let found = timeout_at(until, ask(&mut session, config, place, health)).await;
            well = matches!(found, Ok(Ok(status)) if status.as_u16() < 400);
        }
        if let HttpSession::H2(_) = &session {
            // The connector would keep it for the next one.
            CONNECTOR.release_http_session(session, &peer, Some(Duration::ZERO)).await;
        }
    }
    if let Some(health) = &config.health {
        place.standing.looked(well, health);
    }
    place.standing.look_again(every);
}

/// The place, to be reached on a connection that nobody had before: an old one says nothing about whether it takes new ones.
fn on_its_own(place: &Place) -> HttpPeer {
    static LOOKS: AtomicU64 = AtomicU64::new(0);
    let mut peer = place.peer.clone();
    peer.group_key = LOOKS.fetch_add(1, Ordering::Relaxed);
    peer
}

/// What a place says to a GET. The gateway's own credential is not sent: what is behind the gate is for who passed it.
async fn ask(session: &mut HttpSession, config: &Config, place: &Place, health: &Health) -> Result<StatusCode> {
    let mut request = RequestHeader::build("GET", health.path.as_bytes(), None)?;
    let host = match &config.host {
        Host::Literal(host) => host.clone(),
        Host::Preserve | Host::Upstream => place.authority.clone(),
    };
    request.insert_header(HOST, host)?;
    request.insert_header(USER_AGENT, concat!("tollhouse/", env!("CARGO_PKG_VERSION")))?;
    session.write_request_header(Box::new(request)).await?;
    session.finish_request_body().await?;
    session.set_read_timeout(Some(PATIENCE));
    session.read_response_header().await?;
    let head = session.response_header().ok_or_else(|| Error::explain(ErrorType::ReadError, "no head"))?;
    Ok(head.status)
}
