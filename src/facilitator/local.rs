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
mod dues;
mod notes;
mod plan;
mod purse;
mod signer;
mod tend;
mod transaction;
mod trial;
mod voyage;

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, U256};
use async_trait::async_trait;
use tokio::time::{Instant, timeout};

use self::barrier::{Barrier, Turned};
use self::book::{Attempt, Flight, Raw};
use self::desk::Closed;
use self::dues::Dues;
use self::purse::{Purse, affords};
use self::tend::Tending;
use self::transaction::Fees;
use self::trial::{Obstacle, PERMIT2, codes, decline};
use self::voyage::Sent;
use super::chain::{Chain, Found, Verdict};
use super::strangers::Asked;
use super::{BoxError, Facilitator, Means, Outcome, Prepared, SettleError, Shed, Unresolved, VerifyError};
use crate::payment::{Dialect, Offer, Payment, Receipt, TransactionHash};
use crate::primitives::{Clock, Dollars, Payee};
use crate::scheme::Scheme as _;
use crate::scheme::exact::Exact;

pub use self::desk::Desk;
pub use self::notes::{Note, Noted, Notes};
pub use self::purse::{USUAL_GAS, usual_gas};
pub use self::signer::{Held, Signer};

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
    /// What one whole coin of the network costs. Without it prices are not held against the cost of gas (S31).
    pub coin_price: Option<Dollars>,
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
    verify_timeout: Duration,
    settle_timeout: Duration,
    purse: Purse,
    dues: Dues,
    barrier: Barrier,
    tending: Tending,
    clock: Arc<dyn Clock>,
}

impl Local {
    /// A facilitator that pays with the key of its desk.
    ///
    /// # Errors
    /// When it is the key of one of the payees.
    pub fn new(setup: Setup, payees: &[Payee], clock: Arc<dyn Clock>) -> Result<Self, KeyError> {
        let Setup { name, chain, desk, max_gas_price, alarm_below, coin_price, verify_timeout, settle_timeout } = setup;
        if payees.contains(&Payee(desk.address())) {
            return Err(KeyError::IsPayee(desk.address()));
        }
        let (purse, dues) = (Purse::new(alarm_below), Dues::new(coin_price));
        let (barrier, tending) = (Barrier::default(), Tending::default());
        Ok(Self {
            name,
            chain,
            desk,
            max_gas_price,
            verify_timeout,
            settle_timeout,
            purse,
            dues,
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

    fn receipt(&self, payment: &Payment, transaction: TransactionHash, block: u64) -> Receipt {
        Receipt::of(payment, transaction, self.clock.now()).in_block(block)
    }
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

    fn pays_off(&self, offer: &Offer) -> bool {
        self.dues.covered_by(offer, self.clock.now())
    }

    fn gas_cost(&self) -> Option<Dollars> {
        self.dues.cost(self.clock.now())
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

    fn is_on_its_way(&self, payment: &Payment) -> bool {
        !self.desk.hashes(&payment.key()).is_empty()
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
