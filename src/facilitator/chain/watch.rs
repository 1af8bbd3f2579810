//! Watches settled payments until nothing can undo them (S26).
//!
//! A chain of blocks is a chain of hashes: while the highest block we have something in is still there, so are all
//! below it. So a look costs two questions for each chain, however many payments settled, and only after a
//! reorganisation are payments looked for one by one.

use std::collections::BTreeMap;
use std::sync::Arc;

use alloy::primitives::B256;
use serde_json::json;

use super::search::quantity;
use super::{Block, Chain, Found, RpcError};
use crate::payment::{Payment, TransactionHash};

/// How many payments of one chain are watched (I7). Beyond it the oldest blocks are let go.
const MOST_WATCHED: usize = 10_000;
/// How many payments are looked for one by one in one look.
const AT_ONCE: usize = 64;
/// How often a payment may be in no block before it counts as gone: a node may be behind (S27).
const PATIENCE: u32 = 2;
/// Stands in for finality on nodes that do not name a final block.
const FINAL_DEPTH: u64 = 256;

/// A settled payment, and where it settled.
#[derive(Debug, Clone)]
pub struct Watched {
    /// The payment.
    pub payment: Arc<Payment>,
    /// The transaction that settled it.
    pub transaction: TransactionHash,
}

/// What became of a settled payment.
#[derive(Debug, Clone)]
pub enum Sighting {
    /// Its transfer is no longer on the chain.
    Gone(Watched),
    /// It is there again, in this block.
    Back(Watched, u64),
}

/// The payments of one chain that could still be undone.
pub struct Watch {
    chain: Arc<Chain>,
    blocks: BTreeMap<u64, Held>,
    loose: Vec<Loose>,
}

struct Held {
    hash: B256,
    payments: Vec<Watched>,
}

/// A payment that is in no block we know of: just settled, or undone.
struct Loose {
    watched: Watched,
    misses: u32,
    told: bool,
}

impl Watch {
    /// Watches nothing yet.
    pub fn new(chain: Arc<Chain>) -> Self {
        Self { chain, blocks: BTreeMap::new(), loose: Vec::new() }
    }

    /// The chain that is watched.
    pub fn chain(&self) -> &Arc<Chain> {
        &self.chain
    }

    /// Watches a payment that has settled.
    pub fn add(&mut self, watched: Watched) {
        // One that was missed has settled in another transaction.
        self.loose.retain(|loose| loose.watched.payment != watched.payment);
        self.loose.push(Loose { watched, misses: 0, told: false });
        while self.len() > MOST_WATCHED {
            if self.blocks.pop_first().is_none() {
                self.loose.remove(0);
            }
            tracing::warn!(network = %self.chain.network(), "too many payments are not final; the oldest are not watched any more");
        }
    }

    /// How many payments are watched.
    pub fn len(&self) -> usize {
        self.loose.len() + self.blocks.values().map(|held| held.payments.len()).sum::<usize>()
    }

    /// Whether nothing is watched.
    pub fn is_empty(&self) -> bool {
        self.loose.is_empty() && self.blocks.is_empty()
    }

    /// One look at the chain.
    ///
    /// # Errors
    /// When no node gives a usable answer. What was not looked at is looked at next time.
    pub async fn look(&mut self) -> Result<Vec<Sighting>, RpcError> {
        self.loosen().await?;
        let mut sightings = Vec::new();
        for mut loose in self.loose.drain(..self.loose.len().min(AT_ONCE)).collect::<Vec<_>>() {
            let found = self.chain.transfer_in(loose.watched.transaction, &loose.watched.payment).await;
            match found {
                // What was told to be gone is back when it counts as at first: as deep, and for as many nodes.
                Ok(Found::Shallow { .. }) if loose.told => {}
                Ok(Found::Yes { block, hash, .. } | Found::Shallow { block, hash }) => {
                    if loose.told {
                        sightings.push(Sighting::Back(loose.watched.clone(), block));
                    }
                    let held = self.blocks.entry(block).or_insert_with(|| Held { hash, payments: Vec::new() });
                    // Should the block have changed just now, the next look finds out.
                    held.payments.push(loose.watched);
                    continue;
                }
                Ok(Found::No(_) | Found::NotYet) => {
                    let misses = self.chain.misses(loose.watched.transaction, &loose.watched.payment).await;
                    loose.misses += u32::from(misses);
                }
                Err(_) => {}
            }
            if loose.misses >= PATIENCE && !loose.told {
                loose.told = true;
                sightings.push(Sighting::Gone(loose.watched.clone()));
            }
            self.loose.push(loose);
        }
        self.let_go().await?;
        Ok(sightings)
    }

    /// Takes payments out of blocks that are no longer there, from the highest one down to the first that is.
    async fn loosen(&mut self) -> Result<(), RpcError> {
        while let Some((number, held)) = self.blocks.last_key_value() {
            let (number, hash) = (*number, held.hash);
            // A node that has not come so far says nothing of what is there (S27).
            if self.chain.block(quantity(number)).await?.is_none_or(|block| block.hash == hash) {
                break;
            }
            tracing::warn!(network = %self.chain.network(), block = number, "a block with settled payments was replaced");
            let payments = self.blocks.remove(&number).map(|held| held.payments).unwrap_or_default();
            self.loose.extend(payments.into_iter().map(|watched| Loose { watched, misses: 1, told: false }));
        }
        Ok(())
    }

    /// Lets go of what is final.
    async fn let_go(&mut self) -> Result<(), RpcError> {
        let Some(lowest) = self.blocks.keys().next().copied() else { return Ok(()) };
        let named = match self.chain.block(json!("finalized")).await {
            Ok(block) => block.map(|block| block.number()),
            Err(RpcError::Refused { .. }) => None,
            Err(error) => return Err(error),
        };
        let last = match named {
            Some(number) => number,
            None => self.chain.head().await?.number().saturating_sub(FINAL_DEPTH),
        };
        if lowest <= last {
            self.blocks = self.blocks.split_off(&(last + 1));
        }
        Ok(())
    }
}

impl Chain {
    /// A block by number or name, if there is one.
    async fn block(&self, which: serde_json::Value) -> Result<Option<Named>, RpcError> {
        self.read("eth_getBlockByNumber", json!([which, false])).await
    }
}

/// A block with its hash.
#[derive(serde::Deserialize)]
struct Named {
    hash: B256,
    #[serde(flatten)]
    block: Block,
}

impl Named {
    fn number(&self) -> u64 {
        self.block.number()
    }
}
