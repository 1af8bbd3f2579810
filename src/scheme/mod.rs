//! What exactly was promised?

use crate::payment::{Authorization, Offer};
use crate::primitives::Timestamp;

pub mod exact;

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
}
