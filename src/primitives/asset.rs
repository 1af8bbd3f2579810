//! A token that payments are made in.

use alloy::primitives::{Address, address};
use serde::{Deserialize, Serialize};

use super::AtomicAmount;

/// How many decimal places an asset divides into; 36 at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct Decimals(u8);

/// An asset with more than 36 decimal places.
#[derive(Debug, thiserror::Error)]
#[error("{0} decimal places are more than 36")]
pub struct TooManyDecimals(u8);

impl Decimals {
    /// # Errors
    /// When `places` is above 36.
    pub const fn new(places: u8) -> Result<Self, TooManyDecimals> {
        if places > 36 { Err(TooManyDecimals(places)) } else { Ok(Self(places)) }
    }

    /// The number of places.
    pub const fn get(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for Decimals {
    type Error = TooManyDecimals;

    fn try_from(places: u8) -> Result<Self, TooManyDecimals> {
        Self::new(places)
    }
}

impl From<Decimals> for u8 {
    fn from(decimals: Decimals) -> Self {
        decimals.0
    }
}

/// The currency that one whole unit of an asset stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Peg {
    /// One US dollar: prices written with `$` mean this asset.
    Usd,
}

/// The name and version in a token's EIP-712 domain. Not its ticker: Base mainnet USDC is `USD Coin`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Eip712Name {
    /// `name` of the domain.
    pub name: String,
    /// `version` of the domain.
    pub version: String,
}

/// Uniswap's Permit2: the same address on every chain that has it, since it was made by CREATE2.
pub const PERMIT2: Address = address!("0x000000000022D473030F116dDEE9F6B43aC78BA3");

/// How a payer lets a token be moved: what is signed for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TransferMethod {
    /// `transferWithAuthorization` on the token itself.
    #[default]
    Eip3009,
    /// Through Uniswap's Permit2, which every payer has to approve once for the token.
    Permit2,
}

impl TransferMethod {
    /// `assetTransferMethod` on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Eip3009 => "eip3009",
            Self::Permit2 => "permit2",
        }
    }

    /// Whether it goes without saying, on the wire and in ledgers of earlier versions.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// An ERC-20 token, on one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asset {
    /// What people call it: `USDC`.
    pub symbol: String,
    /// The token contract.
    pub address: Address,
    /// Decimal places.
    pub decimals: Decimals,
    /// What one whole unit is worth, when it is pegged.
    pub peg: Option<Peg>,
    /// The token's own domain. EIP-3009 authorizations are signed under it; Permit2's are not.
    pub eip712: Eip712Name,
    /// What payers sign to pay in it.
    #[serde(default, skip_serializing_if = "TransferMethod::is_default")]
    pub method: TransferMethod,
}

impl Asset {
    /// An amount as people write it in `gateway.yaml`: `$0.01` for a dollar-pegged asset, else `0.01 XYZ`.
    pub fn display(&self, amount: AtomicAmount) -> String {
        let decimal = amount.to_decimal(self.decimals);
        match self.peg {
            Some(Peg::Usd) => format!("${decimal}"),
            None => format!("{decimal} {}", self.symbol),
        }
    }
}
