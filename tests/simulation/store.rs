//! The disk as one process reaches it: slow, failing, and sure of nothing but its one promise.

use std::sync::Arc;

use alloy::primitives::B256;
use async_trait::async_trait;
use tollhouse::ledger::{
    self, Author, CellSwap, Census, Chore, Claimed, Entry, Filter, Step, Store, StoreError, Swap, Version, Versioned,
};
use tollhouse::payment::PaymentKey;
use tollhouse::primitives::{Payer, Secret, Timestamp};

use crate::judge;
use crate::mutation::Mutation;
use crate::plan::Fault;
use crate::process::Pulse;
use crate::world::{lock, short};

/// One process's way to the disk.
pub struct Disk {
    pub pulse: Arc<Pulse>,
}

impl Disk {
    /// A question, which changes nothing and may fail.
    async fn ask<T>(
        &self,
        what: &'static str,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        self.pulse.beat().await;
        self.pulse.world.step().await;
        if self.pulse.world.strikes(Fault::StoreRefuses) {
            self.pulse.note_trouble();
            return Err(StoreError(format!("{what}: the disk does not answer").into()));
        }
        let answer = answer.await;
        self.pulse.beat().await;
        answer
    }
}

#[async_trait]
impl Store for Disk {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        self.ask("load", self.pulse.world.memory.load(key)).await
    }

    /// The write is a task of its own: a caller that stops waiting, or dies, leaves it to happen or not.
    async fn swap(&self, write: ledger::Write<'_>) -> Result<Swap, StoreError> {
        self.pulse.beat().await;
        let ledger::Write { key, expected, next, claims, spending, step } = write;
        let write = Write {
            pulse: Arc::clone(&self.pulse),
            key,
            expected,
            next: next.clone(),
            claims: claims.to_vec(),
            spending,
            at: step.at,
        };
        let landed = if self.pulse.world.below(2) == 0 {
            write.land().await
        } else {
            tokio::spawn(write.land()).await.unwrap_or_else(|lost| Err(StoreError(lost.into())))
        };
        self.pulse.beat().await;
        landed
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let open = self.pulse.world.memory.left_open(payer, request).await?;
        if open.is_empty() { Ok(open) } else { self.ask("left open", async { Ok(open) }).await }
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        // Asked every second and usually in vain; a step each would be most of a run.
        let due = self.pulse.world.memory.overdue(chore, now, limit).await?;
        if due.is_empty() { Ok(due) } else { self.ask("overdue", async { Ok(due) }).await }
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.pulse.world.memory.prune(before).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.ask("list", self.pulse.world.memory.list(filter)).await
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        self.ask("census", self.pulse.world.memory.census(now)).await
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        self.pulse.world.memory.secret(name).await
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        self.pulse.world.memory.cell(name).await
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        self.pulse.world.memory.swap_cell(name, expected, value).await
    }
}

/// A write on its way.
struct Write {
    pulse: Arc<Pulse>,
    key: PaymentKey,
    expected: Option<Version>,
    next: Entry,
    claims: Vec<Claimed>,
    spending: Option<ledger::Spending>,
    at: Timestamp,
}

impl Write {
    async fn land(self) -> Result<Swap, StoreError> {
        let Self { pulse, key, mut expected, next, mut claims, spending, at } = self;
        let world = &pulse.world;
        world.step().await;
        if world.strikes(Fault::StoreStalls) {
            pulse.note_trouble();
            tokio::time::sleep(world.between(500, 25_000)).await;
        }
        if world.strikes(Fault::StoreRefuses) {
            pulse.note_trouble();
            return Err(StoreError("the disk is full".into()));
        }
        if world.mutated(Mutation::StoreIgnoresVersions) {
            expected = world.on_disk(key).map(|found| found.version);
        }
        if world.mutated(Mutation::StoreIgnoresClaims) {
            claims.clear();
        }
        if world.mutated(Mutation::StoreForgets) && world.below(10) == 0 {
            return Ok(Swap::Applied(expected.map_or(1, |version| version + 1)));
        }
        let before = world.on_disk(key);
        // Memory keeps no evidence, so any word will do.
        let author = Author::process(pulse.name());
        let step = Step::named("write", at, &author);
        let write = ledger::Write { key, expected, next: &next, claims: &claims, spending, step: &step };
        let swap = world.memory.swap(write).await?;
        if let Swap::Applied(_) = swap {
            world.tell(|| format!("{} writes {}: {}", pulse.name(), short(&key), next.state.name()));
            let found = judge::written(world, key, before.as_ref().map(|found| &found.entry), &next);
            lock(&world.notes).accuse(found);
        }
        if world.strikes(Fault::StoreLies) {
            pulse.note_trouble();
            return Err(StoreError("the connection broke after the write".into()));
        }
        Ok(swap)
    }
}
