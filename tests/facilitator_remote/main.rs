//! What a remote facilitator can do wrong, and what each of it means for the money.

mod answers;
mod calls;
mod witness;

use std::sync::Arc;

use serde_json::{Value, json};
use tollhouse::facilitator::{Config, Contradiction, Facilitator, Prepared, Remote, SettleError, Unresolved};
use tollhouse::payment::{Payment, Receipt, TransactionHash};
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::facilitator::Behaviour;

const HASH: &str = "0x1111111111111111111111111111111111111111111111111111111111111111";
const PAYER: &str = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const STRANGER: &str = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

/// How a settlement ended, for tables.
#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Settled,
    Declined,
    NotSent,
    /// With a transaction, or without.
    Unknown(bool),
    /// Unknown, and the facilitator's word does not add up.
    Alarm(bool),
}

fn end(result: &Result<Receipt, SettleError>) -> End {
    match result {
        Ok(_) => End::Settled,
        Err(SettleError::Declined(_)) => End::Declined,
        Err(SettleError::NotSent(_)) => End::NotSent,
        Err(SettleError::Unknown { transaction, source }) if Contradiction::is_behind(source.as_ref()) => {
            End::Alarm(transaction.is_some())
        }
        Err(SettleError::Unknown { transaction, .. }) => End::Unknown(transaction.is_some()),
    }
}

fn remote(config: &Config) -> Remote {
    Remote::new(config, None, Arc::new(SystemClock)).expect("a good configuration")
}

async fn settle(remote: &Remote, payment: &Payment) -> Result<Receipt, SettleError> {
    remote.submit(payment, Prepared { transaction: None, raw: None }).await
}

fn unresolved(payment: &Payment, transaction: Option<TransactionHash>) -> Unresolved {
    let now = SystemClock.now();
    Unresolved { payment: payment.clone(), transaction, reserved_at: now, since: now }
}

fn hash() -> TransactionHash {
    HASH.parse().expect("a hash")
}

fn success() -> Value {
    json!({ "success": true, "transaction": HASH, "network": "eip155:84532", "payer": PAYER })
}

fn success_but(field: &str, value: impl Into<Value>) -> Behaviour {
    let mut answer = success();
    answer[field] = value.into();
    Behaviour::Answer(answer)
}

fn refusal(code: &str, transaction: &str) -> Behaviour {
    Behaviour::Answer(json!({
        "success": false, "errorReason": code, "transaction": transaction, "network": "eip155:84532", "payer": PAYER,
    }))
}

fn with_status(status: u16, body: &Value) -> Behaviour {
    Behaviour::Status(status, "application/json", body.to_string())
}
