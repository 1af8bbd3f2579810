//! What a settlement costs in gas, and the transaction that pays it.

use alloy::consensus::{SignableTransaction, Transaction as _, TxEip1559, TxEnvelope, TxLegacy};
use alloy::eips::eip2718::{Decodable2718, Encodable2718};
use alloy::primitives::{Address, Bytes, TxKind, U256};
use serde::{Deserialize, Serialize};

use super::signer::Signer;
use crate::facilitator::BoxError;
use crate::payment::TransactionHash;

/// Why a settlement is too dear to send. The payer can do nothing about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TooDear {
    /// The token wants more gas than any settlement may burn.
    #[error("the settlement needs {needed} gas, more than {most}")]
    Gas { needed: u64, most: u64 },
    /// Gas costs more than the operator pays.
    #[error("gas costs {price} wei, more than the allowed {ceiling}")]
    Price { price: u128, ceiling: u128 },
}

/// What is paid for a unit of gas, in wei.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
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

    /// What a unit of gas is likely to cost in the next block, if these are the market's, without a ceiling: the room for
    /// the base fee to double is left over.
    pub(super) fn expected(self) -> u128 {
        match self {
            Self::Dynamic { max_fee, tip } => tip.saturating_add(max_fee.saturating_sub(tip) / 2),
            Self::Legacy { price } => price,
        }
    }

    /// The most that is paid for a unit of gas.
    pub(super) fn most(self) -> u128 {
        match self {
            Self::Dynamic { max_fee, .. } => max_fee,
            Self::Legacy { price } => price,
        }
    }

    /// Enough more for nodes to replace a transaction that pays this (they ask for a tenth more of everything), and
    /// no less than the market asks now. `None` when that is above the limit.
    pub(super) fn raised(self, market: Self, limit: u128) -> Option<Self> {
        let more = |fee: u128| fee.saturating_add(fee / 8).saturating_add(1);
        let raised = match (self, market) {
            (Self::Dynamic { max_fee, tip }, Self::Dynamic { max_fee: asked, tip: asked_tip }) => {
                let max_fee = more(max_fee).max(asked.min(limit));
                Self::Dynamic { max_fee, tip: more(tip).max(asked_tip).min(max_fee) }
            }
            (own, market) => Self::Legacy { price: more(own.most()).max(market.most().min(limit)) },
        };
        (raised.most() <= limit).then_some(raised)
    }
}

fn within(price: u128, ceiling: Option<u128>) -> Result<u128, TooDear> {
    match ceiling {
        Some(ceiling) if price > ceiling => Err(TooDear::Price { price, ceiling }),
        _ => Ok(price),
    }
}

/// The estimate and a quarter more: state may change between simulation and block. Never more than `most` (S30).
pub(super) fn gas_limit(estimate: u64, most: u64) -> Result<u64, TooDear> {
    match estimate {
        needed if needed > most => Err(TooDear::Gas { needed, most }),
        estimate => Ok((estimate + estimate / 4).min(most)),
    }
}

/// A transaction but for its nonce. It moves none of the chain's coin.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Call {
    pub(super) chain_id: u64,
    pub(super) to: Address,
    pub(super) input: Bytes,
    pub(super) gas_limit: u64,
    pub(super) fees: Fees,
}

impl Call {
    /// What a signed transaction of ours calls.
    pub(super) fn of_raw(raw: &Bytes) -> Result<Self, BoxError> {
        let envelope = TxEnvelope::decode_2718_exact(raw)?;
        let fees = match envelope.max_priority_fee_per_gas() {
            Some(tip) => Fees::Dynamic { max_fee: envelope.max_fee_per_gas(), tip },
            None => Fees::Legacy { price: envelope.max_fee_per_gas() },
        };
        Ok(Self {
            chain_id: envelope.chain_id().ok_or("the transaction names no chain")?,
            to: envelope.to().ok_or("the transaction creates a contract")?,
            input: envelope.input().clone(),
            gas_limit: envelope.gas_limit(),
            fees,
        })
    }

    /// Signs it. The hash is the one it will be mined under.
    pub(super) async fn sign(&self, signer: &dyn Signer, nonce: u64) -> Result<(TransactionHash, Bytes), BoxError> {
        let Self { chain_id, to, input, gas_limit, fees } = self.clone();
        let (to, value) = (TxKind::Call(to), U256::ZERO);
        let envelope = match fees {
            Fees::Dynamic { max_fee, tip } => {
                let transaction = TxEip1559 {
                    chain_id,
                    nonce,
                    gas_limit,
                    max_fee_per_gas: max_fee,
                    max_priority_fee_per_gas: tip,
                    to,
                    value,
                    access_list: Default::default(),
                    input,
                };
                signed(transaction, signer).await?
            }
            Fees::Legacy { price } => {
                let transaction =
                    TxLegacy { chain_id: Some(chain_id), nonce, gas_price: price, gas_limit, to, value, input };
                signed(transaction, signer).await?
            }
        };
        Ok((*envelope.tx_hash(), envelope.encoded_2718().into()))
    }
}

async fn signed<T>(transaction: T, signer: &dyn Signer) -> Result<TxEnvelope, BoxError>
where
    T: SignableTransaction<alloy::primitives::Signature>,
    TxEnvelope: From<alloy::consensus::Signed<T>>,
{
    let signature = signer.sign(transaction.signature_hash()).await?;
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
    fn s34_a_dearer_attempt_is_dear_enough_to_replace_the_last_one_and_never_above_the_limit() {
        let dynamic = |max_fee, tip| Fees::Dynamic { max_fee, tip };
        assert_eq!(dynamic(80, 8).raised(dynamic(50, 1), 1000), Some(dynamic(91, 10)));
        assert_eq!(dynamic(80, 8).raised(dynamic(200, 20), 1000), Some(dynamic(200, 20)), "the market asks more");
        assert_eq!(dynamic(80, 8).raised(dynamic(200, 20), 100), Some(dynamic(100, 20)), "as much as is allowed");
        assert_eq!(dynamic(80, 8).raised(dynamic(50, 1), 90), None);
        let legacy = |price| Fees::Legacy { price };
        assert_eq!(legacy(80).raised(legacy(10), 91), Some(legacy(91)));
        assert_eq!(legacy(80).raised(legacy(10), 90), None);
    }

    #[tokio::test]
    async fn a_signed_transaction_tells_what_it_calls() {
        let key = super::super::Held::new(&crate::primitives::Secret::new([7; 32])).expect("it is a key");
        for fees in [Fees::Dynamic { max_fee: 9, tip: 2 }, Fees::Legacy { price: 9 }] {
            let (to, input) = (Address::repeat_byte(1), Bytes::from_static(b"call"));
            let call = Call { chain_id: 5, to, input, gas_limit: 30_000, fees };
            let (_, raw) = call.sign(&key, 3).await.expect("it is signed");
            assert!(Call::of_raw(&raw).expect("it is a transaction") == call);
        }
    }

    #[test]
    fn s30_gas_has_an_absolute_cap() {
        assert_eq!(gas_limit(80_000, 300_000), Ok(100_000));
        assert_eq!(gas_limit(299_999, 300_000), Ok(300_000));
        assert_eq!(gas_limit(300_001, 300_000), Err(TooDear::Gas { needed: 300_001, most: 300_000 }));
    }
}
