//! A wallet that signs for real, over money that does not exist.

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::payment::{Authorization, Dialect, Eip3009, Offer, Permit2, Resource};
use crate::primitives::{Nonce, Payer, Timestamp, TransferMethod};
use crate::protocol::x402::client;
use crate::scheme::exact::{eip3009, permit2};

/// A payer with a key of its own.
#[derive(Debug, Clone)]
pub struct Wallet {
    signer: PrivateKeySigner,
}

impl Wallet {
    /// The same wallet for the same seed, in every test.
    pub fn from_seed(seed: u8) -> Self {
        Self::from_key(keccak256([seed]))
    }

    /// A wallet nobody has seen before.
    pub fn random() -> Self {
        Self { signer: PrivateKeySigner::random() }
    }

    /// The wallet of a known key.
    ///
    /// # Panics
    /// When `key` is zero or above the order of the curve.
    pub fn from_key(key: B256) -> Self {
        Self { signer: PrivateKeySigner::from_bytes(&key).expect("a test's key is on the curve") }
    }

    /// Where its money is.
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Where its money is, as the rest of the crate calls it.
    pub fn payer(&self) -> Payer {
        Payer(self.address())
    }

    /// Signs a digest: `r ‖ s ‖ v`.
    ///
    /// # Panics
    /// Never: a key in memory signs anything.
    pub fn sign_hash(&self, digest: B256) -> Bytes {
        Bytes::copy_from_slice(&self.signer.sign_hash_sync(&digest).expect("a key in memory signs").as_bytes())
    }

    /// The key itself, for what else it may sign.
    pub fn key(&self) -> &PrivateKeySigner {
        &self.signer
    }

    /// Signs the acceptance of an offer, valid between two seconds of the epoch.
    ///
    /// # Panics
    /// When the offer is not on an EVM chain.
    pub fn sign(&self, offer: &Offer, valid_after: u64, valid_before: u64, nonce: Nonce) -> Eip3009 {
        eip3009::sign(&self.signer, offer, valid_after, valid_before, nonce).expect("test offers are on EVM chains")
    }

    /// Signs as the stock clients do: from `now` for the offer's timeout, with a fresh nonce. v1 clients backdate
    /// the beginning by ten minutes, v2 clients leave it open (protocol digest, section 0).
    pub fn accept(&self, dialect: Dialect, offer: &Offer, now: Timestamp) -> Eip3009 {
        let valid_after = match dialect {
            Dialect::V1 => now.as_secs().saturating_sub(600),
            Dialect::V2 => 0,
        };
        let nonce = eip3009::random_nonce().expect("a test machine has randomness");
        self.sign(offer, valid_after, now.after(offer.max_timeout).as_secs(), nonce)
    }

    /// Signs the acceptance of an offer that takes Permit2, valid between two seconds of the epoch.
    ///
    /// # Panics
    /// When the offer is not on an EVM chain.
    pub fn sign_permit2(&self, offer: &Offer, valid_after: u64, deadline: u64, nonce: U256) -> Permit2 {
        permit2::sign(&self.signer, offer, valid_after, deadline, nonce).expect("test offers are on EVM chains")
    }

    /// Signs any 32 bytes.
    ///
    /// # Panics
    /// Never: a key in memory signs everything.
    pub fn sign_digest(&self, digest: B256) -> [u8; 65] {
        self.signer.sign_hash_sync(&digest).expect("a key in memory signs").as_bytes()
    }

    /// As [`Wallet::accept`], with whatever kind of authorization the offer's token takes.
    pub fn authorize(&self, dialect: Dialect, offer: &Offer, now: Timestamp) -> Authorization {
        match offer.asset.method {
            TransferMethod::Eip3009 => Authorization::Eip3009(self.accept(dialect, offer, now)),
            TransferMethod::Permit2 => {
                let nonce = permit2::random_nonce().expect("a test machine has randomness");
                let deadline = now.after(offer.max_timeout).as_secs();
                Authorization::Permit2(Box::new(self.sign_permit2(offer, 0, deadline, nonce)))
            }
        }
    }

    /// The request field that pays for an offer, freshly signed.
    pub fn header(
        &self,
        dialect: Dialect,
        offer: &Offer,
        quote: Option<&str>,
        resource: &Resource,
        now: Timestamp,
    ) -> (HeaderName, HeaderValue) {
        client::payment_for(dialect, offer, quote, resource, &self.authorize(dialect, offer, now))
    }

    /// Reads a 402, takes the first offer and pays it: the request field to send. `None` when there is nothing in
    /// it that can be paid.
    pub fn pay(&self, fields: &HeaderMap, body: &[u8], now: Timestamp) -> Option<(HeaderName, HeaderValue)> {
        let challenge = client::Challenge::read(fields, body).ok()?;
        let choice = challenge.choose(|_| true)?;
        let signed = self.authorize(challenge.dialect, &choice.offer, now);
        Some(challenge.payment(choice, &signed))
    }
}
