//! One connection of HTTP/2, and the requests on it.
//!
//! Pingora gives each a task and counts none against anything. A request takes what a connection of HTTP/1.1 takes, so it
//! is counted as one, for its client and for all (S56).

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::StatusCode;
use http::header::RETRY_AFTER;
use pingora::apps::{HttpServerApp, HttpServerOptions, ReusedHttpStream};
use pingora::http::ResponseHeader;
use pingora::protocols::http::ServerSession;
use pingora::protocols::http::v2::server::H2Options;
use pingora::server::ShutdownWatch;
use tokio::sync::watch;

use super::Connections;
use super::crowd::Place;

/// How long a client may take to agree that nothing comes any more: as long as what is left for it takes on a slow line.
const GOODBYE: Duration = Duration::from_secs(5);

/// One connection of HTTP/2, and the requests on it.
pub(super) struct Streams<A> {
    app: Arc<A>,
    connections: Connections,
    /// The connection's own among its client's; none where clients are not counted.
    place: Option<Place>,
    under_way: watch::Sender<usize>,
}

/// A request that is under way, until dropped.
struct UnderWay<'a>(&'a watch::Sender<usize>);

impl<A> Streams<A> {
    /// None yet.
    pub(super) fn new(app: Arc<A>, connections: Connections, place: Option<Place>) -> Arc<Self> {
        Arc::new(Self { app, connections, place, under_way: watch::Sender::new(0) })
    }

    /// Returns once nothing has been under way for a while.
    pub(super) async fn all_over(&self) {
        let mut under_way = self.under_way.subscribe();
        loop {
            // Fails only when the sender is gone, which is ours.
            let _ = under_way.wait_for(|under_way| *under_way == 0).await;
            tokio::select! {
                _ = under_way.wait_for(|under_way| *under_way > 0) => {}
                () = tokio::time::sleep(GOODBYE) => return,
            }
        }
    }

    fn begin(&self) -> (UnderWay<'_>, bool) {
        let mut others = 0;
        self.under_way.send_modify(|under_way| {
            others = *under_way;
            *under_way += 1;
        });
        (UnderWay(&self.under_way), others > 0)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|under_way| *under_way -= 1);
    }
}

#[async_trait]
impl<A: HttpServerApp + Send + Sync + 'static> HttpServerApp for Streams<A> {
    async fn process_new_http(
        self: &Arc<Self>,
        session: ServerSession,
        shutdown: &ShutdownWatch,
    ) -> Option<ReusedHttpStream> {
        let (_under_way, has_company) = self.begin();
        if !has_company {
            // The connection itself stands for it.
            return self.app.process_new_http(session, shutdown).await;
        }
        let place = self.place.as_ref().map(Place::another);
        match (self.connections.try_admit(), place) {
            (Some(_room), None | Some(Some(_))) => self.app.process_new_http(session, shutdown).await,
            (None, _) | (_, Some(None)) => {
                refuse(session).await;
                None
            }
        }
    }

    fn h2_options(&self) -> Option<H2Options> {
        self.app.h2_options()
    }

    fn server_options(&self) -> Option<&HttpServerOptions> {
        self.app.server_options()
    }
}

/// Nothing of it has been read, so it may be sent again.
async fn refuse(mut session: ServerSession) {
    let Ok(mut head) = ResponseHeader::build(StatusCode::SERVICE_UNAVAILABLE, Some(2)) else { return };
    let named = head.insert_header(RETRY_AFTER, "1").and_then(|()| head.set_content_length(0));
    // Fails for a client that has left.
    if named.is_ok() && session.write_response_header(Box::new(head)).await.is_ok() {
        let _ = session.finish_body().await;
    }
}
