//! An answer of the ledger that is late.

use std::sync::atomic::{AtomicBool, Ordering};

use alloy::primitives::B256;
use async_trait::async_trait;

use super::*;
use crate::facilitator::Pool;
use crate::gate::{Observer, Parts};
use crate::ledger::{CellSwap, Census, Filter, Ledger, Limits, Memory, Store, Swap, Version, Versioned, Write};
use crate::payment::{PaymentKey, QuoteKey};
use crate::primitives::{Payer, Secret, SystemClock, Timestamp};
use crate::protocol::x402::X402;
use crate::scheme::exact::eip3009::Eip3009Exact;
use crate::tariff::{Board, Tariff};
use crate::testing::Latch;

/// A store whose first answer about a cell is on its way until somebody lets it arrive.
struct Late {
    memory: Memory,
    first: AtomicBool,
    asked: Latch,
    arrives: Latch,
}

#[async_trait]
impl Store for Late {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        self.memory.load(key).await
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        self.memory.swap(write).await
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.left_open(payer, request).await
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.overdue(chore, now, limit).await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.memory.prune(before).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.list(filter).await
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        self.memory.census(now).await
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        self.memory.secret(name).await
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        let found = self.memory.cell(name).await;
        if self.first.swap(false, Ordering::SeqCst) {
            self.asked.open();
            self.arrives.passed().await;
        }
        found
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        self.memory.swap_cell(name, expected, value).await
    }
}

struct Nobody;

impl Observer for Nobody {
    fn observe(&self, _: &Event) {}
}

fn gate(store: Arc<dyn Store>) -> Arc<Gate> {
    let clock = Arc::new(SystemClock);
    let tariff = Tariff::new(Vec::new()).expect("no route collides with another");
    Gate::new(Parts {
        protocol: Arc::new(X402),
        scheme: Arc::new(Eip3009Exact),
        ledger: Ledger::new(store, Arc::clone(&clock) as _, Limits::default()),
        pool: Arc::new(Pool::new(Vec::new())),
        board: Arc::new(Board::new(Arc::new(tariff))),
        quotes: QuoteKey::new(&[7; 32]),
        clock,
        observer: Arc::new(Nobody),
    })
}

#[tokio::test]
async fn an_answer_that_was_on_its_way_does_not_end_a_pause() {
    let store = Arc::new(Late {
        memory: Memory::new(),
        first: AtomicBool::new(true),
        asked: Latch::closed(),
        arrives: Latch::closed(),
    });
    let gate = gate(Arc::clone(&store) as _);
    let looking = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.look_at_rails().await }
    });
    store.asked.passed().await;
    let pausing = tokio::spawn({
        let gate = Arc::clone(&gate);
        async move { gate.pause(&Scope::All, Pause::new(Timestamp::EPOCH, "ann", "an incident")).await }
    });
    // As far as it gets while the other answer is on its way. Memory answers at once.
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
    store.arrives.open();
    looking.await.expect("it does not panic").expect("the ledger works");
    pausing.await.expect("it does not panic").expect("the ledger works");
    assert!(gate.rails.pauses.load().at(&Scope::All).is_some(), "whoever paused was told so");
}
