//! A list of accounts in a file: one address a line.

use std::sync::Arc;
use std::time::Duration;

use crate::primitives::{Address, Timestamp};

/// No list is longer. Every public one has a few hundred.
pub const MOST_ADDRESSES: usize = 1_000_000;

/// Accounts that are not dealt with, as a file had them. Sorted, so that looking one up takes a few comparisons;
/// read once, and shared from then on.
#[derive(Debug, Clone)]
pub struct AddressList {
    /// The file, as `gateway.yaml` names it: for logs and metrics.
    pub name: Arc<str>,
    /// When the file was last written.
    pub dated: Timestamp,
    /// How old it may become; `None` for any age.
    pub max_age: Option<Duration>,
    addresses: Arc<[Address]>,
}

/// Why a text is no list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ListError {
    /// Something stands there that is no address. To skip it could let somebody through.
    #[error("line {0} is not an address")]
    Line(usize),
    /// It names nobody. Nobody keeps a list to say so: whatever writes it has failed.
    #[error("it has no addresses")]
    Empty,
    /// It has more addresses than any list there is.
    #[error("it has more than {MOST_ADDRESSES} addresses")]
    TooLong,
}

impl AddressList {
    /// Reads a list: `0x` and 40 hexadecimal digits in any case, one address a line; `#` begins a comment.
    ///
    /// The case is no checksum here. Lists come from others, in all spellings; one that was refused for the case of a
    /// letter would leave yesterday's in force.
    ///
    /// # Errors
    /// When a line is something else, or there are no addresses or too many.
    pub fn parse(text: &str, name: &str, dated: Timestamp, max_age: Option<Duration>) -> Result<Self, ListError> {
        let mut addresses = Vec::new();
        for (number, line) in (1..).zip(text.trim_start_matches('\u{feff}').lines()) {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            if addresses.len() == MOST_ADDRESSES {
                return Err(ListError::TooLong);
            }
            addresses.push(address(line).ok_or(ListError::Line(number))?);
        }
        if addresses.is_empty() {
            return Err(ListError::Empty);
        }
        addresses.sort_unstable();
        addresses.dedup();
        Ok(Self { name: name.into(), dated, max_age, addresses: addresses.into() })
    }

    /// Whether it names this account.
    pub fn names(&self, account: Address) -> bool {
        self.addresses.binary_search(&account).is_ok()
    }

    /// How many accounts it names.
    pub fn len(&self) -> usize {
        self.addresses.len()
    }

    /// Whether it names nobody. No list that was read does.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }

    /// How old it is.
    pub fn age(&self, now: Timestamp) -> Duration {
        now.since(self.dated)
    }

    /// Whether it is older than it may be.
    pub fn is_stale(&self, now: Timestamp) -> bool {
        self.max_age.is_some_and(|most| self.age(now) > most)
    }
}

fn address(text: &str) -> Option<Address> {
    let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"))?;
    let plain = digits.len() == 40 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    if plain { digits.parse().ok() } else { None }
}
