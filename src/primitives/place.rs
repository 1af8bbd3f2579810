//! Where something listens.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Where something listens. Shown as it is written in the file.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Place {
    /// A Unix socket.
    Socket(PathBuf),
    /// A port.
    Port(SocketAddr),
}

impl Place {
    /// Its address, if it is a port.
    pub fn port(&self) -> Option<SocketAddr> {
        match self {
            Self::Socket(_) => None,
            Self::Port(address) => Some(*address),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(path) => write!(f, "unix:{}", path.display()),
            Self::Port(address) => address.fmt(f),
        }
    }
}

impl From<SocketAddr> for Place {
    fn from(address: SocketAddr) -> Self {
        Self::Port(address)
    }
}
