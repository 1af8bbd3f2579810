//! Where a facilitator's name may lead (S61).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use url::{Host, Url};

/// Cloud metadata services outside the link-local ranges.
const METADATA: [IpAddr; 5] = [
    // AWS and Google, over IPv6.
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    // Alibaba, Azure, Oracle.
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),
];

/// Which addresses the configured host may stand for. Private networks are fine: facilitators run in clusters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// This machine and nothing else; only here is plain HTTP allowed.
    Loopback,
    /// Other machines, never this one, never link-local, never a metadata service.
    Outside,
}

impl Reach {
    /// What the host of this URL may stand for; `None` when it is an address that nothing may stand for.
    pub fn of(url: &Url) -> Option<Self> {
        let literal = match url.host()? {
            Host::Domain("localhost") => return Some(Self::Loopback),
            Host::Domain(_) => return Some(Self::Outside),
            Host::Ipv4(ip) => IpAddr::V4(ip),
            Host::Ipv6(ip) => IpAddr::V6(ip),
        };
        // The HTTP client does not resolve a literal address, so it is judged here once and for all.
        [Self::Loopback, Self::Outside].into_iter().find(|reach| reach.allows(literal))
    }

    fn allows(self, ip: IpAddr) -> bool {
        if self == Self::Loopback {
            return ip.to_canonical().is_loopback();
        }
        let ip = destination(ip);
        let nobodys = match ip {
            IpAddr::V4(v4) => v4.is_link_local() || v4.octets()[0] == 0 || v4.octets()[0] >= 240,
            IpAddr::V6(v6) => v6.is_unicast_link_local() || v6.is_unspecified(),
        };
        !(ip.is_loopback() || ip.is_multicast() || nobodys || METADATA.contains(&ip))
    }
}

/// The machine that a connection to this address ends at: `::ffff:169.254.169.254` is 169.254.169.254 to the kernel,
/// `64:ff9b::a9fe:a9fe` to a NAT64 gateway, and `2002:a9fe:a9fe::` to a 6to4 relay.
fn destination(ip: IpAddr) -> IpAddr {
    let IpAddr::V6(v6) = ip.to_canonical() else { return ip.to_canonical() };
    let v4 = |high: u16, low: u16| IpAddr::V4(Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)));
    match v6.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0x2002, high, low, ..] => v4(high, low),
        // Once "IPv4-compatible", long without a meaning; `::` and `::1` are themselves.
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => v4(high, low),
        _ => ip,
    }
}

/// No address of a name may be connected to.
#[derive(Debug, thiserror::Error)]
#[error("the host resolves to no address that a facilitator may have")]
struct NowhereToGo;

/// Resolves with the system's resolver and keeps the allowed addresses. What it returns is what gets connected to,
/// so a name cannot pass the check with one address and be dialled at another.
impl Resolve for Reach {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = *self;
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| reach.allows(address.ip())).collect();
            if allowed.is_empty() {
                return Err(NowhereToGo.into());
            }
            let addresses: Addrs = Box::new(allowed.into_iter());
            Ok(addresses)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(url: &str) -> Option<Reach> {
        Reach::of(&url.parse().expect("a URL"))
    }

    #[test]
    fn s61_literal_link_local_and_metadata_addresses_are_nowhere() {
        for url in [
            "https://169.254.169.254/",
            "https://[fe80::1]/",
            "https://[::ffff:169.254.169.254]/",
            "https://0.0.0.0/",
            "https://[::]/",
            "https://[fd00:ec2::254]/",
            "https://100.100.100.200/",
            "https://224.0.0.1/",
            "https://255.255.255.255/",
            "https://0.1.2.3/",
            "https://250.1.2.3/",
            "https://168.63.129.16/",
            "https://192.0.0.192/",
            "https://[fd20:ce::254]/",
            "https://[64:ff9b::169.254.169.254]/",
            "https://[2002:a9fe:a9fe::1]/",
            "https://[::169.254.169.254]/",
            // Other spellings of 169.254.169.254.
            "https://0xa9fea9fe/",
            "https://2852039166/",
            "https://0251.0376.0251.0376/",
        ] {
            assert_eq!(reach(url), None, "{url}");
        }
    }

    #[test]
    fn s61_loopback_is_reached_only_by_those_who_name_it() {
        for url in ["http://localhost:1/", "http://127.0.0.1/", "http://[::1]/", "http://127.9.9.9/"] {
            assert_eq!(reach(url), Some(Reach::Loopback), "{url}");
        }
        for url in ["https://facilitator.example/", "https://10.0.0.7/", "https://localhost.example/"] {
            assert_eq!(reach(url), Some(Reach::Outside), "{url}");
        }
        assert!(!Reach::Outside.allows(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        assert!(!Reach::Loopback.allows(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7))));
    }

    #[tokio::test]
    async fn s61_a_name_that_leads_to_loopback_is_not_followed() {
        let name = || "localhost".parse::<Name>().expect("a name");
        assert!(Reach::Outside.resolve(name()).await.is_err());
        assert!(Reach::Loopback.resolve(name()).await.is_ok_and(|mut addresses| addresses.next().is_some()));
    }
}
