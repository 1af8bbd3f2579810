//! Answers of our own.

use std::time::Duration;

use http::header::RETRY_AFTER;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use pingora::http::ResponseHeader;
use pingora::prelude::Result;
use pingora::protocols::http::ServerSession;
use pingora::proxy::Session;
use tokio::time::timeout;

use crate::protocol::Answer;

use super::grpc::Grpc;

/// How much of a request body nobody wants is read at least, so that its sender gets to read our answer. Of a route that
/// takes larger ones, as much as it takes.
const DRAIN_BYTES: u64 = 1 << 20;
/// For how long at most.
const DRAIN_TIME: Duration = Duration::from_secs(10);
/// How long it may pause. Whoever reads our answer before it goes on sends nothing more.
const DRAIN_PAUSE: Duration = Duration::from_millis(500);

/// Writes a whole answer; only its head when the request is a HEAD. `largest` is how large a body its route takes.
pub(super) async fn write(session: &mut Session, answer: Answer, largest: u64) -> Result<()> {
    // What is said to gRPC is all in the head.
    let spoken = Grpc::spoken_by(session.req_header()).filter(|_| answer.status.as_u16() >= 400);
    let answer = match spoken {
        Some(grpc) => grpc.say(answer),
        None => answer,
    };
    let mut head = ResponseHeader::build(answer.status, Some(answer.fields.len() + 2))?;
    for (name, value) in &answer.fields {
        head.append_header(name.clone(), value.clone())?;
    }
    let over_http2 = session.as_downstream().as_http2().is_some();
    if answer.status != StatusCode::NO_CONTENT && !(spoken.is_some() && over_http2) {
        head.set_content_length(answer.body.len())?;
    }
    let head_only = session.req_header().method == Method::HEAD || answer.body.is_empty();
    match session.as_downstream_mut() {
        // Trailers-Only is a single frame, and Pingora would end the stream with another one.
        ServerSession::H2(stream) if head_only => stream.write_response_header(Box::new(head), true)?,
        _ => session.write_response_header(Box::new(head), head_only).await?,
    }
    if !head_only {
        session.write_response_body(Some(answer.body), true).await?;
    }
    drain(session, largest.max(DRAIN_BYTES)).await;
    Ok(())
}

/// The proof of what was paid, beside whatever is answered.
pub(super) fn with_receipt(mut answer: Answer, receipt: &HeaderMap) -> Answer {
    answer.fields.extend(receipt.clone());
    answer
}

/// Reads what is left of the request body, within bounds: a socket closed on unread bytes resets the connection,
/// and clients that send all before they read then lose the answer they were sent (PINGORA, 3.3).
async fn drain(session: &mut Session, most: u64) {
    if session.as_downstream_mut().is_body_done() {
        return;
    }
    let reading = async {
        let mut left = most;
        while let Ok(Ok(Some(piece))) = timeout(DRAIN_PAUSE, session.as_downstream_mut().read_request_body()).await {
            match left.checked_sub(piece.len() as u64) {
                Some(rest) => left = rest,
                None => break,
            }
        }
    };
    // Whoever sends more, or slower, loses the connection; the answer has been written either way.
    let _ = timeout(DRAIN_TIME, reading).await;
}

/// A problem document for a request that payment cannot help.
pub(super) fn problem(status: StatusCode, detail: &str) -> Answer {
    let advice = if status.is_server_error() { "try later" } else { "fix" };
    let mut answer = Answer::problem(status, status.canonical_reason().unwrap_or("Error"), detail, advice);
    if status == StatusCode::SERVICE_UNAVAILABLE {
        answer.fields.insert(RETRY_AFTER, HeaderValue::from_static("5"));
    }
    answer
}

/// As [`problem`], with one more field.
pub(super) fn problem_with(status: StatusCode, detail: &str, name: http::HeaderName, value: &'static str) -> Answer {
    let mut answer = problem(status, detail);
    answer.fields.insert(name, HeaderValue::from_static(value));
    answer
}
