//! Those who move money, and the ends of the wires that lead to them.
//!
//! [`settle`] is what happens at a facilitator, honest or not. [`Adapter`] is what our side makes of its answers: it
//! keeps the contract of [`Facilitator`] as `src/facilitator` does, so what it calls *declined* or *settled* is as
//! well founded as the kind of facilitator allows.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tollhouse::facilitator::{
    BoxError, Decline, Facilitator, Outcome, Prepared, SettleError, Standing, Unresolved, VerifyError,
};
use tollhouse::payment::{Dialect, Offer, Payment, PaymentKey, Receipt, TransactionHash};
use tollhouse::primitives::{Clock, Timestamp};

use crate::chain::{By, How, LONGEST_LAG, broadcast, signed};
use crate::judge;
use crate::mutation::Mutation;
use crate::plan::{Fault, Kind};
use crate::process::Pulse;
use crate::world::{World, lock, short};

const SETTLE_TIMEOUT: Duration = Duration::from_secs(10);
const VERIFY_TIMEOUT: Duration = Duration::from_secs(2);
/// How far our clock and the chain's may disagree about what came first, as in `facilitator/chain`.
pub const SKEW: Duration = Duration::from_secs(30);

/// Transactions each facilitator has sent, so that asking twice moves money once.
pub type Books = BTreeMap<(usize, PaymentKey), TransactionHash>;

/// What a facilitator answers to *settle*.
#[derive(Debug)]
enum Reply {
    Settled(TransactionHash),
    Pending(TransactionHash),
    /// A refusal that proves that nothing was broadcast.
    Declined(&'static str),
    /// Any other.
    Refused(&'static str),
    Nonsense,
}

/// What happens at a facilitator that is asked to settle. Runs on when nobody waits for it.
async fn settle(world: Arc<World>, place: usize, payment: Payment, asked: Timestamp) -> Reply {
    sleep(world.between(1, 300)).await;
    let (key, signed) = (payment.key(), signed(&payment).clone());
    if world.strikes(Fault::LieSettled) {
        lock(&world.notes).of(key).lie = Some("says settled");
        let transaction = lock(&world.chain).next_hash(key);
        return Reply::Settled(transaction);
    }
    if world.strikes(Fault::LieForeign) {
        lock(&world.notes).of(key).lie = Some("names a foreign transaction");
        let chain = &mut *lock(&world.chain);
        let transaction = chain.another(&signed).unwrap_or_else(|| chain.next_hash(key));
        return Reply::Settled(transaction);
    }
    let sent = lock(&world.books).get(&(place, key)).copied();
    let transaction = match sent {
        Some(transaction) => transaction,
        None => {
            if lock(&world.chain).use_of(&signed).is_some() {
                return Reply::Refused("nonce_already_used");
            }
            if world.now().as_secs() >= signed.valid_before.saturating_to() {
                return Reply::Declined("payment_expired");
            }
            if !lock(&world.chain).can_pay(signed.from) {
                return Reply::Declined("insufficient_funds");
            }
            lock(&world.chain).next_hash(key)
        }
    };
    // Sent again while it is not mined: a node that has it ignores it, one that dropped it takes it.
    if lock(&world.chain).use_of(&signed).is_none() {
        lock(&world.books).insert((place, key), transaction);
        broadcast(&world, &payment, transaction, By::Facilitator(asked));
    }
    if world.strikes(Fault::LieDeclined) {
        let notes = &mut *lock(&world.notes);
        // Our own node finds out about it; without one it is beyond anybody's help.
        match world.plan.facilitators.get(place) {
            Some(Kind::Watched) => notes.of(key).belied = true,
            _ => notes.of(key).lie = Some("settles and says that it cannot"),
        }
        return Reply::Declined("insufficient_funds");
    }
    if world.strikes(Fault::NoAfterSettling) {
        return Reply::Refused("unexpected_settle_error");
    }
    if world.strikes(Fault::Garbled) {
        return Reply::Nonsense;
    }
    for _ in 0..16 {
        if lock(&world.chain).pays(transaction, &signed, world.now()) == Some(true) {
            return Reply::Settled(transaction);
        }
        sleep(Duration::from_millis(250)).await;
    }
    Reply::Pending(transaction)
}

/// Our end of the wire to one facilitator, in one process.
pub struct Adapter {
    pulse: Arc<Pulse>,
    place: usize,
    name: String,
    kind: Kind,
    clock: Arc<dyn Clock>,
}

impl Adapter {
    pub fn new(pulse: Arc<Pulse>, place: usize, kind: Kind, clock: Arc<dyn Clock>) -> Self {
        Self { pulse, place, name: format!("f{place}"), kind, clock }
    }

    fn world(&self) -> &Arc<World> {
        &self.pulse.world
    }

    /// Asks a facilitator over HTTP to settle. `Err(true)` when it is certain that nothing was sent.
    async fn ask(&self, place: usize, payment: &Payment, deadline: Instant) -> Result<Reply, bool> {
        self.pulse.beat().await;
        let world = self.world();
        if world.strikes(Fault::NotSent) {
            return Err(true);
        }
        let asked = world.now();
        lock(&world.notes).ask(payment.key(), place);
        if world.strikes(Fault::RequestLost) {
            tokio::time::sleep_until(deadline).await;
            return Err(false);
        }
        let (answer, answered) = oneshot::channel();
        let (at, sold) = (Arc::clone(world), payment.clone());
        let twice = world.strikes(Fault::SentTwice);
        tokio::spawn(async move {
            if twice {
                settle(Arc::clone(&at), place, sold.clone(), asked).await;
            }
            let reply = settle(Arc::clone(&at), place, sold, asked).await;
            if at.strikes(Fault::AnswerLate) {
                sleep(at.between(8_000, 20_000)).await;
            }
            if !at.strikes(Fault::AnswerLost) {
                // Nobody may be waiting any more.
                let _ = answer.send(reply);
            }
        });
        let reply = timeout_at(deadline, answered).await;
        self.pulse.beat().await;
        match reply {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(_)) | Err(_) => Err(false),
        }
    }

    /// The moment our node shows; `None` when it does not answer.
    async fn head(&self) -> Option<Timestamp> {
        self.pulse.beat().await;
        let world = self.world();
        world.step().await;
        if world.strikes(Fault::NodeDown) {
            return None;
        }
        let lag = if world.strikes(Fault::NodeLags) { world.below(LONGEST_LAG.as_millis() as u64) } else { 0 };
        Some(Timestamp::from_millis(world.now().as_millis() - lag))
    }

    /// Waits until our node shows the transfer. `Err` says what is odd.
    async fn attest(&self, payment: &Payment, transaction: TransactionHash, deadline: Instant) -> Result<(), BoxError> {
        if self.kind == Kind::Trusted || self.world().mutated(Mutation::WordIsTaken) {
            return Ok(());
        }
        while Instant::now() < deadline {
            if let Some(head) = self.head().await {
                match lock(&self.world().chain).pays(transaction, signed(payment), head) {
                    Some(true) => return Ok(()),
                    Some(false) => return Err("the transaction holds another transfer".into()),
                    None => {}
                }
            }
            sleep(Duration::from_millis(500)).await;
        }
        Err("our node has not shown the transfer in time".into())
    }

    /// What our node proves about a payment, if anything.
    async fn search(&self, payment: &Payment, reserved: Timestamp) -> Option<Outcome> {
        let head = self.head().await?;
        let signed = signed(payment);
        let never = |code: &str| Some(Outcome::NotSettled(Decline { code: code.to_owned() }));
        match lock(&self.world().chain).seen(signed, head) {
            Some(spent) if spent.how == How::Paid && spent.at.after(SKEW) >= reserved => {
                Some(Outcome::Settled(self.proof(payment, spent.transaction)))
            }
            Some(_) => never("invalid_exact_evm_nonce_already_used"),
            None if head.as_secs() >= signed.valid_before.saturating_to() => never("payment_expired"),
            None if self.world().mutated(Mutation::LapsesEarly) => never("payment_expired"),
            None => None,
        }
    }

    /// Where a declined payment stands, in the view of our node.
    async fn stands(&self, payment: &Payment, reserved: Timestamp) -> Standing {
        let Some(head) = self.head().await else { return Standing::Unclear("no node answers".into()) };
        let signed = signed(payment);
        let declined = |code: &str| Standing::Dead(Decline { code: code.to_owned() });
        match lock(&self.world().chain).seen(signed, head) {
            Some(spent) if spent.how == How::Paid && spent.at.after(SKEW) >= reserved => {
                Standing::Moved(self.proof(payment, spent.transaction))
            }
            Some(_) => declined("invalid_exact_evm_nonce_already_used"),
            None if head.as_secs() >= signed.valid_before.saturating_to() => declined("payment_expired"),
            None => Standing::Open,
        }
    }

    fn receipt(&self, payment: &Payment, transaction: TransactionHash) -> Receipt {
        Receipt::of(payment, transaction, self.clock.now())
    }

    /// What our own node has shown, rather than what somebody says (S5).
    fn proof(&self, payment: &Payment, transaction: TransactionHash) -> Receipt {
        self.receipt(payment, transaction).in_block(1)
    }

    /// A facilitator over HTTP: one call, and the same bytes once more where it says that it is still waiting.
    async fn submit_remotely(
        &self,
        place: usize,
        payment: &Payment,
        deadline: Instant,
    ) -> Result<Receipt, SettleError> {
        let mut reply = self.ask(place, payment, deadline).await;
        if let Ok(Reply::Pending(_)) = reply {
            // It has sent a transaction: whatever it says now but *settled* proves nothing.
            reply = match self.ask(place, payment, deadline).await {
                Ok(Reply::Declined(code)) => Ok(Reply::Refused(code)),
                Err(_) => Err(false),
                other => other,
            };
        }
        let unknown = |transaction, why: &'static str| Err(SettleError::Unknown { transaction, source: why.into() });
        let transaction = match reply {
            Ok(Reply::Settled(transaction)) => transaction,
            Ok(Reply::Pending(transaction)) => return unknown(Some(transaction), "still pending"),
            Ok(Reply::Declined(code)) => return Err(Decline { code: code.to_owned() }.into()),
            Ok(Reply::Refused(code)) => return unknown(None, code),
            Ok(Reply::Nonsense) => return unknown(None, "not an answer"),
            Err(true) => return Err(SettleError::NotSent("no connection".into())),
            Err(false) => return unknown(None, "no answer"),
        };
        match self.attest(payment, transaction, deadline).await {
            Ok(()) if self.kind == Kind::Trusted => Ok(self.receipt(payment, transaction)),
            Ok(()) => Ok(self.proof(payment, transaction)),
            Err(source) => Err(SettleError::Unknown { transaction: Some(transaction), source }),
        }
    }

    /// Our own node: the transaction is known beforehand, and sending it is all there is to do.
    async fn submit_ourselves(
        &self,
        payment: &Payment,
        transaction: Option<TransactionHash>,
        deadline: Instant,
    ) -> Result<Receipt, SettleError> {
        let unknown = |why: &'static str| Err(SettleError::Unknown { transaction, source: why.into() });
        let Some(hash) = transaction else { return unknown("the nonce was used before") };
        self.pulse.beat().await;
        if self.world().strikes(Fault::NotSent) {
            return Err(SettleError::NotSent("no connection to the node".into()));
        }
        let asked = self.world().now();
        lock(&self.world().notes).ask(payment.key(), self.place);
        if !self.world().strikes(Fault::RequestLost) {
            broadcast(self.world(), payment, hash, By::Facilitator(asked));
        }
        self.pulse.beat().await;
        match self.attest(payment, hash, deadline).await {
            Ok(()) => Ok(self.proof(payment, hash)),
            Err(_) => unknown("the transaction is in no block yet"),
        }
    }

    /// The bugs that live in an adapter.
    fn bent(&self, payment: &Payment, ended: Result<Receipt, SettleError>) -> Result<Receipt, SettleError> {
        let declined = || SettleError::Declined(Decline { code: "insufficient_funds".to_owned() });
        match ended {
            Err(SettleError::Unknown { .. }) if self.world().mutated(Mutation::LostIsDeclined) => Err(declined()),
            Err(SettleError::Unknown { source, .. }) if self.world().mutated(Mutation::SentIsNotSent) => {
                Err(SettleError::NotSent(source))
            }
            ended => {
                if let Err(SettleError::Declined(_) | SettleError::NotSent(_)) = &ended {
                    lock(&self.world().notes).of(payment.key()).unask(self.place);
                }
                ended
            }
        }
    }
}

#[async_trait]
impl Facilitator for Adapter {
    fn name(&self) -> &str {
        &self.name
    }

    fn accepts(&self, _: &Offer, _: Dialect) -> bool {
        true
    }

    fn settle_timeout(&self) -> Duration {
        SETTLE_TIMEOUT
    }

    fn sees_chain(&self) -> bool {
        self.kind == Kind::Local
    }

    fn is_up(&self) -> bool {
        true
    }

    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        lock(&self.world().notes).of(payment.key()).called = true;
        let look = async {
            let head = self.head().await.filter(|_| !self.world().strikes(Fault::VerifyFails));
            let Some(head) = head else { return Err(VerifyError::Unavailable("no answer".into())) };
            if self.kind != Kind::Local && self.world().strikes(Fault::LieValid) {
                return Ok(());
            }
            let (chain, signed) = (lock(&self.world().chain), signed(payment));
            let declined = |code: &str| Err(Decline { code: code.to_owned() }.into());
            if chain.seen(signed, head).is_some() {
                declined("invalid_exact_evm_nonce_already_used")
            } else if !chain.can_pay(signed.from) {
                declined("insufficient_funds")
            } else {
                Ok(())
            }
        };
        let verified = timeout(VERIFY_TIMEOUT, look).await;
        verified.unwrap_or_else(|late| Err(VerifyError::Unavailable(late.into())))
    }

    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError> {
        if self.kind != Kind::Local {
            return Ok(Prepared { transaction: None, raw: None });
        }
        let Some(head) = self.head().await else { return Err(SettleError::NotSent("no node answers".into())) };
        let chain = &mut *lock(&self.world().chain);
        if chain.seen(signed(payment), head).is_some() {
            return Ok(Prepared { transaction: None, raw: None });
        }
        if !chain.can_pay(signed(payment).from) {
            return Err(Decline { code: "invalid_exact_evm_insufficient_balance".to_owned() }.into());
        }
        Ok(Prepared { transaction: Some(chain.next_hash(payment.key())), raw: None })
    }

    async fn submit(&self, payment: &Payment, prepared: Prepared) -> Result<Receipt, SettleError> {
        self.pulse.beat().await;
        judge::submitted(self.world(), payment.key());
        let deadline = Instant::now() + SETTLE_TIMEOUT;
        let ended = match self.kind {
            Kind::Local => self.submit_ourselves(payment, prepared.transaction, deadline).await,
            Kind::Trusted | Kind::Watched => self.submit_remotely(self.place, payment, deadline).await,
        };
        if let (Err(SettleError::Unknown { .. }), true) = (&ended, self.world().mutated(Mutation::AnotherIsAsked)) {
            return self.submit_remotely(self.place + 7, payment, Instant::now() + SETTLE_TIMEOUT / 4).await;
        }
        self.bent(payment, ended)
    }

    async fn recheck(&self, declined: &[Unresolved]) -> Vec<Standing> {
        let mut standings = Vec::new();
        for Unresolved { payment, reserved_at, .. } in declined {
            // Our own key's refusals are our own node's.
            let believed = self.kind != Kind::Watched || self.world().mutated(Mutation::NoIsTaken);
            standings.push(match believed {
                true => Standing::Stands,
                false => self.stands(payment, *reserved_at).await,
            });
        }
        standings
    }

    async fn outcome(&self, unresolved: &Unresolved) -> Outcome {
        let Unresolved { payment, transaction, reserved_at, .. } = unresolved;
        if self.kind != Kind::Trusted
            && let Some(proven) = self.search(payment, *reserved_at).await
        {
            return proven;
        }
        if self.world().mutated(Mutation::CannotTellIsNever) {
            return Outcome::NotSettled(Decline { code: "not_found".to_owned() });
        }
        if self.kind == Kind::Local {
            return Outcome::Unknown { transaction: *transaction, source: "not on chain yet".into() };
        }
        let ended = self.submit_remotely(self.place, payment, Instant::now() + SETTLE_TIMEOUT).await;
        self.world()
            .tell(|| format!("{} asks f{} again about {}", self.pulse.name(), self.place, short(&payment.key())));
        match ended {
            Ok(receipt) => Outcome::Settled(receipt),
            Err(SettleError::Unknown { transaction: known, source }) => {
                Outcome::Unknown { transaction: known.or(*transaction), source }
            }
            // A refusal may describe the world after our own success: it proves nothing.
            Err(other) => Outcome::Unknown { transaction: *transaction, source: other.into() },
        }
    }
}
