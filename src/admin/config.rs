//! Where the admin API is, and what opens it.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::primitives::{Place, Secret};

/// Shorter tokens can be guessed: 16 characters that a machine has drawn hold 64 bits at the very least.
const SHORTEST: usize = 16;
/// Longer ones are something else, put there by mistake.
const LONGEST: usize = 512;

/// Where the admin API is, and what opens it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// A Unix socket: the permissions of its file decide who gets there. A token may be asked for besides.
    Socket {
        /// Its file.
        path: PathBuf,
        /// What has to be shown.
        token: Option<Token>,
    },
    /// A port: on loopback every process of the machine gets there, and the API that this gateway guards, which may
    /// fetch what strangers tell it to. So never without a token.
    Port {
        /// Its address.
        address: SocketAddr,
        /// What has to be shown.
        token: Token,
    },
}

/// What is shown to be let in. Compared only by [`Lock`](super::visitor::Lock) with what a stranger says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token(Secret<String>);

/// A token that is none: it could be guessed, or could not be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a token has {SHORTEST} to {LONGEST} characters, all of them visible ASCII")]
pub struct WeakToken;

impl Config {
    /// Where it listens.
    pub fn place(&self) -> Place {
        match self {
            Self::Socket { path, .. } => Place::Socket(path.clone()),
            Self::Port { address, .. } => Place::Port(*address),
        }
    }

    /// What has to be shown, if anything.
    pub fn token(&self) -> Option<&Token> {
        match self {
            Self::Socket { token, .. } => token.as_ref(),
            Self::Port { token, .. } => Some(token),
        }
    }
}

impl Token {
    /// Takes a text for a token.
    ///
    /// # Errors
    /// When it could be guessed, or does not fit into a header field.
    pub fn new(text: Secret<String>) -> Result<Self, WeakToken> {
        let bytes = text.expose().as_bytes();
        let fits = (SHORTEST..=LONGEST).contains(&bytes.len()) && bytes.iter().all(u8::is_ascii_graphic);
        if fits { Ok(Self(text)) } else { Err(WeakToken) }
    }

    pub(super) fn expose(&self) -> &[u8] {
        self.0.expose().as_bytes()
    }
}
