//! How a payment ended, whoever submitted it. There are three answers: the money moved; it did not and never will;
//! nobody can tell (S14).

use std::ops::RangeInclusive;
use std::time::Duration;

use alloy::primitives::{Address, U64, U256};
use alloy::sol_types::SolEvent;
use serde_json::{Value, json};

use super::agree::Shown;
use super::confirm::Confirmations;
use super::node::{Node, RpcError};
use super::proof::{Found, Log, NotThere, transfer_in};
use super::token::Token;
use super::{Block, BoxError, Chain, ask_token, permit2};
use crate::payment::{Authorization, Eip3009, Payment, TransactionHash};
use crate::primitives::{Timestamp, TransferMethod};

/// How far our clock and a block's may be apart when a transfer is dated against a reservation (S29).
pub(super) const SKEW: Duration = Duration::from_secs(60);
/// How long before the reservation the search begins, so that a use that came too early is seen for what it is.
pub(super) const LOOKBACK: Duration = Duration::from_secs(3600);
/// How long a search for a settlement may take altogether.
const SEARCH_TIMEOUT: Duration = Duration::from_secs(30);
/// How many questions for logs one search asks, and about how many blocks: public nodes cap both.
const MAX_LOG_QUERIES: usize = 128;
const LOG_SPAN: u64 = 2_000;
const MIN_LOG_SPAN: u64 = 10;
/// A block this far below the head stands in for the safe one on nodes that do not name it.
const SAFE_DEPTH: u64 = 64;
/// A search for a block by time stops this close.
const BLOCK_SLACK: u64 = 64;

/// What a search of the chain says about a payment.
#[derive(Debug)]
pub enum Verdict {
    /// The money moved, after the payment had been reserved.
    Settled {
        /// In this transaction; not necessarily ours (S18).
        transaction: TransactionHash,
        /// In this block.
        block: u64,
        /// At this time, by the chain's clock.
        at: Timestamp,
    },
    /// It is proven that the authorization did not move the money and never will.
    Never(Never),
    /// Anything else.
    CannotTell(BoxError),
}

/// Why an authorization will never move the money.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Never {
    /// It was still unused when its time was over (S28).
    #[error("the authorization lapsed unused")]
    Lapsed,
    /// The payer cancelled it (S19).
    #[error("the authorization was cancelled")]
    Cancelled,
    /// The payer spent its nonce on something else (S19).
    #[error("the nonce was spent on another transfer")]
    SpentElsewhere,
    /// It paid the payee before we had reserved it, so it is somebody else's sale (S18, S20).
    #[error("the authorization was settled before it was presented here")]
    SettledEarlier,
}

impl Never {
    /// What the payer hears, in the SDKs' vocabulary.
    pub fn code(self, method: TransferMethod) -> &'static str {
        match (self, method) {
            (Self::Lapsed, TransferMethod::Eip3009) => "invalid_exact_evm_payload_authorization_valid_before",
            (Self::Lapsed, TransferMethod::Permit2) => "permit2_deadline_expired",
            (_, TransferMethod::Eip3009) => "invalid_exact_evm_nonce_already_used",
            (_, TransferMethod::Permit2) => "permit2_invalid_nonce",
        }
    }
}

impl Chain {
    /// How the payment ended, whoever submitted it. A transfer counts only if it came after `not_before`, when the
    /// payment was reserved (S18).
    pub async fn find_settlement(&self, payment: &Payment, not_before: Timestamp) -> Verdict {
        match tokio::time::timeout(SEARCH_TIMEOUT, self.search(payment, not_before)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(error)) => Verdict::CannotTell(error.into()),
            Err(late) => Verdict::CannotTell(late.into()),
        }
    }

    async fn search(&self, payment: &Payment, not_before: Timestamp) -> Result<Verdict, RpcError> {
        let search = |node| find_settlement(node, payment, not_before, &self.confirmations);
        let (first, verdict) = self.on_a_node_but(None, search).await?;
        if !self.confirmations.wants_two(&payment.offer) {
            return Ok(verdict);
        }
        match verdict {
            Verdict::Settled { transaction, .. } => {
                match transfer_in(first, transaction, payment, &self.confirmations).await? {
                    Found::Yes { block, hash, .. } => {
                        self.agreed(first, payment, Shown { transaction, block, hash }).await?;
                        Ok(verdict)
                    }
                    _ => Ok(Verdict::CannotTell("the block of the transfer was replaced just now".into())),
                }
            }
            // That it never will is believed of two only, too: whoever hears so pays again.
            Verdict::Never(never) => {
                let second = self.on_a_node_but(Some(first), search).await;
                match second.map_err(|error| RpcError::Alone(error.into()))? {
                    (_, Verdict::Never(_)) => Ok(Verdict::Never(never)),
                    (second, Verdict::Settled { transaction, .. }) => {
                        Err(self.disagreement(second, transaction, first, never.to_string()))
                    }
                    (_, unsure @ Verdict::CannotTell(_)) => Ok(unsure),
                }
            }
            Verdict::CannotTell(_) => Ok(verdict),
        }
    }
}

async fn find_settlement(
    node: &Node,
    payment: &Payment,
    not_before: Timestamp,
    confirmations: &Confirmations,
) -> Result<Verdict, RpcError> {
    let signed = match &payment.authorization {
        Authorization::Eip3009(signed) => signed,
        Authorization::Permit2(signed) => {
            return permit2::find_settlement(node, payment, signed, not_before, confirmations).await;
        }
    };
    let token = payment.offer.asset.address;
    let head: Block = block(node, "latest".into()).await?;
    let safe = safe_block(node, &head).await?;
    let state = Token::authorizationStateCall { authorizer: signed.from, nonce: signed.nonce.0 };
    match ask_token(node, token, &state, quantity(head.number())).await? {
        None => return Err(RpcError::Unusable("the token does not know authorizationState".into())),
        // A nonce is never unused again, and the token compares validBefore with the time of the block. So what is
        // unused at the head, above a safe block of that time or later, stays unused.
        Some(false) if U256::from(safe.seconds()) >= signed.valid_before => return Ok(Verdict::Never(Never::Lapsed)),
        Some(false) => return Ok(Verdict::CannotTell("the authorization is unused and may still be settled".into())),
        Some(true) => {}
    }
    let begin = not_before.as_secs().saturating_sub(LOOKBACK.as_secs());
    let from = block_before(node, begin, &head).await?;
    let Some(spent) = find_use(node, token, signed, from..=head.number()).await? else {
        return Ok(Verdict::CannotTell("the nonce is used, but no log says what for".into()));
    };
    let never = match spent.how {
        How::Cancelled => Never::Cancelled,
        How::Used => match transfer_in(node, spent.transaction, payment, confirmations).await? {
            Found::Yes { block, at, .. } if at.after(SKEW) >= not_before => {
                return Ok(Verdict::Settled { transaction: spent.transaction, block, at });
            }
            Found::Yes { .. } => Never::SettledEarlier,
            Found::Shallow { .. } => return Ok(Verdict::CannotTell("the transfer is not deep enough yet".into())),
            Found::No(NotThere::NoTransfer) => Never::SpentElsewhere,
            Found::No(odd) => return Ok(Verdict::CannotTell(odd.into())),
            Found::NotYet => return Ok(Verdict::CannotTell("the block that used the nonce is gone".into())),
        },
    };
    // A log above the safe block may still be undone, and then the authorization is good again.
    match spent.block <= safe.number() {
        true => Ok(Verdict::Never(never)),
        false => Ok(Verdict::CannotTell(format!("{never}, in a block that is not safe yet").into())),
    }
}

/// How a nonce was spent, and where.
struct Use {
    how: How,
    transaction: TransactionHash,
    block: u64,
}

enum How {
    Used,
    Cancelled,
}

/// The log that spent the nonce. Each question covers as many blocks as the node puts up with.
async fn find_use(
    node: &Node,
    token: Address,
    signed: &Eip3009,
    blocks: RangeInclusive<u64>,
) -> Result<Option<Use>, RpcError> {
    let how = [Token::AuthorizationUsed::SIGNATURE_HASH, Token::AuthorizationCanceled::SIGNATURE_HASH];
    let mut spans = Spans::over(blocks);
    while let Some(filter) = spans.next(token, json!([how, signed.from.into_word(), signed.nonce])) {
        let logs = spans.hear(node.call::<Vec<Log>>("eth_getLogs", json!([filter])).await)?;
        if let Some(log) = logs.iter().find(|log| !log.removed) {
            return use_in(log, token, signed).map(Some);
        }
    }
    Ok(None)
}

/// Blocks whose logs are asked for, as many at once as the node puts up with.
pub(super) struct Spans {
    from: u64,
    last: u64,
    to: u64,
    span: u64,
    asked: usize,
}

impl Spans {
    pub(super) fn over(blocks: RangeInclusive<u64>) -> Self {
        let (from, last) = blocks.into_inner();
        Self { from, last, to: from, span: LOG_SPAN, asked: 0 }
    }

    /// The next question; `None` when all blocks have been asked for, or too many questions have been asked.
    pub(super) fn next(&mut self, address: Address, topics: Value) -> Option<Value> {
        if self.is_complete() || self.asked >= MAX_LOG_QUERIES {
            return None;
        }
        self.asked += 1;
        self.to = self.last.min(self.from + self.span - 1);
        let (from, to) = (quantity(self.from), quantity(self.to));
        Some(json!({ "address": address, "fromBlock": from, "toBlock": to, "topics": topics }))
    }

    /// Takes the answer. A node that refuses is asked about fewer blocks the next time, so then there are no logs yet.
    pub(super) fn hear(&mut self, answer: Result<Vec<Log>, RpcError>) -> Result<Vec<Log>, RpcError> {
        match answer {
            Ok(logs) => {
                self.from = self.to + 1;
                Ok(logs)
            }
            Err(RpcError::Refused { .. }) if self.span > MIN_LOG_SPAN => {
                self.span = MIN_LOG_SPAN.max(self.span / 4);
                Ok(Vec::new())
            }
            Err(error) => Err(error),
        }
    }

    /// Whether every block has been asked for.
    pub(super) fn is_complete(&self) -> bool {
        self.from > self.last
    }
}

/// A block shortly before this second: steps back in growing strides, then halves the stride it overshot by.
pub(super) async fn block_before(node: &Node, second: u64, head: &Block) -> Result<u64, RpcError> {
    let mut high = head.number();
    let mut stride = LOG_SPAN;
    let mut low = loop {
        let candidate = high.saturating_sub(stride);
        if candidate == 0 || block(node, quantity(candidate)).await?.seconds() < second {
            break candidate;
        }
        high = candidate;
        stride = stride.saturating_mul(4);
    };
    while high - low > BLOCK_SLACK {
        let middle = low + (high - low) / 2;
        match block(node, quantity(middle)).await?.seconds() < second {
            true => low = middle,
            false => high = middle,
        }
    }
    Ok(low)
}

/// The latest block that only a fault of the chain beneath could undo.
pub(super) async fn safe_block(node: &Node, head: &Block) -> Result<Block, RpcError> {
    match node.call::<Option<Block>>("eth_getBlockByNumber", json!(["safe", false])).await {
        Ok(Some(safe)) if safe.number() <= head.number() => Ok(safe),
        Ok(_) | Err(RpcError::Refused { .. }) => block(node, quantity(head.number().saturating_sub(SAFE_DEPTH))).await,
        Err(error) => Err(error),
    }
}

pub(super) async fn block(node: &Node, number: Value) -> Result<Block, RpcError> {
    node.call("eth_getBlockByNumber", json!([number, false])).await
}

/// A number as JSON-RPC writes it.
pub(super) fn quantity(number: u64) -> Value {
    json!(U64::from(number))
}

/// What the log says, if it is one that was asked for.
fn use_in(log: &Log, token: Address, signed: &Eip3009) -> Result<Use, RpcError> {
    let (authorizer, nonce) = (signed.from, signed.nonce.0);
    let how = match log.data() {
        data if data == (Token::AuthorizationUsed { authorizer, nonce }).encode_log_data() => How::Used,
        data if data == (Token::AuthorizationCanceled { authorizer, nonce }).encode_log_data() => How::Cancelled,
        _ => return Err(RpcError::Unusable("the node returned a log nobody asked for".into())),
    };
    match (log.transaction_hash, log.block_number) {
        (Some(transaction), Some(block)) if log.address == token => Ok(Use { how, transaction, block: block.to() }),
        _ => Err(RpcError::Unusable("the node returned a log of nowhere".into())),
    }
}
