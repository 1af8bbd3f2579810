//! The request leaves for the backend.

use std::sync::Arc;

use bytes::Bytes;
use http::{StatusCode, Version};
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::protocols::Digest;
use pingora::proxy::Session;

use super::home::is_final;
use super::passage::{Passage, Stage};
use super::tunnel::asks_for_websocket;
use super::upstream::{Balance, Deadline, Retry, Seat};
use super::{fields, hop};

/// Where the request goes; called again when that place could not be connected to, so it never touches money.
pub(super) fn peer(session: &Session, passage: &mut Passage) -> Result<Box<HttpPeer>> {
    let timeout = passage.timeout();
    // Freed before the next is taken: a place that failed is not busy with this request any more.
    passage.seat = None;
    let peer = passage.upstream.as_ref().and_then(|upstream| {
        let client = passage.asker.client.filter(|_| upstream.config().balance == Balance::Hash);
        let seat = passage.seat.insert(upstream.choose(client, &passage.tried)?);
        let upgrades = upstream.config().http2 && asks_for_websocket(session.req_header());
        Some(upstream.peer(seat, timeout, upgrades))
    });
    peer.ok_or_else(|| {
        Error::explain(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16()), "no address of the backend is known")
    })
}

/// A connection to the backend is there: `digest` says which.
pub(super) fn connected(passage: &mut Passage, digest: Option<&Digest>) {
    let (Some(upstream), Some(digest)) = (&passage.upstream, digest) else { return };
    let (config, timeout) = (upstream.config(), passage.timeout());
    if config.hasty && config.head(timeout) < config.idle {
        let left = timeout.saturating_sub(passage.waiting.elapsed());
        passage.deadline = Deadline::start(digest, left, config.first_byte);
    }
}

/// Nothing has been sent, so the next place may be tried (S25).
pub(super) fn not_connected(session: &Session, passage: &mut Passage, mut error: Box<Error>) -> Box<Error> {
    // A backend that speaks nothing but HTTP/2 has no WebSockets, and is well.
    let speaks_http2 = passage.upstream.as_ref().is_some_and(|upstream| upstream.config().http2);
    let unfit =
        speaks_http2 && *error.etype() == ErrorType::TLSHandshakeFailure && asks_for_websocket(session.req_header());
    passage.tried.extend(passage.seat.take().map(if unfit { Seat::passed_over } else { Seat::failed }));
    let more = passage.upstream.as_ref().is_some_and(|upstream| upstream.has_more(&passage.tried));
    error.set_retry(more);
    error
}

/// The last look at what the backend will see. Pingora has dropped what `Connection` names by now (S44).
pub(super) fn prepare(session: &Session, request: &mut RequestHeader, passage: &mut Passage) -> Result<()> {
    if session.req_header().version == Version::HTTP_2 {
        hop::leave_http2(request)?;
    }
    fields::strip_request(request);
    passage.asker.tell(request);
    if let Some(target) = &passage.target {
        match passage.route.as_ref().and_then(|route| route.rewrite.as_ref()) {
            None => forward(request, target.path_and_query())?,
            Some(rewrite) => forward(request, &rewrite.apply(target.path_and_query()))?,
        }
    }
    let route = passage.route.as_ref().map(|route| Arc::clone(&route.key.0)).unwrap_or_default();
    match &mut passage.stage {
        Stage::Admitted(confirmed) => {
            fields::tell_backend(request, &route, confirmed.payment(), confirmed.key());
            if let Err(refusal) = confirmed.mark_forwarded() {
                passage.stage = Stage::Refused(refusal);
                return Err(Error::explain(ErrorType::InternalError, "the payment is no longer held"));
            }
        }
        Stage::Settled(settled) => {
            fields::tell_backend(request, &route, settled.payment(), settled.key());
            settled.mark_forwarded();
        }
        Stage::Free => {}
        Stage::Arriving | Stage::Refused(_) | Stage::Done => {
            return Err(Error::explain(ErrorType::InternalError, "a request was about to pass undecided"));
        }
    }
    if let (Some(upstream), Some(seat)) = (&passage.upstream, &passage.seat) {
        upstream.dress(request, seat)?;
    }
    passage.backend_touched = true;
    passage.sent();
    Ok(())
}

/// What was matched is what is forwarded (I9), below another prefix where the route says so. A query that is no URI by the letter passes as it came, as long as
/// its path needs no rewriting.
fn forward(request: &mut RequestHeader, target: &str) -> Result<()> {
    if request.raw_path() == target.as_bytes() {
        return Ok(());
    }
    request.set_raw_path(target.as_bytes()).map_err(|_| {
        Error::explain(ErrorType::HTTPStatus(StatusCode::BAD_REQUEST.as_u16()), "the request target is not a URI")
    })
}

/// A piece of the request body passes.
pub(super) fn body(session: &Session, piece: Option<&Bytes>, passage: &mut Passage) -> Result<()> {
    let Some(piece) = piece else { return Ok(()) };
    if let Some(tunnel) = &mut passage.tunnel {
        return tunnel.pass(piece.len());
    }
    if session.was_upgraded() {
        // No body any more, but a free connection, which may become as large as it likes.
        return Ok(());
    }
    if passage.waiting.elapsed() > passage.timeout() && !session.response_written().is_some_and(is_final) {
        // Each piece starts Pingora's clock anew, so that one that drips would never be late.
        let status = ErrorType::HTTPStatus(StatusCode::REQUEST_TIMEOUT.as_u16());
        return Err(Error::explain(status, "the request took too long to arrive"));
    }
    passage.request_bytes += piece.len() as u64;
    passage.sent();
    let limit = passage.largest_body();
    if passage.request_bytes > limit {
        let status = ErrorType::HTTPStatus(StatusCode::PAYLOAD_TOO_LARGE.as_u16());
        return Err(Error::explain(status, "the request body is too large for this route"));
    }
    if let Some(keeper) = &mut passage.keeper {
        keeper.request_body(piece);
    }
    Ok(())
}

/// A request of which a byte may have been processed is never sent twice (S25). The one that is: free, safe (RFC 9110,
/// 9.2.1), without a body, and met by a kept connection that was closing.
pub(super) fn failed(
    peer: &HttpPeer,
    session: &mut Session,
    error: Box<Error>,
    passage: &Passage,
    reused: bool,
) -> Box<Error> {
    if passage.was_given_up() {
        let status = ErrorType::HTTPStatus(StatusCode::GATEWAY_TIMEOUT.as_u16());
        return Error::explain(status, "the backend took too long");
    }
    let mut error = error.more_context(format!("backend {peer}"));
    let retry = passage.upstream.as_ref().is_some_and(|upstream| upstream.config().retry != Retry::Never);
    let harmless = matches!(passage.stage, Stage::Free) && session.req_header().method.is_safe();
    if retry && harmless && session.as_downstream_mut().is_body_empty() {
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    error
}
