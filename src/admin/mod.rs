//! Tell it what to do: a small API for operators, on a listener of its own, off unless the file asks for it.
//!
//! It pauses and resumes, and is a second door to what the command line does: both write to the same cell of the ledger.
//! What it must not become is a door for anybody else (S62). `visitor` decides who is let in, `order` reads what they
//! want, `answer` says what they hear.

mod answer;
mod config;
mod order;
mod visitor;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use http::{Method, Response};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::gate::Gate;
use crate::gate::rails::{ChangeError, Pause, Pauses, Scope};
use crate::primitives::explain;

use answer::Objection;
pub use config::{Config, Token, WeakToken};
use order::Order;
use visitor::Lock;
pub use visitor::Peer;

/// How long the ledger may take. Longer, and the operator is told that nobody knows whether it was written.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest that a connection can be of use: its head, its body, the ledger and the answer. Whoever serves it ends it
/// then.
pub const LONGEST_VISIT: Duration = Duration::from_secs(20);
/// How much of it is left when the process is told to stop: enough for an order that has arrived, and for its answer.
pub const LAST_ORDER: Duration = Duration::from_secs(6);

/// What operators may do.
pub struct Admin {
    gate: Arc<Gate>,
    lock: Option<Lock>,
}

/// One connection: who is there, and what they may do. It carries one request, so nothing can be smuggled behind it.
pub struct Visit {
    admin: Arc<Admin>,
    peer: Peer,
}

impl Admin {
    /// What operators of this gate may do, behind the lock that the file asks for.
    pub fn new(gate: Arc<Gate>, config: &Config) -> Arc<Self> {
        Arc::new(Self { gate, lock: config.token().map(Lock::of) })
    }

    /// Somebody has connected.
    pub fn receive(self: &Arc<Self>, peer: Peer) -> Arc<Visit> {
        Arc::new(Visit { admin: Arc::clone(self), peer })
    }

    async fn pauses(&self) -> Result<Pauses, Objection> {
        let read = tokio::time::timeout(PATIENCE, Pauses::read(&**self.gate.ledger.store()));
        read.await.map_err(|_| Objection::Unread)?.map_err(|error| {
            tracing::warn!(cause = %explain(&error), "the admin API cannot read what is paused");
            Objection::Unread
        })
    }

    async fn obey(&self, order: Order, by: &str) -> Result<Pauses, Objection> {
        let said = |why: &str| Pause::new(self.gate.clock.now(), by, why);
        let change = async {
            match &order {
                Order::Pause { route, why } => {
                    let scope = Scope::sold(route, &self.gate.board.current())?;
                    Ok(self.gate.pause(&scope, said(why)).await?)
                }
                Order::Resume { route, why } => Ok(self.gate.resume(&Scope::from(&**route), said(why)).await?),
            }
        };
        tokio::time::timeout(PATIENCE, change).await.unwrap_or(Err(Objection::Unknown))
    }
}

impl From<ChangeError> for Objection {
    fn from(error: ChangeError) -> Self {
        match error {
            ChangeError::TooMany => Self::TooMany,
            ChangeError::NotPaused { .. } => Self::NotPaused(error.to_string()),
            ChangeError::Store(error) => {
                tracing::warn!(cause = %explain(&error), "the admin API cannot tell whether the ledger wrote it");
                Self::Unknown
            }
        }
    }
}

impl Visit {
    async fn handle(&self, session: &mut ServerSession) -> Result<Pauses, Objection> {
        let raw_head = session.as_http1().map_or(0, |session| session.get_headers_raw_bytes().len());
        let head = session.req_header();
        visitor::admit(head, raw_head, self.admin.lock.as_ref())?;
        match (head.raw_path(), &head.method) {
            (b"/pauses", &Method::GET) => self.admin.pauses().await,
            (b"/pauses", _) => Err(Objection::Method("GET")),
            (b"/pause" | b"/resume", &Method::POST) => {
                let order = order::read(session).await?;
                self.admin.obey(order, &self.peer.name(self.admin.lock.is_some())).await
            }
            (b"/pause" | b"/resume", _) => Err(Objection::Method("POST")),
            _ => Err(Objection::Path),
        }
    }
}

#[async_trait]
impl ServeHttp for Visit {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        session.set_keepalive(None);
        let mut answer = match self.handle(session).await {
            Ok(pauses) => answer::of(&pauses),
            Err(objection) => {
                if objection.is_an_intruder() {
                    tracing::warn!(peer = %self.peer, reason = objection.name(), "turned away at the admin API");
                }
                answer::refusing(&objection)
            }
        };
        if session.req_header().method == Method::HEAD {
            answer.body_mut().clear();
        }
        answer
    }
}
