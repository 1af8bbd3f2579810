//! Host, method and path: what a line of the price table matches.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::primitives::Rate;

use super::{Charge, Methods, Pattern, Rewrite};

/// The name of a route in logs, metrics, quotes and the ledger: its key in the file (`GET /v1/weather`), with the
/// host in front when it stands in a host's table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RouteKey(pub Arc<str>);

impl fmt::Display for RouteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A host of the `hosts:` section: lower-case, without port and trailing dot (S41).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Host(pub Arc<str>);

/// Where a line stands, for errors and for `quote --why`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// The file as the operator named it.
    pub file: Arc<str>,
    /// From one.
    pub line: u32,
    /// From one.
    pub column: u32,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// One line of the price table, resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// Its name.
    pub key: RouteKey,
    /// Which methods it matches.
    pub methods: Methods,
    /// Which paths it matches.
    pub pattern: Pattern,
    /// What it costs.
    pub charge: Charge,
    /// Which upstream answers it.
    pub upstream: Arc<str>,
    /// `public_url` without a trailing slash; the start of every `resource.url`.
    pub public_url: Arc<str>,
    /// What a request may take.
    pub limits: Limits,
    /// Whether a segment may hold an escaped slash.
    pub encoded_slash: EncodedSlash,
    /// Under which path the backend has it, where that is another one.
    pub rewrite: Option<Rewrite>,
    /// Where it stands.
    pub place: Place,
}

impl Route {
    /// The paths that its backend is asked for.
    pub(super) fn behind(&self) -> Pattern {
        self.rewrite.as_ref().map_or_else(|| self.pattern.clone(), |rewrite| rewrite.behind(&self.pattern))
    }
}

/// What a slash at the end of a path means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Slash {
    /// Another path.
    #[default]
    Distinct,
    /// Nothing: what is listed with it is listed without it, and the other way round.
    Same,
}

impl Slash {
    /// As the file would have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Distinct => "distinct",
            Self::Same => "same",
        }
    }
}

/// What becomes of a `%2F` in a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EncodedSlash {
    /// 400: some servers see a slash (S38).
    #[default]
    Refuse,
    /// It is a part of its segment and is forwarded as it came.
    Keep,
}

impl EncodedSlash {
    /// As the file would have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Keep => "keep",
        }
    }
}

/// What a request to a route may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of request body.
    pub request_body: u64,
    /// From request head to final response head.
    pub timeout: Duration,
    /// How many requests may come in a time; any number if there is none.
    pub rate: Option<Rate>,
    /// Whose requests count together for `rate`.
    pub rate_by: CountBy,
    /// How many may be under way at once; any number if there is none.
    pub concurrency: Option<NonZeroU32>,
    /// Whose requests count together for `concurrency`.
    pub concurrency_by: CountBy,
}

impl Limits {
    /// These, and any number of requests.
    pub const fn new(request_body: u64, timeout: Duration) -> Self {
        let (rate_by, concurrency_by) = (CountBy::Client, CountBy::Route);
        Self { request_body, timeout, rate: None, rate_by, concurrency: None, concurrency_by }
    }

    /// Whether a request may have to wait for others.
    pub const fn hold_back(&self) -> bool {
        self.rate.is_some() || self.concurrency.is_some()
    }
}

/// Whose requests are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CountBy {
    /// Those of a client address.
    Client,
    /// Those that a payer pays for. Requests that nobody has paid for are not counted.
    Payer,
    /// All of the route.
    Route,
}

impl CountBy {
    /// As the file would have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Payer => "payer",
            Self::Route => "route",
        }
    }
}
