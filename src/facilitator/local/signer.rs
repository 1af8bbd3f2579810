//! Who signs transactions. The key may stand in this process; a key service would implement the same trait.

use alloy::primitives::{Address, B256, Signature};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use async_trait::async_trait;

use super::KeyError;
use crate::facilitator::BoxError;
use crate::primitives::Secret;

/// A key that pays for gas, wherever it is kept.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The account it signs for.
    fn address(&self) -> Address;

    /// Signs a digest. A service may take its time; nothing has been sent when this fails.
    ///
    /// # Errors
    /// When the key cannot be used now.
    async fn sign(&self, digest: B256) -> Result<Signature, BoxError>;
}

/// A key in this process.
pub struct Held(PrivateKeySigner);

impl Held {
    /// Takes a key of 32 bytes.
    ///
    /// # Errors
    /// When the bytes are no key.
    pub fn new(key: &Secret<[u8; 32]>) -> Result<Self, KeyError> {
        PrivateKeySigner::from_slice(key.expose()).map(Self).map_err(|_| KeyError::Invalid)
    }
}

#[async_trait]
impl Signer for Held {
    fn address(&self) -> Address {
        self.0.address()
    }

    async fn sign(&self, digest: B256) -> Result<Signature, BoxError> {
        Ok(self.0.sign_hash_sync(&digest)?)
    }
}
