//! What moved on a chain, for people who compare it with their books.

use alloy::primitives::{Address, B256, Bytes, U64, U256};
use alloy::sol_types::SolEvent;
use serde::Deserialize;
use serde_json::json;

use super::node::{Node, RpcError};
use super::search::{block, block_before, quantity};
use super::token::Token;
use super::{Block, Chain, permit2};
use crate::payment::TransactionHash;
use crate::primitives::{AtomicAmount, Nonce, Timestamp};
use crate::scheme::exact::permit2::PROXY;

/// How many blocks one question covers at first, and at least: public nodes cap it.
const SPAN: u64 = 2_000;
const MIN_SPAN: u64 = 10;
/// How many transfers one span of time may hold; a longer one has to be asked for in pieces.
const MOST: usize = 100_000;

/// One transfer of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transfer {
    /// The transaction it is part of.
    pub transaction: TransactionHash,
    /// Its log's place in the block.
    pub log: u64,
    /// The block.
    pub block: u64,
    /// Whose money.
    pub from: Address,
    /// Who got it.
    pub to: Address,
    /// How much, in smallest units.
    pub amount: AtomicAmount,
    /// The authorization of `from` that moved it, where the transaction says so.
    pub spent: Option<Spent>,
}

/// A nonce of the payer, in whose books it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spent {
    /// The token wrote right before the transfer that it was used.
    Eip3009(Nonce),
    /// The transaction is a call of x402's exact proxy that presents it, and the proxy wrote right after the transfer.
    Permit2(U256),
}

/// What a transaction moved of a token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// In this block.
    pub block: u64,
    /// At this time, by the chain's clock.
    pub at: Timestamp,
    /// What it moved; nothing when it was undone.
    pub transfers: Vec<Transfer>,
}

impl Chain {
    /// Every transfer of a token to an account in blocks of this span of time, oldest first. Whether an authorization
    /// moved it is not looked up: ask [`Chain::moved_by`].
    ///
    /// # Errors
    /// When no node gives a usable answer, or there are too many.
    pub async fn income(
        &self,
        token: Address,
        account: Address,
        from: Timestamp,
        to: Timestamp,
    ) -> Result<Vec<Transfer>, RpcError> {
        self.on_some_node(|node| income(node, token, account, from, to)).await
    }

    /// What a transaction moved of a token; `None` when it is in no block that a node knows.
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub async fn moved_by(&self, transaction: TransactionHash, token: Address) -> Result<Option<Moved>, RpcError> {
        self.on_some_node(|node| moved_by(node, transaction, token)).await
    }
}

async fn income(
    node: &Node,
    token: Address,
    account: Address,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Transfer>, RpcError> {
    let head: Block = block(node, "latest".into()).await?;
    let mut next = first_at(node, from, &head).await?;
    // The first block that is too late, or behind the head when there is none yet.
    let end = first_at(node, to, &head).await?;
    let (mut span, mut transfers) = (SPAN, Vec::new());
    while next < end {
        let last = (end - 1).min(next + span - 1);
        let filter = json!({
            "address": token,
            "fromBlock": quantity(next),
            "toBlock": quantity(last),
            "topics": [Token::Transfer::SIGNATURE_HASH, null, account.into_word()],
        });
        match node.call::<Vec<Line>>("eth_getLogs", json!([filter])).await {
            Ok(lines) => {
                for line in lines.iter().filter(|line| line.address == token && !line.removed) {
                    transfers.extend(line.transfer()?.filter(|transfer| transfer.to == account));
                }
                next = last + 1;
            }
            Err(RpcError::Refused { .. }) if span > MIN_SPAN => span = MIN_SPAN.max(span / 4),
            Err(error) => return Err(error),
        }
        if transfers.len() > MOST {
            return Err(RpcError::Unusable(format!("more than {MOST} transfers; ask for a shorter time").into()));
        }
    }
    Ok(transfers)
}

/// The first block of this moment or later; the one behind the head when it has not come yet.
async fn first_at(node: &Node, moment: Timestamp, head: &Block) -> Result<u64, RpcError> {
    let second = moment.as_secs();
    if head.seconds() < second {
        return Ok(head.number() + 1);
    }
    let (mut low, mut high) = (block_before(node, second, head).await?, head.number());
    while low < high {
        let middle = low + (high - low) / 2;
        match block(node, quantity(middle)).await?.seconds() < second {
            true => low = middle + 1,
            false => high = middle,
        }
    }
    Ok(low)
}

async fn moved_by(node: &Node, transaction: TransactionHash, token: Address) -> Result<Option<Moved>, RpcError> {
    let receipt: Option<Receipt> = node.call("eth_getTransactionReceipt", json!([transaction])).await?;
    let Some((receipt, block_hash)) = receipt.and_then(|receipt| receipt.block_hash.map(|hash| (receipt, hash))) else {
        return Ok(None);
    };
    let block: Option<Block> = node.call("eth_getBlockByHash", json!([block_hash, false])).await?;
    let Some(block) = block else { return Ok(None) };
    let mut transfers: Vec<Transfer> = Vec::new();
    let mut used = None;
    let mut proxied = Vec::new();
    let succeeded = receipt.status == U64::from(1);
    for line in receipt.logs.iter().filter(|line| succeeded && !line.removed) {
        if line.address == PROXY {
            proxied.extend(transfers.len().checked_sub(1));
        }
        if line.address != token {
            continue;
        }
        if let Some(mut transfer) = line.transfer()? {
            if transfer.transaction != transaction {
                return Err(RpcError::Unusable("the receipt is of another transaction".into()));
            }
            let before = used.take().filter(|(payer, _)| *payer == transfer.from);
            transfer.spent = before.map(|(_, nonce)| Spent::Eip3009(nonce));
            transfers.push(transfer);
        } else {
            used = line.used();
        }
    }
    // A call of the proxy makes one transfer, so it can only be that one which it wrote about.
    if let [only] = proxied[..]
        && let Some((owner, nonce)) = permit2::presented_in(node, transaction).await?
        && owner == transfers[only].from
    {
        transfers[only].spent = Some(Spent::Permit2(nonce));
    }
    Ok(Some(Moved { block: block.number(), at: block.time(), transfers }))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Receipt {
    /// `None` while the transaction is in no block.
    block_hash: Option<B256>,
    status: U64,
    logs: Vec<Line>,
}

/// A log with its place.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    address: Address,
    topics: Vec<B256>,
    data: Bytes,
    transaction_hash: B256,
    block_number: U64,
    log_index: U64,
    /// Undone by the chain.
    #[serde(default)]
    removed: bool,
}

impl Line {
    /// The transfer it tells of; `None` when it tells of something else.
    fn transfer(&self) -> Result<Option<Transfer>, RpcError> {
        if self.topics.first() != Some(&Token::Transfer::SIGNATURE_HASH) {
            return Ok(None);
        }
        let told = Token::Transfer::decode_raw_log_validate(self.topics.iter().copied(), &self.data)
            .map_err(|error| RpcError::Unusable(error.into()))?;
        Ok(Some(Transfer {
            transaction: self.transaction_hash,
            log: self.log_index.to(),
            block: self.block_number.to(),
            from: told.from,
            to: told.to,
            amount: AtomicAmount::new(told.value),
            spent: None,
        }))
    }

    /// Whose authorization it says was used.
    fn used(&self) -> Option<(Address, Nonce)> {
        let told = Token::AuthorizationUsed::decode_raw_log_validate(self.topics.iter().copied(), &self.data).ok()?;
        Some((told.authorizer, Nonce(told.nonce)))
    }
}
