//! Refusals in the words of gRPC.
//!
//! A gRPC client takes any HTTP status but 200 for a broken connection and drops the fields beside it, offers and all. So it
//! gets a Trailers-Only answer: 200, the refusal in `grpc-status` and `grpc-message`, the payment fields as metadata
//! (PINGORA, 2). <https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md>

use bytes::Bytes;
use http::header::{ACCESS_CONTROL_EXPOSE_HEADERS, CONTENT_TYPE, HeaderName};
use http::{HeaderValue, StatusCode};
use pingora::http::RequestHeader;

use crate::protocol::Answer;

/// How a call ended.
pub(super) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// The kinds of gRPC over HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Grpc {
    /// Over HTTP/2.
    Native,
    /// From a page, over any HTTP.
    Web,
}

impl Grpc {
    /// Which of them a request speaks, if it speaks one.
    pub(super) fn spoken_by(request: &RequestHeader) -> Option<Self> {
        let kind = request.headers.get(CONTENT_TYPE)?.as_bytes();
        let rest = kind.get(..MEDIA_TYPE.len()).filter(|start| start.eq_ignore_ascii_case(MEDIA_TYPE));
        match rest.map(|_| &kind[MEDIA_TYPE.len()..])? {
            [] | [b'+' | b';' | b' ', ..] => Some(Self::Native),
            web if web.len() >= 4 && web[..4].eq_ignore_ascii_case(b"-web") => Some(Self::Web),
            _ => None,
        }
    }

    /// A refusal as a client of this kind understands it.
    pub(super) fn say(self, refusal: Answer) -> Answer {
        let document: serde_json::Value = serde_json::from_slice(&refusal.body).unwrap_or_default();
        let message = encode(reason(&document, refusal.status));
        let Answer { status, mut fields, .. } = refusal;
        fields.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type()));
        // What can never succeed must not be asked for again, and clients are told by the code alone whether to.
        let never = document.get("advice").is_some_and(|advice| advice == "stop");
        fields.insert(
            GRPC_STATUS,
            HeaderValue::from(if never && status == StatusCode::CONFLICT { FAILED } else { code(status) }),
        );
        if self == Self::Web {
            // Or a page of another origin could not read why.
            fields.append(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("grpc-status, grpc-message"));
        }
        if let Ok(message) = HeaderValue::try_from(message) {
            fields.insert(GRPC_MESSAGE, message);
        }
        Answer { status: StatusCode::OK, fields, body: Bytes::new() }
    }

    const fn content_type(self) -> &'static str {
        match self {
            Self::Native => "application/grpc",
            Self::Web => "application/grpc-web+proto",
        }
    }
}

const MEDIA_TYPE: &[u8] = b"application/grpc";
/// `FAILED_PRECONDITION`: "the client should not retry until the system state has been explicitly fixed".
const FAILED: u16 = 9;

/// The code whose advice is that of an HTTP status. What may be sent again as it is, the payment included, is
/// `UNAVAILABLE` or `ABORTED`; clients repeat the first by themselves.
/// <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
fn code(status: StatusCode) -> u16 {
    match status {
        StatusCode::PAYMENT_REQUIRED | StatusCode::PRECONDITION_FAILED => FAILED,
        // PERMISSION_DENIED
        StatusCode::FORBIDDEN => 7,
        // UNIMPLEMENTED
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::MISDIRECTED_REQUEST => 12,
        // ABORTED
        StatusCode::CONFLICT => 10,
        // RESOURCE_EXHAUSTED
        StatusCode::PAYLOAD_TOO_LARGE | StatusCode::TOO_MANY_REQUESTS => 8,
        // UNAVAILABLE
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => 14,
        // INTERNAL, and INVALID_ARGUMENT for what else a client does wrong.
        status if status.is_server_error() => 13,
        _ => 3,
    }
}

/// What the body of a refusal says: a problem document, or a challenge.
fn reason(document: &serde_json::Value, status: StatusCode) -> &str {
    let said = ["detail", "error"].iter().find_map(|member| document.get(member)?.as_str());
    said.or(status.canonical_reason()).unwrap_or("refused")
}

/// Percent-encoded as the protocol asks: printable ASCII stays, but for the percent sign.
fn encode(message: &str) -> String {
    let mut encoded = String::with_capacity(message.len());
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::*;

    fn spoken(content_type: &str) -> Option<Grpc> {
        let mut request = RequestHeader::build("POST", b"/pkg.Service/Method", None).expect("a plain request");
        request.insert_header(CONTENT_TYPE, content_type).expect("a plain field");
        Grpc::spoken_by(&request)
    }

    #[test]
    fn a_media_type_says_who_speaks_grpc() {
        for native in ["application/grpc", "application/grpc+proto", "Application/gRPC;charset=utf-8"] {
            assert_eq!(spoken(native), Some(Grpc::Native), "{native}");
        }
        for web in ["application/grpc-web", "application/grpc-web+proto", "application/grpc-web-text"] {
            assert_eq!(spoken(web), Some(Grpc::Web), "{web}");
        }
        for other in ["application/json", "application/grpcish", "application/grp", "text/plain; application/grpc"] {
            assert_eq!(spoken(other), None, "{other}");
        }
    }

    #[test]
    fn a_refusal_keeps_its_fields_and_loses_its_body() {
        let mut fields = HeaderMap::new();
        fields.insert(RETRY_AFTER, HeaderValue::from_static("2"));
        let body = Bytes::from_static(br#"{"error":"100 % of \u00e9 is gone"}"#);
        let said = Grpc::Native.say(Answer { status: StatusCode::PAYMENT_REQUIRED, fields, body });
        assert_eq!((said.status, said.body.len()), (StatusCode::OK, 0));
        assert_eq!(said.fields[CONTENT_TYPE], "application/grpc");
        assert_eq!(said.fields[GRPC_STATUS], "9");
        assert_eq!(said.fields[GRPC_MESSAGE], "100 %25 of %C3%A9 is gone");
        assert_eq!(said.fields[RETRY_AFTER], "2");
        assert!(!said.fields.contains_key(ACCESS_CONTROL_EXPOSE_HEADERS));
    }

    #[test]
    fn whoever_can_never_succeed_is_not_told_to_come_again() {
        for (advice, code) in [("stop", "9"), ("wait", "10")] {
            let body = Bytes::from(format!(r#"{{"detail":"so it is","advice":"{advice}"}}"#));
            let refusal = Answer { status: StatusCode::CONFLICT, fields: HeaderMap::new(), body };
            let said = Grpc::Web.say(refusal);
            assert_eq!(said.fields[GRPC_STATUS], code);
            assert_eq!(said.fields[ACCESS_CONTROL_EXPOSE_HEADERS], "grpc-status, grpc-message");
        }
    }

    #[test]
    fn what_is_no_document_is_told_by_its_status() {
        let answer = Answer { status: StatusCode::BAD_GATEWAY, fields: HeaderMap::new(), body: Bytes::new() };
        let said = Grpc::Web.say(answer);
        assert_eq!(said.fields[GRPC_STATUS], "14");
        assert_eq!(said.fields[GRPC_MESSAGE], "Bad Gateway");
        assert_eq!(said.fields[CONTENT_TYPE], "application/grpc-web+proto");
    }
}
