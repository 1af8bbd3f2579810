//! How a place is reached: what Pingora has to know of it.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use pingora::prelude::HttpPeer;
use pingora::upstreams::peer::ALPN;

use super::config::{Address, Config};
use super::deadline::Severable;
use super::place::{Place, Spot, Standing};

/// Idle connections to the backend are closed before the backend's own keep-alive runs out. Node closes after five
/// seconds, and a request that meets a closing connection fails.
const KEEP_IDLE: Duration = Duration::from_secs(4);
/// How many requests share a connection over HTTP/2; as many as most servers allow.
const STREAMS: usize = 100;

impl Place {
    /// `None` for a path that no socket can have; the file is refused before it comes to that.
    pub(super) fn new(config: &Config, target: usize, spot: Spot, standing: Arc<Standing>) -> Option<Self> {
        let described = config.targets.get(target)?;
        let own_name = match &described.address {
            Address::Tcp { host, .. } => host.as_str(),
            Address::Unix(_) => "localhost",
        };
        let sni = if described.tls { config.tls.server_name.as_deref().unwrap_or(own_name) } else { "" };
        let mut peer = match &spot {
            Spot::Tcp(address) => HttpPeer::new(address, described.tls, sni.to_owned()),
            Spot::Unix(path) => HttpPeer::new_uds(path.to_str()?, described.tls, sni.to_owned()).ok()?,
        };
        peer.group_key = group(config);
        peer.client_cert_key = config.tls.identity.as_ref().map(|identity| Arc::clone(&identity.pair));
        let options = &mut peer.options;
        options.connection_timeout = Some(config.connect);
        options.total_connection_timeout = Some(config.connect);
        options.write_timeout = Some(config.idle);
        options.idle_timeout = Some(KEEP_IDLE);
        options.verify_cert = config.tls.verify;
        options.verify_hostname = config.tls.verify;
        options.ca = config.tls.ca.as_ref().map(|authorities| Arc::clone(&authorities.certificates));
        if config.http2 {
            // In plaintext nobody can be asked whether it speaks HTTP/2.
            options.alpn = if described.tls { ALPN::H2H1 } else { ALPN::H2 };
            options.max_h2_streams = STREAMS;
        } else if config.hasty {
            options.custom_l4 = Some(Arc::new(Severable));
        }
        Some(Self { target, spot, peer, authority: authority(&described.address, described.tls), standing })
    }

    /// How it is reached for one request. A backend that stays silent is given up after `silence`.
    pub(super) fn peer(&self, silence: Duration, upgrades: bool) -> Box<HttpPeer> {
        let mut peer = Box::new(self.peer.clone());
        peer.options.read_timeout = Some(silence);
        if upgrades {
            // A protocol can be changed only over HTTP/1.1 (RFC 9113, 8.6).
            peer.options.alpn = ALPN::H1;
            // On such a connection nobody else is to find HTTP/1.1 where HTTP/2 was asked for.
            peer.group_key = peer.group_key.wrapping_add(1);
        }
        peer
    }
}

/// Connections are shared only under the same key. Pingora's own leaves out who vouches for the backend and which
/// protocol was spoken for, so one to a backend that was checked less would serve requests that ask for more.
fn group(config: &Config) -> u64 {
    let mut hasher = DefaultHasher::new();
    config.name.hash(&mut hasher);
    config.http2.hash(&mut hasher);
    config.hasty.hash(&mut hasher);
    config.tls.ca.as_ref().map(|authorities| authorities.digest).hash(&mut hasher);
    config.tls.identity.as_ref().map(|identity| identity.digest).hash(&mut hasher);
    hasher.finish()
}

/// What a backend is called in `Host`.
fn authority(address: &Address, tls: bool) -> HeaderValue {
    const LOCALHOST: HeaderValue = HeaderValue::from_static("localhost");
    let Address::Tcp { host, port } = address else { return LOCALHOST };
    let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
    let usual = if tls { 443 } else { 80 };
    let authority = if *port == usual { host } else { format!("{host}:{port}") };
    HeaderValue::try_from(authority).unwrap_or(LOCALHOST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::Secret;
    use crate::proxy::upstream::config::Target;
    use crate::proxy::upstream::{Authorities, Identity};
    use pingora::upstreams::peer::Peer;

    fn config(name: &str, tls: bool) -> Config {
        let address = Address::Tcp { host: "127.0.0.1".into(), port: 9 };
        Config::at(name.into(), vec![Target { name: "t".into(), address, tls }])
    }

    fn place(config: &Config) -> Place {
        let spot = Spot::Tcp("127.0.0.1:9".parse().expect("an address"));
        let standing = Arc::new(Standing::new(&config.name, &spot));
        Place::new(config, 0, spot, standing).expect("it can be reached")
    }

    fn key(config: &Config) -> u64 {
        place(config).peer.reuse_hash()
    }

    #[test]
    fn upstreams_never_share_connections_that_were_made_under_other_terms() {
        let plain = config("a", false);
        let mut others = vec![config("b", false), config("a", true)];
        others.push(Config { http2: true, ..plain.clone() });
        others.push(Config { hasty: true, ..plain.clone() });
        let mut lax = config("a", true);
        lax.tls.verify = false;
        others.push(lax);
        let mut named = config("a", true);
        named.tls.server_name = Some("other".into());
        others.push(named);
        for number in 0..2 {
            let made = rcgen::generate_simple_self_signed(vec![format!("{number}.test")]).expect("a name");
            let (chain, key) = (made.cert.pem(), made.signing_key.serialize_pem());
            let (mut vouched, mut known) = (config("a", true), config("a", true));
            vouched.tls.ca = Some(Authorities::from_pem(chain.as_bytes()).expect("a certificate"));
            known.tls.identity = Some(Identity::from_pem(chain.as_bytes(), &Secret::new(key)).expect("a pair"));
            others.extend([vouched, known]);
        }
        let mut keys: Vec<_> = others.iter().chain([&plain]).map(key).collect();
        assert_eq!(key(&plain), key(&plain.clone()));
        let upgrading = place(&others[1]).peer(Duration::ZERO, true);
        keys.push(upgrading.reuse_hash());
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), others.len() + 2);
    }

    #[test]
    fn a_backend_is_called_as_a_client_would_call_it() {
        let tcp = |host: &str, port| Address::Tcp { host: host.into(), port };
        for (address, tls, called) in [
            (tcp("api.internal", 80), false, "api.internal"),
            (tcp("api.internal", 80), true, "api.internal:80"),
            (tcp("::1", 3000), false, "[::1]:3000"),
            (Address::Unix("/run/app.sock".into()), false, "localhost"),
        ] {
            assert_eq!(authority(&address, tls), called);
        }
    }
}
