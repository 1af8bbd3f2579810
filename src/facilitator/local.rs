//! Our own node and key: we submit what the payer signed, and pay the gas.
//!
//! The key can do nothing with the payer's money but hand it to the payee; it must not be the payee (S59).
//!
//! What counts as which ending:
//!
//! * *Settled* is the token's exact log, in our transaction or in somebody else's that came after the payment was
//!   reserved (S17, S18). Anyone who sees the signature may submit it, and the payee has the money either way.
//! * *Declined* is only said while nothing was broadcast, or once the authorization is proven spent or lapsed.
//! * A reverted transaction is *unknown*: it moved nothing, but the authorization is still good and public. Until it
//!   is used or lapses, inviting another payment could charge the payer twice (I4).

mod barrier;
mod book;
mod broadcast;
mod desk;
mod notes;
mod plan;
mod purse;
mod signer;
mod tend;
mod transaction;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, Bytes, U64, U128, U256};
use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};

use self::barrier::{Barrier, Turned};
use self::book::{Attempt, Flight, Raw};
use self::broadcast::{Broadcast, broadcast};
use self::desk::{Closed, Signed, Unwritten};
use self::plan::{Plan, Unplanned};
use self::purse::{Purse, affords};
use self::tend::Tending;
use self::transaction::{Call, Fees, gas_limit};
use super::chain::{Chain, Found, NotThere, RpcError, Verdict};
use super::strangers::Asked;
use super::{
    ALLOWANCE_REQUIRED, BoxError, Decline, Facilitator, Holds, Means, Outcome, Prepared, SettleError, Shed, Unresolved,
    VerifyError,
};
use crate::payment::{Authorization, Dialect, Offer, Payment, Receipt, TransactionHash};
use crate::primitives::{Clock, Payee, Timestamp, TransferMethod, failpoint};
use crate::scheme::Scheme as _;
use crate::scheme::exact::Exact;

pub use self::desk::Desk;
pub use self::notes::{Note, Noted, Notes};
pub use self::signer::{Held, Signer};

const BAD_SIGNATURE: &str = "invalid_exact_evm_signature";

/// What the SDKs call a payer's faults (protocol digest, B).
struct Codes {
    already_used: &'static str,
    insufficient_balance: &'static str,
    simulation_failed: &'static str,
    lapsed: &'static str,
    too_early: &'static str,
}

static EIP3009: Codes = Codes {
    already_used: "invalid_exact_evm_nonce_already_used",
    insufficient_balance: "invalid_exact_evm_insufficient_balance",
    simulation_failed: "invalid_exact_evm_transaction_simulation_failed",
    lapsed: "invalid_exact_evm_payload_authorization_valid_before",
    too_early: "invalid_exact_evm_payload_authorization_valid_after",
};
static PERMIT2: Codes = Codes {
    already_used: "permit2_invalid_nonce",
    insufficient_balance: "permit2_insufficient_balance",
    simulation_failed: "permit2_simulation_failed",
    lapsed: "permit2_deadline_expired",
    too_early: "permit2_not_yet_valid",
};
const NO_PROXY: &str = "permit2_proxy_not_deployed";
/// No code of the SDKs: none of them pays for gas that others waste.
const SUSPENDED: &str = "payer_suspended";
/// Likewise: a payment of the payer was undone.
const HELD: &str = "payer_held";

/// How often a receipt is asked for: soon at first, then less often.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// The tip on nodes that suggest none, in wei.
const DEFAULT_TIP: u128 = 1_000_000;

/// What a local facilitator is made of.
#[derive(Clone)]
pub struct Setup {
    /// Its name in `gateway.yaml`.
    pub name: Arc<str>,
    /// The one chain it settles on.
    pub chain: Arc<Chain>,
    /// Where its key sends from; the same for everybody who uses this key on this chain.
    pub desk: Arc<Desk>,
    /// Above this gas price (wei per gas) nothing is sent.
    pub max_gas_price: Option<u128>,
    /// When the key holds less than this (wei), the alarm is raised; by default when it pays for a hundred settlements.
    pub alarm_below: Option<u128>,
    /// Payers who are not served for now.
    pub holds: Arc<Holds>,
    /// How long `verify` may take.
    pub verify_timeout: Duration,
    /// How long `prepare` may take, and `submit` again.
    pub settle_timeout: Duration,
}

/// Why a key cannot pay for settlements.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// These 32 bytes are no secp256k1 key.
    #[error("the signer is not a valid private key")]
    Invalid,
    /// Whoever takes the gas key would have the takings as well (S59).
    #[error("the signer is the key of {0}, which is paid here; use a key that holds nothing but gas")]
    IsPayee(Address),
}

/// A facilitator that submits payments itself.
pub struct Local {
    name: Arc<str>,
    chain: Arc<Chain>,
    desk: Arc<Desk>,
    max_gas_price: Option<u128>,
    holds: Arc<Holds>,
    verify_timeout: Duration,
    settle_timeout: Duration,
    purse: Purse,
    barrier: Barrier,
    tending: Tending,
    clock: Arc<dyn Clock>,
}

/// Why a payment would not settle now.
enum Obstacle {
    /// The nonce is spent; on what is another question (S18, S19).
    Used,
    /// The payer's to fix.
    Declined(Decline),
    /// Nobody knows.
    Unavailable(BoxError),
}

impl Obstacle {
    fn of(turned: Turned, payment: &Payment) -> Self {
        match turned {
            Turned::Suspended => Self::Declined(decline(SUSPENDED)),
            Turned::Empty => Self::Declined(decline(codes(payment).insufficient_balance)),
            Turned::Busy | Turned::Wallets => Self::Unavailable(Shed(turned.into()).into()),
        }
    }
}

impl From<Unplanned> for Obstacle {
    fn from(unplanned: Unplanned) -> Self {
        match unplanned {
            Unplanned::Malformed(_) => Self::Declined(decline(BAD_SIGNATURE)),
            Unplanned::Unseen(_) => Self::Unavailable(unplanned.into()),
        }
    }
}

impl Local {
    /// A facilitator that pays with the key of its desk.
    ///
    /// # Errors
    /// When it is the key of one of the payees.
    pub fn new(setup: Setup, payees: &[Payee], clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let Setup { name, chain, desk, max_gas_price, alarm_below, holds, verify_timeout, settle_timeout } = setup;
        if payees.contains(&Payee(desk.address())) {
            return Err(KeyError::IsPayee(desk.address()));
        }
        let (purse, barrier, tending) = (Purse::new(alarm_below), Barrier::default(), Tending::default());
        Ok(Self {
            name,
            chain,
            desk,
            max_gas_price,
            holds,
            verify_timeout,
            settle_timeout,
            purse,
            barrier,
            tending,
            clock,
        })
    }

    /// The account that pays gas.
    pub fn address(&self) -> Address {
        self.desk.address()
    }

    /// Does what asks the node about a payment, for whom that may be done, and remembers what it showed of the payer.
    async fn ask<T>(&self, payment: &Payment, work: impl Future<Output = Result<T, Obstacle>>) -> Result<T, Obstacle> {
        if self.holds.holds(payment.payer()) {
            return Err(Obstacle::Declined(decline(HELD)));
        }
        let (payer, token) = (payment.payer().0, payment.offer.asset.address);
        if self.barrier.has_closed_to_wallets(self.clock.now()) && !is_own_key(payment) {
            return Err(Obstacle::of(Turned::Wallets, payment));
        }
        let passed = self.barrier.pass(payer, token, payment.authorization.value().units(), self.clock.now());
        let _asking = passed.map_err(|turned| Obstacle::of(turned, payment))?;
        let answer = work.await;
        if answer.is_ok() {
            self.barrier.welcome(payer, self.clock.now());
        }
        answer
    }

    /// What the chain makes of the transfer at its latest block. A key that cannot pay for it is noticed before the
    /// backend works for nothing.
    async fn simulate(&self, payment: &Payment) -> Result<(), Obstacle> {
        self.purse.suffices().map_err(|poor| Obstacle::Unavailable(poor.into()))?;
        self.check_time(payment)?;
        self.check_proxy(payment).await?;
        let plan = Plan::of(payment, &self.chain).await?;
        match self.chain.read::<Bytes>("eth_call", json!([self.call_object(&plan), "latest"])).await {
            Ok(_) => Ok(()),
            Err(error) => Err(self.diagnose(payment, error).await),
        }
    }

    /// Why the chain refuses the transfer, by the state of the chain rather than by the words of a node. The contract's
    /// own words are for the operator.
    async fn diagnose(&self, payment: &Payment, error: RpcError) -> Obstacle {
        if !matches!(error, RpcError::Refused { .. }) {
            return Obstacle::Unavailable(error.into());
        }
        let (payer, token, value) = (payment.payer().0, payment.offer.asset.address, payment.authorization.value());
        let state = tokio::try_join!(
            self.chain.is_used(payment),
            self.chain.balance(token, payer),
            self.chain.head(),
            self.lacks_allowance(payment)
        );
        let (balance, time, lacks_allowance) = match state {
            Ok((true, ..)) => return Obstacle::Used,
            Ok((false, balance, head, lacks_allowance)) => (balance, head.seconds(), lacks_allowance),
            Err(error) => return Obstacle::Unavailable(error.into()),
        };
        let codes = codes(payment);
        if balance < value.units() {
            self.barrier.saw_balance(payer, token, balance, self.clock.now());
            return Obstacle::Declined(decline(codes.insufficient_balance));
        }
        if lacks_allowance {
            return Obstacle::Declined(decline(ALLOWANCE_REQUIRED));
        }
        self.barrier.unwelcome(payer);
        if !error.is_revert() {
            // A payer's code may have burnt all the gas it was given; nodes have many words for that.
            return Obstacle::Unavailable(match self.chain.has_code(payer).await {
                Ok(true) => Shed(error.into()).into(),
                Ok(false) | Err(_) => error.into(),
            });
        }
        tracing::info!(facilitator = %self.name, payment = %payment.key(), %error, "the token refuses a payment");
        Obstacle::Declined(decline(match &payment.authorization {
            authorization if time >= authorization.valid_before() => codes.lapsed,
            Authorization::Eip3009(signed) if U256::from(time) <= signed.valid_after => codes.too_early,
            Authorization::Permit2(signed) if U256::from(time) < signed.valid_after => codes.too_early,
            _ => codes.simulation_failed,
        }))
    }

    /// Whether Permit2 may move too little for the payment.
    async fn lacks_allowance(&self, payment: &Payment) -> Result<bool, RpcError> {
        let Some(signed) = payment.authorization.permit2() else { return Ok(false) };
        let means = self.chain.means(signed.token, signed.from, signed.nonce).await?;
        Ok(means.allowance < signed.amount.units())
    }

    /// A call of an account without code succeeds and does nothing, so no simulation shows that the proxy is missing.
    async fn check_proxy(&self, payment: &Payment) -> Result<(), Obstacle> {
        if payment.authorization.permit2().is_none() {
            return Ok(());
        }
        match self.chain.has_proxy().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Obstacle::Declined(decline(NO_PROXY))),
            Err(error) => Err(Obstacle::Unavailable(error.into())),
        }
    }

    /// What has lapsed by our clock or by the chain's is not sent (S28, S29). What is not good yet by the chain's clock
    /// fails the simulation.
    fn check_time(&self, payment: &Payment) -> Result<(), Obstacle> {
        match self.chain.now().as_secs() >= payment.authorization.valid_before() {
            true => Err(Obstacle::Declined(decline(codes(payment).lapsed))),
            false => Ok(()),
        }
    }

    /// The transfer as JSON-RPC describes a call. It gets no more gas than it would get in earnest.
    fn call_object(&self, Plan { to, input, most_gas }: &Plan) -> Value {
        json!({ "from": self.address(), "to": to, "data": input, "gas": U64::from(*most_gas) })
    }

    /// The transaction that settles the payment, but for its nonce. Estimating its gas simulates it once more, so
    /// what would revert is not sent (S30).
    async fn call(&self, payment: &Payment) -> Result<Call, Obstacle> {
        self.check_time(payment)?;
        self.check_proxy(payment).await?;
        let plan = Plan::of(payment, &self.chain).await?;
        let simulated = json!([self.call_object(&plan), "latest"]);
        let (estimate, fees) = tokio::join!(self.chain.read::<U64>("eth_estimateGas", simulated), self.fees());
        let estimate = match estimate {
            Ok(estimate) => estimate.to(),
            Err(error) => return Err(self.diagnose(payment, error).await),
        };
        Ok(Call {
            chain_id: self.chain.chain_id(),
            gas_limit: gas_limit(estimate, plan.most_gas).map_err(|dear| Obstacle::Unavailable(dear.into()))?,
            fees: fees.map_err(Obstacle::Unavailable)?,
            to: plan.to,
            input: plan.input,
        })
    }

    /// What gas costs now, unless that is more than the operator pays.
    async fn fees(&self) -> Result<Fees, BoxError> {
        self.market(self.max_gas_price).await
    }

    /// What gas costs now, up to a ceiling.
    async fn market(&self, ceiling: Option<u128>) -> Result<Fees, BoxError> {
        let Some(base_fee) = self.chain.head().await?.base_fee_per_gas else {
            let price: U128 = self.chain.read("eth_gasPrice", json!([])).await?;
            return Ok(Fees::legacy(price.to(), ceiling)?);
        };
        let tip = match self.chain.read::<U128>("eth_maxPriorityFeePerGas", json!([])).await {
            Ok(tip) => tip.to(),
            Err(RpcError::Refused { .. }) => DEFAULT_TIP,
            Err(error) => return Err(error.into()),
        };
        Ok(Fees::dynamic(base_fee.to(), tip, ceiling)?)
    }

    /// Remembers what the key holds, and raises the alarm or ends it.
    fn note_balance(&self, balance: U256, fees: Fees) {
        match self.purse.note(balance, fees, self.clock.now()) {
            Some(true) => tracing::error!(
                facilitator = %self.name, account = %self.address(), %balance,
                "the gas key is running low; send it some of the network's coin"
            ),
            Some(false) => tracing::info!(facilitator = %self.name, %balance, "the gas key holds enough again"),
            None => {}
        }
    }

    /// Signs the settlement and keeps its turn until it is submitted.
    async fn sign(&self, payment: &Payment) -> Result<Prepared, Obstacle> {
        let (call, balance) = tokio::join!(self.call(payment), self.chain.coin_balance(self.address()));
        let (call, balance) = (call?, balance.map_err(|error| Obstacle::Unavailable(error.into()))?);
        self.note_balance(balance, call.fees);
        let turn = self.desk.turn(&self.chain).await.map_err(|closed| {
            Obstacle::Unavailable(match closed {
                Closed::Full => Shed(closed.into()).into(),
                Closed::Notes(_) | Closed::Chain(_) => closed.into(),
            })
        })?;
        affords(balance, call.gas_limit, call.fees, turn.book().flights.len())
            .map_err(|poor| Obstacle::Unavailable(poor.into()))?;
        let nonce = turn.nonce();
        let (hash, raw) = call.sign(self.desk.signer(), nonce).await.map_err(Obstacle::Unavailable)?;
        let flight = Flight {
            nonce,
            payment: Some(payment.key()),
            good_until: payment.authorization.valid_before(),
            attempts: vec![Attempt { hash, fees: call.fees, at: self.clock.now() }],
            raw: Raw(raw.clone()),
            empty: false,
        };
        self.desk.keep(turn, flight);
        Ok(Prepared { transaction: Some(hash), raw: Some(raw) })
    }

    /// Writes the transaction down and hands it to the network. An error other than *unknown* is proof that it was
    /// not sent and will not be.
    async fn send(&self, signed: Signed, deadline: Instant) -> Result<(), SettleError> {
        let hash = signed.flight.latest().hash;
        let unknown = |source: BoxError| SettleError::Unknown { transaction: Some(hash), source };
        let raw = signed.raw().clone();
        let Signed { mut turn, flight, .. } = signed;
        let nonce = flight.nonce;
        match timeout_at(deadline, self.desk.write(&mut turn, |book| book.put(flight))).await {
            Ok(Ok(())) => {}
            Ok(Err(lost @ Unwritten::Lost)) => return Err(SettleError::NotSent(lost.into())),
            // If it stands in the notes after all, whoever tends the desk sends it.
            Ok(Err(error)) => return Err(unknown(error.into())),
            Err(late) => return Err(unknown(late.into())),
        }
        failpoint::reached("before", "broadcast");
        match timeout_at(deadline, broadcast(&self.chain, hash, &raw)).await {
            Ok(Broadcast::Sent) => {
                failpoint::reached("after", "broadcast");
                self.desk.finish(turn).await;
            }
            Ok(Broadcast::NotSent(error)) => {
                let withdrawn = timeout_at(deadline, self.desk.write(&mut turn, |book| book.withdraw(nonce))).await;
                // While it stands in the notes, somebody may still send it.
                return match withdrawn {
                    Ok(Ok(())) => Err(SettleError::NotSent(error.into())),
                    Ok(Err(_)) | Err(_) => Err(unknown(error.into())),
                };
            }
            Ok(Broadcast::Perhaps) | Err(_) => {
                self.desk.finish(turn).await;
                self.desk.trouble.notify_one();
            }
        }
        Ok(())
    }

    /// Every transaction that may have settled the payment, the one that is known from elsewhere included.
    fn candidates(&self, payment: &Payment, known: Option<TransactionHash>) -> Vec<TransactionHash> {
        let mut hashes = self.desk.hashes(&payment.key());
        hashes.extend(known.filter(|known| !hashes.contains(known)));
        hashes
    }

    /// Looks at every transaction that may have settled the payment, until one of them is in a block.
    async fn mined(&self, payment: &Payment, known: TransactionHash) -> Result<(TransactionHash, Found), RpcError> {
        for hash in self.candidates(payment, Some(known)) {
            match self.chain.transfer_in(hash, payment).await? {
                Found::NotYet => {}
                found => return Ok((hash, found)),
            }
        }
        Ok((known, Found::NotYet))
    }

    /// Waits until the transaction, or a dearer one that took its place, is in a block, and looks at what it did.
    async fn await_transfer(&self, payment: &Payment, sent: &Sent, deadline: Instant) -> Result<Receipt, SettleError> {
        let mut pause = FIRST_PAUSE;
        let mut obstacle: BoxError = "the transaction is in no block yet".into();
        while Instant::now() < deadline {
            match timeout_at(deadline, self.mined(payment, sent.hash)).await {
                Ok(Ok((hash, Found::Yes { block, .. }))) => {
                    self.desk.landed(sent.nonce);
                    return Ok(self.receipt(payment, hash, block));
                }
                Ok(Ok((_, Found::No(why)))) => {
                    self.desk.landed(sent.nonce);
                    return self.after_failure(payment, sent, why, deadline).await;
                }
                Ok(Ok((_, Found::Shallow { .. }))) => {
                    self.desk.landed(sent.nonce);
                    obstacle = "the transfer is not deep enough yet for its amount".into();
                }
                Ok(Ok((_, Found::NotYet))) => {}
                Ok(Err(error)) => obstacle = error.into(),
                Err(_) => break,
            }
            tokio::time::sleep_until(deadline.min(Instant::now() + pause)).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
        Err(SettleError::Unknown { transaction: Some(sent.hash), source: obstacle })
    }

    /// Our transaction did not pay. Perhaps somebody else submitted the same authorization first: the simulation was
    /// good when ours was signed, so whoever it was came after the reservation (S18). Short of that, nobody can tell
    /// yet.
    async fn after_failure(
        &self,
        payment: &Payment,
        sent: &Sent,
        why: NotThere,
        deadline: Instant,
    ) -> Result<Receipt, SettleError> {
        match timeout_at(deadline, self.chain.find_settlement(payment, sent.signed_at)).await {
            Ok(Verdict::Settled { transaction, block, .. }) => Ok(self.receipt(payment, transaction, block)),
            Ok(Verdict::Never(_) | Verdict::CannotTell(_)) | Err(_) => {
                if why == NotThere::Reverted {
                    self.barrier.saw_revert(payment.payer().0, !is_own_key(payment), self.clock.now());
                }
                Err(SettleError::Unknown { transaction: Some(sent.hash), source: why.into() })
            }
        }
    }

    fn receipt(&self, payment: &Payment, transaction: TransactionHash, block: u64) -> Receipt {
        Receipt::of(payment, transaction, self.clock.now()).in_block(block)
    }
}

/// A transaction that is on its way.
struct Sent {
    hash: TransactionHash,
    nonce: u64,
    signed_at: Timestamp,
}

#[async_trait]
impl Facilitator for Local {
    fn name(&self) -> &str {
        &self.name
    }

    /// Offers on its chain, unless they pay the account of its own key (S59).
    fn accepts(&self, offer: &Offer, _dialect: Dialect) -> bool {
        !offer.sandbox && offer.network.id == *self.chain.network() && offer.pay_to.0 != self.address()
    }

    fn settle_timeout(&self) -> Duration {
        self.settle_timeout
    }

    fn sees_chain(&self) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        self.chain.answers()
    }

    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        match timeout(self.verify_timeout, self.ask(payment, self.simulate(payment))).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(Obstacle::Used)) => Err(decline(codes(payment).already_used).into()),
            Ok(Err(Obstacle::Declined(decline))) => Err(decline.into()),
            Ok(Err(Obstacle::Unavailable(source))) => Err(VerifyError::Unavailable(source)),
            Err(late) => Err(VerifyError::Unavailable(late.into())),
        }
    }

    fn foresee(&self, payment: &Payment) -> Option<VerifyError> {
        let turned = self.barrier.turns_away(Asked::about(payment), self.clock.now())?;
        match Obstacle::of(turned, payment) {
            Obstacle::Declined(decline) => Some(decline.into()),
            Obstacle::Unavailable(source) => Some(VerifyError::Unavailable(source)),
            Obstacle::Used => None,
        }
    }

    /// Signs the transaction. When the nonce is spent already there is nothing to sign, but the money may have moved
    /// since the payment was reserved (S18): `submit` reports that as unknown, and `outcome` finds out.
    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError> {
        match timeout(self.settle_timeout, self.ask(payment, self.sign(payment))).await {
            Ok(Ok(prepared)) => Ok(prepared),
            Ok(Err(Obstacle::Used)) => Ok(Prepared { transaction: None, raw: None }),
            Ok(Err(Obstacle::Declined(decline))) => Err(decline.into()),
            Ok(Err(Obstacle::Unavailable(source))) => Err(SettleError::NotSent(source)),
            Err(late) => Err(SettleError::NotSent(late.into())),
        }
    }

    async fn submit(&self, payment: &Payment, prepared: Prepared) -> Result<Receipt, SettleError> {
        let deadline = Instant::now() + self.settle_timeout;
        let Prepared { transaction: Some(hash), .. } = prepared else {
            let source = "the nonce was used before our transaction was signed".into();
            return Err(SettleError::Unknown { transaction: None, source });
        };
        let Some(signed) = self.desk.take(hash) else {
            return Err(SettleError::NotSent("the transaction was signed too long ago to be sent".into()));
        };
        let sent = Sent { hash, nonce: signed.flight.nonce, signed_at: signed.at };
        self.send(signed, deadline).await?;
        self.await_transfer(payment, &sent, deadline).await
    }

    async fn means(&self, payment: &Payment) -> Result<Option<Means>, BoxError> {
        let Some(signed) = payment.authorization.permit2() else { return Ok(None) };
        let asked = self.ask(payment, async {
            let means = self.chain.means(signed.token, signed.from, signed.nonce).await;
            let means = means.map_err(|error| Obstacle::Unavailable(error.into()))?;
            if !means.used && means.balance < signed.amount.units() {
                self.barrier.saw_balance(signed.from, signed.token, means.balance, self.clock.now());
                return Err(Obstacle::Declined(decline(PERMIT2.insufficient_balance)));
            }
            Ok(means)
        });
        match timeout(self.verify_timeout, asked).await? {
            Ok(means) => Ok(Some(means)),
            Err(Obstacle::Unavailable(source)) => Err(source),
            // Whoever is turned away hears why from `verify`.
            Err(Obstacle::Used | Obstacle::Declined(_)) => Ok(None),
        }
    }

    fn purse(&self) -> Option<super::Purse> {
        self.purse.shown(self.desk.book().flights.len())
    }

    /// Tends the desk, until dropped.
    async fn refresh(&self) {
        loop {
            let woken = timeout(tend::EVERY, self.desk.trouble.notified()).await.is_ok();
            if woken {
                // A node that has just failed gets a moment.
                tokio::time::sleep(tend::EVERY / 4).await;
            }
            if let Err(error) = self.tend().await {
                tracing::warn!(facilitator = %self.name, %error, "the gas key could not be looked after");
            }
        }
    }

    async fn outcome(&self, unresolved: &Unresolved) -> Outcome {
        let Unresolved { payment, transaction, reserved_at, .. } = unresolved;
        let unknown = |source| Outcome::Unknown { transaction: *transaction, source };
        // Dearer attempts of other processes stand in the notes. When those cannot be read, the search by the
        // authorization's nonce below still finds whichever transaction used it.
        if let Err(error) = self.desk.look().await {
            tracing::debug!(facilitator = %self.name, %error, "the notes of the gas key could not be read");
        }
        for hash in self.candidates(payment, *transaction) {
            match self.chain.transfer_in(hash, payment).await {
                Ok(Found::Yes { block, .. }) => return Outcome::Settled(self.receipt(payment, hash, block)),
                Ok(Found::Shallow { .. }) => {
                    return unknown("the transfer is not deep enough yet for its amount".into());
                }
                Ok(Found::No(_) | Found::NotYet) => {}
                Err(error) => return unknown(error.into()),
            }
        }
        match self.chain.find_settlement(payment, *reserved_at).await {
            Verdict::Settled { transaction, block, .. } => Outcome::Settled(self.receipt(payment, transaction, block)),
            Verdict::Never(never) => Outcome::NotSettled(decline(never.code(payment.authorization.method()))),
            Verdict::CannotTell(source) => unknown(source),
        }
    }
}

/// Whether the payer's own key signed, rather than a wallet accepted the signature.
fn is_own_key(payment: &Payment) -> bool {
    Exact.signature(&payment.offer, &payment.authorization).is_ok()
}

fn codes(payment: &Payment) -> &'static Codes {
    match payment.authorization.method() {
        TransferMethod::Eip3009 => &EIP3009,
        TransferMethod::Permit2 => &PERMIT2,
    }
}

fn decline(code: &str) -> Decline {
    Decline { code: code.to_owned() }
}
