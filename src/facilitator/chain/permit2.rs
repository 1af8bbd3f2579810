//! What the chain says about a payment through Permit2.
//!
//! Permit2 writes nothing down when it uses a nonce: it sets a bit. The token writes its `Transfer`, and the exact proxy
//! writes `Settled` after it, with nothing inside. So three things together are the proof, and none of them alone:
//!
//! * the exact `Transfer` and the proxy's word, neighbours among the logs of the two: x402 moved this much from this payer
//!   to this payee;
//! * this payment's nonce. A call of the proxy names it. Where another contract made the call, the bit must have been
//!   clear before that block and set after it;
//! * the ledger's claim: one transaction settles one payment, whatever else it holds (S5).
//!
//! A bit that is set proves nothing by itself (S19): other contracts use up nonces, and their owners strike them out.

use alloy::primitives::{Address, Bytes, LogData, U256};
use alloy::sol_types::SolEvent;
use serde::Deserialize;
use serde_json::json;

use super::confirm::Confirmations;
use super::node::{Node, RpcError};
use super::proof::{Found, Log, NotThere, transfer_in};
use super::search::{LOOKBACK, Never, SKEW, Spans, Verdict, block, block_before, quantity, safe_block};
use super::token::{self, Token};
use super::{Block, ask_token};
use crate::payment::{Payment, Permit2, TransactionHash};
use crate::primitives::{PERMIT2, Timestamp};
use crate::scheme::exact::permit2::{PROXY, place, presented};

/// How many transfers of the right amount between payer and payee one search looks into (I7).
const MOST_CANDIDATES: usize = 1_000;

/// Whether the logs show that the proxy moved exactly this much from this payer to this payee.
pub(super) fn shows_settlement(logs: &[Log], payment: &Payment, signed: &Permit2) -> Result<(), NotThere> {
    let transfer = exact_transfer(payment, signed);
    let settled = [token::Proxy::Settled {}.encode_log_data(), token::Proxy::SettledWithPermit {}.encode_log_data()];
    let told = |log: &&Log| {
        let says = |topic| log.topics().first() == Some(&topic);
        let moved = log.address == signed.token && says(Token::Transfer::SIGNATURE_HASH);
        !log.removed && (moved || log.address == PROXY)
    };
    let told: Vec<(Address, LogData)> = logs.iter().filter(told).map(|log| (log.address, log.data())).collect();
    let is_ours = |log: &(Address, LogData)| log.0 == signed.token && log.1 == transfer;
    let is_word = |log: &(Address, LogData)| log.0 == PROXY && settled.contains(&log.1);
    if told.windows(2).any(|pair| is_ours(&pair[0]) && is_word(&pair[1])) {
        Ok(())
    } else if told.iter().any(|log| log.0 == signed.token && log.1.topics() == transfer.topics()) {
        Err(NotThere::InexactTransfer)
    } else {
        Err(NotThere::NoTransfer)
    }
}

fn exact_transfer(payment: &Payment, signed: &Permit2) -> LogData {
    let (to, value) = (payment.offer.pay_to.0, payment.offer.amount.units());
    Token::Transfer { from: signed.from, to, value }.encode_log_data()
}

/// Whether it was this authorization that a transaction in this block presented.
pub(super) async fn spends(
    node: &Node,
    transaction: TransactionHash,
    number: u64,
    signed: &Permit2,
) -> Result<bool, RpcError> {
    if let Some(direct) = spends_directly(node, transaction, signed).await? {
        return Ok(direct);
    }
    let before = is_used(node, signed.from, signed.nonce, number.saturating_sub(1)).await?;
    Ok(!before && is_used(node, signed.from, signed.nonce, number).await?)
}

/// As above, by what the transaction says; `None` when it calls another contract than the proxy.
async fn spends_directly(
    node: &Node,
    transaction: TransactionHash,
    signed: &Permit2,
) -> Result<Option<bool>, RpcError> {
    let called = called(node, transaction).await?;
    let names_it = || presented(&called.input) == Some((signed.from, signed.nonce));
    Ok((called.to == Some(PROXY)).then(names_it))
}

/// Whose authorization a transaction presents, owner and nonce, when it is a call of the proxy.
pub(super) async fn presented_in(
    node: &Node,
    transaction: TransactionHash,
) -> Result<Option<(Address, U256)>, RpcError> {
    let called = called(node, transaction).await?;
    Ok(presented(&called.input).filter(|_| called.to == Some(PROXY)))
}

async fn called(node: &Node, transaction: TransactionHash) -> Result<Called, RpcError> {
    let called: Option<Called> = node.call("eth_getTransactionByHash", json!([transaction])).await?;
    called.ok_or_else(|| RpcError::Unusable("the node has a receipt and not its transaction".into()))
}

/// Whether Permit2 takes a nonce no more, as of this block.
async fn is_used(node: &Node, owner: Address, nonce: U256, number: u64) -> Result<bool, RpcError> {
    let (word, bit) = place(nonce);
    let call = token::Permit2::nonceBitmapCall { owner, word };
    let bits = ask_token(node, PERMIT2, &call, quantity(number)).await?;
    let bits = bits.ok_or_else(|| RpcError::Unusable("there is no Permit2 on this chain".into()))?;
    Ok(!(bits & bit).is_zero())
}

/// How the payment ended, whoever presented it. Silence of the logs is no answer: a node may not have indexed them yet.
pub(super) async fn find_settlement(
    node: &Node,
    payment: &Payment,
    signed: &Permit2,
    not_before: Timestamp,
    confirmations: &Confirmations,
) -> Result<Verdict, RpcError> {
    let head: Block = block(node, "latest".into()).await?;
    let safe = safe_block(node, &head).await?;
    match is_used(node, signed.from, signed.nonce, head.number()).await? {
        // A bit is never cleared again, and Permit2 compares the deadline with the time of the block.
        false if U256::from(safe.seconds()) > signed.deadline => return Ok(Verdict::Never(Never::Lapsed)),
        false => return Ok(Verdict::CannotTell("the authorization is unused and may still be settled".into())),
        true => {}
    }
    let begin = not_before.as_secs().saturating_sub(LOOKBACK.as_secs());
    let from = block_before(node, begin, &head).await?;
    let search = Search { node, payment, signed, not_before, confirmations, safe: safe.number() };
    if let Some(verdict) = search.for_transfer(from, head.number()).await? {
        return Ok(verdict);
    }
    search.for_invalidation(from, head.number()).await
}

struct Search<'a> {
    node: &'a Node,
    payment: &'a Payment,
    signed: &'a Permit2,
    not_before: Timestamp,
    confirmations: &'a Confirmations,
    safe: u64,
}

impl Search<'_> {
    /// Looks into every transfer that could be the payment's.
    async fn for_transfer(&self, from: u64, last: u64) -> Result<Option<Verdict>, RpcError> {
        let transfer = exact_transfer(self.payment, self.signed);
        let mut candidates = 0;
        let mut spans = Spans::over(from..=last);
        while let Some(filter) = spans.next(self.signed.token, json!(transfer.topics())) {
            let logs = spans.hear(self.node.call::<Vec<Log>>("eth_getLogs", json!([filter])).await)?;
            for log in logs.iter().filter(|log| !log.removed && log.data() == transfer) {
                candidates += 1;
                let Some(transaction) = log.transaction_hash.filter(|_| candidates <= MOST_CANDIDATES) else {
                    return Ok(Some(Verdict::CannotTell("too many transfers look like the payment's".into())));
                };
                // Cheap, and all that most of them need: a regular customer has many.
                if spends_directly(self.node, transaction, self.signed).await? == Some(false) {
                    continue;
                }
                if let Some(verdict) = self.weigh(transaction).await? {
                    return Ok(Some(verdict));
                }
            }
        }
        Ok((!spans.is_complete()).then(|| Verdict::CannotTell("there are too many blocks to search".into())))
    }

    /// What one transaction says about the payment; `None` when nothing.
    async fn weigh(&self, transaction: TransactionHash) -> Result<Option<Verdict>, RpcError> {
        Ok(match transfer_in(self.node, transaction, self.payment, self.confirmations).await? {
            Found::Yes { block, at, .. } if at.after(SKEW) >= self.not_before => {
                Some(Verdict::Settled { transaction, block, at })
            }
            Found::Yes { block, .. } => Some(self.never(Never::SettledEarlier, block)),
            Found::Shallow { .. } => Some(Verdict::CannotTell("the transfer is not deep enough yet".into())),
            Found::No(_) | Found::NotYet => None,
        })
    }

    /// Looks for the owner striking the nonce out. That settles nothing only if it was good until then.
    async fn for_invalidation(&self, from: u64, last: u64) -> Result<Verdict, RpcError> {
        let (word, bit) = place(self.signed.nonce);
        let topics = json!([token::Permit2::UnorderedNonceInvalidation::SIGNATURE_HASH, self.signed.from.into_word()]);
        let mut spans = Spans::over(from..=last);
        while let Some(filter) = spans.next(PERMIT2, topics.clone()) {
            let logs = spans.hear(self.node.call::<Vec<Log>>("eth_getLogs", json!([filter])).await)?;
            for log in logs.iter().filter(|log| !log.removed && log.address == PERMIT2) {
                let told = token::Permit2::UnorderedNonceInvalidation::decode_log_data(&log.data())
                    .map_err(|error| RpcError::Unusable(error.into()))?;
                let struck = told.owner == self.signed.from && told.word == word && !(told.mask & bit).is_zero();
                let Some(number) = log.block_number.filter(|_| struck) else { continue };
                let number: u64 = number.to();
                if is_used(self.node, self.signed.from, self.signed.nonce, number.saturating_sub(1)).await? {
                    continue;
                }
                // Within that block, the transfer may have come first; its logs are known by now.
                return Ok(match self.for_transfer(number, number).await? {
                    Some(verdict) => verdict,
                    None => self.never(Never::Cancelled, number),
                });
            }
        }
        Ok(Verdict::CannotTell("the nonce is used, but nothing shows what for".into()))
    }

    /// A log above the safe block may still be undone, and then the authorization is good again.
    fn never(&self, never: Never, number: u64) -> Verdict {
        match number <= self.safe {
            true => Verdict::Never(never),
            false => Verdict::CannotTell(format!("{never}, in a block that is not safe yet").into()),
        }
    }
}

/// A transaction, as far as it matters here.
#[derive(Deserialize)]
struct Called {
    to: Option<Address>,
    input: Bytes,
}
