//! An upstream as the file describes it.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue, header};

use crate::primitives::Secret;

use super::tls::Tls;
use crate::proxy::fields;

/// How long a connection may take where the file does not say.
const CONNECT: Duration = Duration::from_secs(1);
/// How long a body may pause where the file does not say.
const IDLE: Duration = Duration::from_secs(60);

/// An upstream as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name routes refer to.
    pub name: Arc<str>,
    /// Where it listens. Never empty.
    pub targets: Vec<Target>,
    /// Which of several places takes a request.
    pub balance: Balance,
    /// How its places are looked at; `None` where they are not.
    pub health: Option<Health>,
    /// How long a connection may take, TLS included.
    pub connect: Duration,
    /// How long the head of an answer may take once the request has been sent; `None` where only the route limits it.
    pub first_byte: Option<Duration>,
    /// How long a body may pause, either way.
    pub idle: Duration,
    /// Whether another place is tried.
    pub retry: Retry,
    /// What the backend hears in `Host`.
    pub host: Host,
    /// How the gateway proves to the backend who it is.
    pub auth: Option<Auth>,
    /// What holds for targets over TLS.
    pub tls: Tls,
    /// Whether HTTP/2 is spoken: agreed on by ALPN over TLS, taken for granted in plaintext (RFC 9113, 3.3).
    pub http2: bool,
    /// Whether some route gives the head of an answer less time than a body may pause, so that connections have to be
    /// cut from outside. Not over HTTP/2, where others share the connection.
    pub hasty: bool,
}

impl Config {
    /// An upstream with everything that the file may leave out left out.
    pub fn at(name: Arc<str>, targets: Vec<Target>) -> Self {
        Self {
            name,
            targets,
            balance: Balance::RoundRobin,
            health: None,
            connect: CONNECT,
            first_byte: None,
            idle: IDLE,
            retry: Retry::ConnectError,
            host: Host::Preserve,
            auth: None,
            tls: Tls::default(),
            http2: false,
            hasty: false,
        }
    }

    /// How long the head of an answer may take where its route gives it `timeout`.
    pub fn head(&self, timeout: Duration) -> Duration {
        self.first_byte.map_or(timeout, |first_byte| first_byte.min(timeout))
    }
}

/// One line of `targets`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As the log and the metrics call it; holds no secret.
    pub name: Arc<str>,
    /// Where it listens.
    pub address: Address,
    /// Whether it speaks TLS.
    pub tls: bool,
}

/// Where a backend listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A name may stand for several addresses; each of them is a place of its own.
    Tcp {
        /// Host name or address, without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// A socket in the file system.
    Unix(PathBuf),
}

/// Which of several places takes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Balance {
    /// Each in turn.
    RoundRobin,
    /// The one with the fewest requests under way from this process.
    LeastConnections,
    /// The same one for the same client address, for as long as it is well.
    Hash,
}

/// How the places of an upstream are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    /// What is asked for. An answer below 400 is a good one.
    pub path: String,
    /// How often, and how long an answer may take.
    pub every: Duration,
    /// After how many bad answers in a row a place takes no requests any more.
    pub unhealthy_after: u32,
    /// After how many good ones it does again.
    pub healthy_after: u32,
}

/// Whether a request that could not be delivered is tried elsewhere. One of which a byte may have been processed never is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// It fails.
    Never,
    /// Where no connection could be made.
    ConnectError,
}

/// What the backend hears in `Host`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Host {
    /// What the client said.
    Preserve,
    /// The target's own name.
    Upstream,
    /// This.
    Literal(HeaderValue),
}

/// A credential of the gateway's own, for the backend alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Auth {
    pub(super) header: HeaderName,
    pub(super) value: HeaderValue,
}

/// Why a credential cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthError {
    /// The name is none of a header field.
    NotAField,
    /// The field is about the connection or the message, or belongs to the gateway.
    NotForSecrets,
    /// The secret has characters that no header field can carry.
    NotAValue,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAField => "this is not the name of a header field",
            Self::NotForSecrets => "this header field has a meaning of its own",
            Self::NotAValue => "the secret has characters that no header field can carry",
        })
    }
}

/// Fields that frame a message or steer a connection; a secret in one of them would change what is asked.
const FRAMING: [HeaderName; 9] = [
    header::HOST,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::TE,
    header::TRAILER,
    header::UPGRADE,
    header::EXPECT,
    header::CONTENT_TYPE,
];

impl Auth {
    /// This secret in this field. It is marked, so that nothing that prints a request prints it (S60).
    ///
    /// # Errors
    /// When the two are no header field, or one that has another meaning.
    pub fn new(header: &str, secret: &Secret<String>) -> Result<Self, AuthError> {
        let header = HeaderName::try_from(header).map_err(|_| AuthError::NotAField)?;
        if FRAMING.contains(&header) || fields::is_ours(&header) {
            return Err(AuthError::NotForSecrets);
        }
        let mut value = HeaderValue::try_from(secret.expose().as_str()).map_err(|_| AuthError::NotAValue)?;
        value.set_sensitive(true);
        Ok(Self { header, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auth(header: &str, secret: &str) -> Result<Auth, AuthError> {
        Auth::new(header, &Secret::new(secret.to_owned()))
    }

    #[test]
    fn s60_a_credential_is_not_printed_and_takes_no_field_with_another_meaning() {
        let printed = format!("{:?}", auth("Authorization", "Bearer hunter2").expect("a credential"));
        assert!(!printed.contains("hunter2"), "{printed}");
        for (header, secret, error) in [
            ("Not a field", "x", AuthError::NotAField),
            ("Transfer-Encoding", "x", AuthError::NotForSecrets),
            ("Host", "x", AuthError::NotForSecrets),
            ("Tollhouse-Payer", "x", AuthError::NotForSecrets),
            ("X-PAYMENT", "x", AuthError::NotForSecrets),
            ("Authorization", "a\r\nB: c", AuthError::NotAValue),
        ] {
            assert_eq!(auth(header, secret), Err(error), "{header}");
        }
    }
}
