//! Whether a transaction moved a payment's money: the logs the token wrote in it, and nothing else.

use alloy::primitives::{Address, B256, Bytes, LogData, U64};
use alloy::sol_types::SolEvent;
use serde::Deserialize;
use serde_json::json;

use super::agree::Shown;
use super::confirm::Confirmations;
use super::node::{Node, RpcError};
use super::token::Token;
use super::{Block, Chain, permit2};
use crate::payment::{Authorization, Eip3009, Payment, TransactionHash};
use crate::primitives::Timestamp;

/// What a transaction holds of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// The payment's authorization moved exactly the price to the payee.
    Yes {
        /// In this block.
        block: u64,
        /// With this hash.
        hash: B256,
        /// At this time, by the chain's clock.
        at: Timestamp,
    },
    /// It did, but not deep enough yet for a sum like this (S26).
    Shallow {
        /// In this block.
        block: u64,
        /// With this hash.
        hash: B256,
    },
    /// It did not, in this transaction.
    No(NotThere),
    /// The transaction is in no block that this node knows.
    NotYet,
}

/// Why a transaction is no proof of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotThere {
    /// It was undone as a whole.
    #[error("the transaction reverted")]
    Reverted,
    /// By this authorization, nothing moved from the payer to the payee.
    #[error("the transaction holds no such transfer")]
    NoTransfer,
    /// Something moved from the payer to the payee, but not as this authorization says (S17).
    #[error("the transaction holds another transfer to the payee")]
    InexactTransfer,
}

impl Chain {
    /// Whether this transaction moved the payment's money: the exact logs of the token, not the transaction's
    /// status and not the state of the nonce (S17, S19).
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub async fn transfer_in(&self, transaction: TransactionHash, payment: &Payment) -> Result<Found, RpcError> {
        let look = |node| transfer_in(node, transaction, payment, &self.confirmations);
        let (shows, found) = self.on_a_node_but(None, look).await?;
        if let Found::Yes { block, hash, .. } = found
            && self.confirmations.wants_two(&payment.offer)
        {
            self.agreed(shows, payment, Shown { transaction, block, hash }).await?;
        }
        Ok(found)
    }
}

pub(super) async fn transfer_in(
    node: &Node,
    transaction: TransactionHash,
    payment: &Payment,
    confirmations: &Confirmations,
) -> Result<Found, RpcError> {
    let receipt: Option<TransactionReceipt> = node.call("eth_getTransactionReceipt", json!([transaction])).await?;
    let Some(receipt) = receipt else { return Ok(Found::NotYet) };
    let Some(hash) = receipt.block_hash else { return Ok(Found::NotYet) };
    if receipt.transaction_hash != transaction {
        return Err(RpcError::Unusable("the receipt is of another transaction".into()));
    }
    if receipt.status != U64::from(1) {
        return Ok(Found::No(NotThere::Reverted));
    }
    let shown = match &payment.authorization {
        Authorization::Eip3009(signed) => shows_transfer(&receipt.logs, payment, signed),
        Authorization::Permit2(signed) => permit2::shows_settlement(&receipt.logs, payment, signed),
    };
    if let Err(not_there) = shown {
        return Ok(Found::No(not_there));
    }
    // The block is asked for by hash, so a node on another branch knows nothing of it rather than something else (S27).
    let block: Option<Block> = node.call("eth_getBlockByHash", json!([hash, false])).await?;
    let Some(block) = block else { return Ok(Found::NotYet) };
    let number = block.number();
    // The logs of Permit2's settlements do not name the nonce.
    if let Authorization::Permit2(signed) = &payment.authorization
        && !permit2::spends(node, transaction, number, signed).await?
    {
        return Ok(Found::No(NotThere::NoTransfer));
    }
    Ok(match confirmations.suffice(node, &payment.offer, number).await? {
        true => Found::Yes { block: number, hash, at: block.time() },
        false => Found::Shallow { block: number, hash },
    })
}

/// Whether the token wrote that this authorization was used and, next, the exact transfer. The two must be
/// neighbours among the token's logs: otherwise one transfer could stand for two authorizations of one payer.
fn shows_transfer(logs: &[Log], payment: &Payment, signed: &Eip3009) -> Result<(), NotThere> {
    let offer = &payment.offer;
    let used = Token::AuthorizationUsed { authorizer: signed.from, nonce: signed.nonce.0 }.encode_log_data();
    let transfer = Token::Transfer { from: signed.from, to: offer.pay_to.0, value: offer.amount.units() };
    let transfer = transfer.encode_log_data();
    let written: Vec<LogData> =
        logs.iter().filter(|log| log.address == offer.asset.address && !log.removed).map(Log::data).collect();
    if written.windows(2).any(|pair| pair[0] == used && pair[1] == transfer) {
        Ok(())
    } else if written.iter().any(|log| log.topics() == transfer.topics()) {
        Err(NotThere::InexactTransfer)
    } else {
        Err(NotThere::NoTransfer)
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TransactionReceipt {
    transaction_hash: B256,
    /// `None` while the transaction is in no block.
    block_hash: Option<B256>,
    status: U64,
    logs: Vec<Log>,
}

/// A log, as far as it matters here.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Log {
    pub(super) address: Address,
    topics: Vec<B256>,
    data: Bytes,
    pub(super) transaction_hash: Option<B256>,
    pub(super) block_number: Option<U64>,
    /// Undone by the chain.
    #[serde(default)]
    pub(super) removed: bool,
}

impl Log {
    /// What kind of log it is, and of whom.
    pub(super) fn topics(&self) -> &[B256] {
        &self.topics
    }

    /// What the contract wrote.
    pub(super) fn data(&self) -> LogData {
        LogData::new_unchecked(self.topics.clone(), self.data.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use alloy::primitives::U256;

    use super::*;
    use crate::payment::{Dialect, Offer, Resource, SchemeName, SettleMode, SignatureBytes};
    use crate::primitives::{AtomicAmount, Nonce, Payee, preset};

    const PAYER: Address = Address::repeat_byte(1);
    const PAYEE: Address = Address::repeat_byte(2);

    #[test]
    fn s17_only_the_exact_transfer_is_proof() {
        let payment = payment(1);
        let token = payment.offer.asset.address;
        assert_eq!(shows(&[used(token, 1), moved(token, PAYEE, 100)], &payment), Ok(()));
        let short = [used(token, 1), moved(token, PAYEE, 99)];
        assert_eq!(shows(&short, &payment), Err(NotThere::InexactTransfer), "the token took a fee");
        let elsewhere = [used(token, 1), moved(token, PAYER, 100)];
        assert_eq!(shows(&elsewhere, &payment), Err(NotThere::NoTransfer));
        let other_token = Address::repeat_byte(9);
        let fake = [used(other_token, 1), moved(other_token, PAYEE, 100)];
        assert_eq!(shows(&fake, &payment), Err(NotThere::NoTransfer), "anybody can write such a log");
        let undone = Log { removed: true, ..moved(token, PAYEE, 100) };
        assert_eq!(shows(&[used(token, 1), undone], &payment), Err(NotThere::NoTransfer));
        assert_eq!(shows(&[], &payment), Err(NotThere::NoTransfer));
    }

    #[test]
    fn s19_one_transfer_does_not_stand_for_two_authorizations() {
        let token = payment(1).offer.asset.address;
        // Nonce 1 was signed a second time, over to the payer; nonce 2 really paid. Both in one transaction.
        let batch = [used(token, 1), moved(token, PAYER, 100), used(token, 2), moved(token, PAYEE, 100)];
        assert_eq!(shows(&batch, &payment(1)), Err(NotThere::InexactTransfer));
        assert_eq!(shows(&batch, &payment(2)), Ok(()));
    }

    fn shows(logs: &[Log], payment: &Payment) -> Result<(), NotThere> {
        shows_transfer(logs, payment, payment.authorization.eip3009().expect("it is one"))
    }

    fn used(token: Address, nonce: u8) -> Log {
        let event = Token::AuthorizationUsed { authorizer: PAYER, nonce: B256::repeat_byte(nonce) };
        log(token, event.encode_log_data())
    }

    fn moved(token: Address, to: Address, value: u64) -> Log {
        log(token, Token::Transfer { from: PAYER, to, value: U256::from(value) }.encode_log_data())
    }

    fn log(address: Address, data: LogData) -> Log {
        let (topics, data) = data.split();
        Log { address, topics, data, transaction_hash: None, block_number: None, removed: false }
    }

    fn payment(nonce: u8) -> Payment {
        let preset = preset("base").expect("it is a preset");
        let amount = AtomicAmount::new(U256::from(100));
        Payment {
            offer: Offer {
                scheme: SchemeName::Exact,
                network: Arc::new(preset.network()),
                asset: Arc::new(preset.assets[0].asset()),
                amount,
                pay_to: Payee(PAYEE),
                max_timeout: Duration::from_secs(60),
                settle: SettleMode::OnResponse,
                sandbox: false,
            },
            authorization: Authorization::Eip3009(Eip3009 {
                from: PAYER,
                to: PAYEE,
                value: amount,
                valid_after: U256::ZERO,
                valid_before: U256::MAX,
                nonce: Nonce(B256::repeat_byte(nonce)),
                signature: SignatureBytes(Bytes::new()),
            }),
            dialect: Dialect::V2,
            resource: Resource { url: String::new(), description: String::new(), mime_type: String::new() },
        }
    }
}
