//! Everything that can happen, once each. Nothing else emits a payment metric, so counts cannot disagree.

use std::sync::Arc;
use std::time::Duration;

use crate::facilitator::Notice;
use crate::ledger::{Delivery, Entry, State};
use crate::payment::{Dialect, PaymentKey, TransactionHash};
use crate::primitives::{Asset, AtomicAmount, Caip2, Payer};
use crate::tariff::RouteKey;

use super::rails::{Pause, Scope};

/// Something that happened to a payment or a request.
#[derive(Debug, Clone)]
pub enum Event {
    /// A 402 with offers went out.
    Offered {
        /// The route it prices.
        route: RouteKey,
        /// How many offers it held.
        offers: usize,
    },
    /// A payment was refused; `reason` is a fixed word of the code, never the client's text.
    Refused {
        /// The route it was presented for.
        route: RouteKey,
        /// Why.
        reason: &'static str,
    },
    /// Somebody was not sold to (S35); counted as refused.
    Screened {
        /// The route they asked for.
        route: RouteKey,
        /// The reason code.
        reason: &'static str,
        /// Whose account it would have been, where a payment named one. Not proven to be theirs.
        payer: Option<Payer>,
    },
    /// A payment passed every check and holds its key.
    Reserved {
        /// The route it is for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
    },
    /// A reservation was let go; nobody was charged.
    Released {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// Whether it was let go for good (S73).
        exhausted: bool,
    },
    /// Settlement is about to be asked for; it is on disk.
    Settling {
        /// The route it is for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// Who is asked.
        facilitator: Arc<str>,
    },
    /// Money moved.
    Settled {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// Whose.
        payer: Payer,
        /// How much.
        amount: AtomicAmount,
        /// Of what.
        asset: Arc<Asset>,
        /// Where.
        network: Caip2,
        /// In which transaction.
        transaction: TransactionHash,
        /// Spoken in.
        dialect: Dialect,
        /// Found out by reconciliation rather than by the request itself.
        reconciled: bool,
    },
    /// A settlement is proven to have moved nothing.
    Declined {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// The facilitator's code, for the log.
        code: String,
    },
    /// Nobody knows how a settlement ended; reconciliation will ask.
    Unknown {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// The transaction, when one is known.
        transaction: Option<TransactionHash>,
        /// What went wrong, for the log.
        cause: String,
    },
    /// A paid answer ended.
    Delivered {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// How: `nothing`, `partial`, `done`, `refund_due`.
        outcome: &'static str,
    },
    /// A settled payment came back for the answer it had not got.
    Redeemed {
        /// The route it is for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
    },
    /// A fresh payment was not taken, because an earlier one of the same payer for the identical request is open: its
    /// answer was served, or nobody knows yet how it ended (I4).
    SignedAgain {
        /// The route it was presented for.
        route: RouteKey,
        /// The fresh payment, which stays unused.
        key: PaymentKey,
    },
    /// A settled payment was undone by its chain, or what became of it since (S26).
    Reorganised {
        /// The route it was for.
        route: RouteKey,
        /// The payment.
        key: PaymentKey,
        /// Whose.
        payer: Payer,
        /// What happened to it.
        turn: Turn,
        /// The transaction that is missed, was sent or is there.
        transaction: Option<TransactionHash>,
    },
    /// Something about a facilitator's word does not add up (S5, S15, S16), or a settled payment was undone (S26): an
    /// alarm.
    Alarm {
        /// The payment, when there is one.
        key: Option<PaymentKey>,
        /// What does not add up.
        what: String,
    },
    /// Something happened between us and a facilitator.
    Facilitator(Notice),
    /// A signature was presented that only the payer's wallet can judge.
    WalletAsked {
        /// The wallet's network.
        network: Caip2,
        /// A fixed word: `accepted`, `refused`; `unavailable`; or, where nobody was asked, `factory` and `shed`.
        outcome: &'static str,
    },
    /// Somebody has paused a route, or all of them.
    Paused {
        /// Which.
        scope: Scope,
        /// Who, when and why.
        pause: Pause,
    },
    /// A pause has ended.
    Resumed {
        /// What it was about.
        scope: Scope,
        /// Who ended it, when and why.
        by: Option<Pause>,
    },
    /// A request has been answered, whatever the answer.
    Answered(Box<Answered>),
}

/// What happens to a settled payment after a reorganisation (S26).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Its transfer is on the chain no more.
    Undone,
    /// It was sent again.
    SentAgain,
    /// It is on the chain again.
    Restored,
    /// It is proven that its money will never come.
    Lost,
}

impl Turn {
    /// A fixed word, for metrics and logs.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Undone => "undone",
            Self::SentAgain => "sent_again",
            Self::Restored => "restored",
            Self::Lost => "lost",
        }
    }
}

impl From<Notice> for Event {
    fn from(notice: Notice) -> Self {
        Self::Facilitator(notice)
    }
}

impl Event {
    /// What the ledger's word about an entry means: how a hold or a delivery ended, once that is written.
    pub(super) fn of_entry(key: PaymentKey, entry: &Entry) -> Option<Self> {
        let route = RouteKey(Arc::clone(&entry.sale.route));
        let outcome = match &entry.state {
            State::Released => return Some(Self::Released { route, key, exhausted: false }),
            State::Exhausted => return Some(Self::Released { route, key, exhausted: true }),
            State::Settled { delivery, .. } => match delivery {
                Delivery::Pending => "nothing",
                Delivery::Partial => "partial",
                Delivery::Done { .. } => "done",
                Delivery::RefundDue => "refund_due",
                Delivery::Refunded { .. } => "refunded",
                Delivery::Leased { .. } => return None,
            },
            State::Reserved { .. } | State::Settling { .. } => return None,
        };
        Some(Self::Delivered { route, key, outcome })
    }
}

/// A request and its answer, for the access log and the request metrics.
#[derive(Debug, Clone)]
pub struct Answered {
    /// The route it matched.
    pub route: Option<RouteKey>,
    /// A fixed word: `free`, `paid`, `repeated`, `offered`, `refused`, `turned_away`, `preflight`, `failed`.
    pub outcome: &'static str,
    /// Its method.
    pub method: http::Method,
    /// Its path: canonical where there is a canonical form, else what was sent.
    pub path: String,
    /// Its query.
    pub query: Option<String>,
    /// The status that was answered; zero when nothing could be.
    pub status: u16,
    /// Bytes of body that were answered.
    pub bytes: u64,
    /// Who asked, as the connection shows it.
    pub client: Option<std::net::IpAddr>,
    /// The payment, for paid requests.
    pub payment: Option<Paid>,
    /// What went wrong, for the log.
    pub error: Option<String>,
    /// How long the whole of it took.
    pub took: Duration,
    /// How long its steps took, in order; each is one of [`PHASES`].
    pub phases: Vec<(&'static str, Duration)>,
}

/// The steps of a request.
pub const PHASES: [&str; 4] = ["admit", "upstream", "settle", "end"];

/// What a paid request paid.
#[derive(Debug, Clone)]
pub struct Paid {
    /// What the ledger remembers it by.
    pub key: PaymentKey,
    /// Whose money.
    pub payer: Payer,
    /// How much.
    pub amount: AtomicAmount,
    /// Of what.
    pub asset: Arc<Asset>,
    /// In which transaction.
    pub transaction: Option<TransactionHash>,
}

impl Paid {
    /// What a settled payment paid.
    pub fn by(settled: &super::Settled) -> Self {
        Self {
            key: settled.key(),
            payer: settled.receipt().payer,
            amount: settled.payment().offer.amount,
            asset: Arc::clone(&settled.payment().offer.asset),
            transaction: Some(settled.receipt().transaction),
        }
    }
}

/// Hears every event. Called on the path of a request: it must not block.
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, event: &Event);
}
