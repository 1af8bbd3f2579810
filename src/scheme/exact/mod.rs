//! `exact`: the amount of the offer, moved once.

pub mod eip3009;
pub mod permit2;

use std::time::Duration;

use super::{Checked, Mismatch, Scheme, WalletSignature};
use crate::payment::{Authorization, Offer};
use crate::primitives::{Timestamp, TransferMethod};

pub use eip3009::Eip3009Exact;
pub use permit2::Permit2Exact;

/// `exact`, with whatever kind of authorization the offer's token takes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Exact;

impl Scheme for Exact {
    fn terms(
        &self,
        offer: &Offer,
        authorization: &Authorization,
        now: Timestamp,
        margin: Duration,
    ) -> Result<(), Mismatch> {
        match offer.asset.method {
            TransferMethod::Eip3009 => Eip3009Exact.terms(offer, authorization, now, margin),
            TransferMethod::Permit2 => Permit2Exact.terms(offer, authorization, now, margin),
        }
    }

    fn signature(&self, offer: &Offer, authorization: &Authorization) -> Result<Checked, Mismatch> {
        match authorization {
            Authorization::Eip3009(_) => Eip3009Exact.signature(offer, authorization),
            Authorization::Permit2(_) => Permit2Exact.signature(offer, authorization),
        }
    }

    fn wallet_signature(&self, offer: &Offer, authorization: &Authorization) -> Option<WalletSignature> {
        match authorization {
            Authorization::Eip3009(_) => Eip3009Exact.wallet_signature(offer, authorization),
            Authorization::Permit2(_) => Permit2Exact.wallet_signature(offer, authorization),
        }
    }
}
