//! What operators hear: what is paused now, or why nothing was done. Always JSON, never for a cache or for a page.

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, WWW_AUTHENTICATE, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use serde_json::{Value, json};

use crate::gate::rails::{NotSold, Pause, Pauses};
use crate::primitives::calendar::iso;

/// Why nothing was done; in one case, why nobody knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Objection {
    /// The head is longer than that of any client.
    LargeHead,
    /// `Host` is a name that somebody else may have made lead here.
    Host,
    /// A browser sent it, for whatever page.
    Browser,
    /// The token is not the one, or is not there.
    Token,
    /// There is nothing of this name.
    Path,
    /// It is asked for with another method: this one.
    Method(&'static str),
    /// The body is not said to be JSON.
    ContentType,
    /// The body is longer than any order.
    LargeBody,
    /// The body does not arrive.
    SlowBody,
    /// The body is no order.
    Order(String),
    /// Nobody sells the route.
    NotSold(NotSold),
    /// There is no such pause to end.
    NotPaused(String),
    /// Too many routes are paused one by one.
    TooMany,
    /// The ledger does not say what is paused.
    Unread,
    /// The ledger did not answer; it may have written what it was told all the same.
    Unknown,
}

impl Objection {
    /// What it is called in answers and in the log.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::LargeHead => "head_too_large",
            Self::Host => "host_not_ours",
            Self::Browser => "sent_by_a_browser",
            Self::Token => "token_wrong",
            Self::Path => "not_found",
            Self::Method(_) => "method_not_allowed",
            Self::ContentType => "not_json",
            Self::LargeBody => "body_too_large",
            Self::SlowBody => "body_too_slow",
            Self::Order(_) => "not_understood",
            Self::NotSold(_) => "not_sold",
            Self::NotPaused(_) => "not_paused",
            Self::TooMany => "too_many",
            Self::Unread => "ledger_unavailable",
            Self::Unknown => "outcome_unknown",
        }
    }

    /// Whether whoever keeps the machine would want to hear of it.
    pub(super) fn is_an_intruder(&self) -> bool {
        matches!(self, Self::Host | Self::Browser | Self::Token)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::LargeHead => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Order(_) => StatusCode::BAD_REQUEST,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Browser => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
            Self::Path | Self::NotSold(_) | Self::NotPaused(_) => StatusCode::NOT_FOUND,
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::ContentType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::LargeBody => StatusCode::PAYLOAD_TOO_LARGE,
            Self::SlowBody => StatusCode::REQUEST_TIMEOUT,
            Self::TooMany => StatusCode::CONFLICT,
            Self::Unread | Self::Unknown => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    fn detail(&self) -> String {
        match self {
            Self::LargeHead => "the head of the request is too large".to_owned(),
            Self::Host => "`Host` has to be an IP address or localhost".to_owned(),
            Self::Browser => "no web page has business here".to_owned(),
            Self::Token => "send the token of `admin.token`, as in Authorization: Bearer TOKEN".to_owned(),
            Self::Path => "there are GET /pauses, POST /pause and POST /resume".to_owned(),
            Self::Method(right) => format!("only {right} is answered here"),
            Self::ContentType => "send Content-Type: application/json".to_owned(),
            Self::LargeBody => "the body is too large for an order".to_owned(),
            Self::SlowBody => "the body did not arrive".to_owned(),
            Self::Order(why) | Self::NotPaused(why) => why.clone(),
            Self::NotSold(why) => why.to_string(),
            Self::TooMany => "too many routes are paused one by one; pause `all`".to_owned(),
            Self::Unread => "the ledger does not say what is paused".to_owned(),
            Self::Unknown => "the ledger did not answer, so this may or may not be written; see GET /pauses".to_owned(),
        }
    }
}

impl From<NotSold> for Objection {
    fn from(why: NotSold) -> Self {
        Self::NotSold(why)
    }
}

/// What is paused now: the answer to every question, and to every order that was carried out.
pub(super) fn of(pauses: &Pauses) -> Response<Vec<u8>> {
    let paused = pauses.each().map(|(scope, Pause { since, by, why })| {
        json!({"route": scope.as_str(), "since": iso(since.as_millis()), "by": by, "why": why})
    });
    let last =
        pauses.resumed().map(|Pause { since, by, why }| json!({"at": iso(since.as_millis()), "by": by, "why": why}));
    response(StatusCode::OK, &json!({"pauses": paused.collect::<Vec<_>>(), "last_resumed": last}))
}

/// Why nothing was done.
pub(super) fn refusing(objection: &Objection) -> Response<Vec<u8>> {
    let body = json!({"error": objection.name(), "detail": objection.detail()});
    let mut response = response(objection.status(), &body);
    let more: Option<(HeaderName, &'static str)> = match objection {
        Objection::Method(right) => Some((ALLOW, right)),
        Objection::Token => Some((WWW_AUTHENTICATE, "Bearer realm=\"tollhouse\"")),
        _ => None,
    };
    if let Some((name, value)) = more {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn response(status: StatusCode, body: &Value) -> Response<Vec<u8>> {
    let body = format!("{body}\n").into_bytes();
    let length = body.len();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}
