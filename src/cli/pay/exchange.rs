//! One HTTP exchange, bounded and never redirected: a payment goes where its owner sent it and nowhere else.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use reqwest::{redirect, retry};
use url::Url;

use crate::cli::words::explain;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long the server may be silent.
const SILENCE: Duration = Duration::from_secs(60);

/// What is sent, with a payment or without one.
pub(in crate::cli) struct Request {
    pub(in crate::cli) method: Method,
    pub(in crate::cli) url: Url,
    pub(in crate::cli) fields: HeaderMap,
    pub(in crate::cli) body: Bytes,
}

impl Request {
    /// Whether sending it twice does what sending it once does.
    pub(super) fn is_safe(&self) -> bool {
        matches!(self.method, Method::GET | Method::HEAD | Method::OPTIONS)
    }
}

/// An answer whose body is still on its way.
pub(in crate::cli) struct Answer {
    pub(in crate::cli) status: StatusCode,
    pub(in crate::cli) fields: HeaderMap,
    body: reqwest::Response,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::cli) enum Lost {
    /// Nothing was sent.
    NotSent(String),
    /// It may have been sent, and acted on.
    NoAnswer(String),
}

impl Lost {
    /// In words.
    pub(in crate::cli) fn into_words(self) -> String {
        match self {
            Self::NotSent(why) | Self::NoAnswer(why) => why,
        }
    }
}

/// Sends requests.
pub(in crate::cli) struct Client(reqwest::Client);

impl Client {
    /// A client for this URL.
    pub(in crate::cli) fn new(url: &Url) -> Result<Self, Lost> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let builder = reqwest::Client::builder()
            .user_agent(concat!("tollhouse/", env!("CARGO_PKG_VERSION")))
            .redirect(redirect::Policy::none())
            // A proxy from the environment would see every payment.
            .no_proxy()
            // Whether to send again is decided where it is known what money may have moved.
            .retry(retry::never())
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE);
        // Without TLS the machine's root certificates need not even exist.
        let builder = if url.scheme() == "http" { builder.tls_certs_only([]) } else { builder };
        builder.build().map(Self).map_err(|error| Lost::NotSent(explain(&error)))
    }

    /// Sends a request and waits for the head of its answer.
    pub(in crate::cli) async fn send(
        &self,
        request: &Request,
        payment: Option<&(HeaderName, HeaderValue)>,
    ) -> Result<Answer, Lost> {
        let mut fields = request.fields.clone();
        if let Some((name, value)) = payment {
            fields.insert(name, value.clone());
        }
        let mut sending = self.0.request(request.method.clone(), request.url.clone()).headers(fields);
        if !request.body.is_empty() {
            sending = sending.body(request.body.clone());
        }
        match sending.send().await {
            Ok(body) => Ok(Answer { status: body.status(), fields: body.headers().clone(), body }),
            Err(error) if error.is_connect() || error.is_builder() => Err(Lost::NotSent(in_words(error))),
            Err(error) => Err(Lost::NoAnswer(in_words(error))),
        }
    }
}

impl Answer {
    /// The next piece of the body.
    pub(in crate::cli) async fn piece(&mut self) -> Result<Option<Bytes>, Lost> {
        self.body.chunk().await.map_err(|error| Lost::NoAnswer(in_words(error)))
    }

    /// The body up to a limit; what is beyond it is not waited for.
    pub(in crate::cli) async fn collect(mut self, most: usize) -> Result<Bytes, Lost> {
        let mut body = BytesMut::new();
        while body.len() < most
            && let Some(piece) = self.piece().await?
        {
            body.extend_from_slice(&piece[..piece.len().min(most - body.len())]);
        }
        Ok(body.freeze())
    }
}

/// The URL is known to whoever asked, and its query may be a secret.
fn in_words(error: reqwest::Error) -> String {
    explain(&error.without_url())
}
