//! One payment, through the deaths of its gateways to its end, and what must be true at each of them.

use std::time::Duration;

use serde_json::Value;
use tokio::time::{Instant, sleep};
use tollhouse::ledger::Day;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::backend::Behaviour;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::facilitator::{self, Ending, Twist};
use tollhouse::testing::{Latch, Process};

use crate::death::{Death, End, Trouble};
use crate::world::{Mover, World};

/// Nothing that is waited for takes longer: the slowest is a reservation of forty seconds that has to lapse.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long a client waits that has been told to wait.
const PAUSE: Duration = Duration::from_millis(500);

/// What goes wrong in a story, in words.
pub type Wrong = String;

pub struct Story<'w> {
    world: &'w World,
    death: Death,
    before_forward: bool,
    request: Request,
    /// When it was paid.
    day: Day,
    /// Answers that came back with the priced thing in them, whole or not.
    answers: Vec<Reply>,
    /// Whether the client has heard all it will.
    over: bool,
}

impl<'w> Story<'w> {
    /// Pays, lets every gateway die as it is to, and sends the same payment until the client knows how it ended.
    pub async fn tell(world: &'w World, death: Death, before_forward: bool) -> Result<(), Wrong> {
        let mut story: Option<Self> = None;
        for end in death.ends {
            let process = match end {
                End::At(place) => world.doomed(place).await,
                End::BackendWorks | End::MoneyMoved | End::AnswerBegun => Some(world.process().await),
            };
            // A gateway may come to its end by what the last one left, before anybody asks it.
            if let Some(process) = process {
                if story.is_none() {
                    let request = Request::get("/weather").paying(&world.payment(&process).await);
                    let (day, answers) = (Day::of(SystemClock.now()), Vec::new());
                    story = Some(Self { world, death, before_forward, request, day, answers, over: false });
                }
                let story = story.as_mut().expect("it has begun");
                story.until_death(process, *end).await?;
            }
            story.as_ref().ok_or("it died before anybody paid")?.wreck().await?;
        }
        let mut story = story.ok_or("nobody died")?;
        let last = world.process().await;
        story.over = false;
        story.until_over(&last).await?;
        story.ending().await?;
        story.spent(&last).await
    }

    async fn until_death(&mut self, mut process: Process, end: End) -> Result<(), Wrong> {
        self.set_up(end);
        let deadline = Instant::now() + PATIENCE;
        match end {
            End::At(place) => {
                while !process.is_dead() {
                    if Instant::now() > deadline {
                        return Err(format!("it never came to {place}"));
                    }
                    if !self.over {
                        self.ask(&process).await?;
                    }
                    sleep(PAUSE).await;
                }
                return Ok(());
            }
            End::AnswerBegun => {
                let mut connection = process.send(&self.request).await;
                let mut reply = connection.head().await;
                reply.whole = connection.piece().await.is_none();
                self.answers.push(reply);
                process.kill();
                return Ok(());
            }
            End::BackendWorks | End::MoneyMoved => {}
        }
        let mut waiting = process.send(&self.request).await;
        while !self.has_come(end) {
            if Instant::now() > deadline {
                return Err(format!("it never came to {end:?}"));
            }
            sleep(Duration::from_millis(2)).await;
        }
        process.kill();
        match waiting.try_reply().await {
            Some(reply) => self.heard(reply, true),
            None => Ok(()),
        }
    }

    fn set_up(&self, end: End) {
        let World { backend, mover, .. } = self.world;
        match end {
            End::BackendWorks => drop(backend.on("/weather", [Behaviour::hang()])),
            End::AnswerBegun => {
                let (now, never) = (Latch::closed(), Latch::closed());
                now.open();
                backend.on("/weather", [Behaviour::events([(now, "a part"), (never, "the rest")])]);
            }
            End::MoneyMoved | End::At(_) => {}
        }
        if let (End::MoneyMoved, Mover::Facilitator(facilitator)) = (end, mover) {
            let bytes = Twist::new(|_| Vec::new());
            facilitator.on_settle([facilitator::Behaviour::Raw { moves: true, bytes, ending: Ending::Silence }]);
        }
        match (self.death.trouble, mover) {
            (Trouble::BackendFails, _) => drop(backend.on("/weather", [Behaviour::status(500)])),
            (Trouble::Declined, Mover::Facilitator(facilitator)) => {
                facilitator.on_settle([facilitator::Behaviour::Decline("insufficient_funds")]);
            }
            _ => {}
        }
    }

    fn has_come(&self, end: End) -> bool {
        match (end, &self.world.mover) {
            (End::BackendWorks, _) => self.world.backend.hits() > 0,
            (End::MoneyMoved, Mover::Facilitator(facilitator)) => facilitator.settlements() > 0,
            _ => true,
        }
    }

    /// Sends the payment and hears what becomes of it. A gateway that is dead or dies has nothing to say.
    async fn ask(&mut self, process: &Process) -> Result<(), Wrong> {
        let moved = !self.world.transfers().await.is_empty();
        let Some(mut connection) = process.try_send(&self.request).await else { return Ok(()) };
        match connection.try_reply().await {
            Some(reply) => self.heard(reply, moved),
            None => Ok(()),
        }
    }

    fn heard(&mut self, reply: Reply, moved: bool) -> Result<(), Wrong> {
        let told = || format!("{} {}", reply.status, reply.text());
        match reply.status {
            200 => {
                self.over = reply.whole;
                self.answers.push(reply);
            }
            // Wait, and come again with the same.
            409 | 503 if reply.field("retry-after").is_some() => {}
            409 => self.over = true,
            402 if moved => return Err(format!("asked to pay again after the money moved (I4): {}", told())),
            402 if self.death.trouble == Trouble::Declined => {}
            500 if self.death.trouble == Trouble::BackendFails => {}
            // A busy machine: nothing was charged, or what was is still owed.
            504 => {}
            _ => return Err(format!("no answer that a client could understand: {}", told())),
        }
        Ok(())
    }

    async fn until_over(&mut self, process: &Process) -> Result<(), Wrong> {
        let deadline = Instant::now() + PATIENCE;
        while !self.over {
            if Instant::now() > deadline {
                return Err(format!("the client still waits; the ledger says {:?}", self.world.entry().await));
            }
            self.ask(process).await?;
            sleep(PAUSE).await;
        }
        Ok(())
    }

    /// What a dead gateway leaves must account for all that has happened.
    async fn wreck(&self) -> Result<(), Wrong> {
        let entry = self.world.entry().await;
        let state = entry.as_ref().map_or("unknown", |entry| entry["state"].as_str().unwrap_or_default());
        let settled = ["delivering", "undelivered", "partial", "delivered"].contains(&state);
        if !self.answers.is_empty() && !settled {
            return Err(format!("an answer went out and the ledger says {state} (I2)"));
        }
        if self.before_forward && self.world.backend.hits() > 0 && !settled {
            return Err(format!("the backend was asked and the ledger says {state} (I2)"));
        }
        if self.world.backend.hits() > 0 && state == "unknown" {
            return Err("the backend was asked for a payment that nobody wrote down (I6)".to_owned());
        }
        if !self.world.transfers().await.is_empty() && !settled && state != "settling" {
            return Err(format!("the money moved and the ledger says {state} (I3)"));
        }
        Ok(())
    }

    /// The client was patient, so it has what it paid for, once.
    async fn ending(&self) -> Result<(), Wrong> {
        let transfers = self.world.transfers().await;
        let [transaction] = transfers.as_slice() else {
            return Err(format!("the payment moved {} times (I1): {transfers:?}", transfers.len()));
        };
        if let Mover::Facilitator(facilitator) = &self.world.mover {
            let asked: Vec<_> = facilitator.calls().into_iter().filter(|call| call.path == "/settle").collect();
            if asked.iter().any(|call| call.body != asked[0].body) {
                return Err("settlement was asked for again in other words (I1)".to_owned());
            }
        }
        let whole = self.answers.iter().filter(|answer| answer.whole).count();
        if whole == 0 || self.answers.len() > self.death.answers() {
            return Err(format!("{} answers went out, {whole} of them whole (I1, I3)", self.answers.len()));
        }
        for answer in &self.answers {
            let receipt = answer.settlement().ok_or("an answer came without a receipt")?;
            let named = receipt.transaction.map(|named| named.to_string());
            if named.as_ref() != Some(transaction) {
                return Err(format!("the receipt names {named:?} and the money moved in {transaction}"));
            }
        }
        self.delivered().await?;
        self.world.faults().await.map_or(Ok(()), |faults| Err(format!("the evidence is not sound: {faults}")))
    }

    /// Whatever died meanwhile, the payment counts once: it had room all the time, and a second one has none.
    async fn spent(&self, process: &Process) -> Result<(), Wrong> {
        let fresh = Request::get("/weather?again").paying(&self.world.payment(process).await);
        let reply = process.send(&fresh).await.reply().await;
        let overspent = reply.status == 503 && reply.text().contains("today");
        // At midnight another day has begun.
        if overspent || self.day != Day::of(SystemClock.now()) {
            return Ok(());
        }
        Err(format!("the payment was not counted: {} {}", reply.status, reply.text()))
    }

    /// How the answer ended is written after it has.
    async fn delivered(&self) -> Result<(), Wrong> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let entry = self.world.entry().await.unwrap_or(Value::Null);
            if entry["state"] == "delivered" {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("the client has its answer and the ledger says {}", entry["state"]));
            }
            sleep(PAUSE).await;
        }
    }
}
