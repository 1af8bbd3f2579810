//! Who confirms a payment, and who moves the money?

mod breaker;
mod budget;
mod cdp;
pub mod chain;
mod guarded;
pub mod local;
mod pool;
mod remote;
pub mod sandbox;
mod strangers;
pub mod wallets;

pub use breaker::{BreakerConfig, BreakerState};
pub use guarded::{Guarded, Notice, Tell};
pub use pool::Pool;
#[cfg(feature = "testing")]
pub(crate) use remote::readers;
pub use remote::{Contradiction, Misconfigured, Remote, Witness, Witnessed, check_url};
pub use wallets::{Factories, Wallets};

use std::time::Duration;

use async_trait::async_trait;

use crate::payment::{Dialect, Offer, Payment, Receipt, TransactionHash};

/// Boxed cause of a failure that is not the payer's.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Whether an error of this type is this one or among its causes.
fn is_behind<E: std::error::Error + 'static>(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<E>())
}

/// A limit of our own turned a payment away, for payers to bring about. It says nothing about whoever would have been
/// asked, so breakers do not count it: or a flood of strangers could close the shop for everybody (S32).
#[derive(Debug, thiserror::Error)]
#[error("a limit of the gateway is reached")]
struct Shed(#[source] BoxError);

/// The payer's to fix: it is proven that nothing moved. `code` is the facilitator's, for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("declined: {code}")]
pub struct Decline {
    /// A code in the SDKs' vocabulary: `insufficient_funds`.
    pub code: String,
}

/// The code of a payer who has the money and has not let Permit2 move it, or not enough of it.
pub const ALLOWANCE_REQUIRED: &str = "permit2_allowance_required";

impl Decline {
    /// Whether the authorization has been used on chain, by whomever. Not proof of a payment (S19), and not proof
    /// that there was none (S18).
    pub fn nonce_used(&self) -> bool {
        self.code.ends_with("nonce_already_used") || self.code == "permit2_invalid_nonce"
    }
}

/// What a payer could pay with through Permit2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Means {
    /// What the payer holds of the token, in smallest units.
    pub balance: alloy::primitives::U256,
    /// How much of it Permit2 may move.
    pub allowance: alloy::primitives::U256,
    /// Whether the nonce was used up by then. Then this very payment may be what left too little (S18).
    pub used: bool,
}

/// Why a payment is not confirmed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The payer's to fix.
    #[error(transparent)]
    Declined(#[from] Decline),
    /// Ours or the facilitator's: nobody knows, nothing moved.
    #[error("the facilitator is unavailable")]
    Unavailable(#[source] BoxError),
}

impl VerifyError {
    /// What the payer has to fix, if that is it.
    pub fn decline(&self) -> Option<&Decline> {
        match self {
            Self::Declined(decline) => Some(decline),
            Self::Unavailable(_) => None,
        }
    }
}

/// Why a settlement did not end in a receipt.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// Proven not to have moved anything and not to be about to (S13).
    #[error(transparent)]
    Declined(#[from] Decline),
    /// Certain not to have reached the facilitator: nothing moved.
    #[error("the facilitator could not be reached")]
    NotSent(#[source] BoxError),
    /// May or may not have moved money. Never treat this as a decline (I4).
    #[error("the outcome of the settlement is unknown")]
    Unknown {
        /// The transaction, when one is known.
        transaction: Option<TransactionHash>,
        /// What went wrong.
        #[source]
        source: BoxError,
    },
}

impl SettleError {
    /// What the payer has to fix, if that is it.
    pub fn decline(&self) -> Option<&Decline> {
        match self {
            Self::Declined(decline) => Some(decline),
            Self::NotSent(_) | Self::Unknown { .. } => None,
        }
    }
}

/// What reconciliation found out.
#[derive(Debug)]
pub enum Outcome {
    /// The money moved.
    Settled(Receipt),
    /// It is proven that it did not and cannot any more.
    NotSettled(Decline),
    /// Nobody can tell yet.
    Unknown {
        /// The transaction, when it has become known.
        transaction: Option<TransactionHash>,
        /// What stands in the way, for the log.
        source: BoxError,
    },
}

/// What our own node says about a settlement that a facilitator has declined (S16).
#[derive(Debug)]
pub enum Standing {
    /// There is nobody to ask, or nobody needs to be: the word stands.
    Stands,
    /// Nothing has moved so far. What was signed may still be sent.
    Open,
    /// Nothing moved and nothing will.
    Dead(Decline),
    /// The money moved all the same.
    Moved(Receipt),
    /// Nobody can tell.
    Unclear(BoxError),
}

/// A payment on the brink of settlement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prepared {
    /// The transaction that will settle it, when it is known before it is sent (local facilitator, S21).
    pub transaction: Option<TransactionHash>,
    /// What `submit` needs besides: the raw signed transaction of a local facilitator.
    pub raw: Option<alloy::primitives::Bytes>,
}

/// A settlement whose end is not known, as the ledger remembers it.
#[derive(Debug, Clone)]
pub struct Unresolved {
    /// What was asked for.
    pub payment: Payment,
    /// The transaction, when it is known.
    pub transaction: Option<TransactionHash>,
    /// When the payment was reserved: a transfer found on chain counts only if it came later (S18).
    pub reserved_at: crate::primitives::Timestamp,
    /// When settlement was asked for.
    pub since: crate::primitives::Timestamp,
}

/// Who confirms a payment, and who moves the money. Called only with payments whose local checks have passed.
#[async_trait]
pub trait Facilitator: Send + Sync + 'static {
    /// Its name in `gateway.yaml`; the ledger remembers it.
    fn name(&self) -> &str;

    /// Whether it can settle this offer in this dialect, as far as is known now. Never calls out.
    fn accepts(&self, offer: &Offer, dialect: Dialect) -> bool;

    /// Whether settling this offer costs us less than it brings in, as far as is known (S31). Only whoever is about to take
    /// a new payment asks: one that was taken is settled whatever it costs. Never calls out.
    fn pays_off(&self, _offer: &Offer) -> bool {
        true
    }

    /// What a settlement costs us in gas, as last seen, if anybody looks.
    fn gas_cost(&self) -> Option<crate::primitives::Dollars> {
        None
    }

    /// How long `submit` may take.
    fn settle_timeout(&self) -> Duration;

    /// Confirms that the payment would settle. Moves nothing.
    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError>;

    /// As `verify`, for a payment that nothing is proven of: junk may be in it. What becomes of it says nothing about
    /// the facilitator, since any stranger can bring it about.
    async fn vouch(&self, payment: &Payment) -> Result<(), VerifyError> {
        self.verify(payment).await
    }

    /// What `verify` would say without asking anybody: what it was told a moment ago, or that a limit of our own is
    /// reached (S32). `None` when it would ask. So what is turned away costs no line in the ledger.
    fn foresee(&self, _payment: &Payment) -> Option<VerifyError> {
        None
    }

    /// Everything up to the point of no return. A local facilitator signs the transaction here, so that its hash
    /// is in the ledger before anyone can see it; a remote one has nothing to add.
    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError>;

    /// Whether a transaction that settles it is in the air already, so that another one could only revert. Calls nobody.
    fn is_on_its_way(&self, _payment: &Payment) -> bool {
        false
    }

    /// The point of no return.
    async fn submit(&self, payment: &Payment, prepared: Prepared) -> Result<Receipt, SettleError>;

    /// Finds out how a settlement ended. Asking must not move money that the payer did not authorize.
    async fn outcome(&self, unresolved: &Unresolved) -> Outcome;

    /// What can be found out about a settlement without asking anybody but our own node of the chain. `None` when there
    /// is none, or when it cannot tell.
    async fn look(&self, _unresolved: &Unresolved) -> Option<Outcome> {
        None
    }

    /// What our own node says about settlements that this facilitator has declined, in their order (S16). While nothing has
    /// moved that is one question for all of them.
    async fn recheck(&self, declined: &[Unresolved]) -> Vec<Standing> {
        declined.iter().map(|_| Standing::Stands).collect()
    }

    /// What the payer could pay with, where there is a node to ask and the token takes Permit2; `None` where there is
    /// not. A signature for Permit2 holds nothing back, so several may be good for the same money (S36).
    ///
    /// # Errors
    /// When there is a node and it does not tell.
    async fn means(&self, _payment: &Payment) -> Result<Option<Means>, BoxError> {
        Ok(None)
    }

    /// Whether it looks at the chain itself, so that asking it how a payment ended moves nothing (S18).
    fn sees_chain(&self) -> bool {
        false
    }

    /// Whether it answered when it was last asked; true before it ever was. Never calls out.
    fn is_up(&self) -> bool;

    /// How the key that pays its gas is doing, as last seen, if there is one.
    fn purse(&self) -> Option<Purse> {
        None
    }

    /// What its breakers let through, by network; empty where there are none.
    fn breakers(&self) -> Vec<(crate::primitives::Caip2, BreakerState)> {
        Vec::new()
    }

    /// Keeps what is known of it fresh, until dropped: `/supported`, head of the chain. Returns when there is
    /// nothing to keep fresh.
    async fn refresh(&self) {}
}

/// How a key that pays gas is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purse {
    /// What it holds, in wei.
    pub balance: alloy::primitives::U256,
    /// Whether that is little enough for an alarm.
    pub is_low: bool,
    /// How many of its transactions are in no block yet.
    pub in_flight: usize,
}

/// A facilitator as the file describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its name; the ledger remembers it.
    pub name: std::sync::Arc<str>,
    /// The networks it is used for, by CAIP-2 identifier.
    pub networks: Vec<crate::primitives::Caip2>,
    /// How long `verify` may take.
    pub verify_timeout: Duration,
    /// How long `settle` may take.
    pub settle_timeout: Duration,
    /// What stands behind the name.
    pub kind: Kind,
}

/// What stands behind a facilitator's name.
#[derive(Debug, Clone, PartialEq)]
pub enum Kind {
    /// An x402 facilitator over HTTP.
    Remote {
        /// Base URL without a trailing slash.
        url: url::Url,
        /// How it knows us.
        auth: Auth,
        /// Whether its word is checked against the chain, where a node is configured (S16).
        trust: Trust,
    },
    /// Our own node and key.
    Local {
        /// Nodes, the first preferred.
        rpc: Vec<crate::primitives::Secret<String>>,
        /// The key that pays gas, as 32 bytes; refused if its address is any `pay_to` (S59).
        signer: crate::primitives::Secret<[u8; 32]>,
        /// Above this gas price (wei per gas) nothing is sent.
        max_gas_price: Option<u128>,
        /// When the key holds less than this (wei), the alarm is raised.
        alarm_below: Option<u128>,
        /// What one whole coin of the network costs, for a comparison of prices with gas (S31).
        coin_price: Option<crate::primitives::Dollars>,
        /// How deep a transfer has to lie before it counts.
        confirmations: chain::Confirmations,
    },
    /// Play money in this process.
    Sandbox,
}

/// How a remote facilitator knows us.
#[derive(Debug, Clone, PartialEq)]
pub enum Auth {
    /// It does not ask.
    None,
    /// `Authorization: Bearer …`, the same for every call.
    Bearer(crate::primitives::Secret<String>),
    /// Coinbase Developer Platform: a fresh token for every call (protocol digest, C).
    Cdp {
        /// The key's id.
        key_id: crate::primitives::Secret<String>,
        /// PEM EC key, or base64 of an Ed25519 seed and public key.
        secret: crate::primitives::Secret<String>,
    },
}

/// What a facilitator's word is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// The transfer log is looked up on our own node before a settlement counts.
    Verify,
    /// Its word is taken.
    Facilitator,
}

/// How deep transfers have to lie before they count, by network. Networks that are not in it take one block.
pub type Depths = std::collections::HashMap<crate::primitives::Caip2, chain::Confirmations>;

/// Nodes to look a transfer up on, by network.
pub type Nodes = std::collections::HashMap<crate::primitives::Caip2, Vec<crate::primitives::Secret<String>>>;
