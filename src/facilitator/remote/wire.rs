//! One call to a facilitator: bounded in time and size, never redirected, never repeated by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{HeaderValue, Method, StatusCode};
use reqwest::{Client, redirect, retry};
use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{Instant, timeout_at};
use url::Url;
use zeroize::Zeroizing;

use super::Misconfigured;
use super::reach::Reach;
use crate::facilitator::cdp::{Call, Cdp};
use crate::facilitator::{Auth, BoxError};
use crate::primitives::{Clock, Secret};

/// The longest answer that is read (S61). Answers are a few hundred bytes; a long `/supported` is ten thousand.
const ANSWER_LIMIT: usize = 64 * 1024;

/// Connecting takes this long at most, so that a dead host is known to be dead while there is time to say so.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Idle connections are dropped before the shortest common server timeout (5 s, Node's) could drop them under a
/// settlement: a connection that dies while it carries one makes the outcome unknown.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The way to one facilitator.
pub(super) struct Wire {
    client: Client,
    base: Url,
    credentials: Credentials,
    random: SystemRandom,
    clock: Arc<dyn Clock>,
    /// Whether the last call was answered.
    answers: AtomicBool,
}

enum Credentials {
    None,
    Fixed(HeaderValue),
    Cdp(Cdp),
}

/// What can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    Verify,
    Settle,
    Supported,
}

/// A complete answer, whatever it says.
#[derive(Debug)]
pub(super) struct Reply {
    pub status: StatusCode,
    pub body: Bytes,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// Nothing was sent: no credentials, no address, no connection.
    #[error("not sent")]
    NotSent(#[source] BoxError),
    /// Something may have been sent, and the facilitator may have acted on it.
    #[error("no answer")]
    NoAnswer(#[source] BoxError),
}

impl Lost {
    /// The cause, for callers that do not care how far the call came.
    pub fn into_cause(self) -> BoxError {
        match self {
            Self::NotSent(cause) | Self::NoAnswer(cause) => cause,
        }
    }

    /// Whether the connection failed, rather than whoever is at the end of it.
    pub fn is_the_connection(&self) -> bool {
        match self {
            Self::NotSent(cause) | Self::NoAnswer(cause) => !cause.is::<NoAnswer>(),
        }
    }
}

/// Why a call that was sent has no answer.
#[derive(Debug, thiserror::Error)]
enum NoAnswer {
    #[error("no answer within the deadline")]
    TooLate,
    #[error("the answer is longer than {ANSWER_LIMIT} bytes")]
    TooLong,
}

impl Wire {
    /// `shortest` is the shortest time that a call may take. A connection that cannot be made is known well before it
    /// is over: then it is certain that nothing was sent, and another facilitator may be asked.
    pub fn new(url: &Url, auth: &Auth, shortest: Duration, clock: Arc<dyn Clock>) -> Result<Self, Misconfigured> {
        let reach = reach(url)?;
        let credentials = match auth {
            Auth::None => Credentials::None,
            Auth::Bearer(token) => Credentials::Fixed(bearer(token).map_err(|_| Misconfigured::Bearer)?),
            Auth::Cdp { key_id, secret } => Credentials::Cdp(Cdp::new(key_id, secret)?),
        };
        let client = client(url, reach, CONNECT_TIMEOUT.min(shortest / 2)).map_err(Misconfigured::Client)?;
        let answers = AtomicBool::new(true);
        Ok(Self { client, base: url.clone(), credentials, random: SystemRandom::new(), clock, answers })
    }

    /// Asks once. Returns by the deadline.
    pub async fn ask(&self, endpoint: Endpoint, body: Option<Bytes>, deadline: Instant) -> Result<Reply, Lost> {
        let request = self.request(endpoint, body).map_err(Lost::NotSent)?;
        let exchange = async {
            let response = request.send().await.map_err(lost)?;
            let status = response.status();
            Ok(Reply { status, body: read(response).await.map_err(Lost::NoAnswer)? })
        };
        let reply = match timeout_at(deadline, exchange).await {
            Ok(reply) => reply,
            Err(_) => Err(Lost::NoAnswer(NoAnswer::TooLate.into())),
        };
        // A refusal is an answer; trouble of its own is not.
        let answers = reply.as_ref().is_ok_and(|reply| !reply.status.is_server_error());
        self.answers.store(answers, Ordering::Relaxed);
        reply
    }

    /// Whether the last call was answered; true before the first.
    pub fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    fn request(&self, endpoint: Endpoint, body: Option<Bytes>) -> Result<reqwest::RequestBuilder, BoxError> {
        let url = self.url(endpoint);
        let method = endpoint.method();
        let authorization = self.authorization(&method, &url)?;
        let mut request = self.client.request(method, url);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, HeaderValue::from_static("application/json")).body(body);
        }
        Ok(request)
    }

    fn url(&self, endpoint: Endpoint) -> Url {
        let mut url = self.base.clone();
        let path = format!("{}/{}", url.path().trim_end_matches('/'), endpoint.name());
        url.set_path(&path);
        url
    }

    fn authorization(&self, method: &Method, url: &Url) -> Result<Option<HeaderValue>, BoxError> {
        match &self.credentials {
            Credentials::None => Ok(None),
            Credentials::Fixed(value) => Ok(Some(value.clone())),
            Credentials::Cdp(cdp) => {
                let mut nonce = [0; 16];
                self.random.fill(&mut nonce).map_err(|_| "the system has no randomness for a token")?;
                let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
                let call = Call { method: method.as_str(), host, path: url.path() };
                Ok(Some(bearer(&cdp.token(&call, self.clock.now(), nonce))?))
            }
        }
    }
}

impl Endpoint {
    const fn name(self) -> &'static str {
        match self {
            Self::Verify => "verify",
            Self::Settle => "settle",
            Self::Supported => "supported",
        }
    }

    const fn method(self) -> Method {
        match self {
            Self::Verify | Self::Settle => Method::POST,
            Self::Supported => Method::GET,
        }
    }
}

/// Whether there can be a facilitator at this URL: https unless it is on this machine, no address that nothing may
/// have, and nothing but scheme, host, port and path (S61).
///
/// # Errors
/// Why there cannot.
pub fn check_url(url: &Url) -> Result<(), Misconfigured> {
    reach(url).map(drop)
}

fn reach(url: &Url) -> Result<Reach, Misconfigured> {
    let reach = Reach::of(url).ok_or(Misconfigured::Address)?;
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() || url.fragment().is_some() {
        return Err(Misconfigured::NotABase);
    }
    match (url.scheme(), reach) {
        ("https", _) | ("http", Reach::Loopback) => Ok(reach),
        _ => Err(Misconfigured::Insecure),
    }
}

fn client(url: &Url, reach: Reach, connect_timeout: Duration) -> reqwest::Result<Client> {
    // One TLS provider in the whole process. Whoever installed it first wins; it is always this one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("tollhouse/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        // A proxy from the environment would see every authorization.
        .no_proxy()
        // Only the caller knows whether asking again is safe: verify yes, settle no.
        .retry(retry::never())
        .dns_resolver(reach)
        .connect_timeout(connect_timeout)
        .pool_idle_timeout(IDLE_TIMEOUT);
    match url.scheme() {
        // Without TLS the machine's root certificates need not even exist.
        "http" => builder.tls_certs_only([]).build(),
        _ => builder.https_only(true).build(),
    }
}

fn bearer(token: &Secret<String>) -> Result<HeaderValue, http::header::InvalidHeaderValue> {
    let text = Zeroizing::new(format!("Bearer {}", token.expose()));
    let mut value = HeaderValue::from_str(&text)?;
    value.set_sensitive(true);
    Ok(value)
}

fn lost(error: reqwest::Error) -> Lost {
    // Without a connection not a byte of the request left this machine.
    let unsent = error.is_connect() || error.is_builder();
    let cause: BoxError = error.without_url().into();
    if unsent { Lost::NotSent(cause) } else { Lost::NoAnswer(cause) }
}

async fn read(mut response: reqwest::Response) -> Result<Bytes, BoxError> {
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(reqwest::Error::without_url)? {
        if body.len() + chunk.len() > ANSWER_LIMIT {
            return Err(NoAnswer::TooLong.into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}
