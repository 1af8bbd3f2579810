//! What do we remember?
//!
//! One [`Entry`] for each payment, kept in a [`Store`]. How an entry changes is one pure function,
//! [`Entry::apply`]; a store supplies only atomicity. A request sees neither: it asks [`Ledger::claim`] for a
//! [`Lease`] and turns it into an [`InSettlement`] and a [`Delivering`], each of which can be used up once.
//!
//! Dropping a handle is always safe. What a dropped handle still has to write is queued and written by
//! [`Ledger::tend`] or [`Ledger::flush`].

pub mod entry;
pub mod evidence;

mod archive;
mod claim;
mod columns;
mod delivering;
mod earlier;
mod front;
mod lease;
mod memory;
mod outbox;
mod postgres;
mod refund;
mod settlements;
mod spending;
mod sqlite;
mod store;
mod tend;
mod write;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use dashmap::DashMap;

pub use archive::Archive;
pub use claim::{Claim, Keyed};
pub use delivering::Delivering;
pub use entry::{Answer, Conflict, Declined, Delivered, Delivery, Entry, Event, Response, Sale, State};
pub use evidence::{Author, Step};
pub use front::Remembered;
pub use lease::{BeginError, FileError, InSettlement, Lapsed, Lease};
pub use memory::Memory;
pub use postgres::{Postgres, PostgresError, PostgresUrl, UrlError};
pub use refund::{Refund, RefundError};
pub use settlements::Unsettled;
pub use spending::{Day, Spending, Use};
pub use sqlite::{CopyError, OpenError, Purpose, Restored, Sqlite};
pub use store::{CellSwap, Census, Chore, Claimed, Filter, Store, StoreError, Swap, Version, Versioned, Write};

use crate::payment::PaymentKey;
use crate::primitives::{Clock, Dollars, Timestamp};

/// How long a delivery is held without word from its process. A living process renews it; after a crash the answer
/// can be collected again this soon.
pub const LEASE: Duration = Duration::from_secs(15);

/// Where the ledger is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// In a file of this machine.
    Sqlite {
        /// The file.
        path: std::path::PathBuf,
        /// Whether real money depends on it: then it must not be where files are deleted by themselves.
        real_money: bool,
    },
    /// In a database that several machines may share.
    Postgres {
        /// The database.
        url: PostgresUrl,
    },
    /// In this process; gone with it. For tests and the sandbox.
    Memory,
}

/// How often a payment may be tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many releases after forwarding exhaust a payment (S73).
    pub max_releases: u32,
    /// How often an undelivered answer may be collected (S24).
    pub max_redemptions: u32,
    /// For how long after settlement it may be collected; then a refund is due (S24).
    pub redeem_for: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_releases: 3, max_redemptions: 3, redeem_for: Duration::from_secs(3600) }
    }
}

type Watcher = Box<dyn Fn(PaymentKey, &Entry) + Send + Sync>;

/// What is remembered of every payment, and the only way to change it.
pub struct Ledger {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    /// Who is on record for what this process does.
    author: Author,
    front: front::Front,
    outbox: outbox::Outbox,
    /// Deliveries in this process, as last written: `tend` renews them.
    live: DashMap<PaymentKey, Versioned>,
    watcher: OnceLock<Watcher>,
    /// Since when this process has been at it.
    opened: Timestamp,
    allowance: spending::Allowance,
}

impl Ledger {
    /// A ledger over this store.
    pub fn new(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits) -> Arc<Self> {
        Self::of(store, clock, limits, Author::process("gateway"))
    }

    /// A ledger whose records name this author.
    pub fn of(store: Arc<dyn Store>, clock: Arc<dyn Clock>, limits: Limits, author: Author) -> Arc<Self> {
        Arc::new(Self {
            opened: clock.now(),
            store,
            clock,
            limits,
            author,
            front: front::Front::default(),
            outbox: outbox::Outbox::default(),
            live: DashMap::new(),
            watcher: OnceLock::new(),
            allowance: spending::Allowance::default(),
        })
    }

    /// Tells `watcher` of every release, of every end of a delivery, and of everything that is written with no
    /// request waiting for it, after it is durable. The first watcher stays.
    ///
    /// Called on the path of a request: it must not block.
    pub fn watch(&self, watcher: impl Fn(PaymentKey, &Entry) + Send + Sync + 'static) {
        // A second watcher would count everything twice.
        let _ = self.watcher.set(Box::new(watcher));
    }

    /// Lets no payer spend more than this in a day of UTC, from now on. What was reserved while there was no limit does
    /// not count.
    pub fn allow_per_day(&self, most: Option<Dollars>) {
        self.allowance.set(most);
    }

    /// What is known for certain, without asking the store: that a payment is spent for good. Never a grant.
    pub fn spent(&self, key: &PaymentKey) -> Option<Remembered> {
        self.front.get(key, self.clock.now())
    }

    /// The store itself, for people's questions.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.store
    }

    fn tell(&self, key: PaymentKey, entry: &Entry) {
        if let Some(watcher) = self.watcher.get() {
            watcher(key, entry);
        }
    }
}

impl fmt::Debug for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ledger").field("limits", &self.limits).field("queued", &self.queued()).finish_non_exhaustive()
    }
}
