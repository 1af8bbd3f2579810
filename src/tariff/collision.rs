//! Why a price table is refused: some request would not know what it costs.

use std::fmt;
use std::sync::Arc;

use http::Method;

use super::Route;

/// How many arrangements of literals and parameters the patterns of one table may have. It bounds what a lookup
/// can be made to cost; tables of large APIs have a few dozen.
pub const MAX_ARRANGEMENTS: usize = 512;

/// How many crossings of one table are reported at once.
pub const MAX_CROSSINGS: usize = 100;

/// Routes that do not fit into one table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Collision {
    /// The same methods and paths.
    Duplicate {
        /// The one that stands first.
        first: Arc<Route>,
        /// The other.
        second: Arc<Route>,
    },
    /// The same paths, and both name a method.
    SameMethod {
        /// The one that stands first.
        first: Arc<Route>,
        /// The other.
        second: Arc<Route>,
        /// The method.
        method: Method,
    },
    /// Some requests match both, and neither route is more specific.
    Crossing {
        /// The one that stands first.
        first: Arc<Route>,
        /// The other.
        second: Arc<Route>,
        /// The key of a route that would settle it: exactly what both match, for example `/v1/a/x`.
        witness: String,
    },
    /// A route outside the table of any host, where hosts are listed: no request would reach it (S41).
    Hostless {
        /// The first such route.
        route: Arc<Route>,
    },
    /// More than [`MAX_ARRANGEMENTS`] arrangements of literals and parameters in one table.
    TooVaried {
        /// The first route beyond the limit.
        route: Arc<Route>,
    },
}

impl Collision {
    /// The routes it is about, in the order they stand.
    pub fn routes(&self) -> Vec<&Arc<Route>> {
        match self {
            Self::Duplicate { first, second }
            | Self::SameMethod { first, second, .. }
            | Self::Crossing { first, second, .. } => vec![first, second],
            Self::Hostless { route } | Self::TooVaried { route } => vec![route],
        }
    }

    /// What to write instead.
    pub fn help(&self) -> String {
        match self {
            Self::Duplicate { first, second } if first.pattern.is_twin_of(&second.pattern) => {
                "keep one of them, or write trailing_slash: distinct".into()
            }
            Self::Duplicate { .. } => "keep one of them".into(),
            Self::SameMethod { method, .. } => format!("leave {method} out of one of them"),
            Self::Crossing { witness, .. } => format!("say what the overlap costs:  {witness}: $…"),
            Self::Hostless { .. } => "move it under one of the hosts".into(),
            Self::TooVaried { .. } => "serve unrelated APIs under hosts of their own".into(),
        }
    }
}

impl fmt::Display for Collision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Duplicate { .. } => f.write_str("this route is listed twice"),
            Self::SameMethod { method, .. } => write!(f, "these two routes have the same paths and both name {method}"),
            Self::Crossing { .. } => f.write_str("these two routes overlap and neither is more specific"),
            Self::Hostless { .. } => f.write_str("this route belongs to no host, and hosts are listed"),
            Self::TooVaried { .. } => {
                write!(f, "the table has more than {MAX_ARRANGEMENTS} arrangements of literals and parameters")
            }
        }
    }
}

impl std::error::Error for Collision {}
