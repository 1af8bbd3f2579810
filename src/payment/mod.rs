//! The nouns every stage shares.

mod credential;
mod key;
mod offer;
mod problem;
mod quote;
mod receipt;

pub use credential::{
    Authorization, Chosen, ChosenNetwork, ChosenTerms, Credential, Dialect, Eip3009, Permit2, SignatureBytes,
};
pub use key::PaymentKey;
pub use offer::{Offer, Payment, Replay, Resource, SchemeName, SettleMode};
pub use problem::{Advice, FailedSettlement, Problem, Wait};
pub use quote::{Quote, QuoteDigest, QuoteKey};
pub use receipt::{Receipt, TransactionHash};
