//! Why a request may not pass, and what its sender should do next.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Dialect, Receipt, TransactionHash};
use crate::primitives::{Caip2, Payer};

/// What the client should do next. A protocol turns it into the status its specification gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Advice {
    /// Pay, or pay correctly: an invitation, never sent while money has moved or may be moving (I4).
    Pay,
    /// Let Permit2 move the token, once, and then pay: an invitation like the above.
    Approve,
    /// Send one payment header, not several.
    Repeated,
    /// Send a smaller payment header.
    TooLarge,
    /// Send the same payment again later.
    Wait(Wait),
    /// Nothing more can be had for this payment; here is what it bought, if it bought anything.
    Stop(Option<Receipt>),
    /// This payment was never charged and opens nothing any more (S73).
    GiveUp,
    /// Nothing is sold to whoever asks, whatever they pay; nothing was charged.
    Leave,
    /// Send fewer requests; nothing was charged, and a payment that was sent is still good.
    SlowDown,
    /// The trouble is ours; nothing was charged.
    TryLater,
}

/// Why a client has to wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wait {
    /// The same payment is being served right now.
    InFlight,
    /// Its settlement was asked for and nobody knows yet how that ended.
    Unresolved {
        /// The transaction, when one is known.
        transaction: Option<TransactionHash>,
        /// The chain it would be on.
        network: Caip2,
        /// The same chain as v1 clients name it.
        network_v1: Option<Arc<str>>,
        /// Whose money it is.
        payer: Payer,
    },
}

/// Why a request may not pass, in the words the client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What to do next.
    pub advice: Advice,
    /// A code or sentence for the `error` field, in the vocabulary of the SDKs where they have one.
    pub reason: Cow<'static, str>,
    /// The dialect of the payment that met the problem; `None` when there was none.
    pub dialect: Option<Dialect>,
    /// A settlement that is proven to have failed: told as `PAYMENT-RESPONSE {success: false}`.
    pub failed_settlement: Option<FailedSettlement>,
    /// When to come back.
    pub retry_after: Option<Duration>,
}

/// A settlement that is proven to have moved nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FailedSettlement {
    /// Whose money stayed where it was.
    pub payer: Payer,
    /// The chain.
    pub network: Caip2,
    /// The same chain as v1 clients name it.
    pub network_v1: Option<Arc<str>>,
}
