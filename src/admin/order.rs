//! What an operator wants: a small JSON object, sent as JSON. A form that a page sends cannot say that it is (S62).

use std::time::Duration;

use http::header::CONTENT_TYPE;
use pingora::protocols::http::ServerSession;
use serde::Deserialize;

use super::answer::Objection;
use super::visitor::only;

/// The longest body of an order, in bytes: a route and a reason.
const MOST_BODY: usize = 8 * 1024;
/// How long it may take to arrive.
const PATIENCE: Duration = Duration::from_secs(5);

/// What an operator wants.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Order {
    Pause { route: String, why: String },
    Resume { route: String, why: String },
}

/// As it is written. Keys that mean nothing are refused: they may have been meant to mean something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    /// A route as the file spells it, or `all`.
    route: String,
    /// Goes on record.
    why: String,
}

/// Reads the order of a request to `/pause` or `/resume`.
pub(super) async fn read(session: &mut ServerSession) -> Result<Order, Objection> {
    if !says_json(session) {
        return Err(Objection::ContentType);
    }
    let body = tokio::time::timeout(PATIENCE, body(session)).await.unwrap_or(Err(Objection::SlowBody))?;
    let Written { route, why } = understand(&body)?;
    let resumes = session.req_header().raw_path() == b"/resume";
    Ok(if resumes { Order::Resume { route, why } } else { Order::Pause { route, why } })
}

fn says_json(session: &ServerSession) -> bool {
    let kind = only(&session.req_header().headers, &CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
    kind.and_then(|kind| kind.split(';').next())
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

async fn body(session: &mut ServerSession) -> Result<Vec<u8>, Objection> {
    let mut body = Vec::new();
    loop {
        match session.read_request_body().await {
            Ok(Some(piece)) if body.len() + piece.len() > MOST_BODY => return Err(Objection::LargeBody),
            Ok(Some(piece)) => body.extend_from_slice(&piece),
            Ok(None) => return Ok(body),
            Err(_) => return Err(Objection::Order("the body ends too soon".to_owned())),
        }
    }
}

fn understand(body: &[u8]) -> Result<Written, Objection> {
    let mut written: Written = serde_json::from_slice(body)
        .map_err(|error| Objection::Order(format!("{error}; send {{\"route\": \"GET /weather\", \"why\": \"…\"}}")))?;
    written.why = written.why.trim().to_owned();
    if written.why.is_empty() {
        return Err(Objection::Order("say why: it goes on record".to_owned()));
    }
    Ok(written)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_says_what_and_why_and_nothing_else() {
        let written = understand(br#"{"route": "all", "why": " the oracle is wrong\n"}"#).expect("an order");
        assert_eq!((&*written.route, &*written.why), ("all", "the oracle is wrong"));
        for wrong in [
            "",
            "null",
            "all",
            r#"{"route": "all"}"#,
            r#"{"route": "all", "why": " "}"#,
            r#"{"route": null, "why": "x"}"#,
            r#"{"route": ["all"], "why": "x"}"#,
            r#"{"route": "all", "route": "GET /", "why": "x"}"#,
            r#"{"route": "all", "why": "x", "by": "somebody else"}"#,
            r#"{"route": "all", "why": "x"} {}"#,
        ] {
            assert!(matches!(understand(wrong.as_bytes()), Err(Objection::Order(_))), "{wrong}");
        }
    }
}
