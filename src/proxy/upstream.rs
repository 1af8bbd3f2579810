//! Where requests go: the API behind the gateway.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use pingora::upstreams::peer::HttpPeer;

/// How long a name look-up may take.
const LOOKUP: Duration = Duration::from_secs(3);
/// Idle connections to the backend are closed before the backend's own keep-alive runs out. Node closes after five
/// seconds, and a request that meets a closing connection fails.
const KEEP_IDLE: Duration = Duration::from_secs(4);

/// An upstream as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name routes refer to.
    pub name: Arc<str>,
    /// Where it listens, in turn. Never empty.
    pub targets: Vec<Target>,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long a body may pause, either way.
    pub idle: Duration,
}

/// One place an upstream listens at: plain HTTP in this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// An upstream with the addresses its names stand for just now.
pub struct Upstream {
    config: Config,
    addresses: ArcSwap<Vec<SocketAddr>>,
    turn: AtomicUsize,
}

impl Upstream {
    /// An upstream whose names are still to be looked up.
    pub fn new(config: Config) -> Self {
        let known = config.targets.iter().filter_map(|target| {
            let host = target.host.trim_start_matches('[').trim_end_matches(']');
            Some(SocketAddr::new(host.parse().ok()?, target.port))
        });
        let addresses = ArcSwap::from_pointee(known.collect());
        Self { config, addresses, turn: AtomicUsize::new(0) }
    }

    /// What the file says of it.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How many places a request may be tried at.
    pub(super) fn places(&self) -> usize {
        self.addresses.load().len()
    }

    /// Looks its names up anew. Never on the path of a request: Pingora would block there (PINGORA, 5). A name that
    /// cannot be looked up keeps the addresses it had.
    pub async fn resolve(&self) {
        let mut found = Vec::new();
        for target in &self.config.targets {
            let host = target.host.trim_start_matches('[').trim_end_matches(']');
            match tokio::time::timeout(LOOKUP, tokio::net::lookup_host((host, target.port))).await {
                Ok(Ok(addresses)) => found.extend(addresses),
                Ok(Err(error)) => return self.keep(host, &error.to_string()),
                Err(_) => return self.keep(host, "the look-up took too long"),
            }
        }
        found.dedup();
        if **self.addresses.load() != found {
            self.addresses.store(Arc::new(found));
        }
    }

    fn keep(&self, host: &str, why: &str) {
        tracing::warn!(upstream = &*self.config.name, host, why, "a backend's name could not be looked up");
    }

    /// The next place in turn, or `None` when no name has been looked up yet. `timeout` is how long the backend
    /// may take to answer.
    pub(super) fn peer(&self, timeout: Duration) -> Option<Box<HttpPeer>> {
        let addresses = self.addresses.load();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let address = *addresses.get(turn.checked_rem(addresses.len())?)?;
        let mut peer = HttpPeer::new(address, false, String::new());
        peer.options.connection_timeout = Some(self.config.connect);
        peer.options.total_connection_timeout = Some(self.config.connect);
        // One knob for the head and for pauses in the body; the head is held to its own limit when it comes.
        peer.options.read_timeout = Some(timeout.max(self.config.idle));
        peer.options.write_timeout = Some(self.config.idle);
        peer.options.idle_timeout = Some(KEEP_IDLE);
        Some(Box::new(peer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn upstream(targets: &[(&str, u16)]) -> Upstream {
        let targets = targets.iter().map(|(host, port)| Target { host: (*host).into(), port: *port }).collect();
        Upstream::new(Config { name: "app".into(), targets, connect: LOOKUP, idle: LOOKUP })
    }

    #[test]
    fn targets_take_turns() {
        let upstream = upstream(&[("127.0.0.1", 1), ("[::1]", 2)]);
        let ports: Vec<_> = (0..4)
            .map(|_| upstream.peer(LOOKUP).expect("addresses need no look-up").to_string())
            .map(|peer| peer.contains("127.0.0.1:1"))
            .collect();
        assert_eq!(ports, [true, false, true, false]);
    }

    #[tokio::test]
    async fn a_name_is_looked_up_and_a_lost_name_keeps_its_addresses() {
        let named = upstream(&[("localhost", 9)]);
        assert!(named.peer(LOOKUP).is_none(), "nothing is looked up on the path of a request");
        named.resolve().await;
        assert!(named.peer(LOOKUP).is_some());

        let lost = upstream(&[("127.0.0.1", 9), ("no-such-host.invalid", 9)]);
        let before = lost.places();
        lost.resolve().await;
        assert_eq!(lost.places(), before);
    }
}
