//! Who asks: the address a connection comes from, or the one that a proxy we trust names; and what the backend hears of it.

use std::net::{IpAddr, SocketAddr};

use http::header::{FORWARDED, HOST};
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use pingora::proxy::Session;

use super::{Proxies, fields};

const FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// What else would tell a backend who asks, for what, or where. Nothing of it is left, whoever said it.
const CLAIMS: [&str; 4] = ["x-forwarded-", "x-real-ip", "x-client-ip", "true-client-ip"];

/// Who asks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Asker {
    /// The other end of the connection; a Unix socket has no address.
    pub(super) peer: Option<IpAddr>,
    /// Whose requests they are: the peer's, unless it is a proxy we trust and names somebody else.
    pub(super) client: Option<IpAddr>,
    trusted: bool,
    secure: bool,
}

impl Asker {
    /// Whoever sent this request.
    pub(super) fn of(session: &Session, trusted: &Proxies) -> Self {
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(SocketAddr::ip);
        let secure = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        // A proxy that could not say whose connection it is has only passed this on: nobody knows whose word it is.
        let speaks = session.digest().is_none_or(|digest| digest.proxy_digest.is_none());
        let is_trusted = speaks && trusted.include(session.client_addr());
        let named = is_trusted.then(|| named(&session.req_header().headers, trusted)).flatten();
        Self { peer, client: named.or(peer), trusted: is_trusted, secure }
    }

    /// Tells the backend, in the fields that backends read. What a client said there is not passed on. Of a proxy we trust,
    /// who asked it and how is, with its own address behind it. Under which host it was asked is not: many a proxy passes on
    /// there what its client said, and what the backend hears is the host that was priced (I9).
    pub(super) fn tell(&self, request: &mut RequestHeader) {
        let before = self.trusted.then(|| listed(&request.headers)).filter(|before| !before.is_empty());
        let proto = request.headers.get(PROTO).filter(|_| self.trusted).cloned();
        forget(request);
        let peer = self.peer.map(|peer| peer.to_canonical().to_string().into_bytes());
        let chain: Vec<Vec<u8>> = before.into_iter().chain(peer).collect();
        if let Ok(chain) = HeaderValue::from_bytes(&chain.join(&b", "[..]))
            && !chain.is_empty()
        {
            set(request, FOR, chain);
        }
        let own = HeaderValue::from_static(if self.secure { "https" } else { "http" });
        set(request, PROTO, proto.unwrap_or(own));
        let host = request.headers.get(HOST).cloned();
        let authority = || request.uri.authority().and_then(|named| HeaderValue::try_from(named.as_str()).ok());
        if let Some(host) = host.or_else(authority) {
            set(request, FORWARDED_HOST, host);
        }
    }
}

fn set(request: &mut RequestHeader, name: HeaderName, value: HeaderValue) {
    // Cannot fail: name and value are valid already.
    let _ = request.insert_header(name, value);
}

fn forget(request: &mut RequestHeader) {
    let claims =
        |name: &HeaderName| *name == FORWARDED || CLAIMS.iter().any(|claim| fields::begins(name.as_str(), claim));
    let gone: Vec<HeaderName> = request.headers.keys().filter(|name| claims(name)).cloned().collect();
    for name in gone {
        request.remove_header(&name);
    }
}

/// The whole list, over however many lines it was spread. What a client put in front of it need not be text.
fn listed(headers: &HeaderMap) -> Vec<u8> {
    let lines = headers.get_all(FOR).iter().map(HeaderValue::as_bytes);
    lines.collect::<Vec<_>>().join(&b", "[..])
}

/// The last address of the list that is not one of the proxies': what stands before it is a stranger's word.
fn named(headers: &HeaderMap, trusted: &Proxies) -> Option<IpAddr> {
    let list = listed(headers);
    let mut last = None;
    for entry in list.rsplit(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|entry| !entry.is_empty()) {
        let Some(address) = std::str::from_utf8(entry).ok().and_then(address) else { return last };
        last = Some(address);
        if !trusted.have(address) {
            break;
        }
    }
    last
}

/// An address, which some proxies write with a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    let with_port = || entry.parse::<SocketAddr>().ok().map(|address| address.ip());
    bare.parse::<IpAddr>().ok().or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::rails::screening::Ranges;

    fn trusted() -> Proxies {
        let ranges = ["10.0.0.0/8", "2001:db8::/32"].into_iter();
        Proxies::new(ranges.map(|range| Ranges::parse_one(range).expect("a range")).collect(), false)
    }

    fn named_in(lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(FOR, HeaderValue::from_bytes(line.as_bytes()).expect("a value"));
        }
        named(&headers, &trusted()).map(|address| address.to_string())
    }

    #[test]
    fn the_last_stranger_in_the_list_is_the_client() {
        let client = Some("203.0.113.9".to_owned());
        assert_eq!(named_in(&["203.0.113.9"]), client);
        assert_eq!(named_in(&["192.0.2.1, 203.0.113.9"]), client, "what a client says of itself stands in front");
        assert_eq!(named_in(&["192.0.2.1, 203.0.113.9, 10.1.2.3"]), client);
        assert_eq!(named_in(&["192.0.2.1", "203.0.113.9,10.1.2.3 , [2001:db8::7]"]), client);
        assert_eq!(named_in(&["203.0.113.9:4711"]), client);
        assert_eq!(named_in(&["10.9.9.9"]).as_deref(), Some("10.9.9.9"), "nobody but proxies: the farthest");
        assert_eq!(named_in(&["::ffff:203.0.113.9"]), client);
        assert_eq!(named_in(&["\u{ff}, 203.0.113.9"]), client, "what need not be text either");
    }

    #[test]
    fn what_is_no_address_ends_the_list() {
        assert_eq!(named_in(&[]), None);
        assert_eq!(named_in(&["", " , "]), None);
        assert_eq!(named_in(&["unknown"]), None);
        assert_eq!(named_in(&["203.0.113.9, unknown, 10.1.2.3"]).as_deref(), Some("10.1.2.3"));
    }
}
