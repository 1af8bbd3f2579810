//! The request ends: what failed is answered, what was held is let go, and the whole of it is accounted for.

use std::sync::Arc;

use http::StatusCode;
use pingora::prelude::{Error, ErrorSource, ErrorType};
use pingora::proxy::{FailToProxy, Session};

use crate::gate::event::{Answered, Event};
use crate::gate::{Refusal, Visit};
use crate::ledger::{Delivered, Response};
use crate::protocol::Answer;

use super::arrive::client;
use super::passage::{Passage, Stage};
use super::{Proxy, answer};

impl Proxy {
    /// Something failed after the request was let on. Nothing that was only reserved is charged.
    pub(super) async fn fail(&self, session: &mut Session, error: &Error, passage: &mut Passage) -> FailToProxy {
        let status = status_of(error);
        let written = session.response_written().is_some_and(|head| !head.status.is_informational());
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
                    status.map(|status| answer::with_receipt(answer::problem(status, detail(status)), &receipt));
                return self.finish(session, passage, answer, written).await;
            }
            Stage::Arriving | Stage::Free | Stage::Done => None,
        };
        passage.outcome.get_or_insert(if refusal.is_some() { "refused" } else { "failed" });
        let answer = match refusal {
            Some(refusal) => self.refused(session, passage, &refusal),
            None => status.map(|status| answer::problem(status, detail(status))),
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
            // Whatever is left of the exchange with the backend ends with this connection.
            session.set_keepalive(None);
            if let Err(error) = answer::write(session, answer).await {
                tracing::debug!(%error, "a failure could not be told to the client");
            }
        }
        FailToProxy { error_code, can_reuse_downstream: false }
    }

    /// A refusal that became clear only on the way home.
    fn refused(&self, session: &Session, passage: &Passage, refusal: &Refusal) -> Option<Answer> {
        let (route, toll, target) = (passage.route.as_deref()?, passage.toll()?, passage.target.as_ref()?);
        let request = session.req_header();
        let visit = Visit {
            route,
            toll,
            fields: &request.headers,
            method: &request.method,
            host: &passage.host,
            path: target.path(),
            query: target.query(),
            connection: None,
            client: client(session),
            screening: &passage.live.screening,
        };
        Some(self.gate.refuse(&visit, refusal))
    }

    /// The exchange is over. Called for every request but those dropped at shutdown, whose leases release themselves.
    pub(super) fn end(&self, session: &Session, error: Option<&Error>, passage: &mut Passage) {
        let written = session.response_written().filter(|head| !head.status.is_informational());
        let status = written.map_or(0, |head| head.status.as_u16());
        if let Stage::Settled(mut settled) = passage.take_stage() {
            let now = self.gate.clock.now();
            let delivered = match (written, error) {
                (None, _) => Delivered::Nothing { untouched: !passage.backend_touched },
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
            None => (printable(request.raw_path()), None),
        };
        let took = passage.lap("end");
        self.gate.observe(&Event::Answered(Box::new(Answered {
            route: passage.route.as_ref().map(|route| route.key.clone()),
            outcome: passage.outcome.unwrap_or("free"),
            method: request.method.clone(),
            path,
            query,
            status,
            bytes: session.body_bytes_sent() as u64,
            client: session.client_addr().and_then(|address| address.as_inet()).copied(),
            payment: passage.paid.take(),
            error: error.map(|error| error.to_string()),
            took,
            phases: std::mem::take(&mut passage.phases),
        })));
    }
}

/// The start of a target that is no target, as it may stand in a log: some of what ends a line or drives a terminal
/// is no ASCII control character, and JSON leaves it as it is (S63).
fn printable(target: &[u8]) -> String {
    let text = String::from_utf8_lossy(target);
    let start = text.chars().take(200);
    start.map(|letter| if letter.is_control() { char::REPLACEMENT_CHARACTER } else { letter }).collect()
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

fn detail(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_GATEWAY => "the backend could not be reached or did not answer",
        StatusCode::GATEWAY_TIMEOUT => "the backend took too long",
        StatusCode::PAYLOAD_TOO_LARGE => "the request body is too large for this route",
        StatusCode::REQUEST_TIMEOUT => "the request took too long to arrive",
        StatusCode::BAD_REQUEST => "the request could not be read",
        _ => "the request could not be served",
    }
}
