//! What a settlement costs in gas, and the transaction that pays it.

use alloy::consensus::{SignableTransaction, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::Encodable2718;
use alloy::primitives::{Address, Bytes, TxKind, U256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;

use crate::payment::TransactionHash;

/// The most gas that a settlement may burn (S30). USDC needs about 90,000, with a contract wallet some more.
pub(super) const MAX_GAS: u64 = 300_000;

/// Why a settlement is too dear to send. The payer can do nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooDear {
    /// The token wants more gas than any settlement may burn.
    #[error("the settlement needs {0} gas, more than {MAX_GAS}")]
    Gas(u64),
    /// Gas costs more than the operator pays.
    #[error("gas costs {price} wei, more than the allowed {ceiling}")]
    Price { price: u128, ceiling: u128 },
}

/// What is paid for a unit of gas, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fees {
    /// A base fee that is burnt, and a tip (EIP-1559).
    Dynamic { max_fee: u128, tip: u128 },
    /// One price.
    Legacy { price: u128 },
}

impl Fees {
    /// Room for the base fee to double before the transaction is mined, but never above the ceiling.
    pub(super) fn dynamic(base_fee: u128, tip: u128, ceiling: Option<u128>) -> Result<Self, TooDear> {
        let price = within(base_fee.saturating_add(tip), ceiling)?;
        let max_fee = price.saturating_add(base_fee).min(ceiling.unwrap_or(u128::MAX));
        Ok(Self::Dynamic { max_fee, tip })
    }

    /// The price the node names.
    pub(super) fn legacy(price: u128, ceiling: Option<u128>) -> Result<Self, TooDear> {
        Ok(Self::Legacy { price: within(price, ceiling)? })
    }
}

fn within(price: u128, ceiling: Option<u128>) -> Result<u128, TooDear> {
    match ceiling {
        Some(ceiling) if price > ceiling => Err(TooDear::Price { price, ceiling }),
        _ => Ok(price),
    }
}

/// The estimate and a quarter more: state may change between simulation and block.
pub(super) fn gas_limit(estimate: u64) -> Result<u64, TooDear> {
    if estimate > MAX_GAS { Err(TooDear::Gas(estimate)) } else { Ok((estimate + estimate / 4).min(MAX_GAS)) }
}

/// A call of a token, ready to be signed under a nonce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) chain_id: u64,
    pub(super) token: Address,
    pub(super) input: Bytes,
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
}

impl Call {
    /// Signs it. The hash is the one it will be mined under.
    pub(super) fn sign(
        self,
        signer: &PrivateKeySigner,
        nonce: u64,
    ) -> Result<(TransactionHash, Bytes), alloy::signers::Error> {
        let Self { chain_id, token, input, gas_limit, fees } = self;
        let (to, value) = (TxKind::Call(token), U256::ZERO);
        let envelope = match fees {
            Fees::Dynamic { max_fee, tip } => signed(
                TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to,
                    value,
                    access_list: Default::default(),
                    input,
                },
                signer,
            )?,
            Fees::Legacy { price } => signed(
                TxLegacy { chain_id: Some(chain_id), nonce, gas_price: price, gas_limit, to, value, input },
                signer,
            )?,
        };
        Ok((*envelope.tx_hash(), envelope.encoded_2718().into()))
    }
}

fn signed<T>(transaction: T, signer: &PrivateKeySigner) -> Result<TxEnvelope, alloy::signers::Error>
where
    T: SignableTransaction<alloy::primitives::Signature>,
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = signer.sign_hash_sync(&transaction.signature_hash())?;
    Ok(transaction.into_signed(signature).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s30_above_the_ceiling_nothing_is_sent_and_below_it_no_more_is_paid() {
        assert_eq!(Fees::dynamic(10, 3, None), Ok(Fees::Dynamic { max_fee: 23, tip: 3 }));
        assert_eq!(Fees::dynamic(10, 3, Some(15)), Ok(Fees::Dynamic { max_fee: 15, tip: 3 }));
        assert_eq!(Fees::dynamic(10, 3, Some(12)), Err(TooDear::Price { price: 13, ceiling: 12 }));
        assert_eq!(Fees::legacy(13, Some(12)), Err(TooDear::Price { price: 13, ceiling: 12 }));
    }

    #[test]
    fn s30_gas_has_an_absolute_cap() {
        assert_eq!(gas_limit(80_000), Ok(100_000));
        assert_eq!(gas_limit(299_999), Ok(MAX_GAS));
        assert_eq!(gas_limit(300_001), Err(TooDear::Gas(300_001)));
    }
}
