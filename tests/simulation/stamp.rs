//! A signature that costs nothing: a digest of what it signs. Curves are not what is tried here.

use std::time::Duration;

use alloy::primitives::{Bytes, keccak256};
use tollhouse::payment::{Authorization, Eip3009, Offer, SignatureBytes};
use tollhouse::primitives::Timestamp;
use tollhouse::scheme::exact::eip3009::{Eip3009Exact, struct_hash};
use tollhouse::scheme::{Checked, Mismatch, Scheme};

/// `exact` with stamps for signatures. Everything else is the real scheme's.
pub struct Stamped {
    pub believes_anything: bool,
}

impl Scheme for Stamped {
    fn terms(&self, offer: &Offer, given: &Authorization, now: Timestamp, margin: Duration) -> Result<(), Mismatch> {
        Eip3009Exact.terms(offer, given, now, margin)
    }

    fn signature(&self, offer: &Offer, given: &Authorization) -> Result<Checked, Mismatch> {
        let Authorization::Eip3009(signed) = given else { return Err(Mismatch::Method) };
        let fits = self.believes_anything || signed.signature == stamp(offer, signed);
        fits.then(|| Checked { authorization: given.clone() }).ok_or(Mismatch::Signature)
    }
}

/// Stamps what a payer promises.
pub fn stamp(offer: &Offer, signed: &Eip3009) -> SignatureBytes {
    let half = keccak256([offer.asset.address.as_slice(), struct_hash(signed).as_slice()].concat());
    let mut bytes = [27; 65];
    bytes[..32].copy_from_slice(half.as_slice());
    bytes[32..64].copy_from_slice(half.as_slice());
    SignatureBytes(Bytes::copy_from_slice(&bytes))
}
