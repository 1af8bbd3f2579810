//! The PROXY protocol: what a proxy that passes bytes on says first, which is who its client is.
//!
//! It stands before everything else, TLS included, and is believed of proxies alone: whoever else says it could claim to
//! be anybody.

use std::net::SocketAddr;
use std::os::fd::AsRawFd;

use pingora::http::ResponseHeader;
use pingora::protocols::l4::stream::Stream;
use pingora::protocols::raw_connect::ProxyDigest;
use pingora::protocols::{GetProxyDigest, GetSocketDigest, SocketDigest};
use proxy_header::{Error, ParseConfig, Protocol, ProxyHeader};
use tokio::io::AsyncReadExt;

use crate::config::ProxyProtocol;

/// More than any proxy says: version 1 ends at 107 bytes, and what clouds and TLS add to version 2 is a few hundred.
const MOST_BYTES: usize = 4096;
/// Room for nearly all of them.
const USUAL_BYTES: usize = 256;

/// Why a connection is not what it should begin as.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotTold {
    /// It ended before.
    #[error("the connection ended")]
    Ended,
    /// It does not begin so.
    #[error("it does not begin with a PROXY header of an accepted version")]
    Missing,
    /// It goes on and on.
    #[error("its PROXY header is longer than {MOST_BYTES} bytes")]
    TooLong,
}

/// Reads who the client is, and has the connection come from there from now on. `None` for a connection of the proxy's
/// own, or one of whose client it knows nothing: that goes on coming from the proxy, whose word about clients does not
/// count on it, because nobody knows who speaks.
pub(super) async fn read(stream: &mut Stream, accepted: ProxyProtocol) -> Result<Option<SocketAddr>, NotTold> {
    let mut bytes = Vec::with_capacity(USUAL_BYTES);
    loop {
        match stream.read_buf(&mut bytes).await {
            Err(_) | Ok(0) => return Err(NotTold::Ended),
            Ok(_) => {}
        }
        if let Some((client, length)) = parse(&bytes, accepted)? {
            // What stands behind it is the client's.
            stream.rewind(&bytes[length..]);
            match client {
                Some(client) => come_from(stream, client),
                None => know_nobody(stream),
            }
            return Ok(client);
        }
        if bytes.len() >= MOST_BYTES {
            return Err(NotTold::TooLong);
        }
    }
}

/// The client, if it is told, and how many bytes that took; `None` if there must be more of them.
fn parse(bytes: &[u8], accepted: ProxyProtocol) -> Result<Option<(Option<SocketAddr>, usize)>, NotTold> {
    let config = ParseConfig {
        include_tlvs: false,
        allow_v1: matches!(accepted, ProxyProtocol::V1 | ProxyProtocol::Any),
        allow_v2: matches!(accepted, ProxyProtocol::V2 | ProxyProtocol::Any),
    };
    match ProxyHeader::parse(bytes, config) {
        Ok((header, length)) => match header.proxied_address() {
            // HTTP does not come in datagrams.
            Some(told) if told.protocol != Protocol::Stream => Err(NotTold::Missing),
            told => Ok(Some((told.map(|told| told.source), length))),
        },
        Err(Error::BufferTooShort) => Ok(None),
        Err(_) => Err(NotTold::Missing),
    }
}

fn come_from(stream: &mut Stream, client: SocketAddr) {
    let digest = SocketDigest::from_raw_fd(stream.as_raw_fd());
    // Nobody has asked yet, so there is nothing in it.
    let _ = digest.peer_addr.set(Some(client.into()));
    stream.set_socket_digest(digest);
}

/// Leaves a note for whoever would believe a proxy.
fn know_nobody(stream: &mut Stream) {
    if let Ok(response) = ResponseHeader::build(http::StatusCode::OK, Some(0)) {
        stream.set_proxy_digest(ProxyDigest::new(Box::new(response), None));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

    /// A header of version 2 with this command, family and content.
    fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
        let length = u16::try_from(content.len()).expect("it is short");
        [V2, &[command, family], &length.to_be_bytes(), content].concat()
    }

    /// 203.0.113.9:4711 to 192.0.2.1:443.
    const ADDRESSES: [u8; 12] = [203, 0, 113, 9, 192, 0, 2, 1, 0x12, 0x67, 1, 0xbb];

    fn told(bytes: &[u8]) -> Result<Option<(Option<String>, usize)>, NotTold> {
        let parsed = parse(bytes, ProxyProtocol::Any)?;
        Ok(parsed.map(|(client, length)| (client.map(|client| client.to_string()), length)))
    }

    fn client(text: &str, length: usize) -> Result<Option<(Option<String>, usize)>, NotTold> {
        Ok(Some((Some(text.to_owned()), length)))
    }

    #[test]
    fn both_versions_tell_who_the_client_is_and_no_more_is_taken() {
        let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
        assert_eq!(told(&[v1, &b"GET / HTTP/1.1\r\n"[..]].concat()), client("203.0.113.9:4711", v1.len()));
        let v6 = b"PROXY TCP6 2001:db8::9 2001:db8::1 4711 443\r\n";
        assert_eq!(told(v6), client("[2001:db8::9]:4711", v6.len()));
        let binary = v2(0x21, 0x11, &ADDRESSES);
        assert_eq!(told(&[&binary[..], b"GET /"].concat()), client("203.0.113.9:4711", binary.len()));
        let more = v2(0x21, 0x11, &[&ADDRESSES[..], b"\x03\0\x04abcd\x04\0\x02xx"].concat());
        assert_eq!(told(&more), client("203.0.113.9:4711", more.len()), "what else it says is skipped");
    }

    #[test]
    fn a_proxy_may_speak_for_itself() {
        let nobody = |length| Ok(Some((None, length)));
        assert_eq!(told(b"PROXY UNKNOWN\r\n"), nobody(15));
        assert_eq!(told(b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n"), nobody(35));
        assert_eq!(told(&v2(0x20, 0x11, &ADDRESSES)), nobody(28), "LOCAL, whatever addresses it has");
        assert_eq!(told(&v2(0x20, 0, &[])), nobody(16));
        assert_eq!(told(&v2(0x21, 0x31, &[0; 216])), nobody(232), "a Unix socket has no address");
    }

    #[test]
    fn every_beginning_is_waited_for() {
        for whole in [&b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n"[..], &v2(0x21, 0x11, &ADDRESSES)] {
            for end in 0..whole.len() {
                assert_eq!(told(&whole[..end]), Ok(None), "{end} bytes of {whole:?}");
            }
        }
    }

    #[test]
    fn what_is_no_header_is_refused() {
        for wrong in [
            &b"GET / HTTP/1.1\r\nHost: api.test\r\n\r\n"[..],
            b"\x16\x03\x01\x02\0",
            b"PROXY TCP5 203.0.113.9 192.0.2.1 4711 443\r\n",
            b"PROXY TCP4 203.0.113.999 192.0.2.1 4711 443\r\n",
            b"PROXY TCP4 2001:db8::9 192.0.2.1 4711 443\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 99999\r\n",
            b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\rX",
            &v2(0x11, 0x11, &ADDRESSES),
            &v2(0x22, 0x11, &ADDRESSES),
            &[&v2(0x21, 0x11, &ADDRESSES[..8])[..], b"GET / HTTP/1.1\r\n"].concat(),
            &v2(0x21, 0x12, &ADDRESSES),
            &v2(0x21, 0x44, &ADDRESSES),
            b"\r\n\r\n\0\r\nQUIX\n\x21\x11\0\0",
        ] {
            assert_eq!(told(wrong), Err(NotTold::Missing), "{wrong:?}");
        }
        let endless = [&b"PROXY TCP4 "[..], &[b'1'; 200]].concat();
        assert_eq!(told(&endless), Err(NotTold::Missing), "a line has 107 bytes");
    }

    #[test]
    fn a_version_that_is_not_accepted_is_none() {
        let v1 = b"PROXY TCP4 203.0.113.9 192.0.2.1 4711 443\r\n";
        let binary = v2(0x21, 0x11, &ADDRESSES);
        assert_eq!(parse(v1, ProxyProtocol::V2), Err(NotTold::Missing));
        assert_eq!(parse(&binary, ProxyProtocol::V1), Err(NotTold::Missing));
        assert!(matches!(parse(v1, ProxyProtocol::V1), Ok(Some(_))));
        assert!(matches!(parse(&binary, ProxyProtocol::V2), Ok(Some(_))));
    }
}
