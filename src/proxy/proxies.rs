//! Proxies in front of us, whose word about their clients counts.

use std::net::IpAddr;

use pingora::protocols::l4::socket::SocketAddr;

use crate::gate::rails::screening::Ranges;

/// Proxies in front of us, whose word about their clients counts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Proxies {
    addresses: Ranges,
    sockets: bool,
}

impl Proxies {
    /// Those at these addresses, and all who come by a Unix socket if `sockets` says so: its file decides who can.
    pub fn new(addresses: Ranges, sockets: bool) -> Self {
        Self { addresses, sockets }
    }

    /// Whether one of them has this address.
    pub fn have(&self, address: IpAddr) -> bool {
        self.addresses.contains(address)
    }

    /// Whether the other end of a connection is one of them. One that nobody knows is none.
    pub fn include(&self, peer: Option<&SocketAddr>) -> bool {
        match peer {
            Some(SocketAddr::Inet(address)) => !self.addresses.is_empty() && self.have(address.ip()),
            Some(SocketAddr::Unix(_)) => self.sockets,
            None => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_believed_where_the_file_says_so_and_nobody_unknown_ever() {
        let ranges: Ranges = Ranges::parse_one("10.0.0.0/8").into_iter().collect();
        let socket: SocketAddr = "/run/proxy.sock".parse().expect("the path of a socket");
        let inside: SocketAddr = "10.1.2.3:4711".parse().expect("an address");
        let outside: SocketAddr = "192.0.2.1:4711".parse().expect("an address");
        for sockets in [true, false] {
            let proxies = Proxies::new(ranges.clone(), sockets);
            assert_eq!(proxies.include(Some(&socket)), sockets);
            assert!(proxies.include(Some(&inside)));
            assert!(!proxies.include(Some(&outside)));
            assert!(!proxies.include(None));
        }
    }
}
