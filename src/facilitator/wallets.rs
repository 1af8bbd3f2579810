//! Contract wallets: whether the code at the payer's address accepts a signature (ERC-1271, EIP-7702, ERC-6492).
//!
//! Nobody's word but a node's counts. Our own is asked where the network has one, else a facilitator. Either way a
//! stranger's bytes become a call to somebody outside, so the operator has to allow it for a network, and the calls are
//! rationed ([`ration`]): what is over the ration is not asked, and not sold (S32).

mod ration;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::time::{Instant, timeout_at};

use self::ration::Ration;
use super::chain::Chain;
use super::{BoxError, Decline, Facilitator, VerifyError};
use crate::payment::Payment;
use crate::primitives::{Address, Caip2, Payer, Timestamp};
use crate::scheme::WalletSignature;

/// How long one question may take, however many are asked.
const PATIENCE: Duration = Duration::from_secs(10);

/// The networks whose contract wallets are accepted, each with the factories that may create one. With none listed,
/// only wallets that exist are accepted (S30).
pub type Factories = HashMap<Caip2, Vec<Address>>;

/// Who accepts contract wallets, and where they are asked.
#[derive(Default)]
pub struct Wallets {
    accepted: ArcSwap<HashMap<Caip2, Accepted>>,
    ration: Ration,
}

/// What is accepted on a network.
#[derive(Clone)]
pub struct Accepted {
    /// The factories that may be called with our gas.
    pub factories: Vec<Address>,
    /// Our own view of the chain; without one, facilitators are asked.
    pub chain: Option<Arc<Chain>>,
}

/// Who says that the wallet accepts the signature.
pub enum Vouched {
    /// A node. It says nothing about the money.
    BySignature,
    /// A facilitator, and that the payment would settle. It need not be asked again.
    ByVerifying(Arc<dyn Facilitator>),
}

/// Why a payment is not taken for its wallet's.
#[derive(Debug, thiserror::Error)]
pub enum Unvouched {
    /// The wallet does not accept the signature.
    #[error("the wallet does not accept the signature")]
    Refused,
    /// The factory is not on the operator's list. Nobody was asked.
    #[error("the wallet's factory is not allowed")]
    Factory,
    /// A facilitator says no.
    #[error(transparent)]
    Declined(#[from] Decline),
    /// The very same question is being asked at this moment.
    #[error("the same question is being asked")]
    BeingAsked,
    /// So much is being asked that this was not.
    #[error("too many signatures of contract wallets are presented")]
    Busy,
    /// Nobody who could tell has answered.
    #[error("nobody can tell whether the wallet accepts the signature")]
    Unavailable(#[source] BoxError),
}

impl Unvouched {
    /// The same answer for whoever asks the same again.
    fn again(&self) -> Self {
        match self {
            Self::Declined(decline) => Self::Declined(decline.clone()),
            _ => Self::Refused,
        }
    }
}

impl Wallets {
    /// Accepts these from now on.
    pub fn replace(&self, accepted: HashMap<Caip2, Accepted>) {
        self.accepted.store(Arc::new(accepted));
    }

    /// Whether contract wallets may pay on a network.
    pub fn are_accepted_on(&self, network: &Caip2) -> bool {
        self.accepted.load().contains_key(network)
    }

    /// A payment of this payer has settled. A wallet that pays is no stranger for a while.
    pub fn saw_settled(&self, payer: Payer, now: Timestamp) {
        if !self.accepted.load().is_empty() {
            self.ration.saw_settled(payer.0, now);
        }
    }

    /// Asks whether the wallet accepts the signature. `facilitators` are those that could settle the payment; they are
    /// asked only where we have no view of the chain.
    ///
    /// # Errors
    /// When it does not, or nobody can tell, or nobody was asked.
    pub async fn ask(
        &self,
        presented: &WalletSignature,
        payment: &Payment,
        facilitators: &[Arc<dyn Facilitator>],
        now: Timestamp,
    ) -> Result<Vouched, Unvouched> {
        let accepted = self.accepted.load().get(&payment.offer.network.id).cloned();
        let Some(Accepted { factories, chain }) = accepted else { return Err(Unvouched::Refused) };
        if presented.creation.as_ref().is_some_and(|creation| !factories.contains(&creation.factory)) {
            return Err(Unvouched::Factory);
        }
        let question = self.ration.begin(presented, now)?;
        let deadline = Instant::now() + PATIENCE;
        let answer = match chain {
            Some(chain) => ask_chain(&chain, presented, deadline).await,
            None => ask_facilitators(facilitators, payment, deadline).await,
        };
        question.ended(&answer, now);
        answer
    }
}

async fn ask_chain(chain: &Chain, presented: &WalletSignature, deadline: Instant) -> Result<Vouched, Unvouched> {
    match timeout_at(deadline, chain.vouches(presented)).await {
        Ok(Ok(true)) => Ok(Vouched::BySignature),
        Ok(Ok(false)) => Err(Unvouched::Refused),
        Ok(Err(error)) => Err(Unvouched::Unavailable(error.into())),
        Err(late) => Err(Unvouched::Unavailable(late.into())),
    }
}

/// Verifying moves nothing, so of those that do not answer any number may be asked.
async fn ask_facilitators(
    facilitators: &[Arc<dyn Facilitator>],
    payment: &Payment,
    deadline: Instant,
) -> Result<Vouched, Unvouched> {
    let mut obstacle: BoxError = "no facilitator settles on this network now".into();
    for facilitator in facilitators {
        match timeout_at(deadline, facilitator.vouch(payment)).await {
            Ok(Ok(())) => return Ok(Vouched::ByVerifying(Arc::clone(facilitator))),
            Ok(Err(VerifyError::Declined(decline))) => return Err(decline.into()),
            Ok(Err(VerifyError::Unavailable(source))) => obstacle = source,
            Err(late) => return Err(Unvouched::Unavailable(late.into())),
        }
    }
    Err(Unvouched::Unavailable(obstacle))
}
