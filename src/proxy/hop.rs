//! What a client of HTTP/2 says to its next hop alone, or in a way that only HTTP/2 has.

use http::HeaderName;
use http::header::{COOKIE, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRAILER};
use pingora::http::RequestHeader;
use pingora::prelude::{ErrorType, OrErr as _, Result};

/// Pingora removes these where a side speaks HTTP/1.1 (RFC 9110, 7.6.1). `TE` may stay: over HTTP/2 it says `trailers` or
/// the request is refused, and servers of gRPC want to see it.
const ONE_HOP: [HeaderName; 4] =
    [PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TRAILER, HeaderName::from_static("http2-settings")];

/// Makes of a request that came over HTTP/2 what any backend can read.
pub(super) fn leave_http2(request: &mut RequestHeader) -> Result<()> {
    for name in &ONE_HOP {
        request.remove_header(name);
    }
    join_cookies(request)
}

/// A cookie may come in crumbs, for the sake of compression; a backend that does not speak HTTP/2 would see several
/// (RFC 9113, 8.2.3).
fn join_cookies(request: &mut RequestHeader) -> Result<()> {
    if request.headers.get_all(COOKIE).iter().nth(1).is_none() {
        return Ok(());
    }
    let crumbs: Vec<&[u8]> = request.headers.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
    let whole = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])).or_err(ErrorType::InvalidHTTPHeader, "a cookie")?;
    request.insert_header(COOKIE, whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s44_crumbs_are_joined_and_what_is_for_us_stays_here() {
        let mut request = RequestHeader::build("GET", b"/", None).expect("a plain request");
        let sent = [("cookie", "a=1"), ("te", "trailers"), ("proxy-authorization", "x"), ("cookie", "b=2")];
        for (name, value) in sent {
            request.append_header(name, value).expect("a plain field");
        }
        leave_http2(&mut request).expect("crumbs are values");
        let left: Vec<_> = request.headers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
        assert_eq!(left, [("cookie", &b"a=1; b=2"[..]), ("te", b"trailers")]);
    }
}
