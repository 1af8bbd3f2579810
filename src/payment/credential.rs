//! What a client presents, decoded and typed but not yet believed.

use std::fmt;

use alloy::primitives::{Address, B256, Bytes, U256};
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::primitives::{AtomicAmount, Caip2, Nonce, Payer};

/// The two dialects of x402. One signature presented in both is one payment (S3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// `X-PAYMENT`; the challenge stands in the body.
    V1,
    /// `PAYMENT-SIGNATURE`; the challenge stands in a header.
    V2,
}

impl Dialect {
    /// `x402Version` on the wire.
    pub const fn version(self) -> u8 {
        match self {
            Self::V1 => 1,
            Self::V2 => 2,
        }
    }
}

/// A payment as a client presented it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// How it was spoken.
    pub dialect: Dialect,
    /// Which offer it claims to accept. Unsigned: it only selects one of ours (S6).
    pub chosen: Chosen,
    /// What was signed.
    pub authorization: Authorization,
}

/// The client's word about which offer it accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// Its scheme, verbatim.
    pub scheme: String,
    /// Its network, in the spelling of the dialect.
    pub network: ChosenNetwork,
    /// Its terms; v1 clients echo none.
    pub terms: Option<ChosenTerms>,
    /// `resource.url`, when echoed; advisory (S7).
    pub resource_url: Option<String>,
}

/// A network as the dialects spell it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChosenNetwork {
    /// v2: `eip155:8453`.
    Caip2(Caip2),
    /// v1: `base`.
    Name(String),
}

/// The terms a v2 client echoes in `accepted`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChosenTerms {
    /// Smallest units.
    pub amount: AtomicAmount,
    /// The token contract.
    pub asset: Address,
    /// The payee.
    pub pay_to: Address,
    /// `extra.quote`, when the client kept it.
    pub quote: Option<String>,
}

/// What was signed. One variant for each way a token lets itself be moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Authorization {
    /// `transferWithAuthorization` on the token itself.
    Eip3009(Eip3009),
}

impl Authorization {
    /// Whose money it moves.
    pub fn payer(&self) -> Payer {
        match self {
            Self::Eip3009(signed) => Payer(signed.from),
        }
    }

    /// A SHA-256 digest of all that was signed, and of the signature: the same only for the very same authorization.
    pub fn digest(&self) -> B256 {
        let mut digest = digest::Context::new(&digest::SHA256);
        match self {
            Self::Eip3009(signed) => {
                digest.update(b"tollhouse authorization eip3009\0");
                digest.update(signed.from.as_slice());
                digest.update(signed.to.as_slice());
                for number in [signed.value.units(), signed.valid_after, signed.valid_before] {
                    digest.update(&number.to_be_bytes::<32>());
                }
                digest.update(signed.nonce.0.as_slice());
                digest.update(&signed.signature.0);
            }
        }
        B256::from_slice(digest.finish().as_ref())
    }

    /// When it lapses, in seconds since the epoch; saturates.
    pub fn valid_before(&self) -> u64 {
        match self {
            Self::Eip3009(signed) => signed.valid_before.saturating_to(),
        }
    }
}

/// The message of EIP-3009 and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eip3009 {
    /// The payer.
    pub from: Address,
    /// The payee.
    pub to: Address,
    /// Smallest units.
    pub value: AtomicAmount,
    /// Good from this second on, exclusive on chain.
    pub valid_after: U256,
    /// Good until this second, exclusive.
    pub valid_before: U256,
    /// Unique for payer and token.
    pub nonce: Nonce,
    /// Normalised to `r ‖ s ‖ v` with v 27 or 28 once proven; never part of any key (S4).
    pub signature: SignatureBytes,
}

/// Signature bytes: usable by anyone who sees them, so they do not print (I8).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SignatureBytes(pub Bytes);

impl fmt::Debug for SignatureBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SignatureBytes({} bytes)", self.0.len())
    }
}
