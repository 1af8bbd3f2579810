//! Offered → Presented → Proven → Reserved → Confirmed → Settled.
//!
//! Each state holds exactly what is known by then and can be made only from the one before, so a [`Confirmed`] in
//! hand is the proof that all of it happened. Transitions take `self`; the fields are private to this module.

mod confirm;
mod limits;
mod vouch;

use std::fmt;
use std::sync::Arc;

use crate::facilitator::{Decline, Facilitator, Notice, VerifyError};
use crate::ledger::{self, Answer, Claim, Delivering, Keyed, Lapsed, Lease, Sale};
use crate::payment::{Authorization, Credential, Dialect, Offer, Payment, PaymentKey, Quote, Receipt, Replay};
use crate::primitives::{AtomicAmount, Timestamp};
use crate::scheme::{self, Mismatch, WalletSignature};

use super::attendance::Attending;
use super::known::{self, Unpayable};
use super::overdraft::Hold;
use super::{Event, Gate, Refusal, Visit};

pub(super) use limits::hold_to_limits;

/// A route with a price, and a request that wants to pass.
pub(super) struct Offered<'a> {
    visit: &'a Visit<'a>,
}

/// A credential beside the offers of ours that it may be accepting.
pub(super) struct Presented<'a> {
    visit: &'a Visit<'a>,
    credential: Credential,
    /// Never empty; several only where a v1 client cannot say which asset it means.
    candidates: Vec<Candidate>,
}

/// An offer that a credential may be accepting.
struct Candidate {
    offer: Offer,
    quote: Option<Quote>,
}

/// A credential whose signer has promised exactly what an offer asks.
pub(super) struct Proven<'a> {
    visit: &'a Visit<'a>,
    pub(super) payment: Payment,
    key: PaymentKey,
    quote: Option<Quote>,
    /// Who has just said that it would settle, because only they could tell who signed.
    confirmed_by: Option<Arc<dyn Facilitator>>,
}

/// A credential whose terms fit and whose signature only the payer's wallet can judge. Nothing is proven yet.
pub(super) struct Unjudged<'a> {
    visit: &'a Visit<'a>,
    /// Never empty; several only where a v1 client cannot say which asset it means.
    signatures: Vec<(Candidate, WalletSignature)>,
    credential: Credential,
}

/// How far a credential can be proven without asking anybody.
pub(super) enum Proof<'a> {
    /// All the way.
    Proven(Proven<'a>),
    /// Up to the signature.
    Unjudged(Unjudged<'a>),
}

/// A proven payment that this request alone holds.
pub(super) struct Reserved<'a> {
    visit: &'a Visit<'a>,
    lease: Lease,
    attending: Arc<Attending>,
    confirmed_by: Option<Arc<dyn Facilitator>>,
}

/// How reserving ended.
pub(super) enum Reservation<'a> {
    /// This request holds the payment.
    Held(Reserved<'a>),
    /// The payment has been settled before, and still opens something.
    Bought(Admission),
}

/// A payment that would settle. Whoever holds it may forward the request (`on_response`).
pub struct Confirmed {
    pub(super) lease: Lease,
    pub(super) facilitator: Arc<dyn Facilitator>,
    /// Counts what it draws on its payer, where the payer may have signed for more than there is (S36).
    pub(super) hold: Option<Hold>,
    pub(super) attending: Arc<Attending>,
}

/// A payment that has settled, durably. Whoever holds it may let the answer out (I2).
#[derive(Debug)]
pub struct Settled {
    pub(super) delivering: Delivering,
    pub(super) dialect: Dialect,
    /// Kept until the answer is out; `None` for one that came back for its answer.
    pub(super) _attending: Option<Arc<Attending>>,
}

impl fmt::Debug for Confirmed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirmed").field("lease", &self.lease).field("facilitator", &self.facilitator.name()).finish()
    }
}

/// An answer that was bought before, to be repeated if the request body is the same too.
#[derive(Debug)]
pub struct Repeat {
    /// The answer.
    pub answer: Answer,
    /// What paid for it.
    pub receipt: Receipt,
    /// The dialect to answer in.
    pub dialect: Dialect,
}

/// How a request may pass.
#[derive(Debug)]
pub enum Admission {
    /// Forward it, then settle.
    Confirmed(Confirmed),
    /// Forward it; it has been paid for.
    Settled(Settled),
    /// Do not forward it: the answer is already here.
    Repeat(Repeat),
}

impl<'a> Offered<'a> {
    pub(super) fn to(visit: &'a Visit<'a>) -> Self {
        Self { visit }
    }

    /// Finds the offers of ours that the credential may be accepting. What it echoes only selects (S6).
    pub(super) fn present(self, gate: &Gate, credential: Credential) -> Result<Presented<'a>, Unpayable> {
        let now = gate.clock.now();
        let candidates = match &credential.chosen.terms {
            Some(terms) => self.echoed(gate, &credential, terms.amount, terms.quote.as_deref(), now),
            None => self.signed(gate, &credential, now),
        };
        if candidates.is_empty() {
            return Err(Unpayable { refusal: Refusal::NoSuchOffer(credential.dialect), credential });
        }
        Ok(Presented { visit: self.visit, credential, candidates })
    }

    /// v2: the client echoes the terms it accepts, and the quote that keeps their price.
    fn echoed(
        &self,
        gate: &Gate,
        credential: &Credential,
        amount: AtomicAmount,
        quote: Option<&str>,
        now: Timestamp,
    ) -> Vec<Candidate> {
        let route = &self.visit.route.key;
        let Some(posted) =
            self.visit.toll.offers.iter().find(|offer| scheme::same_but_amount(offer, &credential.chosen))
        else {
            return Vec::new();
        };
        let offer = Offer { amount, ..posted.clone() };
        let quote = quote.and_then(|text| gate.quotes.check(text, &route.0, &offer));
        // A price that was replaced holds as long as its quote, or for whoever kept no quote, as long as the
        // board remembers it (S37). Only the price survives: the rest was matched against today's offer.
        let honoured = posted.amount == amount
            || quote.is_some_and(|quote| now < quote.expires)
            || gate.board.past_offers(route, now).iter().any(|past| same_but_amount(past, &offer, amount));
        if honoured { vec![Candidate { offer, quote }] } else { Vec::new() }
    }

    /// v1: the client echoes nothing, so the offer is the one whose amount and payee were signed.
    fn signed(&self, gate: &Gate, credential: &Credential, now: Timestamp) -> Vec<Candidate> {
        let posted =
            || self.visit.toll.offers.iter().filter(|offer| scheme::same_but_amount(offer, &credential.chosen));
        let (value, payee) = (credential.authorization.value(), credential.authorization.payee());
        let pays = |offer: &Offer| offer.amount == value && offer.pay_to == payee;
        let candidate = |offer: &Offer| Candidate { offer: offer.clone(), quote: None };

        let mut candidates: Vec<_> = posted().filter(|offer| pays(offer)).map(candidate).collect();
        if candidates.is_empty() {
            let past = gate.board.past_offers(&self.visit.route.key, now);
            let survives = |past: &&Offer| posted().any(|offer| same_but_amount(past, offer, past.amount));
            candidates = past.iter().filter(|past| pays(past)).filter(survives).map(candidate).collect();
        }
        if candidates.is_empty() {
            // None fits; keep the first so that the refusal can say what is wrong with it.
            candidates = posted().take(1).map(candidate).collect();
        }
        candidates
    }
}

/// Whether two offers differ in nothing but the amount, and the first asks `amount`.
fn same_but_amount(past: &Offer, offer: &Offer, amount: AtomicAmount) -> bool {
    past.amount == amount
        && past.scheme == offer.scheme
        && past.network.id == offer.network.id
        && past.asset.address == offer.asset.address
        && past.asset.method == offer.asset.method
        && past.pay_to == offer.pay_to
        && past.settle == offer.settle
}

impl<'a> Presented<'a> {
    /// Checks the promise, the cheap parts first (S33). Calls nobody.
    pub(super) fn prove(self, gate: &Gate) -> Result<Proof<'a>, Unpayable> {
        let Self { visit, credential, candidates } = self;
        let now = gate.clock.now();
        let (mut mismatch, mut signatures) = (Mismatch::Signature, Vec::new());
        for candidate in candidates {
            let Candidate { offer, quote } = &candidate;
            let terms = gate.scheme.terms(offer, &credential.authorization, now, visit.toll.margin);
            let key = PaymentKey::of(&offer.network.id, offer.asset.address, &credential.authorization);
            match terms.and_then(|()| check_signature(gate, key, offer, &credential.authorization)) {
                Ok(authorization) => {
                    let quote = *quote;
                    let payment = Payment {
                        offer: candidate.offer,
                        authorization,
                        dialect: credential.dialect,
                        resource: visit.resource(),
                    };
                    return Ok(Proof::Proven(Proven { visit, payment, key, quote, confirmed_by: None }));
                }
                Err(why) => mismatch = why,
            }
            if mismatch == Mismatch::Signature
                && let Some(presented) = wallet_signature(gate, &candidate.offer, &credential.authorization)
            {
                signatures.push((candidate, presented));
            }
        }
        match signatures.is_empty() {
            true => Err(Unpayable { refusal: Refusal::Mismatch(credential.dialect, mismatch), credential }),
            false => Ok(Proof::Unjudged(Unjudged { visit, signatures, credential })),
        }
    }
}

/// What a wallet may be asked about, where the operator accepts contract wallets. Play money knows none.
pub(super) fn wallet_signature(gate: &Gate, offer: &Offer, authorization: &Authorization) -> Option<WalletSignature> {
    let accepted = !offer.sandbox && gate.wallets().are_accepted_on(&offer.network.id);
    accepted.then(|| gate.scheme.wallet_signature(offer, authorization)).flatten()
}

/// Recovers the signer, unless this very signature has been recovered before: a spent payment that is presented
/// again and again costs a look in memory (S33), and a stranger's guess still tells nothing (S69).
pub(super) fn check_signature(
    gate: &Gate,
    key: PaymentKey,
    offer: &Offer,
    authorization: &Authorization,
) -> Result<Authorization, Mismatch> {
    match gate.ledger.spent(&key) {
        Some(spent) if spent.is_of(authorization) => Ok(authorization.clone()),
        _ => gate.scheme.signature(offer, authorization).map(|checked| checked.authorization),
    }
}

impl<'a> Proven<'a> {
    /// Takes the payment's key, so that of any number of copies one goes on (S2). The first thing that is written,
    /// and nothing has been asked of anyone yet.
    pub(super) async fn reserve(self, gate: &Gate) -> Result<Reservation<'a>, Refusal> {
        let Self { visit, payment, key, quote, confirmed_by } = self;
        let dialect = payment.dialect;
        if let Some(spent) = gate.ledger.spent(&key) {
            return Err(match spent.receipt(&payment) {
                Some(receipt) => Refusal::Spent { dialect, receipt: Some(receipt) },
                None => Refusal::Exhausted(dialect),
            });
        }
        // Where a settled payment opens nothing, no answer may wait to be collected: it is owed at once.
        let quote = quote.filter(|_| visit.toll.replay != Replay::Refuse);
        let sale = Arc::new(Sale {
            route: Arc::clone(&visit.route.key.0),
            request: visit.digest(),
            request_line: visit.line(),
            redeemable: visit.repeatable(),
            quote: quote.map(|quote| quote.digest),
            payment,
        });
        let presented = Keyed::new(key, sale);
        let sale = presented.sale();
        let errand = (sale.payment.payer(), sale.request);
        if gate.attendance.was_abandoned(errand, key, visit.connection) && gate.is_fresh(key, dialect).await? {
            gate.observe(&Event::SignedAgain { route: visit.route.key.clone(), key });
            return Err(Refusal::pending(dialect, &sale.payment, None));
        }
        let earlier = gate.ledger.claim_earlier(&presented, visit.toll.replay).await;
        if let Some(claim) = earlier.map_err(|error| Refusal::ledger(Some(dialect), &error))? {
            gate.observe(&Event::SignedAgain { route: visit.route.key.clone(), key });
            return bought_before(gate, visit, dialect, claim).map(Reservation::Bought);
        }
        let barred = gate.rails.turn_back(visit, &sale.payment);
        // Whoever is confirmed already need not be asked about again.
        let barred = barred.or_else(|| confirmed_by.is_none().then(|| gate.foresee(&sale.payment)).flatten());
        if let Some(barred) = barred {
            return Box::pin(known::reopen(gate, visit, presented, barred)).await.map(Reservation::Bought);
        }
        match reserve(gate, visit, presented).await? {
            Claim::Granted(lease) => {
                gate.observe(&Event::Reserved { route: visit.route.key.clone(), key: lease.key() });
                let attending = gate.attendance.begin(errand, key, visit.connection.cloned());
                Ok(Reservation::Held(Reserved { visit, lease, attending, confirmed_by }))
            }
            bought => bought_before(gate, visit, dialect, bought).map(Reservation::Bought),
        }
    }
}

/// What a payment that the ledger already knows still opens.
pub(super) fn bought_before(
    gate: &Gate,
    visit: &Visit<'_>,
    dialect: Dialect,
    claim: Claim,
) -> Result<Admission, Refusal> {
    match claim {
        Claim::Redeem(delivering) => {
            gate.observe(&Event::Redeemed { route: visit.route.key.clone(), key: delivering.key() });
            Ok(Admission::Settled(Settled { delivering, dialect, _attending: None }))
        }
        Claim::Repeat { answer, receipt } => Ok(Admission::Repeat(Repeat { answer, receipt, dialect })),
        Claim::InFlight { until } => Err(Refusal::InFlight { dialect, until }),
        Claim::Unresolved { entry } => Err(Refusal::unresolved(dialect, &entry)),
        Claim::Spent { receipt } => Err(Refusal::Spent { dialect, receipt }),
        Claim::Exhausted => Err(Refusal::Exhausted(dialect)),
        Claim::Overspent { until } => Err(Refusal::Overspent { dialect, until }),
        // Not ours to keep: the caller has refused this payment as a new one. Dropping the lease lets it go.
        Claim::Granted(_) => Err(Refusal::NoSuchOffer(dialect)),
    }
}

impl Gate {
    /// The refusal of a payment that nobody need be asked about: strangers ask too much, or the payer was seen to have
    /// too little a moment ago. Nothing is written for it (S32).
    fn foresee(&self, payment: &Payment) -> Option<Refusal> {
        let dialect = payment.dialect;
        let (facilitator, foreseen) = self.pool.foresee(payment)?;
        Some(match foreseen {
            VerifyError::Declined(Decline { code }) => Refusal::Declined { dialect, code, settlement: None },
            VerifyError::Unavailable(_) => {
                self.observe(&Notice::shed(facilitator.name()).into());
                Refusal::FacilitatorUnavailable(Some(dialect))
            }
        })
    }

    /// Whether a payment has never been presented before.
    async fn is_fresh(&self, key: PaymentKey, dialect: Dialect) -> Result<bool, Refusal> {
        let found = self.ledger.store().load(key).await;
        found.map(|found| found.is_none()).map_err(|error| Refusal::ledger(Some(dialect), &error))
    }
}

/// Takes a payment's key in the ledger.
async fn reserve(gate: &Gate, visit: &Visit<'_>, presented: Keyed) -> Result<Claim, Refusal> {
    let dialect = presented.sale().payment.dialect;
    let claim = gate.ledger.claim(presented, visit.toll.hold, visit.toll.replay).await;
    claim.map_err(|error| Refusal::ledger(Some(dialect), &error))
}

impl Confirmed {
    /// The payment.
    pub fn payment(&self) -> &Payment {
        &self.lease.sale().payment
    }

    /// What the ledger remembers it by.
    pub fn key(&self) -> PaymentKey {
        self.lease.key()
    }

    /// Whether its answer could still be collected by whoever leaves before it comes.
    pub fn collectable(&self) -> bool {
        self.lease.sale().collectable(false)
    }

    /// The backend is about to see the request: from now on, letting go counts (S73).
    ///
    /// # Errors
    /// When the payment is no longer held, as after a process stood still. Then the backend must not see it (S2).
    pub fn mark_forwarded(&mut self) -> Result<(), Refusal> {
        let dialect = self.payment().dialect;
        self.lease.mark_forwarded().map_err(|Lapsed { again }| Refusal::InFlight { dialect, until: again })
    }

    /// Nobody is charged: the backend did not give a good answer.
    pub async fn release(self) {
        self.lease.release().await;
    }
}

impl Settled {
    /// What it bought.
    pub fn receipt(&self) -> &Receipt {
        self.delivering.receipt()
    }

    /// The payment.
    pub fn payment(&self) -> &Payment {
        &self.delivering.sale().payment
    }

    /// What the ledger remembers it by.
    pub fn key(&self) -> PaymentKey {
        self.delivering.key()
    }

    /// Whether the answer could still be collected if nothing of it is written now.
    pub fn collectable(&self) -> bool {
        self.delivering.collectable()
    }

    /// The dialect to answer in.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The backend is about to see the request.
    pub fn mark_forwarded(&mut self) {
        self.delivering.mark_forwarded();
    }

    /// A byte of the answer is about to be written to the client (S74).
    pub fn touch(&mut self) {
        self.delivering.touch();
    }

    /// What was written to the client, for the record.
    pub fn wrote(&mut self, response: ledger::Response) {
        self.delivering.wrote(response);
    }

    /// The answer ended this way.
    pub fn end(self, delivered: ledger::Delivered) {
        self.delivering.end(delivered);
    }
}
