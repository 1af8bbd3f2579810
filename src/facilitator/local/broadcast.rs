//! Handing a signed transaction to the network, and telling what was sent from what was not.

use alloy::primitives::{B256, Bytes};
use serde_json::{Value, json};

use crate::facilitator::chain::{Chain, RpcError};
use crate::payment::TransactionHash;

/// How a broadcast ended.
pub(super) enum Broadcast {
    /// A node has the transaction.
    Sent,
    /// A node may have it. Its receipt will tell, or nobody can.
    Perhaps,
    /// No node has it.
    NotSent(RpcError),
}

/// Hands a transaction to the first node that takes it. Offering it to several is harmless: it stays one transaction.
pub(super) async fn broadcast(chain: &Chain, hash: TransactionHash, raw: &Bytes) -> Broadcast {
    let mut perhaps = false;
    let mut not_sent = RpcError::Unusable("no node is configured".into());
    for node in chain.nodes() {
        match node.call::<B256>("eth_sendRawTransaction", json!([raw])).await {
            Ok(echo) if echo == hash => return Broadcast::Sent,
            Ok(_) | Err(RpcError::Unusable(_)) => perhaps = true,
            Err(error @ (RpcError::Unreachable(_) | RpcError::WrongChain { .. })) => not_sent = error,
            // A node that has it already refuses it too. So it is asked, whatever its words were.
            Err(error) => match node.call::<Option<Value>>("eth_getTransactionByHash", json!([hash])).await {
                Ok(Some(_)) => return Broadcast::Sent,
                Ok(None) if is_final(&error) => not_sent = error,
                Ok(None) | Err(_) => perhaps = true,
            },
        }
    }
    if perhaps { Broadcast::Perhaps } else { Broadcast::NotSent(not_sent) }
}

/// Whether a refused transaction can be taken for not sent, when the node does not know it either. Every other
/// complaint, such as a proxy's timeout, may come after the transaction was passed on.
fn is_final(error: &RpcError) -> bool {
    const FINAL: [&str; 8] = [
        "insufficient funds",
        "nonce too low",
        "underpriced",
        "max fee per gas less than block base fee",
        "intrinsic gas too low",
        "exceeds block gas limit",
        "invalid sender",
        "invalid chain id",
    ];
    let RpcError::Refused { message, .. } = error else { return false };
    let message = message.to_ascii_lowercase();
    FINAL.iter().any(|complaint| message.contains(complaint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_complaint_about_the_transaction_itself_is_final() {
        let is_final = |message: &str| is_final(&RpcError::Refused { code: -32000, message: message.to_owned() });
        assert!(is_final("nonce too low: next nonce 8, tx nonce 7"));
        assert!(is_final("Insufficient funds for gas * price + value"));
        for vague in ["request timed out", "internal error", "limit exceeded", "already known", ""] {
            assert!(!is_final(vague), "{vague:?} was taken for proof");
        }
    }
}
