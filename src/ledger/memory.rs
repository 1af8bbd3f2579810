//! A ledger in this process, gone with it. For tests and the sandbox. It keeps no evidence: what would it prove?

use std::collections::hash_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use alloy::primitives::B256;
use async_trait::async_trait;
use ring::rand::{SecureRandom, SystemRandom};

use super::store::LEFT_OPEN;
use super::{CellSwap, Census, Chore, Day, Entry, Filter, Store, StoreError, Swap, Version, Versioned, Write};
use crate::payment::PaymentKey;
use crate::primitives::{Address, Payer, Secret, Timestamp};

/// Entries in a map under one lock: an entry and its claims change together, and the lock is held for a look-up.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    /// Boxed: a map that grows moves what it holds.
    entries: HashMap<PaymentKey, Box<Versioned>>,
    /// Keys of entries that were left open, by payer.
    open: HashMap<Payer, HashSet<PaymentKey>>,
    claims: HashMap<Vec<u8>, PaymentKey>,
    secrets: HashMap<String, Secret<[u8; 32]>>,
    cells: HashMap<String, (Version, Vec<u8>)>,
    /// What each payer spends, in millionths of a dollar.
    spent: BTreeMap<(Day, Address), u64>,
}

impl Memory {
    /// An empty ledger.
    pub fn new() -> Self {
        Self::default()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing below panics between two changes that belong together, so a poisoned shelf is still consistent.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Store for Memory {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        Ok(self.shelf().entries.get(&key).map(|found| Versioned::clone(found)))
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        let Write { key, expected, next, claims, spending, step: _ } = write;
        let shelf = &mut *self.shelf();
        let slot = shelf.entries.entry(key);
        let (found, was_open) = match &slot {
            Slot::Occupied(occupied) => (Some(occupied.get().version), occupied.get().entry.left_open()),
            Slot::Vacant(_) => (None, false),
        };
        if found != expected {
            return Ok(Swap::Stale(match slot {
                Slot::Occupied(occupied) => Some(Versioned::clone(occupied.get())),
                Slot::Vacant(_) => None,
            }));
        }
        let mut alone = claims.iter().filter(|claim| claim.alone);
        if let Some(owner) = alone.find_map(|claim| shelf.claims.get(&claim.fact).filter(|owner| **owner != key)) {
            return Ok(Swap::Claimed(*owner));
        }
        if let Some(spending) = spending {
            let payer = spending.payer.0;
            if let Some(used) = spending.used {
                let spent = shelf.spent.get(&(used.day, payer)).copied().unwrap_or_default();
                if used.so_far().is_none_or(|most| spent > most) {
                    return Ok(Swap::Overspent);
                }
                shelf.spent.insert((used.day, payer), spent + used.amount);
            }
            if let Some((day, amount)) = spending.freed
                && let Some(spent) = shelf.spent.get_mut(&(day, payer))
            {
                *spent = spent.saturating_sub(amount);
            }
        }
        for claim in claims {
            shelf.claims.entry(claim.fact.clone()).or_insert(key);
        }
        let version = expected.map_or(1, |version| version + 1);
        let payer = next.sale.payment.payer();
        match (was_open, next.left_open()) {
            (false, true) => {
                shelf.open.entry(payer).or_default().insert(key);
            }
            (true, false) => {
                if let Some(open) = shelf.open.get_mut(&payer)
                    && open.remove(&key)
                    && open.is_empty()
                {
                    shelf.open.remove(&payer);
                }
            }
            (true, true) | (false, false) => {}
        }
        let written = Versioned { entry: next.clone(), version };
        match slot {
            Slot::Occupied(mut occupied) => **occupied.get_mut() = written,
            Slot::Vacant(vacant) => {
                vacant.insert(Box::new(written));
            }
        }
        Ok(Swap::Applied(version))
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let shelf = self.shelf();
        let keys = shelf.open.get(&payer).into_iter().flatten();
        let found = keys.filter_map(|key| Some((*key, Versioned::clone(shelf.entries.get(key)?))));
        let mut open: Vec<_> = found.filter(|(_, found)| found.entry.sale.request == request).collect();
        open.sort_unstable_by_key(|(key, found)| (found.entry.created, *key));
        open.truncate(LEFT_OPEN);
        Ok(open)
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let shelf = self.shelf();
        let mut due: Vec<_> = shelf
            .entries
            .iter()
            .filter(|(_, found)| Chore::of(&found.entry) == chore)
            .filter_map(|(key, found)| found.entry.due().filter(|due| *due <= now).map(|due| (due, *key)))
            .collect();
        due.sort_unstable();
        due.truncate(limit);
        Ok(due.into_iter().filter_map(|(_, key)| Some((key, Versioned::clone(shelf.entries.get(&key)?)))).collect())
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        let Shelf { entries, claims, spent, .. } = &mut *self.shelf();
        spent.retain(|(day, _), _| *day >= Day::of(before).before());
        let held = entries.len();
        entries.retain(|_, found| found.entry.forget_after().is_none_or(|moment| moment >= before));
        claims.retain(|_, owner| entries.contains_key(owner));
        Ok((held - entries.len()) as u64)
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        let shelf = self.shelf();
        let mut page: Vec<_> =
            shelf.entries.iter().filter(|(key, found)| wanted(filter, **key, &found.entry)).collect();
        page.sort_unstable_by_key(|(key, found)| (std::cmp::Reverse(found.entry.created), **key));
        page.truncate(filter.limit);
        Ok(page.into_iter().map(|(key, found)| (*key, Versioned::clone(found))).collect())
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        let mut census = Census::default();
        self.shelf().entries.values().for_each(|found| census.add(&found.entry, now));
        Ok(census)
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        let shelf = &mut *self.shelf();
        if let Some(secret) = shelf.secrets.get(name) {
            return Ok(secret.clone());
        }
        let secret = fresh_secret()?;
        shelf.secrets.insert(name.into(), secret.clone());
        Ok(secret)
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        Ok(self.shelf().cells.get(name).cloned())
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        let shelf = &mut *self.shelf();
        let found = shelf.cells.get(name);
        if found.map(|(version, _)| *version) != expected {
            return Ok(CellSwap::Stale(found.cloned()));
        }
        let version = expected.map_or(1, |version| version + 1);
        shelf.cells.insert(name.into(), (version, value.to_vec()));
        Ok(CellSwap::Applied(version))
    }
}

/// 32 bytes nobody has seen.
pub(super) fn fresh_secret() -> Result<Secret<[u8; 32]>, StoreError> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).map_err(|_| StoreError("the system has no randomness to give".into()))?;
    Ok(Secret::new(bytes))
}

fn wanted(filter: &Filter, key: PaymentKey, entry: &Entry) -> bool {
    let sale = &entry.sale;
    filter.route.as_ref().is_none_or(|route| route.as_str() == &*sale.route)
        && filter.payer.is_none_or(|payer| payer == sale.payment.payer())
        && filter.state.as_ref().is_none_or(|state| state == entry.state.name())
        && filter.from.is_none_or(|from| from <= entry.created)
        && filter.to.is_none_or(|to| entry.created < to)
        && filter.behind.is_none_or(|(at, last)| entry.created < at || (entry.created == at && last < key))
}
