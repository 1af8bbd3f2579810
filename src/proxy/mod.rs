//! Carry it: the only module that knows Pingora.
//!
//! Each phase of [`ProxyHttp`] is one call into a file of this folder, in the order a request meets them: [`arrive`]
//! decides whether it may pass, [`depart`] sends it to the backend, [`home`] brings the answer back, and [`end`]
//! accounts for it.

mod answer;
mod arrive;
mod asker;
mod depart;
mod end;
mod fields;
mod grpc;
mod home;
mod hop;
mod keep;
pub mod live;
pub mod lookup;
mod parcel;
mod passage;
pub mod patience;
mod presence;
mod proxies;
pub mod target;
pub mod tls;
mod tunnel;
pub mod upstream;

use std::os::fd::RawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use async_trait::async_trait;
use bytes::Bytes;
use http::HeaderMap;
use pingora::http::{RequestHeader, ResponseHeader};
use pingora::modules::http::HttpModules;
use pingora::prelude::{Error, HttpPeer, Result};
use pingora::protocols::Digest;
use pingora::proxy::{FailToProxy, ProxyHttp, Session};

use crate::gate::Gate;

pub use live::Live;
use passage::Passage;
pub use proxies::Proxies;

/// The proxy: Pingora's callbacks around a [`Gate`].
pub struct Proxy {
    gate: Arc<Gate>,
    live: Arc<ArcSwap<Live>>,
    /// Whether the process is about to end: clients should look for another one.
    ending: Arc<AtomicBool>,
    /// How long a connection may wait for its next request.
    idle: Duration,
}

impl Proxy {
    /// A proxy that lets requests through this gate, under whatever is posted in `live`. Once it is `ending`, each answer
    /// is the last on its connection; before, one may be `idle` for so long.
    pub fn new(gate: Arc<Gate>, live: Arc<ArcSwap<Live>>, ending: Arc<AtomicBool>, idle: Duration) -> Self {
        Self { gate, live, ending, idle }
    }
}

#[async_trait]
impl ProxyHttp for Proxy {
    /// Boxed: Pingora moves it about with the state of the connection.
    type CTX = Box<Passage>;

    fn new_ctx(&self) -> Box<Passage> {
        Box::new(Passage::new(self.live.load_full()))
    }

    /// None: answers pass as the backend sent them, compression included.
    fn init_downstream_modules(&self, _: &mut HttpModules) {}

    async fn early_request_filter(&self, session: &mut Session, _: &mut Box<Passage>) -> Result<()> {
        patience::head_is_read();
        arrive::bound(session, (!self.ending.load(Ordering::Relaxed)).then_some(self.idle));
        Ok(())
    }

    async fn request_filter(&self, session: &mut Session, passage: &mut Box<Passage>) -> Result<bool> {
        match self.arrive(session, passage).await {
            None => Ok(false),
            // Boxed: what passes has no need of the room that answering takes.
            Some(answer) => {
                passage.leave();
                let largest = passage.largest_body();
                Box::pin(answer::write(session, answer, largest)).await.map(|()| true)
            }
        }
    }

    async fn upstream_peer(&self, session: &mut Session, passage: &mut Box<Passage>) -> Result<Box<HttpPeer>> {
        depart::peer(session, passage)
    }

    async fn connected_to_upstream(
        &self,
        _: &mut Session,
        reused: bool,
        _: &HttpPeer,
        _: RawFd,
        digest: Option<&Digest>,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        depart::connected(passage, digest);
        // One from the pool says nothing about whether new ones can be made.
        if let (false, Some(seat)) = (reused, &passage.seat) {
            seat.connected();
        }
        Ok(())
    }

    fn fail_to_connect(
        &self,
        session: &mut Session,
        _: &HttpPeer,
        passage: &mut Box<Passage>,
        error: Box<Error>,
    ) -> Box<Error> {
        depart::not_connected(session, passage, error)
    }

    async fn upstream_request_filter(
        &self,
        session: &mut Session,
        request: &mut RequestHeader,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        depart::prepare(session, request, passage)
    }

    async fn request_body_filter(
        &self,
        session: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        depart::body(session, body.as_ref(), passage)
    }

    fn error_while_proxy(
        &self,
        peer: &HttpPeer,
        session: &mut Session,
        error: Box<Error>,
        passage: &mut Box<Passage>,
        reused: bool,
    ) -> Box<Error> {
        depart::failed(peer, session, error, passage, reused)
    }

    async fn response_filter(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Box<Passage>,
    ) -> Result<()> {
        self.home(session, head, passage).await
    }

    fn response_body_filter(
        &self,
        _: &mut Session,
        body: &mut Option<Bytes>,
        _: bool,
        passage: &mut Box<Passage>,
    ) -> Result<Option<Duration>> {
        home::body(body.as_ref(), passage)?;
        Ok(None)
    }

    async fn response_trailer_filter(
        &self,
        _: &mut Session,
        trailers: &mut HeaderMap,
        passage: &mut Box<Passage>,
    ) -> Result<Option<Bytes>> {
        home::trailers(trailers, passage);
        Ok(None)
    }

    async fn fail_to_proxy(&self, session: &mut Session, error: &Error, passage: &mut Box<Passage>) -> FailToProxy {
        Box::pin(self.fail(session, error, passage)).await
    }

    async fn logging(&self, session: &mut Session, error: Option<&Error>, passage: &mut Box<Passage>) {
        self.end(session, error, passage);
    }

    /// Pingora's own error line would repeat the access log's and quote the request target (S63).
    fn suppress_error_log(&self, _: &Session, _: &Box<Passage>, _: &Error) -> bool {
        true
    }
}
