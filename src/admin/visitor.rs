//! Who is at the door: not a browser, whatever page runs in it, and nobody without the token where one is asked for (S62).
//!
//! A page of anybody's may have a browser send requests to a loopback address, and may give that address a name of its
//! own (DNS rebinding). Three things keep it out, each of them by itself: a `Host` that is a name and not an address; the
//! fields that browsers add and pages cannot remove; and a token that no page knows. No answer permits a page to read it.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue};
use pingora::http::RequestHeader;
use ring::hmac;

use super::answer::Objection;
use super::config::Token;

/// No client of this API has longer heads, in bytes.
const MOST_HEAD: usize = 16 * 1024;
/// Browsers send fields with this beginning about every request to an address that they trust, as loopback is.
const OF_BROWSERS: &str = "sec-fetch-";

/// Who has connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Peer {
    /// A process on the Unix socket, and the user it runs as.
    User(u32),
    /// Somebody at this address.
    Address(SocketAddr),
}

impl Peer {
    /// Who it goes on record as.
    pub(super) fn name(&self, shown_a_token: bool) -> String {
        let token = if shown_a_token { "admin token, " } else { "" };
        match self {
            Self::User(uid) => format!("{token}uid {uid}"),
            Self::Address(address) => format!("{token}{}", address.ip()),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name(false))
    }
}

/// Knows the right token without holding it. What is shown becomes the key of an HMAC, and the codes are compared in
/// constant time: how long it takes tells nothing of the token (S69), not even its length.
pub(super) struct Lock(hmac::Tag);

impl Lock {
    const WORDS: &[u8] = b"tollhouse admin v1";

    pub(super) fn of(token: &Token) -> Self {
        Self(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, token.expose()), Self::WORDS))
    }

    fn opens_with(&self, shown: &[u8]) -> bool {
        hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, shown), Self::WORDS, self.0.as_ref()).is_ok()
    }
}

/// Lets a request in, or says why not.
pub(super) fn admit(head: &RequestHeader, length: usize, lock: Option<&Lock>) -> Result<(), Objection> {
    if length > MOST_HEAD {
        return Err(Objection::LargeHead);
    }
    if !only(&head.headers, &HOST).is_some_and(|host| host.to_str().is_ok_and(is_literal)) {
        return Err(Objection::Host);
    }
    if head.headers.contains_key(ORIGIN) || head.headers.keys().any(|name| name.as_str().starts_with(OF_BROWSERS)) {
        return Err(Objection::Browser);
    }
    match lock {
        Some(lock) if !bearer(&head.headers).is_some_and(|shown| lock.opens_with(shown)) => Err(Objection::Token),
        _ => Ok(()),
    }
}

/// Whether it is an address, or `localhost`: names that nobody else can make lead here.
fn is_literal(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host();
    let address = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    !host.contains('@') && (name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok())
}

/// What is shown as the token: `Authorization: Bearer …`, once.
fn bearer(fields: &HeaderMap) -> Option<&[u8]> {
    let (scheme, token) = only(fields, &AUTHORIZATION)?.as_bytes().split_at_checked("bearer ".len())?;
    scheme.eq_ignore_ascii_case(b"bearer ").then(|| token.trim_ascii())
}

/// The value of a field that is there exactly once.
pub(super) fn only<'f>(fields: &'f HeaderMap, name: &HeaderName) -> Option<&'f HeaderValue> {
    let mut values = fields.get_all(name).iter();
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitives::Secret;

    const TOKEN: &str = "0123456789abcdef";

    fn lock() -> Lock {
        Lock::of(&Token::new(Secret::new(TOKEN.to_owned())).expect("it is long enough"))
    }

    fn head(fields: &[(&'static str, &'static str)]) -> RequestHeader {
        let mut head = RequestHeader::build("POST", b"/pause", None).expect("a head");
        for (name, value) in fields {
            head.append_header(*name, *value).expect("a field");
        }
        head
    }

    #[test]
    fn s62_only_addresses_and_localhost_are_names_of_ours() {
        for host in ["127.0.0.1:9403", "127.0.0.1", "[::1]:9403", "[::1]", "localhost", "LOCALHOST:1", "10.1.2.3:80"] {
            assert!(is_literal(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:9403",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "127.0.0.1@evil.example",
            "evil@127.0.0.1",
            "0x7f000001",
            "2130706433",
            "localhost.",
            "::1",
            "[::1",
            "127.0.0.1:9403, evil.example",
        ] {
            assert!(!is_literal(host), "{host}");
        }
    }

    #[test]
    fn s62_the_token_is_asked_for_once_and_whole() {
        let host = ("host", "localhost");
        let tried = |shown: &[(&'static str, &'static str)]| {
            let fields: Vec<_> = [host].into_iter().chain(shown.iter().copied()).collect();
            admit(&head(&fields), 100, Some(&lock()))
        };
        for right in ["Bearer 0123456789abcdef", "bearer  0123456789abcdef "] {
            assert_eq!(tried(&[("authorization", right)]), Ok(()), "{right}");
        }
        let wrong = ["", "Bearer", "Bearer ", "Bearer 0123456789abcde", "Bearer 0123456789abcdef0", "0123456789abcdef"];
        for wrong in wrong.into_iter().chain(["Basic 0123456789abcdef", "Bearer 0123456789ABCDEF"]) {
            assert_eq!(tried(&[("authorization", wrong)]), Err(Objection::Token), "{wrong}");
        }
        let right = ("authorization", "Bearer 0123456789abcdef");
        assert_eq!(tried(&[right, right]), Err(Objection::Token), "which of the two counts?");
        assert_eq!(admit(&head(&[host]), 100, None), Ok(()), "the socket's permissions are enough");
    }

    #[test]
    fn s62_nobody_who_holds_the_token_is_excused_from_the_rest() {
        let right = ("authorization", "Bearer 0123456789abcdef");
        let tried = |fields: &[(&'static str, &'static str)], length| {
            let fields: Vec<_> = [right].into_iter().chain(fields.iter().copied()).collect();
            admit(&head(&fields), length, Some(&lock()))
        };
        let host = ("host", "127.0.0.1:9403");
        assert_eq!(tried(&[host], MOST_HEAD + 1), Err(Objection::LargeHead));
        assert_eq!(tried(&[], 100), Err(Objection::Host));
        assert_eq!(tried(&[host, ("host", "localhost")], 100), Err(Objection::Host));
        assert_eq!(tried(&[host, ("origin", "http://127.0.0.1:9403")], 100), Err(Objection::Browser));
        assert_eq!(tried(&[host, ("Sec-Fetch-Mode", "no-cors")], 100), Err(Objection::Browser));
    }
}
