//! The evidence of a ledger that outlives its process, for people and for `verify`.

use async_trait::async_trait;

use super::evidence::{ChainId, Extent, Record, Standing};
use super::{Store, StoreError};
use crate::payment::PaymentKey;

/// A store that keeps evidence. Read by people, never on the path of a request.
///
/// What is read through one archive is one state of the ledger, whatever is written meanwhile: otherwise an entry
/// could be compared with records that are older than it.
#[async_trait]
pub trait Archive: Store {
    /// Every chain and how far it reaches.
    async fn chains(&self) -> Result<Vec<Extent>, StoreError>;

    /// Records of one chain in their order, from behind this number on.
    async fn records(&self, chain: ChainId, after: u64, limit: usize) -> Result<Vec<Record>, StoreError>;

    /// What is on record of one payment, in the order it was written.
    async fn story(&self, key: PaymentKey) -> Result<Vec<Record>, StoreError>;

    /// Entries in the order of their keys, from behind this one on.
    async fn standing(&self, after: Option<PaymentKey>, limit: usize) -> Result<Vec<Standing>, StoreError>;

    /// Facts that are claimed and by whom, in their order, from behind this one on.
    async fn claims(&self, after: Option<Vec<u8>>, limit: usize) -> Result<Vec<(Vec<u8>, PaymentKey)>, StoreError>;
}
