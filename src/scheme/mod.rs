//! What exactly was promised?

use crate::payment::{Authorization, Chosen, ChosenNetwork, Offer};
use crate::primitives::Timestamp;

pub mod erc6492;
pub mod exact;
mod wallet;

pub use wallet::WalletSignature;

pub use exact::permit2::Breach;

/// Why a credential does not keep the promise an offer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Mismatch {
    /// Another amount was signed (S6, S10).
    #[error("the signed amount is not the price")]
    Amount,
    /// Another payee was signed (S9).
    #[error("the signed recipient is not the payee")]
    Payee,
    /// It lapses before it could be settled (S28).
    #[error("the authorization lapses too soon")]
    LapsesTooSoon,
    /// It is good for longer than any offer asks (S28).
    #[error("the authorization is valid for too long")]
    ValidTooLong,
    /// It is not good yet (S28).
    #[error("the authorization is not valid yet")]
    NotYetValid,
    /// The signature is not one the token would take, or is somebody else's (S4).
    #[error("the signature does not fit")]
    Signature,
    /// The wallet would have to be created by a factory that the operator has not listed (S30).
    #[error("the wallet's factory is not allowed")]
    Factory,
    /// The token does not take this kind of authorization.
    #[error("the offer asks for another kind of authorization")]
    Method,
    /// As above, of a Permit2 authorization: there, every fault has a code of its own.
    #[error(transparent)]
    Permit2(#[from] Breach),
}

impl Mismatch {
    /// The code that facilitators and client SDKs know it by (protocol digest, B and D2).
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Amount => "invalid_exact_evm_payload_authorization_value_mismatch",
            Self::Payee => "invalid_exact_evm_recipient_mismatch",
            // The SDKs know no "too long"; what is wrong is the same field.
            Self::LapsesTooSoon | Self::ValidTooLong => "invalid_exact_evm_payload_authorization_valid_before",
            Self::NotYetValid => "invalid_exact_evm_payload_authorization_valid_after",
            Self::Signature => "invalid_exact_evm_signature",
            Self::Factory => "eip6492_factory_not_allowed",
            Self::Method => "unsupported_payload_type",
            Self::Permit2(breach) => breach.code(),
        }
    }

    /// Whether the presenter has not shown that the payer signed.
    pub const fn is_unsigned(&self) -> bool {
        matches!(self, Self::Signature | Self::Permit2(Breach::Signature))
    }
}

/// A promise that has been checked: the authorization with its signature in the one form the token takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// As it goes to the facilitator and the ledger.
    pub authorization: Authorization,
}

/// What was promised. Pure: no I/O, no clock.
pub trait Scheme: Send + Sync + 'static {
    /// The cheap checks: amount, payee, window. In the order of their cost (S33).
    ///
    /// `margin` is how much of the authorization's life must be left.
    fn terms(
        &self,
        offer: &Offer,
        authorization: &Authorization,
        now: Timestamp,
        margin: std::time::Duration,
    ) -> Result<(), Mismatch>;

    /// The dear check: who signed.
    fn signature(&self, offer: &Offer, authorization: &Authorization) -> Result<Checked, Mismatch>;

    /// What a signature that was refused may still be: one that the payer accepts because it is a contract wallet. Only
    /// a node can tell. `None` where no wallet could.
    fn wallet_signature(&self, _offer: &Offer, _authorization: &Authorization) -> Option<WalletSignature> {
        None
    }
}

/// Whether a client's word means this offer. It selects one of ours and proves nothing (S6).
///
/// Addresses and amounts are compared as values, so letter case and leading zeros do not matter, and
/// `maxTimeoutSeconds` and `extra` are not compared at all: what was signed is checked against *our* terms and our
/// token's name, so nothing depends on the echo. That is more tolerant than the SDKs (protocol digest, A8). A v1
/// client echoes no terms and may therefore mean several offers; the signed amount and payee tell them apart.
pub fn matches(offer: &Offer, chosen: &Chosen) -> bool {
    same_but_amount(offer, chosen) && chosen.terms.as_ref().is_none_or(|echoed| echoed.amount == offer.amount)
}

/// As [`matches`], whatever the amount: a price that was replaced may still be honoured, nothing else is (S37).
pub fn same_but_amount(offer: &Offer, chosen: &Chosen) -> bool {
    let payee = chosen.terms.as_ref().is_none_or(|echoed| echoed.pay_to == offer.pay_to.0);
    chosen.scheme == offer.scheme.as_str() && payee && same_asset(offer, chosen)
}

/// Whether a client's word is about this offer's network and asset, whatever else it says.
pub fn same_asset(offer: &Offer, chosen: &Chosen) -> bool {
    let network = match &chosen.network {
        ChosenNetwork::Caip2(id) => *id == offer.network.id,
        ChosenNetwork::Name(name) => offer.network.v1_name.as_deref() == Some(name),
    };
    network && chosen.terms.as_ref().is_none_or(|echoed| echoed.asset == offer.asset.address)
}
