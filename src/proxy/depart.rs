//! The request leaves for the backend.

use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, HttpPeer, Result};
use pingora::proxy::Session;

use super::fields;
use super::passage::{Passage, Stage};

/// Where the request goes; called again when that place could not be connected to, so it never touches money.
pub(super) fn peer(passage: &mut Passage) -> Result<Box<HttpPeer>> {
    let timeout = passage.route.as_ref().map(|route| route.limits.timeout).unwrap_or_default();
    let upstream = passage.upstream.as_ref();
    upstream.and_then(|upstream| upstream.peer(timeout)).ok_or_else(|| {
        Error::explain(ErrorType::HTTPStatus(StatusCode::BAD_GATEWAY.as_u16()), "no address of the backend is known")
    })
}

/// Nothing has been sent, so the next place may be tried (S25).
pub(super) fn not_connected(passage: &mut Passage, mut error: Box<Error>) -> Box<Error> {
    passage.failed_targets += 1;
    let places = passage.upstream.as_ref().map_or(0, |upstream| upstream.places());
    error.set_retry(passage.failed_targets < places);
    error
}

/// The last look at what the backend will see. Pingora has dropped what `Connection` names by now (S44).
pub(super) fn prepare(request: &mut RequestHeader, passage: &mut Passage) -> Result<()> {
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
    passage.backend_touched = true;
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
    passage.request_bytes += piece.len() as u64;
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

/// A request that may be paid for is never sent twice once a byte of it may have been processed (S25). A free one
/// keeps Pingora's rule: idempotent, unsent body, and a kept-alive connection that was closing.
pub(super) fn failed(
    peer: &HttpPeer,
    session: &mut Session,
    error: Box<Error>,
    passage: &Passage,
    reused: bool,
) -> Box<Error> {
    let mut error = error.more_context(format!("backend {peer}"));
    let free = matches!(passage.stage, Stage::Free);
    if free && session.req_header().method.is_idempotent() && !session.as_ref().retry_buffer_truncated() {
        error.retry.decide_reuse(reused);
    } else {
        error.set_retry(false);
    }
    error
}
