//! Events out.

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
