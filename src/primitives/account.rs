//! Who pays and who is paid, and how an address is spelled.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt;

use alloy::primitives::{Address, AddressChecksumBuffer};
use serde::{Deserialize, Serialize, Serializer};

/// The account whose signature moves the money.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payer(pub Address);

/// The account an offer pays. tollhouse never holds its key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payee(pub Address);

/// An address in EIP-55 spelling, which v1 clients compare letter for letter.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Checksummed(pub Address);

/// How many spellings a thread remembers: payees and assets are few, payers come and go.
const REMEMBERED: usize = 256;

thread_local! {
    /// A spelling takes a Keccak hash; a challenge spells four addresses and a paid request three.
    static SPELLINGS: RefCell<HashMap<Address, AddressChecksumBuffer>> = RefCell::default();
}

impl Checksummed {
    fn spelled<T>(self, say: impl FnOnce(&str) -> T) -> T {
        SPELLINGS.with_borrow_mut(|spellings| {
            if spellings.len() >= REMEMBERED && !spellings.contains_key(&self.0) {
                spellings.clear();
            }
            say(spellings.entry(self.0).or_insert_with(|| self.0.to_checksum_buffer(None)).as_str())
        })
    }
}

impl Serialize for Checksummed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.spelled(|spelling| serializer.serialize_str(spelling))
    }
}

impl fmt::Display for Checksummed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.spelled(|spelling| f.pad(spelling))
    }
}

impl fmt::Debug for Checksummed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Checksummed(self.0).fmt(f)
    }
}

impl fmt::Debug for Payer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Payee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Checksummed(self.0).fmt(f)
    }
}

impl fmt::Debug for Payee {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
