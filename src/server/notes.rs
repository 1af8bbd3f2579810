//! The notes of gas keys, kept in cells of the ledger.

use std::sync::Arc;

use async_trait::async_trait;

use crate::facilitator::BoxError;
use crate::facilitator::local::{Note, Noted, Notes};
use crate::ledger::{CellSwap, Store};

/// Notes that every process on a ledger shares.
pub struct Cells(Arc<dyn Store>);

impl Cells {
    /// Notes in this store.
    pub fn of(store: Arc<dyn Store>) -> Arc<dyn Notes> {
        Arc::new(Self(store))
    }
}

#[async_trait]
impl Notes for Cells {
    async fn read(&self, name: &str) -> Result<Option<Note>, BoxError> {
        Ok(self.0.cell(name).await?.map(|(version, text)| Note { version, text }))
    }

    async fn swap(&self, name: &str, expected: Option<u64>, text: &[u8]) -> Result<Noted, BoxError> {
        Ok(match self.0.swap_cell(name, expected, text).await? {
            CellSwap::Applied(version) => Noted::Written(version),
            CellSwap::Stale(found) => Noted::Overtaken(found.map(|(version, text)| Note { version, text })),
        })
    }
}
