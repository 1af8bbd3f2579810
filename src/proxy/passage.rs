//! Per-request state across Pingora's phases.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pingora::http::RequestHeader;

use crate::gate::event::Paid;
use crate::gate::rails::{Slot, Turnstile};
use crate::gate::{Confirmed, Connection, Refusal, Settled, Visit};
use crate::tariff::{Charge, Route, Toll};

use super::asker::Asker;
use super::keep::Keeper;
use super::live::Live;
use super::presence::Stream;
use super::target::Target;
use super::tunnel::Tunnel;
use super::upstream::{Deadline, Seat, Tried, Upstream};

/// Everything one request carries from phase to phase.
pub struct Passage {
    /// How far it has come.
    pub(super) stage: Stage,
    /// Who asks.
    pub(super) asker: Asker,
    /// The price table and upstreams it lives under, whatever is posted meanwhile.
    pub(super) live: Arc<Live>,
    /// The route it matched.
    pub(super) route: Option<Arc<Route>>,
    /// Its host, canonical.
    pub(super) host: String,
    /// Its target, canonical.
    pub(super) target: Option<Target>,
    /// Where it goes.
    pub(super) upstream: Option<Arc<Upstream>>,
    /// What counts the requests of its route, where it is limited, and its place inside.
    pub(super) turnstile: Option<Arc<Turnstile>>,
    pub(super) slot: OnceLock<Slot>,
    /// The place there, once it is chosen.
    pub(super) seat: Option<Seat>,
    /// Places that could not be connected to.
    pub(super) tried: Vec<Tried>,
    /// When the last of the request was sent; looked at only where the upstream limits what follows.
    last_sent: Option<Instant>,
    /// What cuts the connection to the backend when the head of the answer is late; while it is waited for.
    pub(super) deadline: Option<Deadline>,
    /// The stream of HTTP/2 it came on, if it is paid for and did.
    pub(super) stream: Option<Arc<Stream>>,
    /// Bytes of request body so far.
    pub(super) request_bytes: u64,
    /// Whether a byte of the request may have reached the backend (S25).
    pub(super) backend_touched: bool,
    /// The answer, while it is kept for `replay: same_answer`.
    pub(super) keeper: Option<Box<Keeper>>,
    /// What is left of the connection that was sold, once it is upgraded.
    pub(super) tunnel: Option<Tunnel>,
    /// The client left before its answer was written.
    pub(super) client_gone: bool,
    /// A fixed word for the log; set where the outcome is decided.
    pub(super) outcome: Option<&'static str>,
    /// What was paid, for the log.
    pub(super) paid: Option<Paid>,
    pub(super) started: Instant,
    /// Since when its time for an answer runs: since it arrived, or, where it was paid for in advance, since then.
    pub(super) waiting: Instant,
    pub(super) phases: Vec<(&'static str, Duration)>,
    lap: Instant,
}

/// How far a request has come. Boxed where it is large: Pingora moves the passage from phase to phase.
pub(super) enum Stage {
    /// Nothing is decided.
    Arriving,
    /// The route is free.
    Free,
    /// It would be paid for: forward, then settle.
    Admitted(Box<Confirmed>),
    /// It has been paid for.
    Settled(Box<Settled>),
    /// It may not pass, which became clear only after it was forwarded.
    Refused(Refusal),
    /// It has been answered, and nothing is held any more.
    Done,
}

impl Passage {
    pub(super) fn new(live: Arc<Live>) -> Self {
        let now = Instant::now();
        Self {
            stage: Stage::Arriving,
            asker: Asker::default(),
            live,
            route: None,
            host: String::new(),
            target: None,
            upstream: None,
            turnstile: None,
            slot: OnceLock::new(),
            seat: None,
            tried: Vec::new(),
            last_sent: None,
            deadline: None,
            stream: None,
            request_bytes: 0,
            backend_touched: false,
            keeper: None,
            tunnel: None,
            client_gone: false,
            outcome: None,
            paid: None,
            started: now,
            waiting: now,
            phases: Vec::with_capacity(4),
            lap: now,
        }
    }

    /// The price of the route it matched, if it has one.
    pub(super) fn toll(&self) -> Option<&Arc<Toll>> {
        match self.route.as_deref()?.charge {
            Charge::Toll(ref toll) => Some(toll),
            Charge::Free | Charge::Deny => None,
        }
    }

    /// How long the head of its answer may take.
    pub(super) fn timeout(&self) -> Duration {
        self.route.as_ref().map(|route| route.limits.timeout).unwrap_or_default()
    }

    /// What the gate is shown of it; `None` where it matched no priced route.
    pub(super) fn visit<'a>(
        &'a self,
        request: &'a RequestHeader,
        connection: Option<&'a Arc<dyn Connection>>,
    ) -> Option<Visit<'a>> {
        let target = self.target.as_ref()?;
        Some(Visit {
            route: self.route.as_deref()?,
            toll: self.toll()?,
            fields: &request.headers,
            method: &request.method,
            host: &self.host,
            path: target.path(),
            query: target.query(),
            connection,
            client: self.asker.client,
            peer: self.asker.peer,
            screening: &self.live.screening,
            turnstile: self.turnstile.as_deref().map(|turnstile| (turnstile, &self.slot)),
        })
    }

    /// Gives its place inside back: what is left is an answer of our own, and its client may take long to accept it.
    pub(super) fn leave(&mut self) {
        drop(self.slot.take());
    }

    /// How many bytes of request body its route takes.
    pub(super) fn largest_body(&self) -> u64 {
        self.route.as_ref().map_or(0, |route| route.limits.request_body)
    }

    /// A piece of the request goes to the backend.
    pub(super) fn sent(&mut self) {
        if self.upstream.as_ref().is_some_and(|upstream| upstream.config().first_byte.is_some()) {
            self.last_sent = Some(Instant::now());
        }
        if let Some(deadline) = &self.deadline {
            deadline.sent();
        }
    }

    /// Whether the backend was given up.
    pub(super) fn was_given_up(&self) -> bool {
        self.deadline.as_ref().is_some_and(Deadline::has_passed)
    }

    /// Whether the head of the answer took longer than its upstream may take for it.
    pub(super) fn was_late(&self) -> bool {
        if self.was_given_up() {
            return true;
        }
        let limit = self.upstream.as_ref().and_then(|upstream| upstream.config().first_byte);
        limit.zip(self.last_sent).is_some_and(|(limit, sent)| sent.elapsed() > limit)
    }

    /// Takes the stage out, leaving `Done` behind.
    pub(super) fn take_stage(&mut self) -> Stage {
        std::mem::replace(&mut self.stage, Stage::Done)
    }

    /// Ends a step: what passed since the last one belongs to it. Returns how long all of it has taken by now.
    pub(super) fn lap(&mut self, phase: &'static str) -> Duration {
        let now = Instant::now();
        self.phases.push((phase, now - self.lap));
        self.lap = now;
        now - self.started
    }
}
