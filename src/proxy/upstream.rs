//! Where requests go: the API behind the gateway.

use std::sync::Arc;
use std::time::Duration;

/// An upstream as the file describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The name routes refer to.
    pub name: Arc<str>,
    /// Where it listens, in turn. Never empty.
    pub targets: Vec<Target>,
    /// How long a connection may take.
    pub connect: Duration,
    /// How long a body may pause, either way.
    pub idle: Duration,
}

/// One place an upstream listens at: plain HTTP in this version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Host name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}
