//! Would it settle? What the chain makes of a payment before anything is signed or sent for it, and whose fault it is
//! when the answer is no.

use alloy::primitives::{Bytes, U64, U128, U256};
use serde_json::{Value, json};

use super::Local;
use super::barrier::Turned;
use super::plan::{Plan, Unplanned};
use super::transaction::{Call, Fees, gas_limit};
use crate::facilitator::chain::RpcError;
use crate::facilitator::{ALLOWANCE_REQUIRED, BoxError, Decline, Shed};
use crate::payment::{Authorization, Payment};
use crate::primitives::TransferMethod;

const BAD_SIGNATURE: &str = "invalid_exact_evm_signature";

/// What the SDKs call a payer's faults (protocol digest, B).
pub(super) struct Codes {
    pub(super) already_used: &'static str,
    pub(super) insufficient_balance: &'static str,
    pub(super) simulation_failed: &'static str,
    pub(super) lapsed: &'static str,
    pub(super) too_early: &'static str,
}

static EIP3009: Codes = Codes {
    already_used: "invalid_exact_evm_nonce_already_used",
    insufficient_balance: "invalid_exact_evm_insufficient_balance",
    simulation_failed: "invalid_exact_evm_transaction_simulation_failed",
    lapsed: "invalid_exact_evm_payload_authorization_valid_before",
    too_early: "invalid_exact_evm_payload_authorization_valid_after",
};
pub(super) static PERMIT2: Codes = Codes {
    already_used: "permit2_invalid_nonce",
    insufficient_balance: "permit2_insufficient_balance",
    simulation_failed: "permit2_simulation_failed",
    lapsed: "permit2_deadline_expired",
    too_early: "permit2_not_yet_valid",
};
const NO_PROXY: &str = "permit2_proxy_not_deployed";
/// No code of the SDKs: none of them pays for gas that others waste.
const SUSPENDED: &str = "payer_suspended";

/// The tip on nodes that suggest none, in wei.
const DEFAULT_TIP: u128 = 1_000_000;

/// Why a payment would not settle now.
pub(super) enum Obstacle {
    /// The nonce is spent; on what is another question (S18, S19).
    Used,
    /// The payer's to fix.
    Declined(Decline),
    /// Nobody knows.
    Unavailable(BoxError),
}

impl Obstacle {
    pub(super) fn of(turned: Turned, payment: &Payment) -> Self {
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
    /// What the chain makes of the transfer at its latest block. A key that cannot pay for it is noticed before the
    /// backend works for nothing.
    pub(super) async fn simulate(&self, payment: &Payment) -> Result<(), Obstacle> {
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
    pub(super) async fn call(&self, payment: &Payment) -> Result<Call, Obstacle> {
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
    pub(super) async fn fees(&self) -> Result<Fees, BoxError> {
        self.market(self.max_gas_price).await
    }

    /// What gas costs now, up to a ceiling.
    pub(super) async fn market(&self, ceiling: Option<u128>) -> Result<Fees, BoxError> {
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
}

pub(super) fn codes(payment: &Payment) -> &'static Codes {
    match payment.authorization.method() {
        TransferMethod::Eip3009 => &EIP3009,
        TransferMethod::Permit2 => &PERMIT2,
    }
}

pub(super) fn decline(code: &str) -> Decline {
    Decline { code: code.to_owned() }
}
