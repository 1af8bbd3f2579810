//! Where the database is, and how to get there: a URL, read strictly.

use std::fmt;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::{Host, SslMode};

use crate::primitives::Secret;

/// The URL of a PostgreSQL database, with what it says about encryption. Holds a password: neither form prints it.
#[derive(Clone, PartialEq, Eq)]
pub struct PostgresUrl {
    config: Config,
    trust: Trust,
}

/// Whom we believe to be the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Trust {
    /// Anybody: nothing is encrypted.
    Anybody,
    /// A server with a certificate for its name from an authority of this machine.
    Machine,
    /// A server with a certificate for its name from an authority in this file.
    File(PathBuf),
}

/// Why a text is not the URL of a database. Never shows any of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It begins otherwise.
    #[error("it does not begin with postgres://")]
    Scheme,
    /// It cannot be read, or names an option that is not known.
    #[error("it cannot be read, or has an option that is not known")]
    Unreadable,
    /// It names no server.
    #[error("it names no host")]
    NoHost,
    /// It lets somebody on the way decide whether the connection is encrypted.
    #[error("its sslmode encrypts only if nobody on the way objects; write verify-full, or disable")]
    Opportunistic,
    /// Its sslmode is no word we know.
    #[error("its sslmode is none of disable, require, verify-ca and verify-full")]
    SslMode,
    /// It names authorities for a connection that is not encrypted.
    #[error("it has an sslrootcert, but its sslmode is disable")]
    Contradiction,
}

impl PostgresUrl {
    /// Reads `postgres://user:password@host:port/database?options`. A relative `sslrootcert` starts at `directory`.
    ///
    /// Certificates are verified, name and all, whichever of `require`, `verify-ca` and `verify-full` is written, and
    /// when nothing is; only a server on this machine is spoken to in plain unless asked otherwise.
    ///
    /// # Errors
    /// When it is no such URL, or would let a stranger read along.
    pub fn parse(text: &Secret<String>, directory: &Path) -> Result<Self, UrlError> {
        let text = text.expose();
        if !["postgres://", "postgresql://"].iter().any(|scheme| text.starts_with(scheme)) {
            return Err(UrlError::Scheme);
        }
        let (address, query) = text.split_once('?').unwrap_or((text, ""));
        // These two mean more to us than to the library, which would not verify anything.
        let ours = |pair: &&str| ["sslmode=", "sslrootcert="].iter().any(|name| pair.starts_with(name));
        let (encryption, rest): (Vec<_>, Vec<_>) = query.split('&').filter(|pair| !pair.is_empty()).partition(ours);
        let option = |wanted: &str| {
            let pairs = encryption.iter().flat_map(|pair| url::form_urlencoded::parse(pair.as_bytes()));
            pairs.filter(|(name, _)| name == wanted).last().map(|(_, value)| value.into_owned())
        };
        let parsed = Config::from_str(&format!("{address}?{}", rest.join("&")));
        let mut config = parsed.map_err(|_| UrlError::Unreadable)?;
        if config.get_hosts().is_empty() {
            return Err(UrlError::NoHost);
        }
        let authorities = option("sslrootcert").map(|path| directory.join(path));
        let trust = match (option("sslmode").as_deref(), authorities) {
            (Some("disable"), None) => Trust::Anybody,
            (Some("disable"), Some(_)) => return Err(UrlError::Contradiction),
            (Some("allow" | "prefer"), _) => return Err(UrlError::Opportunistic),
            (None, None) if config.get_hosts().iter().all(is_this_machine) => Trust::Anybody,
            (None | Some("require" | "verify-ca" | "verify-full"), Some(file)) => Trust::File(file),
            (None | Some("require" | "verify-ca" | "verify-full"), None) => Trust::Machine,
            (Some(_), _) => return Err(UrlError::SslMode),
        };
        config.ssl_mode(if trust == Trust::Anybody { SslMode::Disable } else { SslMode::Require });
        Ok(Self { config, trust })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn trust(&self) -> &Trust {
        &self.trust
    }
}

fn is_this_machine(host: &Host) -> bool {
    match host {
        Host::Tcp(name) => name == "localhost" || name.parse().is_ok_and(|address: IpAddr| address.is_loopback()),
        Host::Unix(_) => true,
    }
}

/// Host, port and database: what a person needs to know which one is meant.
impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        let ports = self.config.get_ports();
        for (at, host) in self.config.get_hosts().iter().enumerate() {
            let port = ports.get(at).or(ports.first()).copied().unwrap_or(5432);
            let comma = if at == 0 { "" } else { "," };
            match host {
                Host::Tcp(name) => write!(f, "{comma}{name}:{port}")?,
                Host::Unix(folder) => write!(f, "{comma}{}:{port}", folder.display())?,
            }
        }
        write!(f, "/{}", self.config.get_dbname().unwrap_or_default())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self}, {:?})", self.trust)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<PostgresUrl, UrlError> {
        PostgresUrl::parse(&Secret::new(text.to_owned()), Path::new("/etc/tollhouse"))
    }

    #[test]
    fn s60_a_url_prints_neither_user_nor_password() {
        let url = parse("postgres://toll:hunter2@db.example:5433/ledger?application_name=x").unwrap();
        assert_eq!(url.to_string(), "postgres://db.example:5433/ledger");
        let shown = format!("{url} {url:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("toll:"), "{shown}");
    }

    #[test]
    fn a_server_elsewhere_is_verified_unless_the_operator_says_otherwise() {
        let trust = |text: &str| parse(text).map(|url| url.trust);
        assert_eq!(trust("postgres://db.example/ledger"), Ok(Trust::Machine));
        for mode in ["require", "verify-ca", "verify-full"] {
            assert_eq!(trust(&format!("postgresql://127.0.0.1/ledger?sslmode={mode}")), Ok(Trust::Machine));
        }
        let file = Trust::File("/etc/tollhouse/ca.pem".into());
        assert_eq!(trust("postgres://db.example/ledger?sslrootcert=ca.pem"), Ok(file.clone()));
        let absolute = "postgres://db.example/ledger?sslmode=verify-full&sslrootcert=%2Fetc%2Ftollhouse%2Fca.pem";
        assert_eq!(trust(absolute), Ok(file));
        assert_eq!(trust("postgres://db.example/ledger?sslmode=disable"), Ok(Trust::Anybody));
        for local in ["localhost", "127.0.0.1:5433", "%2Frun%2Fpostgresql"] {
            assert_eq!(trust(&format!("postgres://{local}/ledger")), Ok(Trust::Anybody), "{local}");
        }
        assert_eq!(trust("postgres://localhost,db.example/ledger"), Ok(Trust::Machine), "one of them is elsewhere");
    }

    #[test]
    fn what_is_not_such_a_url_is_refused() {
        let refused = |text: &str| parse(text).expect_err(text);
        assert_eq!(refused("mysql://db/ledger"), UrlError::Scheme);
        assert_eq!(refused("host=db dbname=ledger"), UrlError::Scheme);
        assert_eq!(refused("postgres://db:port/ledger"), UrlError::Unreadable);
        assert_eq!(refused("postgres://db/ledger?sslcert=mine.pem"), UrlError::Unreadable);
        assert_eq!(refused("postgres:///ledger"), UrlError::NoHost);
        assert_eq!(refused("postgres://db/ledger?sslmode=prefer"), UrlError::Opportunistic);
        assert_eq!(refused("postgres://db/ledger?sslmode=verify"), UrlError::SslMode);
        assert_eq!(refused("postgres://db/ledger?sslmode=disable&sslrootcert=ca.pem"), UrlError::Contradiction);
    }
}
