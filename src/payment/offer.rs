//! Terms a client may accept, and a payment that accepted them.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Authorization, Dialect, PaymentKey};
use crate::primitives::{Asset, AtomicAmount, Network, Payee, Payer};

/// What kind of promise the client signs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SchemeName {
    /// Exactly the amount of the offer, moved once.
    Exact,
}

impl SchemeName {
    /// The name on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "exact",
        }
    }
}

/// When the client is charged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettleMode {
    /// After a good answer's head, before any byte of it reaches the client. x402's `authorization` flow.
    OnResponse,
    /// Before the backend is asked, even if it then fails. x402's `upfront` flow.
    BeforeForward,
}

impl SettleMode {
    /// The word in `gateway.yaml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OnResponse => "on_response",
            Self::BeforeForward => "before_forward",
        }
    }
}

/// What a settled payment still opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Replay {
    /// Nothing.
    Refuse,
    /// The request may be forwarded again if no byte of an answer reached the client (S25, S74, S75).
    Redeliver,
    /// As `redeliver`; and an answer that was delivered is repeated from store, for a while.
    SameAnswer,
}

impl Replay {
    /// The word in `gateway.yaml`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Redeliver => "redeliver",
            Self::SameAnswer => "same_answer",
        }
    }
}

/// Terms a client may accept. The same for every request to a route until its price changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offer {
    /// What kind of promise is asked for.
    pub scheme: SchemeName,
    /// The chain it is paid on.
    pub network: Arc<Network>,
    /// The token it is paid in.
    pub asset: Arc<Asset>,
    /// Exactly this much.
    pub amount: AtomicAmount,
    /// To this account.
    pub pay_to: Payee,
    /// How long an authorization must stay valid; `maxTimeoutSeconds` on the wire.
    pub max_timeout: Duration,
    /// When it is charged.
    pub settle: SettleMode,
    /// Play money: nothing is broadcast.
    pub sandbox: bool,
}

impl Offer {
    /// The price as people write it: `$0.01`.
    pub fn price(&self) -> String {
        self.asset.display(self.amount)
    }
}

/// What is being sold, as the 402 describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resource {
    /// Absolute, from `public_url`; never from the `Host` header.
    pub url: String,
    /// What a person reads. May be empty.
    pub description: String,
    /// What the answer is. May be empty.
    pub mime_type: String,
}

/// An offer and the signed authorization that accepts it: everything needed to settle, now or after a restart.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payment {
    /// The terms as *we* state them, never as the client echoed them (S53).
    pub offer: Offer,
    /// What was signed.
    pub authorization: Authorization,
    /// The dialect it was spoken in; the receipt answers in the same one.
    pub dialect: Dialect,
    /// What it was presented for.
    pub resource: Resource,
}

impl Payment {
    /// What the ledger remembers it by.
    pub fn key(&self) -> PaymentKey {
        PaymentKey::of(&self.offer.network.id, self.offer.asset.address, &self.authorization)
    }

    /// Who signed.
    pub fn payer(&self) -> Payer {
        self.authorization.payer()
    }
}
