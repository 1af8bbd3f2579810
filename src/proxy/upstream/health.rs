//! Looks at backends from beside the requests: whether they answer, and whether those that were out are back.
//!
//! Done with Pingora's own connector, so a look meets the same TLS and HTTP as a request. Its load-balancing crate has
//! such looks too, but keeps one TLS description for all backends, knows no sockets by path beside them, no connections
//! counted and no eviction by what requests meet, which would have to live beside it.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use http::StatusCode;
use http::header::{HOST, USER_AGENT};
use pingora::connectors::http::Connector;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, Result};
use tokio::task::JoinSet;
use tokio::time::timeout;

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
    match &config.health {
        Some(health) => {
            let found = timeout(health.every.min(PATIENCE), ask(config, place, health)).await;
            let well = matches!(found, Ok(Ok(status)) if status.as_u16() < 400);
            place.standing.looked(well, health);
            place.standing.look_again(health.every);
        }
        None => {
            let limit = config.connect.min(PATIENCE);
            if let Ok(Ok(_)) = timeout(limit, CONNECTOR.get_http_session(&place.peer)).await {
                place.standing.connected();
            }
            place.standing.look_again(TRY_AGAIN);
        }
    }
}

/// What a place says to a GET. The gateway's own credential is not sent: what is behind the gate is for who passed it.
async fn ask(config: &Config, place: &Place, health: &Health) -> Result<StatusCode> {
    let (mut session, _) = CONNECTOR.get_http_session(&place.peer).await?;
    place.standing.connected();
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
