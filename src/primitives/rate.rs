//! So many in a time.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// How many may come in a time. After a pause that many may come at once, and then one whenever its share of the time
/// has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub requests: NonZeroU32,
    /// In this time, which is never zero.
    pub per: Duration,
}

impl fmt::Display for Rate {
    /// As the file would have it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} per {:?}", self.requests, self.per)
    }
}
