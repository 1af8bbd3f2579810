//! What the ledger remembers a payment by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use alloy::primitives::{Address, B256, Keccak256, U256, hex};
use serde::{Deserialize, Serialize};

use super::Authorization;
use crate::primitives::{Caip2, Nonce, PERMIT2};

/// A digest of network, asset, payer and nonce in decoded binary form (S1, S3).
///
/// A nonce alone is unique only for its payer and token, and in Permit2 for its owner. Signature bytes, header bytes and the dialect stay out:
/// all three can be rewritten without changing the payment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PaymentKey(B256);

impl PaymentKey {
    /// The key of an authorization on this network and asset.
    pub fn of(network: &Caip2, asset: Address, authorization: &Authorization) -> Self {
        match authorization {
            Authorization::Eip3009(signed) => Self::of_eip3009(network, asset, signed.from, signed.nonce),
            Authorization::Permit2(signed) => Self::of_permit2(network, signed.from, signed.nonce),
        }
    }

    /// The key of an EIP-3009 authorization, of which a chain tells payer and nonce.
    pub fn of_eip3009(network: &Caip2, asset: Address, from: Address, nonce: Nonce) -> Self {
        let mut digest = Keccak256::new();
        digest.update(b"tollhouse payment eip3009\0");
        digest.update(network.as_str().as_bytes());
        digest.update([0]);
        digest.update(asset);
        digest.update(from);
        digest.update(nonce.0);
        Self(digest.finalize())
    }

    /// The key of a Permit2 authorization. Permit2 counts an owner's nonces across all tokens, so the token stays out:
    /// of two authorizations with one nonce, only one can ever be settled.
    pub fn of_permit2(network: &Caip2, owner: Address, nonce: U256) -> Self {
        let mut digest = Keccak256::new();
        digest.update(b"tollhouse payment permit2\0");
        digest.update(network.as_str().as_bytes());
        digest.update([0]);
        digest.update(PERMIT2);
        digest.update(owner);
        digest.update(nonce.to_be_bytes::<32>());
        Self(digest.finalize())
    }

    /// The key with these bytes, as a store holds them.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(B256::new(bytes))
    }

    /// The digest's bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0.0
    }
}

/// Of a digest, eight bytes tell as much as all. A map still hashes them under a secret of its own, so nobody can choose
/// payments that meet in one place.
impl Hash for PaymentKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0[..8]);
    }
}

/// Lower-case hex without a prefix, as logs, the CLI and `Tollhouse-Payment` write it.
impl fmt::Display for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(hex::Buffer::<32>::new().format(&self.0.0))
    }
}

impl fmt::Debug for PaymentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PaymentKey {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self::from_bytes(bytes))
    }
}
