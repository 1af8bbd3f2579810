//! Where a client is, in the word of a proxy that is believed.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

use super::Ranges;

/// A country in two letters (ISO 3166-1), or a proxy's word for something like one: `T1` is Tor at Cloudflare, `XX`
/// that it does not know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Country([u8; 2]);

/// Which countries are not sold to, and whose word counts.
#[derive(Debug, Clone)]
pub struct Countries {
    /// The field that names the country.
    pub header: HeaderName,
    /// Whose word it is: connections from elsewhere may say anything there, and are not believed.
    pub from: Ranges,
    /// Which are not sold to.
    pub deny: BTreeSet<Country>,
}

impl Country {
    /// Reads two letters or digits, in any case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let [first, second] = text.trim_ascii() else { return None };
        let plain = first.is_ascii_alphanumeric() && second.is_ascii_alphanumeric();
        plain.then_some(Self([first.to_ascii_uppercase(), second.to_ascii_uppercase()]))
    }
}

impl fmt::Display for Country {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|letter| write!(f, "{}", char::from(*letter)))
    }
}

impl Countries {
    /// Where the client is. `None` when nobody who is believed says so, or two countries stand there.
    pub(super) fn of(&self, client: Option<IpAddr>, fields: &HeaderMap) -> Option<Country> {
        if !self.from.contains(client?) {
            return None;
        }
        let mut said = fields.get_all(&self.header).iter();
        // A proxy that adds its line to the client's, rather than replacing it, has not said anything.
        match (said.next(), said.next()) {
            (Some(one), None) => Country::parse(one.as_bytes()),
            _ => None,
        }
    }
}
