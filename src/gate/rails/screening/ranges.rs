//! Ranges of IP addresses.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net};

/// Ranges of IP addresses, sorted and merged: looking one up takes a few comparisons, however many there are.
///
/// An IPv4 address is the same address when it comes as IPv6 (`::ffff:192.0.2.1`), as it does where one socket takes
/// both. A range of IPv6 holds IPv6 addresses only.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ranges(Vec<IpNet>);

/// Why a text is no range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RangeError {
    /// It is neither an address nor an address and a length.
    #[error("it is neither an address nor a range")]
    Unreadable,
    /// It names an address in the middle of the range that it spans.
    #[error("it begins in the middle of {0}")]
    Inside(IpNet),
}

impl Ranges {
    /// Reads one: `203.0.113.0/24`, `2001:db8::/32`, or an address alone.
    ///
    /// # Errors
    /// When it is none, or does not begin where the range it spans begins: one of the two is a slip.
    pub fn parse_one(text: &str) -> Result<IpNet, RangeError> {
        let address = text.parse::<IpAddr>().ok().map(IpNet::from);
        let range = address.or_else(|| text.parse().ok()).ok_or(RangeError::Unreadable)?;
        if range.trunc() != range {
            return Err(RangeError::Inside(range.trunc()));
        }
        Ok(canonical(range))
    }

    /// Whether an address is in one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let behind = self.0.partition_point(|range| range.network() <= address);
        behind.checked_sub(1).is_some_and(|at| self.0[at].contains(&address))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<IpNet> for Ranges {
    fn from_iter<I: IntoIterator<Item = IpNet>>(ranges: I) -> Self {
        let mut ranges = IpNet::aggregate(&ranges.into_iter().collect::<Vec<_>>());
        ranges.sort_unstable_by_key(IpNet::network);
        Self(ranges)
    }
}

/// A range of IPv4 addresses in the clothes of IPv6 is one of IPv4.
fn canonical(range: IpNet) -> IpNet {
    let IpNet::V6(mapped) = range else { return range };
    let inner = mapped.network().to_ipv4_mapped().zip(mapped.prefix_len().checked_sub(96));
    let inner = inner.and_then(|(network, length)| Ipv4Net::new(network, length).ok());
    inner.map_or(range, IpNet::V4)
}
