//! What happened to every payment, step by step, in chains of hashes (S72).
//!
//! Whoever writes an entry writes a [`Record`] of it in the same transaction. A record commits to the one before it,
//! so none can be changed, removed or moved without changing every hash behind it; and it commits to the entry as it
//! was written, so an entry cannot be changed without its record. What this finds, and what it cannot, is told in
//! docs/ARCHITECTURE.md, "Evidence".
//!
//! A chain has one writer at a time: a SQLite file has one chain, a database that replicas share has several, so that
//! they need not wait for each other.

mod step;
mod verify;

use std::fmt;
use std::str::FromStr;

use alloy::primitives::{B256, Bytes, hex};
use ring::digest::{Context, SHA256, digest};
use serde::{Deserialize, Serialize};

pub use step::{Author, Step};
pub use verify::{Fault, Findings, verify};

use super::{Claimed, StoreError, Version};
use crate::payment::PaymentKey;
use crate::primitives::Timestamp;

/// The step by which an entry from before there were records comes to be on record.
pub const ADOPTED: &str = "adopted";

/// What is hashed begins with this, so that no other hash of ours can be taken for a link.
const LINK: &[u8] = b"tollhouse evidence 1\0";

/// Which chain. 128 random bits, drawn when the chain begins.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChainId(pub [u8; 16]);

impl fmt::Display for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for ChainId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ChainId {
    type Err = hex::FromHexError;

    fn from_str(text: &str) -> Result<Self, hex::FromHexError> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes)?;
        Ok(Self(bytes))
    }
}

/// A place in a chain: how many records it has up to there, and the hash that commits to all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The number of the last record; zero before the first.
    pub number: u64,
    /// Its hash; zero before the first.
    pub hash: B256,
}

impl Head {
    /// Where a chain begins.
    pub const START: Self = Self { number: 0, hash: B256::ZERO };

    /// The next record behind this place; its number and hash are where the chain ends from then on.
    pub fn append(self, chain: ChainId, content: Content) -> Record {
        let number = self.number + 1;
        let hash = link(chain, number, self.hash, content.digest());
        Record { chain, head: Self { number, hash }, content }
    }
}

/// How far a chain reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Which chain.
    pub chain: ChainId,
    /// The last record of its beginning that was forgotten altogether; what is kept begins behind it.
    pub base: Head,
    /// Where it ends.
    pub head: Head,
}

/// One record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The chain it belongs to.
    pub chain: ChainId,
    /// Its number and hash.
    pub head: Head,
    /// What it says.
    pub content: Content,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// A [`Body`] as JSON: the very bytes that were hashed.
    Said(String),
    /// It was forgotten together with its payment (S67). Its SHA-256 stays, so the chain holds.
    Forgotten(B256),
}

impl Content {
    /// SHA-256 of what it says or said.
    pub fn digest(&self) -> B256 {
        match self {
            Self::Said(body) => sum(body.as_bytes()),
            Self::Forgotten(digest) => *digest,
        }
    }

    /// What it says; `None` when it was forgotten.
    ///
    /// # Errors
    /// When it is no [`Body`].
    pub fn body(&self) -> Result<Option<Body>, serde_json::Error> {
        match self {
            Self::Said(body) => serde_json::from_str(body).map(Some),
            Self::Forgotten(_) => Ok(None),
        }
    }

    /// Whether it is the record of this writing of an entry. `entry` is the stored text.
    pub fn is_of(&self, payment: PaymentKey, version: Version, entry: &str) -> bool {
        let said = |body: Body| {
            body.payment == Some(payment) && body.version == version && body.entry == sum(entry.as_bytes())
        };
        self.body().ok().flatten().is_some_and(said)
    }
}

/// What is said of one step. Its JSON is hashed as it is written, so the order of the fields is part of the format.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Body {
    /// Which payment; `None` for a step of the ledger as a whole.
    pub payment: Option<PaymentKey>,
    /// Which writing of its entry this was.
    pub version: Version,
    /// SHA-256 of the entry as it was stored.
    pub entry: B256,
    /// When, in milliseconds since the epoch.
    pub at: Timestamp,
    /// Which process, or which person.
    pub by: String,
    /// Why, in the words of a person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What happened.
    pub step: String,
    /// With which terms and outcome. Never a signature (I8).
    pub details: serde_json::Value,
    /// The facts that became this payment's own with it (S5); not those that it claimed only if they were free. Earlier
    /// versions put none on record.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub claims: Vec<Bytes>,
}

impl Body {
    /// The step that wrote this version of an entry, as a store keeps it, and what it claimed. `entry` is the stored text.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of(
        step: &Step<'_>,
        payment: PaymentKey,
        version: Version,
        entry: &str,
        claims: &[Claimed],
    ) -> Result<Content, StoreError> {
        Self::told(step, Some(payment), version, sum(entry.as_bytes()), claims)
    }

    /// A step of the ledger as a whole.
    ///
    /// # Errors
    /// When it cannot be written as JSON.
    pub fn of_ledger(step: &Step<'_>) -> Result<Content, StoreError> {
        Self::told(step, None, 0, B256::ZERO, &[])
    }

    fn told(
        step: &Step<'_>,
        payment: Option<PaymentKey>,
        version: Version,
        entry: B256,
        claims: &[Claimed],
    ) -> Result<Content, StoreError> {
        let author = step.author.clone();
        let (name, details) = (step.name(), step.details());
        let body = Self {
            payment,
            version,
            entry,
            at: step.at,
            by: author.who,
            why: author.why,
            step: name.to_owned(),
            details,
            claims: claims.iter().filter(|claim| claim.alone).map(|claim| claim.fact.clone().into()).collect(),
        };
        serde_json::to_string(&body).map(Content::Said).map_err(|error| StoreError(error.into()))
    }
}

/// An entry as it stands, for comparison with its records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The payment.
    pub key: PaymentKey,
    /// How many times its entry has been written.
    pub version: Version,
    /// SHA-256 of its entry as it is stored.
    pub entry: B256,
    /// Whether what finds it says the same.
    pub columns: Agreement,
}

/// How an entry and the columns beside it agree. Every query goes by the columns, so an entry whose columns were changed is
/// as good as changed itself: a debt is not listed, a settlement is never looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agreement {
    /// All say the same.
    Whole,
    /// This column says something else.
    Differs(&'static str),
    /// The entry, or a column, cannot be read.
    Unreadable,
}

/// SHA-256.
pub fn sum(bytes: &[u8]) -> B256 {
    B256::from_slice(digest(&SHA256, bytes).as_ref())
}

/// The hash of a record: it commits to its chain, its place, all before it, and what it says.
fn link(chain: ChainId, number: u64, previous: B256, content: B256) -> B256 {
    let mut hash = Context::new(&SHA256);
    hash.update(LINK);
    hash.update(&chain.0);
    hash.update(&number.to_be_bytes());
    hash.update(previous.as_slice());
    hash.update(content.as_slice());
    B256::from_slice(hash.finish().as_ref())
}
