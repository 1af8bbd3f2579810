//! The answer comes home: settle on its head, before any byte of it reaches the client (I2).

use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use pingora::http::ResponseHeader;
use pingora::prelude::{Error, ErrorType, Result};
use pingora::proxy::Session;

use crate::gate::event::Paid;
use crate::gate::{Confirmed, Settled};
use crate::ledger::Delivered;
use crate::payment::SettleMode;

use super::grpc::GRPC_STATUS;
use super::passage::{Passage, Stage};
use super::presence::{has_left, watching};
use super::tunnel::Tunnel;
use super::{Proxy, fields};

impl Proxy {
    /// The head of the backend's answer.
    pub(super) async fn home(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
    ) -> Result<()> {
        fields::strip_answer(head);
        if !is_final(head) {
            // Pingora calls for every interim head too; only the final one settles.
            return Ok(());
        }
        let took = passage.lap("upstream");
        let (late, given_up) = (passage.was_late(), passage.was_given_up());
        passage.deadline = None;
        match passage.take_stage() {
            Stage::Admitted(confirmed) => {
                let late = late || took > passage.timeout();
                Box::pin(self.charge(session, head, passage, *confirmed, late)).await
            }
            Stage::Settled(settled) if given_up => {
                // Of this answer only the head came. What was paid for stays owed.
                passage.stage = Stage::Settled(settled);
                fail(StatusCode::GATEWAY_TIMEOUT, "the backend took too long")
            }
            Stage::Settled(settled) => self.already_paid(session, head, passage, *settled),
            free => {
                passage.stage = free;
                if late {
                    return fail(StatusCode::GATEWAY_TIMEOUT, "the backend took too long");
                }
                if head.status == StatusCode::SWITCHING_PROTOCOLS {
                    let_listen(session);
                }
                Ok(())
            }
        }
    }

    /// `on_response`: a good answer is paid for, a bad one costs nothing.
    async fn charge(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
        confirmed: Confirmed,
        late: bool,
    ) -> Result<()> {
        if head.status == StatusCode::PAYMENT_REQUIRED {
            confirmed.release().await;
            return fail(StatusCode::BAD_GATEWAY, "the backend asked for a payment of its own");
        }
        if changes_unasked(session, head) {
            confirmed.release().await;
            return fail(StatusCode::BAD_GATEWAY, "the backend changed the protocol unasked");
        }
        if late {
            // After the route's own limit the hold is no longer long enough to settle under.
            confirmed.release().await;
            return fail(StatusCode::GATEWAY_TIMEOUT, "the backend took too long");
        }
        if !answers_well(head) {
            passage.outcome = Some("failed");
            confirmed.release().await;
            return Ok(());
        }
        if !confirmed.collectable() && has_left(session) {
            // Whoever left could never collect this answer, and is not charged for it. If only its sending side is
            // closed, it hears so.
            confirmed.release().await;
            return fail(StatusCode::BAD_REQUEST, "the client closed its side before the answer");
        }
        let stream = passage.stream.clone();
        match watching(session, stream.as_deref(), self.gate.settle(confirmed)).await {
            Ok(settled) => {
                passage.lap("settle");
                passage.paid = Some(Paid::by(&settled));
                self.let_out(session, head, passage, settled)
            }
            Err(refusal) => {
                passage.lap("settle");
                passage.stage = Stage::Refused(refusal);
                // A fresh error: one that wrapped a cause would inherit its permission to retry.
                Err(Error::explain(ErrorType::HTTPStatus(402), "the payment did not settle"))
            }
        }
    }

    /// `before_forward`, or a payment that came back for its answer.
    fn already_paid(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
        settled: Settled,
    ) -> Result<()> {
        if head.status == StatusCode::PAYMENT_REQUIRED || changes_unasked(session, head) {
            passage.stage = Stage::Settled(Box::new(settled));
            return fail(StatusCode::BAD_GATEWAY, "the backend asked for a payment or a protocol of its own");
        }
        let failed = match settled.payment().offer.settle {
            SettleMode::BeforeForward => head.status.is_server_error(),
            SettleMode::OnResponse => !answers_well(head),
        };
        if failed {
            // The backend's word passes, with the receipt; it is not what was bought, which stays owed (S24).
            passage.outcome = Some("failed");
            passage.keeper = None;
            self.mark_paid(head, &settled);
            settled.end(Delivered::Nothing { untouched: false });
            return Ok(());
        }
        self.let_out(session, head, passage, settled)
    }

    /// The answer may go. Unless nobody is there to take it: then it is kept for whoever paid, or owed to them (SAFETY,
    /// "Leaving clients"). Once a byte is written, what the client got is its word against ours (S74).
    fn let_out(
        &self,
        session: &mut Session,
        head: &mut ResponseHeader,
        passage: &mut Passage,
        mut settled: Settled,
    ) -> Result<()> {
        if has_left(session) {
            passage.client_gone = true;
            settled.end(Delivered::Nothing { untouched: false });
            return Err(Error::explain(ErrorType::ConnectionClosed, "the client left before its answer"));
        }
        if let Some(keeper) = &mut passage.keeper {
            keeper.head(head);
        }
        if head.status == StatusCode::SWITCHING_PROTOCOLS {
            let_listen(session);
            passage.tunnel = passage.toll().and_then(|toll| toll.tunnel.as_ref()).map(Tunnel::sold);
        }
        self.mark_paid(head, &settled);
        settled.touch();
        passage.stage = Stage::Settled(Box::new(settled));
        Ok(())
    }

    fn mark_paid(&self, head: &mut ResponseHeader, settled: &Settled) {
        fields::make_private(head);
        let mut told = self.gate.protocol.receipt(settled.receipt(), settled.dialect());
        self.gate.protocol.expose(&mut told);
        append_all(head, told);
    }
}

/// Whether no other head follows. One that changes the protocol is the last, although its status is of the interim ones.
pub(super) fn is_final(head: &ResponseHeader) -> bool {
    head.status == StatusCode::SWITCHING_PROTOCOLS || !head.status.is_informational()
}

/// Whether the backend leaves HTTP although nobody asked for that. Who may ask is decided before the backend hears of it
/// (S51).
fn changes_unasked(session: &Session, head: &ResponseHeader) -> bool {
    head.status == StatusCode::SWITCHING_PROTOCOLS && !session.is_upgrade_req()
}

/// A client may be silent for as long as the backend of an upgraded connection is not.
fn let_listen(session: &mut Session) {
    session.set_read_timeout(None);
}

/// A piece of the answer passes.
pub(super) fn body(piece: Option<&Bytes>, passage: &mut Passage) -> Result<()> {
    let Some(piece) = piece else { return Ok(()) };
    if let Some(tunnel) = &mut passage.tunnel {
        return tunnel.pass(piece.len());
    }
    if let Some(keeper) = &mut passage.keeper {
        keeper.body(piece);
    }
    Ok(())
}

/// What follows the body. A kept answer has no place for it, so such an answer is not kept.
pub(super) fn trailers(trailers: &mut HeaderMap, passage: &mut Passage) {
    fields::strip_trailers(trailers);
    passage.keeper = None;
}

fn append_all(head: &mut ResponseHeader, more: HeaderMap) {
    let mut last = None;
    for (name, value) in more {
        // A map that is taken apart names a field once and then gives its values.
        last = name.or(last);
        if let Some(name) = &last {
            fields::append(head, name.clone(), value);
        }
    }
}

/// Whether an answer is what the client came for: a status below 400, and for gRPC no error in the head.
fn answers_well(head: &ResponseHeader) -> bool {
    let grpc_fails = head.headers.get(GRPC_STATUS).is_some_and(|status| status.as_bytes() != b"0");
    head.status.as_u16() < 400 && !grpc_fails
}

fn fail(status: StatusCode, why: &'static str) -> Result<()> {
    Err(Error::explain(ErrorType::HTTPStatus(status.as_u16()), why))
}
