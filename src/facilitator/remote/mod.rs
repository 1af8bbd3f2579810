//! An x402 facilitator over HTTP (protocol digest, C).
//!
//! Its word is a claim. A claim that money moved counts only with every detail we asked for (S15) and, where we have
//! a node, only with the transfer log (S16). A claim that it did not counts only for the refusals that prove it
//! (S13). Everything between is unknown, and unknown is not failed (I4).

mod answer;
mod declines;
mod kinds;
mod newcomers;
mod reach;
#[cfg(feature = "testing")]
pub(crate) mod readers;
mod recheck;
mod wire;
mod witness;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::Instant;

pub use answer::Contradiction;
pub(super) use answer::Inconclusive;
pub use wire::check_url;
pub use witness::{Witness, Witnessed};

use super::cdp::InvalidKey;
use super::chain::{Disagreement, Verdict};
use super::{
    BoxError, Config, Decline, Facilitator, Kind, Means, Outcome, Prepared, SettleError, Standing, Trust, Unresolved,
    VerifyError,
};
use crate::payment::{Dialect, Offer, Payment, Receipt, SettleMode, TransactionHash};
use crate::primitives::{Caip2, Clock, TransferMethod};
use crate::protocol::x402::wire::facilitator_request;
use answer::Ruling;
use kinds::Kinds;
use newcomers::Newcomers;
use wire::{Endpoint, Lost, Wire};

/// How long an answer to `/supported` is good for (protocol digest, J10).
const REFRESH: Duration = Duration::from_secs(5 * 60);
/// How soon to ask again after the first failure; doubles with every further one.
const FIRST_RETRY: Duration = Duration::from_secs(1);
/// How long to wait at most after a failure.
const LAST_RETRY: Duration = Duration::from_secs(30);
/// How long `/supported` may take. Nobody waits for it.
const SUPPORTED_TIMEOUT: Duration = Duration::from_secs(10);

/// An x402 facilitator over HTTP.
pub struct Remote {
    name: Arc<str>,
    networks: Vec<Caip2>,
    verify_timeout: Duration,
    settle_timeout: Duration,
    wire: Wire,
    kinds: Kinds,
    newcomers: Newcomers,
    witness: Option<Arc<dyn Witness>>,
    clock: Arc<dyn Clock>,
}

/// Why there can be no such facilitator. `config` finds most of these first, with line and column.
#[derive(Debug, thiserror::Error)]
pub enum Misconfigured {
    /// The configuration describes another kind.
    #[error("not an HTTP facilitator")]
    NotRemote,
    /// Plain HTTP to another machine (S61).
    #[error("only a facilitator on this machine may be reached without https")]
    Insecure,
    /// A link-local, metadata or otherwise impossible address (S61).
    #[error("the url's host is not an address that a facilitator may have")]
    Address,
    /// More than scheme, host, port and path.
    #[error("the url must not hold a user, a query or a fragment")]
    NotABase,
    /// A token with characters that no header may hold.
    #[error("the bearer token is not a header value")]
    Bearer,
    /// A CDP secret that is not a key.
    #[error(transparent)]
    Cdp(#[from] InvalidKey),
    /// The HTTP client cannot be made: usually no root certificates on this machine.
    #[error("the HTTP client cannot be made")]
    Client(#[source] reqwest::Error),
}

impl Remote {
    /// The facilitator this configuration describes. `witness` is asked only where the configuration says
    /// `trust: verify`.
    ///
    /// # Errors
    /// When the configuration cannot mean an HTTP facilitator.
    pub fn new(
        config: &Config,
        witness: Option<Arc<dyn Witness>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, Misconfigured> {
        let Kind::Remote { url, auth, trust } = &config.kind else { return Err(Misconfigured::NotRemote) };
        Ok(Self {
            name: config.name.clone(),
            networks: config.networks.clone(),
            verify_timeout: config.verify_timeout,
            settle_timeout: config.settle_timeout,
            wire: Wire::new(url, auth, config.verify_timeout.min(config.settle_timeout), clock.clone())?,
            kinds: Kinds::default(),
            newcomers: Newcomers::on(&config.networks),
            witness: witness.filter(|_| *trust == Trust::Verify),
            clock,
        })
    }

    /// Written once for each call: what is repeated is repeated byte for byte, as `settlement_pending` asks. A network
    /// that has left `/supported` since the payment was offered is still asked about, in v2.
    fn body(&self, payment: &Payment) -> Bytes {
        let version = match payment.authorization.method() {
            TransferMethod::Eip3009 => self.kinds.version(&payment.offer.network, payment.dialect),
            TransferMethod::Permit2 => None,
        };
        let version = version.unwrap_or(Dialect::V2);
        facilitator_request(payment, version).to_string().into()
    }

    /// What is proven: by our own look at the chain where we can look, else by the facilitator's word.
    async fn attest(
        &self,
        payment: &Payment,
        transaction: TransactionHash,
        deadline: Instant,
    ) -> Result<Receipt, BoxError> {
        let receipt = self.receipt(payment, transaction);
        match self.witness.as_deref() {
            Some(witness) if witness.watches(&payment.offer.network.id) => {
                Ok(receipt.in_block(witness::attest(witness, payment, transaction, deadline).await?))
            }
            _ => Ok(receipt),
        }
    }

    fn receipt(&self, payment: &Payment, transaction: TransactionHash) -> Receipt {
        Receipt::of(payment, transaction, self.clock.now())
    }

    async fn learn_kinds(&self) -> Result<(), BoxError> {
        let deadline = Instant::now() + SUPPORTED_TIMEOUT;
        let reply = self.wire.ask(Endpoint::Supported, None, deadline).await.map_err(Lost::into_cause)?;
        if !reply.status.is_success() {
            return Err(format!("HTTP status {}", reply.status.as_u16()).into());
        }
        self.kinds.hear(&reply.body)
    }
}

#[async_trait]
impl Facilitator for Remote {
    fn name(&self) -> &str {
        &self.name
    }

    /// Play money never leaves this process, whatever its network is called.
    fn accepts(&self, offer: &Offer, dialect: Dialect) -> bool {
        !offer.sandbox
            && self.networks.contains(&offer.network.id)
            && match offer.asset.method {
                TransferMethod::Eip3009 => self.kinds.version(&offer.network, dialect).is_some(),
                TransferMethod::Permit2 => dialect == Dialect::V2 && self.kinds.speaks_v2(&offer.network),
            }
    }

    fn settle_timeout(&self) -> Duration {
        self.settle_timeout
    }

    fn is_up(&self) -> bool {
        self.wire.answers()
    }

    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        let _asking = self.newcomers.pass(payment, self.clock.now())?;
        let verdict = self.ask_to_verify(payment).await;
        self.newcomers.heard(payment, verdict.as_ref().map_err(VerifyError::decline), self.clock.now());
        verdict
    }

    /// Contract wallets have a ration of their own.
    async fn vouch(&self, payment: &Payment) -> Result<(), VerifyError> {
        self.ask_to_verify(payment).await
    }

    fn foresee(&self, payment: &Payment) -> Option<VerifyError> {
        self.newcomers.turns_away(payment, self.clock.now()).map(VerifyError::from)
    }

    /// Where settling is the proof, this is where a stranger may be turned away: nothing is on its way yet.
    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError> {
        if payment.offer.settle == SettleMode::BeforeForward {
            let _passes = self.newcomers.pass(payment, self.clock.now())?;
        }
        Ok(Prepared { transaction: None, raw: None })
    }

    /// Asks once. Only `settlement_pending` is answered with the same bytes once more, as its contract says: the
    /// facilitator then waits for the transaction it has sent.
    async fn submit(&self, payment: &Payment, _prepared: Prepared) -> Result<Receipt, SettleError> {
        let _asking = self.newcomers.count_in(payment, self.clock.now());
        let settled = self.ask_to_settle(payment).await;
        self.newcomers.heard(payment, settled.as_ref().map_err(SettleError::decline), self.clock.now());
        settled
    }

    /// Looks at the chain first where it can, then repeats the settlement: the only question this API offers. The
    /// authorization moves money once however often it is presented.
    ///
    /// Of the facilitator's answers only success counts. A refusal may describe the world after our own success (its
    /// nonce used, its balance spent, its window over), so it proves nothing: without a node an unknown stays unknown
    /// until the facilitator says `success` or a person resolves it (S16).
    async fn outcome(&self, unresolved: &Unresolved) -> Outcome {
        let payment = &unresolved.payment;
        if let Some(proven) = self.look(unresolved).await {
            return proven;
        }
        let deadline = Instant::now() + self.settle_timeout;
        match self.insist(payment, self.body(payment), unresolved.transaction, deadline).await {
            Ok(transaction) => match self.attest(payment, transaction, deadline).await {
                Ok(receipt) => Outcome::Settled(receipt),
                Err(source) => Outcome::Unknown { transaction: Some(transaction), source },
            },
            Err((transaction, source)) => Outcome::Unknown { transaction, source },
        }
    }

    /// What our own node proves, where there is one. The transaction we know of is looked at by itself first: that
    /// takes one question, a search takes many.
    async fn look(&self, unresolved: &Unresolved) -> Option<Outcome> {
        let Unresolved { payment, transaction, reserved_at, .. } = unresolved;
        let witness = self.witness.as_deref().filter(|witness| witness.watches(&payment.offer.network.id))?;
        let look = async {
            if let Some(known) = *transaction
                && let Ok(Witnessed::Yes { block }) = witness.witnessed(payment, known).await
            {
                return Some(Outcome::Settled(self.receipt(payment, known).in_block(block)));
            }
            match witness.settlement(payment, *reserved_at).await {
                Verdict::Settled { transaction, block, .. } => {
                    Some(Outcome::Settled(self.receipt(payment, transaction).in_block(block)))
                }
                Verdict::Never(never) => {
                    Some(Outcome::NotSettled(Decline { code: never.code(payment.authorization.method()).to_owned() }))
                }
                // Asking the facilitator would not tell which of our nodes is right.
                Verdict::CannotTell(source) if Disagreement::is_behind(&*source) => {
                    Some(Outcome::Unknown { transaction: *transaction, source })
                }
                Verdict::CannotTell(_) => None,
            }
        };
        tokio::time::timeout(self.settle_timeout, look).await.ok().flatten()
    }

    /// By the nonces first: nearly all of them are unused, and that is one question. Only what may have been used is
    /// looked for by its transfer.
    async fn recheck(&self, declined: &[Unresolved]) -> Vec<Standing> {
        match self.witness.as_deref() {
            Some(witness) => recheck::recheck(witness, declined, |payment, at| self.receipt(payment, at)).await,
            None => declined.iter().map(|_| Standing::Stands).collect(),
        }
    }

    /// What our own node shows, where there is one.
    async fn means(&self, payment: &Payment) -> Result<Option<Means>, BoxError> {
        match self.witness.as_deref().zip(payment.authorization.permit2()) {
            Some((witness, _)) if witness.watches(&payment.offer.network.id) => {
                tokio::time::timeout(self.verify_timeout, witness.means(payment)).await?.map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Asks `/supported` at once and every five minutes; failures are retried with growing pauses, and the last
    /// good answer stands meanwhile.
    async fn refresh(&self) {
        let mut failures = 0;
        loop {
            match self.learn_kinds().await {
                Ok(()) => failures = 0,
                Err(error) => {
                    failures += 1;
                    tracing::warn!(facilitator = %self.name, error = %error, failures, "cannot ask what is supported");
                }
            }
            tokio::time::sleep(jittered(pause(failures))).await;
        }
    }
}

impl Remote {
    /// Asks once more when the connection failed: verifying moves nothing.
    async fn ask_to_verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        let deadline = Instant::now() + self.verify_timeout;
        let body = self.body(payment);
        let reply = match self.wire.ask(Endpoint::Verify, Some(body.clone()), deadline).await {
            Err(lost) if lost.is_the_connection() && Instant::now() < deadline => {
                self.wire.ask(Endpoint::Verify, Some(body), deadline).await
            }
            answered => answered,
        };
        let reply = reply.map_err(|lost| VerifyError::Unavailable(lost.into_cause()))?;
        answer::verified(&reply, payment)
    }

    async fn ask_to_settle(&self, payment: &Payment) -> Result<Receipt, SettleError> {
        let deadline = Instant::now() + self.settle_timeout;
        let body = self.body(payment);
        let reply = match self.wire.ask(Endpoint::Settle, Some(body.clone()), deadline).await {
            Ok(reply) => reply,
            Err(Lost::NotSent(cause)) => return Err(SettleError::NotSent(cause)),
            Err(Lost::NoAnswer(source)) => return Err(SettleError::Unknown { transaction: None, source }),
        };
        let transaction = match answer::settled(&reply, payment) {
            Ruling::Settled(transaction) => transaction,
            Ruling::Declined(decline) => return Err(decline.into()),
            Ruling::Unclear { transaction, source } => return Err(SettleError::Unknown { transaction, source }),
            Ruling::Pending(transaction) => self
                .insist(payment, body, transaction, deadline)
                .await
                .map_err(|(transaction, source)| SettleError::Unknown { transaction, source })?,
        };
        match self.attest(payment, transaction, deadline).await {
            Ok(receipt) => Ok(receipt),
            Err(source) => Err(SettleError::Unknown { transaction: Some(transaction), source }),
        }
    }

    /// Sends the same bytes again after a settlement whose end is unknown. `Ok` is the facilitator's strict word for
    /// success; anything else leaves it unknown, with the latest transaction that is known.
    async fn insist(
        &self,
        payment: &Payment,
        body: Bytes,
        known: Option<TransactionHash>,
        deadline: Instant,
    ) -> Result<TransactionHash, (Option<TransactionHash>, BoxError)> {
        let reply = match self.wire.ask(Endpoint::Settle, Some(body), deadline).await {
            Ok(reply) => reply,
            Err(lost) => return Err((known, lost.into_cause())),
        };
        match answer::settled(&reply, payment) {
            Ruling::Settled(transaction) => Ok(transaction),
            Ruling::Pending(transaction) => {
                Err((transaction.or(known), Inconclusive("settlement_pending".into()).into()))
            }
            Ruling::Declined(decline) => Err((known, decline.into())),
            Ruling::Unclear { transaction, source } => Err((transaction.or(known), source)),
        }
    }
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("name", &self.name).field("networks", &self.networks).finish_non_exhaustive()
    }
}

/// The pause before the next question, after this many failures in a row.
fn pause(failures: u32) -> Duration {
    match failures.checked_sub(1) {
        None => REFRESH,
        Some(further) => FIRST_RETRY.saturating_mul(1 << further.min(10)).min(LAST_RETRY),
    }
}

/// Up to a fifth shorter, so that a fleet started together does not ask together.
fn jittered(span: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness there is merely no jitter.
    let _ = SystemRandom::new().fill(&mut byte);
    span - span.mul_f64(f64::from(byte[0]) / 255.0 / 5.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn i7_questions_are_spaced_out_while_nobody_answers() {
        let seconds: Vec<u64> = (0..9).map(|failures| pause(failures).as_secs()).collect();
        assert_eq!(seconds, [300, 1, 2, 4, 8, 16, 30, 30, 30]);
        assert_eq!(pause(u32::MAX), LAST_RETRY);
        let spread = jittered(REFRESH);
        assert!(spread <= REFRESH && spread >= REFRESH.mul_f64(0.79));
    }
}
