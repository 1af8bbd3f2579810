//! Where entries are kept: atomic compare-and-swap, and nothing that would need a rule.

use std::collections::BTreeMap;
use std::time::Duration;

use alloy::primitives::B256;
use async_trait::async_trait;

use super::evidence::Step;
use super::{Entry, Spending, State};
use crate::payment::PaymentKey;
use crate::primitives::{AtomicAmount, Payer, Secret, Timestamp};

/// How many times an entry has been written.
pub type Version = u64;

/// How many open payments of one payer for one request are looked at. Each bars the next from being charged, so there
/// are hardly ever two.
pub const LEFT_OPEN: usize = 16;

/// An entry as a store returns it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Versioned {
    /// What is remembered.
    pub entry: Entry,
    /// Which writing of it this is.
    pub version: Version,
}

/// How a swap ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Swap {
    /// Written; this is the new version.
    Applied(Version),
    /// Somebody was faster; this is what stands now (`None` when the entry is gone).
    Stale(Option<Versioned>),
    /// A fact that `next` claims has been claimed by another payment (S5).
    Claimed(PaymentKey),
    /// Its payer has no room left on that day.
    Overspent,
}

/// How a swap of a cell ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CellSwap {
    /// Written; this is the new version.
    Applied(Version),
    /// Somebody was faster; this is what stands now (`None` when there is nothing).
    Stale(Option<(Version, Vec<u8>)>),
}

/// A fact that a payment rests on: the transaction, or the transfer in it, that settled it (S5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    /// What it is, as bytes that mean the same to every replica and version.
    pub fact: Vec<u8>,
    /// Whether the write fails when another payment has claimed it. Otherwise that claim stands beside the write.
    pub alone: bool,
}

impl Claimed {
    /// A fact that no other payment may have claimed.
    pub fn alone(fact: Vec<u8>) -> Self {
        Self { fact, alone: true }
    }

    /// A fact that is claimed if it is free, so that nobody may claim it alone later.
    pub fn if_free(fact: Vec<u8>) -> Self {
        Self { fact, alone: false }
    }
}

/// One step of a payment, to be written as a whole or not at all.
#[derive(Debug, Clone, Copy)]
pub struct Write<'a> {
    /// Which payment.
    pub key: PaymentKey,
    /// What must stand for it to be written; `None` expects absence.
    pub expected: Option<Version>,
    /// What stands afterwards.
    pub next: &'a Entry,
    /// Facts it rests on. One that it claims alone must not have been claimed by another payment.
    pub claims: &'a [Claimed],
    /// What it changes about what its payer spends.
    pub spending: Option<Spending>,
    /// What goes on record. A store that is gone with its process keeps none.
    pub step: &'a Step<'a>,
}

/// A store that did not do what was asked. Nothing is known about whether the write happened.
#[derive(Debug, thiserror::Error)]
#[error("the ledger is unavailable")]
pub struct StoreError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Which entries a listing wants; newest first, and of those of one moment by their keys.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only this route.
    pub route: Option<String>,
    /// Only this payer.
    pub payer: Option<Payer>,
    /// Only this state, by `State::name`.
    pub state: Option<String>,
    /// Only those first reserved at this moment or later.
    pub from: Option<Timestamp>,
    /// Only those first reserved before this moment.
    pub to: Option<Timestamp>,
    /// Only those that a listing shows behind this one: where the page before ended.
    pub behind: Option<(Timestamp, PaymentKey)>,
    /// At most this many.
    pub limit: usize,
}

/// Whose work an overdue entry is. A pile of one kind must not hide the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Chore {
    /// Settlements that reconciliation has to find out about.
    Settlements,
    /// Payments whose settlement was declined, perhaps against the truth.
    Declined,
    /// Everything else: leases that lapsed, answers nobody collected, kept answers that have served their time.
    Deliveries,
}

impl Chore {
    /// Whose work an entry is when it is due.
    pub(super) const fn of(entry: &Entry) -> Self {
        match entry.state {
            State::Settling { .. } => Self::Settlements,
            State::Reserved { .. } | State::Released | State::Exhausted => Self::Declined,
            State::Settled { .. } => Self::Deliveries,
        }
    }
}

/// A count of the whole ledger.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Census {
    /// How many entries are in each state, by `State::name`.
    pub entries: BTreeMap<String, u64>,
    /// How long the oldest open settlement has been open; zero when none is.
    pub oldest_settling: Duration,
    /// What open settlements are about, by network and asset symbol.
    pub at_risk: BTreeMap<(String, String), AtomicAmount>,
}

impl Census {
    /// Counts one entry.
    pub fn add(&mut self, entry: &Entry, now: Timestamp) {
        *self.entries.entry(entry.state.name().to_owned()).or_default() += 1;
        self.weigh(entry, now);
    }

    /// Adds what one entry has at risk.
    pub fn weigh(&mut self, entry: &Entry, now: Timestamp) {
        if let State::Settling { since, .. } = &entry.state {
            self.oldest_settling = self.oldest_settling.max(now.since(*since));
            let offer = &entry.sale.payment.offer;
            let of = (offer.network.id.to_string(), offer.asset.symbol.clone());
            let sum = self.at_risk.entry(of).or_default();
            *sum = AtomicAmount::new(sum.units().saturating_add(offer.amount.units()));
        }
    }
}

/// Atomic compare-and-swap. The only thing a store must get right; `tests/ledger_contract` is this contract again.
#[async_trait]
pub trait Store: Send + Sync + 'static {
    /// The entry, if there is one.
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError>;

    /// Writes the entry if the stored version is still the expected one, claims its facts, takes and frees its payer's
    /// room of the day, and puts its step on record; all of it happens or none. Durable when it returns.
    ///
    /// Of any number of concurrent callers with the same expectation, at most one sees `Applied`. A caller that
    /// stops waiting learns nothing: the write may happen or not.
    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError>;

    /// What this payer's payments for one request left open (`Entry::left_open`), the oldest first, at most
    /// [`LEFT_OPEN`].
    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError>;

    /// Entries whose `Entry::due` has come, the longest overdue first.
    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError>;

    /// Forgets entries whose `Entry::forget_after` lies before `before` (S67), what they claimed, and what their records
    /// say: of those only the hash of what they said stays, so that the chain holds. Forgets, too, what was spent on days
    /// that lie before the day before. Returns how many entries.
    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError>;

    /// A page of entries for people, newest first.
    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError>;

    /// A count of everything, for the metrics.
    async fn census(&self, now: Timestamp) -> Result<Census, StoreError>;

    /// A secret that every process on this ledger shares; made the first time it is asked for.
    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError>;

    /// What stands in the cell of this name. A cell holds a few bytes that the processes on this ledger share and
    /// that belong to no payment: who submits with a key, and its next nonce (S34).
    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError>;

    /// Writes `value` if the cell's version is still `expected`; `None` expects a cell that was never written. Durable
    /// when it returns. Cells are never forgotten.
    ///
    /// Of any number of concurrent callers with the same expectation, at most one sees `Applied`. A caller that stops
    /// waiting learns nothing: the write may happen or not.
    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError>;
}
