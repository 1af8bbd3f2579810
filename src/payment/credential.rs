//! What a client presents, decoded and typed but not yet believed.

use std::fmt;

use alloy::primitives::{Address, B256, Bytes, U256};
use ring::digest;
use serde::{Deserialize, Serialize};

use crate::primitives::{AtomicAmount, Caip2, Nonce, Payee, Payer, TransferMethod};

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
    /// A transfer that Permit2 makes for whoever presents it. Boxed: most payments are not, and need no room for it.
    Permit2(Box<Permit2>),
}

impl Authorization {
    /// Whose money it moves.
    pub fn payer(&self) -> Payer {
        match self {
            Self::Eip3009(signed) => Payer(signed.from),
            Self::Permit2(signed) => Payer(signed.from),
        }
    }

    /// Who gets it.
    pub fn payee(&self) -> Payee {
        match self {
            Self::Eip3009(signed) => Payee(signed.to),
            Self::Permit2(signed) => Payee(signed.to),
        }
    }

    /// How much it moves, in smallest units.
    pub fn value(&self) -> AtomicAmount {
        match self {
            Self::Eip3009(signed) => signed.value,
            Self::Permit2(signed) => signed.amount,
        }
    }

    /// Which of the ways a token can be moved it is.
    pub fn method(&self) -> TransferMethod {
        match self {
            Self::Eip3009(_) => TransferMethod::Eip3009,
            Self::Permit2(_) => TransferMethod::Permit2,
        }
    }

    /// Whoever holds it can submit the authorization (I8).
    pub fn signature(&self) -> &SignatureBytes {
        match self {
            Self::Eip3009(signed) => &signed.signature,
            Self::Permit2(signed) => &signed.signature,
        }
    }

    /// The message of EIP-3009, if it is one.
    pub fn eip3009(&self) -> Option<&Eip3009> {
        match self {
            Self::Eip3009(signed) => Some(signed),
            Self::Permit2(_) => None,
        }
    }

    /// The message of Permit2, if it is one.
    pub fn permit2(&self) -> Option<&Permit2> {
        match self {
            Self::Permit2(signed) => Some(signed),
            Self::Eip3009(_) => None,
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
            Self::Permit2(signed) => {
                digest.update(b"tollhouse authorization permit2\0");
                for account in [signed.from, signed.token, signed.spender, signed.to] {
                    digest.update(account.as_slice());
                }
                for number in [signed.amount.units(), signed.nonce, signed.deadline, signed.valid_after] {
                    digest.update(&number.to_be_bytes::<32>());
                }
                digest.update(&signed.signature.0);
            }
        }
        B256::from_slice(digest.finish().as_ref())
    }

    /// From which second since the epoch on it is void; saturates. Permit2 takes the second of the deadline itself.
    pub fn valid_before(&self) -> u64 {
        match self {
            Self::Eip3009(signed) => signed.valid_before.saturating_to(),
            Self::Permit2(signed) => signed.deadline.saturating_to::<u64>().saturating_add(1),
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

/// The message of Permit2, `PermitWitnessTransferFrom` with the witness of x402's exact proxy, and its signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permit2 {
    /// The payer; Permit2 calls it the owner.
    pub from: Address,
    /// The token. Permit2 moves any that its owner has approved it for, so the message names one.
    pub token: Address,
    /// Smallest units; the exact proxy moves all of them.
    pub amount: AtomicAmount,
    /// Who may present it to Permit2. Only the exact proxy is of use to anybody.
    pub spender: Address,
    /// Unique for its owner, whatever the token.
    pub nonce: U256,
    /// Good until this second, inclusive.
    pub deadline: U256,
    /// The payee, `witness.to`.
    pub to: Address,
    /// Good from this second on, inclusive, `witness.validAfter`.
    pub valid_after: U256,
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
