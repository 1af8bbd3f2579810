//! What must hold, whatever happened: I1 to I6 of SAFETY.md, held against the chain and the log of what went out.
//!
//! Some of it is noticed when it happens, the rest when the run is over and the chain is known. Where a facilitator
//! whose word is all there is has lied, the payment it lied about is beyond anybody's help; everything else is not.

mod verdict;

use std::collections::BTreeMap;
use std::sync::Arc;

use tollhouse::gate::Refusal;
use tollhouse::ledger::{Entry, State};
use tollhouse::payment::{Eip3009, PaymentKey, Receipt};
use tollhouse::primitives::Timestamp;

use crate::chain::How;
use crate::facilitator::SKEW;
use crate::passage::Request;
use crate::process::Pulse;
use crate::world::{World, lock, short};

pub use verdict::{is_quiet, verdict};

/// What is known about each payment, and what was found.
#[derive(Default)]
pub struct Notes {
    dossiers: BTreeMap<PaymentKey, Dossier>,
    found: Vec<String>,
    /// Counts what happens, because much happens in one millisecond.
    moments: u64,
}

/// What is known about one payment.
#[derive(Default)]
pub struct Dossier {
    /// What was signed.
    pub signed: Option<Eip3009>,
    /// It must fail a check of our own.
    pub junk: bool,
    /// Somebody outside was asked about it.
    pub called: bool,
    /// Who was asked to settle it and did not prove that nothing moved, and at which moment.
    pub asks: Vec<(usize, u64)>,
    /// A facilitator whose word counts did not keep it.
    pub lie: Option<&'static str>,
    /// A facilitator that our node watches settled it and said that it did not: the buyer may have been told to pay again,
    /// and what the ledger says in the end is what moved.
    pub belied: bool,
    /// How often a settlement was written down to be asked for.
    pub begun: u32,
    /// How often it then was, not counting what reconciliation asked.
    pub submitted: u32,
    /// How often a backend worked for it.
    pub forwards: u32,
    /// How often of these before it had been settled.
    pub unpaid: u32,
    /// Since when a backend works for it, for whom: until the request ends, nobody else's may.
    pub working: Option<(Timestamp, Arc<Pulse>)>,
    /// When the first byte of an answer went out, and from where.
    pub releases: Vec<(Timestamp, Arc<Pulse>)>,
    /// The moments at which it was answered with offers.
    pub challenged: Vec<u64>,
    /// The moments at which the ledger noted that nothing had moved.
    pub cleared: Vec<u64>,
    /// An answer went out whole.
    pub whole: bool,
    /// An observer presented it before it was sold, and then it may have been sold to the observer: nothing binds a
    /// payment to a buyer before its quote is in the ledger (S7, S75).
    pub contested: bool,
}

impl Notes {
    pub fn of(&mut self, key: PaymentKey) -> &mut Dossier {
        self.dossiers.entry(key).or_default()
    }

    /// Somebody is being asked to settle it.
    pub fn ask(&mut self, key: PaymentKey, place: usize) {
        let moment = self.next();
        let dossier = self.of(key);
        dossier.called = true;
        dossier.asks.push((place, moment));
    }

    fn next(&mut self) -> u64 {
        self.moments += 1;
        self.moments
    }

    pub fn accuse(&mut self, found: impl IntoIterator<Item = String>) {
        self.found.extend(found);
    }
}

impl Dossier {
    /// It is proven that the latest question moved nothing.
    pub fn unask(&mut self, place: usize) {
        if let Some(latest) = self.asks.iter().rposition(|(asked, _)| *asked == place) {
            self.asks.remove(latest);
        }
    }
}

/// An entry was written.
pub fn written(world: &World, key: PaymentKey, before: Option<&Entry>, after: &Entry) -> Vec<String> {
    let wrong = |what: &str| vec![format!("{}: {what}: {before:?} became {after:?}", short(&key))];
    match (before.map(|entry| &entry.state), &after.state) {
        (Some(State::Settled { receipt: was, .. }), State::Settled { receipt: is, .. }) if was != is => {
            wrong("I3: a receipt changed")
        }
        (Some(State::Settled { .. }), State::Settled { .. }) => Vec::new(),
        (Some(State::Settled { .. }), _) => wrong("I3: a settled payment was forgotten"),
        (Some(State::Reserved { .. }), State::Settling { .. }) => {
            lock(&world.notes).of(key).begun += 1;
            Vec::new()
        }
        (Some(State::Settling { .. }), State::Released | State::Exhausted) => {
            let notes = &mut *lock(&world.notes);
            let moment = notes.next();
            notes.of(key).cleared.push(moment);
            Vec::new()
        }
        (Some(State::Settling { .. }), State::Reserved { .. }) => wrong("I4: a settlement was forgotten"),
        _ => Vec::new(),
    }
}

/// A request is at work under a payment that it alone holds.
pub struct Working {
    world: Arc<World>,
    key: PaymentKey,
    pulse: Arc<Pulse>,
}

/// Begins work under a payment that would settle (S2, S25). It ends with what is returned, however that comes about.
pub fn working(key: PaymentKey, pulse: &Arc<Pulse>) -> Working {
    let notes = &mut *lock(&pulse.world.notes);
    let now = pulse.world.now();
    if let Some((since, other)) = notes.of(key).working.replace((now, Arc::clone(pulse)))
        && !other.troubled_since(since)
        // Whoever stood still between its claim and its work does not know that it was taken over meanwhile.
        && !pulse.troubled_since(since)
    {
        notes.accuse([format!("{}: S2: two requests are at work under one payment", short(&key))]);
    }
    Working { world: Arc::clone(&pulse.world), key, pulse: Arc::clone(pulse) }
}

impl Drop for Working {
    fn drop(&mut self) {
        let notes = &mut *lock(&self.world.notes);
        let working = &mut notes.of(self.key).working;
        if working.as_ref().is_some_and(|(_, pulse)| Arc::ptr_eq(pulse, &self.pulse)) {
            *working = None;
        }
    }
}

/// A gateway asks for a settlement, for the first time or again.
pub fn submitted(world: &World, key: PaymentKey) {
    let notes = &mut *lock(&world.notes);
    let dossier = notes.of(key);
    dossier.submitted += 1;
    if dossier.submitted > dossier.begun {
        notes.accuse([format!("{}: S21: a settlement was asked for that had not been written down", short(&key))]);
    }
}

/// A backend is about to work for this payment.
pub fn forwarded(world: &World, key: PaymentKey, prepaid: bool) {
    let known = world.on_disk(key).map(|found| found.entry);
    world.tell(|| format!("the backend works for {}", short(&key)));
    let notes = &mut *lock(&world.notes);
    let settled = matches!(known.as_ref().map(|entry| &entry.state), Some(State::Settled { .. }));
    if known.is_none() {
        notes.accuse([format!("{}: I6: the backend was asked for a payment nobody had recorded", short(&key))]);
    }
    if prepaid && !settled {
        notes.accuse([format!("{}: I2: the backend was asked before `before_forward` had settled", short(&key))]);
    }
    let dossier = notes.of(key);
    dossier.forwards += 1;
    dossier.unpaid += u32::from(!prepaid);
}

/// The first byte of a priced answer is about to go out.
pub fn released(world: &World, key: PaymentKey, pulse: &Arc<Pulse>, thief: bool) {
    let now = world.now();
    world.tell(|| format!("{} answers {}", pulse.name(), short(&key)));
    let known = world.on_disk(key).map(|found| found.entry);
    let notes = &mut *lock(&world.notes);
    let mut found = Vec::new();
    if !matches!(known.as_ref().map(|entry| &entry.state), Some(State::Settled { .. })) {
        found.push(format!("{}: I2: an answer went out before it was settled on disk", short(&key)));
    }
    let dossier = notes.of(key);
    let paid = dossier.signed.as_ref().and_then(|signed| lock(&world.chain).use_of(signed));
    if !paid.is_some_and(|spent| spent.how == How::Paid) && dossier.lie.is_none() {
        found.push(format!("{}: S16: an answer went out that nobody paid for", short(&key)));
    }
    if dossier.junk {
        found.push(format!("{}: I5: an answer went out for a payment that is no good", short(&key)));
    }
    if thief && !dossier.releases.is_empty() {
        found.push(format!("{}: S75: an observer collected the answer", short(&key)));
    }
    if let Some((at, before)) = dossier.releases.last()
        && !before.troubled_since(*at)
    {
        found.push(format!("{}: I1: two answers went out for one payment", short(&key)));
    }
    dossier.releases.push((now, Arc::clone(pulse)));
    notes.accuse(found);
}

/// All of a priced answer has gone out.
pub fn delivered(world: &World, key: PaymentKey) {
    lock(&world.notes).of(key).whole = true;
}

/// An answer that was bought before goes out again.
pub fn repeated(world: &World, request: &Request, _: &Receipt) {
    let Some(key) = request.key else { return };
    let notes = &mut *lock(&world.notes);
    if !notes.of(key).whole {
        notes.accuse([format!("{}: I1: an answer was repeated that had never gone out", short(&key))]);
    }
    if request.thief {
        notes.accuse([format!("{}: S75: an observer got the kept answer", short(&key))]);
    }
}

/// A presented payment was answered with offers.
pub fn challenged(pulse: &Pulse, key: PaymentKey, refusal: &Refusal) {
    let world = &pulse.world;
    let found = world.on_disk(key).map(|found| found.entry);
    // Whoever stood still between looking and answering tells what was so when it looked.
    if found.as_ref().is_some_and(|entry| pulse.troubled_since(entry.updated)) {
        return;
    }
    let created = found.map(|entry| entry.created);
    let notes = &mut *lock(&world.notes);
    let spent = notes.of(key).signed.as_ref().and_then(|signed| lock(&world.chain).use_of(signed));
    // S18: somebody else submitted what had been reserved here, and the payee has the money.
    if let (Refusal::Declined { code, .. }, Some(created), Some(spent)) = (refusal, created, spent)
        && code.ends_with("nonce_already_used")
        && spent.how == How::Paid
        && spent.at.after(SKEW) >= created
    {
        notes.accuse([format!("{}: I4: offers went out because the nonce is used, and it had paid us", short(&key))]);
    }
    let moment = notes.next();
    notes.of(key).challenged.push(moment);
}
