//! Payers who are not served for now: a payment of theirs was undone after its answer had left (S26).

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::primitives::Payer;

/// How many payers are held (I7).
const MOST_HELD: usize = 10_000;

/// Payers on hold, shared by everybody who would settle for them. Kept in memory: after a restart, whoever watches
/// the chain finds the same payments undone again.
#[derive(Debug, Default)]
pub struct Holds(Mutex<HashSet<Payer>>);

impl Holds {
    /// Puts a payer on hold. Beyond the limit nobody else is; the alarm was raised all the same.
    pub fn hold(&self, payer: Payer) {
        let held = &mut *self.held();
        if held.len() < MOST_HELD {
            held.insert(payer);
        }
    }

    /// Serves a payer again.
    pub fn release(&self, payer: Payer) {
        self.held().remove(&payer);
    }

    /// Whether a payer is on hold.
    pub fn holds(&self, payer: Payer) -> bool {
        self.held().contains(&payer)
    }

    fn held(&self) -> MutexGuard<'_, HashSet<Payer>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
