//! YAML in.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::{facilitator, ledger, proxy, telemetry};

/// What a file means.
#[derive(Debug, Clone)]
pub struct Config {
    /// Takes effect at start only.
    pub boot: Boot,
    /// Takes effect on reload.
    pub live: Live,
}

/// What takes effect at start only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Boot {
    /// Where clients connect: plain TCP in this version.
    pub listen: Vec<SocketAddr>,
    /// Where kubelet and Prometheus look.
    pub status: Option<SocketAddr>,
    /// Where payments are remembered.
    pub ledger: ledger::Config,
}

/// What takes effect on reload.
#[derive(Debug, Clone)]
pub struct Live {
    /// Upstreams by name.
    pub upstreams: Vec<proxy::upstream::Config>,
    /// In order of preference.
    pub facilitators: Vec<facilitator::Config>,
    /// Nodes for looking transfers up.
    pub nodes: facilitator::Nodes,
    /// How much the log tells.
    pub log: telemetry::Config,
    /// Names of the networks with real money on them that somebody is paid on.
    pub live_networks: Vec<Arc<str>>,
    /// Whether money is play money.
    pub sandbox: bool,
}
