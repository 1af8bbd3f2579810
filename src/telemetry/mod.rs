//! Events out: metrics and log lines made from the same [`Event`](crate::gate::Event), so they cannot disagree.

mod log;
mod metrics;

use std::sync::Arc;

use crate::gate::{Event, Observer};

pub use log::{Pseudonyms, init};
pub use metrics::{ListInForce, Metrics, NodesOf};

/// Turns every event into metrics and log lines.
pub struct Telemetry {
    metrics: Arc<Metrics>,
    log: log::Lines,
}

impl Telemetry {
    /// Counts into `metrics` and writes lines as `config` says, payers under these pseudonyms.
    pub fn new(metrics: Arc<Metrics>, config: Config, pseudonyms: Pseudonyms) -> Self {
        Self { metrics, log: log::Lines::new(config, pseudonyms) }
    }

    /// Writes lines as another configuration says, from now on.
    pub fn reconfigure(&self, config: Config) {
        self.log.reconfigure(config);
    }
}

impl Observer for Telemetry {
    fn observe(&self, event: &Event) {
        self.metrics.count(event);
        self.log.write(event);
    }
}

/// How much the log tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// `human` on a terminal and JSON otherwise, unless the file says.
    pub format: Format,
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: tracing::Level,
    /// One line per request.
    pub access: bool,
    /// How payers appear in it.
    pub payer: PayerInLog,
    /// Whether query strings appear in it; they are dropped by default (S63).
    pub keep_query: bool,
}

/// The shape of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Human on a terminal, JSON otherwise.
    Auto,
    /// For people.
    Human,
    /// One JSON object a line.
    Json,
}

/// How payers appear in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PayerInLog {
    /// A short digest: the same payer is recognisable, the address is not.
    Hash,
    /// The address.
    Full,
    /// Not at all.
    None,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            level: tracing::Level::INFO,
            access: true,
            payer: PayerInLog::Hash,
            keep_query: false,
        }
    }
}
