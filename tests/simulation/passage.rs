//! One request through one gateway: what `src/proxy` does with the gate, without HTTP.
//!
//! The steps and their order are those of `arrive`, `depart`, `home` and `end` there. The future may be dropped at
//! any await, as Pingora drops it when a stream is reset or a server shuts down.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::{HeaderMap, Method};
use tokio::sync::oneshot;
use tollhouse::gate::rails::Screening;
use tollhouse::gate::{Admission, Confirmed, Connection, Refusal, Settled, Visit};
use tollhouse::ledger::{self, Delivered};
use tollhouse::payment::{PaymentKey, Replay, SettleMode};
use tollhouse::primitives::Timestamp;

use crate::backend::{self, PIECES, Work};
use crate::judge;
use crate::mutation::Mutation;
use crate::process::{Process, Pulse};
use crate::town::town;
use crate::world::World;

/// A request as it arrives.
#[derive(Debug, Clone)]
pub struct Request {
    pub posted: usize,
    pub method: Method,
    pub path: &'static str,
    pub query: Option<String>,
    pub fields: HeaderMap,
    /// The payment it presents, if any, for the judge.
    pub key: Option<PaymentKey>,
    /// Whether whoever sends it is not the one who paid.
    pub thief: bool,
}

/// What came back on a connection.
#[derive(Debug, Clone, Default)]
pub struct Heard {
    pub status: u16,
    pub fields: HeaderMap,
    pub body: Vec<u8>,
    /// How much of a priced answer.
    pub pieces: u32,
}

/// A connection: the client may be gone from its other end.
#[derive(Debug)]
pub struct Line {
    pub gone: AtomicBool,
    answer: std::sync::Mutex<Option<oneshot::Sender<Heard>>>,
}

impl Connection for Line {
    fn has_left(&self) -> bool {
        self.is_gone()
    }
}

impl Line {
    pub fn open() -> (Arc<Self>, oneshot::Receiver<Heard>) {
        let (answer, heard) = oneshot::channel();
        (Arc::new(Self { gone: AtomicBool::new(false), answer: std::sync::Mutex::new(Some(answer)) }), heard)
    }

    fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    fn say(&self, heard: Heard) {
        if let Some(answer) = crate::world::lock(&self.answer).take() {
            // Whoever is gone hears nothing.
            let _ = answer.send(heard);
        }
    }
}

/// What came of asking the backend for something that has been paid for, or would be.
struct Passage {
    process: Arc<Process>,
    request: Request,
    line: Arc<Line>,
}

pub async fn pass(process: Arc<Process>, request: Request, line: Arc<Line>) {
    let passage = Passage { process, request, line };
    let heard = passage.arrive().await;
    passage.pulse().beat().await;
    passage.line.say(heard);
}

impl Passage {
    fn pulse(&self) -> &Arc<Pulse> {
        &self.process.pulse
    }

    fn world(&self) -> &Arc<World> {
        &self.pulse().world
    }

    async fn arrive(&self) -> Heard {
        let request = &self.request;
        let (route, toll) = town().find(request.posted, &request.method, request.path);
        let connection: Arc<dyn Connection> = self.line.clone();
        let visit = Visit {
            route: &route,
            toll: &toll,
            fields: &request.fields,
            method: &request.method,
            host: "api.example.com",
            path: request.path,
            query: request.query.as_deref(),
            connection: Some(&connection),
            client: None,
            peer: None,
            screening: Screening::none(),
            turnstile: None,
        };
        self.pulse().beat().await;
        if self.world().mutated(Mutation::ForwardsFirst)
            && let (Some(key), SettleMode::BeforeForward) = (request.key, toll.settle)
        {
            backend::work(self.world(), key, true, route.limits.timeout).await;
        }
        let started = self.world().now();
        let admission = self.process.gate.admit(&visit).await;
        self.pulse().beat().await;
        let settled = match admission {
            Err(refusal) => return self.refused(&visit, &refusal),
            Ok(Admission::Repeat(repeat)) => {
                judge::repeated(self.world(), &self.request, &repeat.receipt);
                return Heard { status: repeat.answer.status, pieces: PIECES, ..Heard::default() };
            }
            Ok(Admission::Settled(settled)) => match self.ask_paid(settled, &visit).await {
                Ok(settled) => settled,
                Err(heard) => return heard,
            },
            Ok(Admission::Confirmed(confirmed)) => match self.ask_unpaid(confirmed, &visit, started).await {
                Ok(settled) => settled,
                Err(heard) => return heard,
            },
        };
        self.let_out(settled, toll.replay).await
    }

    /// Forwards a payment that would settle, and settles it on a good answer.
    async fn ask_unpaid(
        &self,
        mut confirmed: Confirmed,
        visit: &Visit<'_>,
        started: Timestamp,
    ) -> Result<(Settled, u32), Heard> {
        let limit = visit.route.limits.timeout;
        if !backend::connect(self.world()).await {
            confirmed.release().await;
            return Err(plain(502));
        }
        if !self.world().mutated(Mutation::ForwardsUncounted)
            && let Err(refusal) = confirmed.mark_forwarded()
        {
            return Err(self.refused(visit, &refusal));
        }
        let _working = judge::working(confirmed.key(), self.pulse());
        let work = backend::work(self.world(), confirmed.key(), false, limit).await;
        self.pulse().beat().await;
        let pieces = match work {
            Work::Answers { status: 200, pieces } if self.world().now().since(started) <= limit => pieces,
            Work::Answers { status: 200, .. } | Work::TooSlow => {
                confirmed.release().await;
                return Err(plain(504));
            }
            Work::Answers { status, .. } => {
                confirmed.release().await;
                return Err(plain(status));
            }
        };
        if self.line.is_gone() && !confirmed.collectable() {
            confirmed.release().await;
            return Err(plain(400));
        }
        if self.world().mutated(Mutation::AnswersFirst) {
            judge::released(self.world(), confirmed.key(), self.pulse(), self.request.thief);
        }
        match self.process.gate.settle(confirmed).await {
            Ok(settled) => Ok((settled, pieces)),
            Err(refusal) => Err(self.refused(visit, &refusal)),
        }
    }

    /// Forwards what has been paid for.
    async fn ask_paid(&self, mut settled: Settled, visit: &Visit<'_>) -> Result<(Settled, u32), Heard> {
        if self.line.is_gone() {
            settled.end(Delivered::Nothing { untouched: true });
            return Err(Heard::default());
        }
        if !backend::connect(self.world()).await {
            settled.end(Delivered::Nothing { untouched: true });
            return Err(plain(502));
        }
        settled.mark_forwarded();
        let work = backend::work(self.world(), settled.key(), true, visit.route.limits.timeout).await;
        self.pulse().beat().await;
        match work {
            Work::Answers { status: 200, pieces } => Ok((settled, pieces)),
            Work::Answers { status, .. } => {
                settled.end(Delivered::Nothing { untouched: false });
                Err(plain(status))
            }
            Work::TooSlow => {
                settled.end(Delivered::Nothing { untouched: false });
                Err(plain(504))
            }
        }
    }

    /// The answer goes out, piece by piece, unless nobody is there to take it.
    async fn let_out(&self, (mut settled, pieces): (Settled, u32), replay: Replay) -> Heard {
        let key = settled.key();
        if self.line.is_gone() {
            settled.end(Delivered::Nothing { untouched: false });
            return Heard::default();
        }
        if self.world().mutated(Mutation::DeliversNothing) {
            settled.end(Delivered::Done(None));
            return plain(502);
        }
        if !self.world().mutated(Mutation::TouchesNothing) {
            settled.touch();
        }
        judge::released(self.world(), key, self.pulse(), self.request.thief);
        for sent in 0..pieces {
            self.world().step().await;
            self.pulse().beat().await;
            if self.line.is_gone() {
                let lost = Delivered::Nothing { untouched: false };
                let partial = !self.world().mutated(Mutation::TouchesNothing);
                settled.end(if partial { Delivered::Partial } else { lost });
                return Heard { status: 200, pieces: sent, ..Heard::default() };
            }
        }
        if pieces < PIECES {
            settled.end(Delivered::CutShort);
            return Heard { status: 200, pieces, ..Heard::default() };
        }
        judge::delivered(self.world(), key);
        let until = self.process.gate.clock.now().after(std::time::Duration::from_secs(600));
        settled.end(Delivered::Done((replay == Replay::SameAnswer).then(|| kept(until).into())));
        Heard { status: 200, pieces, ..Heard::default() }
    }

    fn refused(&self, visit: &Visit<'_>, refusal: &Refusal) -> Heard {
        let mutated = self.world().mutated(Mutation::InvitesAgain) && matches!(refusal, Refusal::Unresolved { .. });
        let said = if mutated { &Refusal::PaymentRequired } else { refusal };
        let answer = self.process.gate.refuse(visit, said);
        let status = answer.status.as_u16();
        if let (402, Some(key)) = (status, self.request.key) {
            judge::challenged(self.pulse(), key, refusal);
        }
        Heard { status, fields: answer.fields, body: answer.body.to_vec(), ..Heard::default() }
    }
}

fn plain(status: u16) -> Heard {
    Heard { status, ..Heard::default() }
}

fn kept(until: Timestamp) -> ledger::Answer {
    ledger::Answer { status: 200, fields: Vec::new(), body: "sunny".into(), request_body: Default::default(), until }
}
