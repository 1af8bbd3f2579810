//! The request ends: what failed is answered, what was held is let go, and the whole of it is accounted for.

use std::sync::Arc;

use http::StatusCode;
use pingora::prelude::{Error, ErrorSource, ErrorType};
use pingora::proxy::{FailToProxy, Session};

use crate::gate::Refusal;
use crate::gate::event::{Answered, Event};
use crate::ledger::{Delivered, Response};
use crate::protocol::Answer;

use super::arrive::origin_form;
use super::home::is_final;
use super::passage::{Passage, Stage};
use super::{Proxy, answer};

impl Proxy {
    /// Something failed after the request was let on. Nothing that was only reserved is charged.
    pub(super) async fn fail(&self, session: &mut Session, error: &Error, passage: &mut Passage) -> FailToProxy {
        let told = status_of(error).map(|status| (status, detail(status, error, passage.backend_touched)));
        let written = session.response_written().is_some_and(is_final);
        let refusal = match passage.take_stage() {
            Stage::Refused(refusal) => Some(refusal),
            Stage::Admitted(confirmed) => {
                confirmed.release().await;
                None
            }
            Stage::Settled(settled) if written => {
                // `end` records what was delivered.
                passage.stage = Stage::Settled(settled);
                None
            }
            Stage::Settled(settled) => {
                let receipt = self.gate.protocol.receipt(settled.receipt(), settled.dialect());
                settled.end(Delivered::Nothing { untouched: !passage.backend_touched });
                passage.outcome = Some("failed");
                let answer =
                    told.map(|(status, detail)| answer::with_receipt(answer::problem(status, detail), &receipt));
                return self.finish(session, passage, answer, written).await;
            }
            Stage::Arriving | Stage::Free | Stage::Done => None,
        };
        passage.outcome.get_or_insert(if refusal.is_some() { "refused" } else { "failed" });
        let answer = match refusal {
            Some(refusal) => self.refused(session, passage, &refusal),
            None => told.map(|(status, detail)| answer::problem(status, detail)),
        };
        self.finish(session, passage, answer, written).await
    }

    async fn finish(
        &self,
        session: &mut Session,
        passage: &mut Passage,
        answer: Option<Answer>,
        written: bool,
    ) -> FailToProxy {
        let answer = answer.filter(|_| !written && !passage.client_gone);
        let error_code = answer.as_ref().map_or(0, |answer| answer.status.as_u16());
        if let Some(answer) = answer {
            passage.leave();
            // Whatever is left of the exchange with the backend ends with this connection.
            session.set_keepalive(None);
            if let Err(error) = answer::write(session, answer, passage.largest_body()).await {
                tracing::debug!(%error, "a failure could not be told to the client");
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// A refusal that became clear only on the way home.
    fn refused(&self, session: &Session, passage: &Passage, refusal: &Refusal) -> Option<Answer> {
        let visit = passage.visit(session.req_header(), None)?;
        Some(self.gate.refuse(&visit, refusal))
    }

    /// The exchange is over. Called for every request but those dropped at shutdown, whose leases release themselves.
    pub(super) fn end(&self, session: &Session, error: Option<&Error>, passage: &mut Passage) {
        let written = session.response_written().filter(|head| is_final(head));
        let status = written.map_or(0, |head| head.status.as_u16());
        let stage = passage.take_stage();
        if matches!(stage, Stage::Free) {
            passage.outcome.get_or_insert("free");
        }
        if let Stage::Settled(mut settled) = stage {
            let now = self.gate.clock.now();
            let delivered = match (written, error) {
                (None, _) => Delivered::Nothing { untouched: !passage.backend_touched },
                // A connection was sold, and opened. How it ended is between its ends (S51).
                (Some(_), _) if passage.tunnel.is_some() => Delivered::Done(None),
                (Some(_), Some(error)) if *error.esource() == ErrorSource::Upstream => Delivered::CutShort,
                (Some(_), Some(_)) => Delivered::Partial,
                (Some(_), None) => {
                    Delivered::Done(passage.keeper.take().and_then(|keeper| (*keeper).answer(now)).map(Arc::new))
                }
            };
            passage.outcome.get_or_insert("paid");
            if written.is_some() {
                settled.wrote(Response { status, bytes: session.body_bytes_sent() as u64 });
            }
            settled.end(delivered);
        }
        self.account(session, error, passage, status);
    }

    fn account(&self, session: &Session, error: Option<&Error>, passage: &mut Passage, status: u16) {
        let request = session.req_header();
        let (path, query) = match passage.target.take() {
            Some(target) => target.into_parts(),
            None => (printable(origin_form(request)), None),
        };
        let took = passage.lap("end");
        self.gate.observe(&Event::Answered(Box::new(Answered {
            route: passage.route.as_ref().map(|route| route.key.clone()),
            outcome: passage.outcome.unwrap_or("failed"),
            method: request.method.clone(),
            path,
            query,
            status,
            bytes: session.body_bytes_sent() as u64,
            client: passage.asker.client,
            payment: passage.paid.take(),
            error: error.map(words),
            took,
            phases: std::mem::take(&mut passage.phases),
        })));
    }
}

/// What went wrong. Of a head that it cannot read Pingora quotes the bytes, credentials and all (S63).
fn words(error: &Error) -> String {
    match error.root_etype() {
        ErrorType::InvalidHTTPHeader => ErrorType::InvalidHTTPHeader.as_str().to_owned(),
        _ => error.to_string(),
    }
}

/// The start of a target that is no target, as it may stand in a log: without its query, and without the user that an
/// absolute one may name. Some of what ends a line or drives a terminal is no ASCII control character, and JSON leaves
/// it as it is (S63).
fn printable(target: &[u8]) -> String {
    let text = String::from_utf8_lossy(target);
    let path = text.split(['?', '#']).next().unwrap_or_default();
    if !path.starts_with('/') && path.contains('@') {
        return String::new();
    }
    path.chars()
        .take(200)
        .map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

/// The status a failure deserves; `None` when the client is no longer there to read it.
fn status_of(error: &Error) -> Option<StatusCode> {
    let code = match (error.etype(), error.esource()) {
        (ErrorType::HTTPStatus(code), _) => *code,
        (ErrorType::ConnectTimedout | ErrorType::ReadTimedout | ErrorType::WriteTimedout, ErrorSource::Upstream) => 504,
        (_, ErrorSource::Upstream) => 502,
        (ErrorType::ReadTimedout, ErrorSource::Downstream) => 408,
        (ErrorType::WriteError | ErrorType::ReadError | ErrorType::ConnectionClosed, ErrorSource::Downstream) => {
            return None;
        }
        (_, ErrorSource::Downstream) => 400,
        (ErrorType::ConnectionClosed, _) => return None,
        (_, ErrorSource::Internal | ErrorSource::Unset) => 500,
    };
    StatusCode::from_u16(code).ok()
}

/// What the client is told. What failed in detail is in the log.
fn detail(status: StatusCode, error: &Error, backend_touched: bool) -> &'static str {
    match status {
        // `home` gives this status to an answer that is there and may not pass (S47, S51).
        StatusCode::BAD_GATEWAY if backend_touched && matches!(error.etype(), ErrorType::HTTPStatus(_)) => {
            "the backend answered with a payment or a protocol of its own"
        }
        StatusCode::BAD_GATEWAY => "the backend could not be reached or did not answer",
        StatusCode::GATEWAY_TIMEOUT => "the backend took too long",
        StatusCode::PAYLOAD_TOO_LARGE => "the request body is too large for this route",
        StatusCode::REQUEST_TIMEOUT => "the request took too long to arrive",
        StatusCode::BAD_REQUEST => "the request could not be read",
        _ => "the request could not be served",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s63_a_target_that_is_none_is_logged_without_its_query() {
        for (target, logged) in [
            ("/v1//weather?token=hunter2", "/v1//weather"),
            ("/x#token=hunter2", "/x"),
            ("?token=hunter2", ""),
            ("http://ann:hunter2@api.test/x", ""),
            ("/@ann/\u{9b}1m", "/@ann/\u{fffd}1m"),
        ] {
            assert_eq!(printable(target.as_bytes()), logged, "{target}");
        }
        assert_eq!(printable(&[b'a'; 500]).len(), 200);
    }

    #[test]
    fn s63_bytes_that_cannot_be_read_are_not_quoted() {
        let quoting = Error::explain(ErrorType::InvalidHTTPHeader, "buf: GET / authorization: hunter2");
        let through = quoting.more_context("backend 127.0.0.1:3000");
        assert!(!words(&through).contains("hunter2"), "{}", words(&through));
        assert!(words(&Error::explain(ErrorType::ReadTimedout, "while reading")).contains("while reading"));
    }
}
