//! YAML in.
//!
//! A file is read in four steps: `tree` turns YAML into nodes that know where they stand, `raw` takes from them what a
//! person may write, `resolve` gives it a meaning, and `report` says what is wrong: everything at once, in the words
//! that `check`, the log and a failed reload share.

pub mod codes;
mod keys;
mod lists;
mod mistake;
mod raw;
mod report;
mod resolve;
pub mod schema;
mod secrets;
mod source;
mod tree;
mod watch;

use std::io::{ErrorKind, Read};
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::hex;

use crate::primitives::Place;
use crate::tariff::Tariff;
use crate::{admin, facilitator, gate, ledger, proxy, telemetry};
pub use lists::ListFile;
use mistake::Mistakes;
pub use mistake::{Mistake, Severity};
pub use report::{Format, Money, Report};
pub use resolve::key_file;
use resolve::{Meaning, Surroundings};
use source::Source;
pub use source::Span;
pub use watch::Watcher;

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
    /// Where clients connect.
    pub listen: Vec<Listener>,
    /// Where kubelet and Prometheus look.
    pub status: Option<SocketAddr>,
    /// Where operators look.
    pub admin: Option<admin::Config>,
    /// Where payments are remembered.
    pub ledger: ledger::Config,
    /// How many client connections may be open, if the file says so.
    pub connections: Option<usize>,
}

/// Where clients connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// A port, or a Unix socket.
    pub place: Place,
    /// Who may connect to a Unix socket: the mode of its file.
    pub mode: u32,
    /// What it speaks below HTTP; plain TCP if there is none.
    pub tls: Option<proxy::tls::Config>,
    /// Whether clients may speak HTTP/2 without TLS.
    pub h2c: bool,
    /// Which versions of the PROXY protocol proxies speak there; none where clients connect themselves.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How long they are waited for.
    pub timeouts: proxy::patience::Timeouts,
}

/// How a proxy that passes bytes on says who its client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// A line of text.
    V1,
    /// In binary.
    V2,
    /// As it likes.
    Any,
}

/// How many connections one client may have open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PerClient {
    /// The file does not say: a share of the room, and any number from this machine itself.
    BuiltIn,
    /// As many, wherever it is.
    Most(NonZeroU32),
    /// Any number.
    Any,
}

/// What takes effect on reload.
#[derive(Debug, Clone)]
pub struct Live {
    /// What each route costs.
    pub tariff: Arc<Tariff>,
    /// Upstreams by name.
    pub upstreams: Vec<proxy::upstream::Config>,
    /// In order of preference.
    pub facilitators: Vec<facilitator::Config>,
    /// When a facilitator is no longer asked.
    pub breaker: facilitator::BreakerConfig,
    /// How much may be unsettled at a time.
    pub caps: gate::rails::Caps,
    /// How many connections one client may have open.
    pub per_client: PerClient,
    /// Who is not sold to.
    pub screening: Arc<gate::rails::Screening>,
    /// Proxies whose word about clients counts.
    pub trusted: Arc<proxy::Proxies>,
    /// Nodes for looking transfers up.
    pub nodes: facilitator::Nodes,
    /// How deep transfers have to lie before they count.
    pub confirmations: facilitator::Depths,
    /// Where contract wallets are accepted, and which factories may create one.
    pub wallets: facilitator::Factories,
    /// How the process ends.
    pub shutdown: Shutdown,
    /// How much the log tells.
    pub log: telemetry::Config,
    /// Names of the networks with real money on them that somebody is paid on.
    pub live_networks: Vec<Arc<str>>,
    /// Whether money is play money.
    pub sandbox: bool,
}

/// How the process ends when it is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shutdown {
    /// How long it goes on taking connections although `/readyz` says 503: whoever spreads requests takes a moment to
    /// hear of it.
    pub delay: Duration,
    /// How long requests and settlements under way may take to end after that.
    pub grace: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self { delay: Duration::ZERO, grace: Duration::from_secs(30) }
    }
}

/// A file that has been read.
#[derive(Debug)]
pub struct Loaded {
    /// What it means; `None` when the report has errors.
    pub config: Option<Config>,
    /// What is wrong with it, or only remarkable.
    pub report: Report,
    /// A short digest of its bytes, for logs, metrics and [`Watcher`]. Empty when it could not be read.
    pub hash: String,
    /// Lists that it names, as they were when they were read, usable or not; for [`Watcher`].
    pub lists: Vec<ListFile>,
}

impl Loaded {
    /// Whether there was a file that could be read, right or wrong.
    pub fn was_read(&self) -> bool {
        !self.hash.is_empty()
    }
}

/// Reads a file of this machine, and the secrets it refers to.
pub fn load(path: &Path) -> Loaded {
    let name = path.display().to_string();
    let refused = |hash, text, mistake| {
        let mut mistakes = Mistakes::default();
        mistakes.add(mistake);
        let report = Report::of(Source::new(&name, text), None, mistakes, Money::default());
        Loaded { config: None, report, hash, lists: Vec::new() }
    };
    let bytes = match read(path) {
        Ok(bytes) => bytes,
        Err(error) => return refused(String::new(), "", unreadable(&error)),
    };
    let hash = hash(&bytes);
    if bytes.len() > tree::MOST_BYTES {
        return refused(hash, "", Mistake::error(&codes::TOO_LARGE, None, "the file is larger than 16 MiB"));
    }
    let text = match std::str::from_utf8(&bytes) {
        Ok(text) => text,
        Err(error) => {
            // A report shows what stands before the place, and nothing of what cannot be read.
            let before = bytes.get(..error.valid_up_to()).and_then(|before| std::str::from_utf8(before).ok());
            return refused(hash, before.unwrap_or_default(), not_text(error.valid_up_to(), &bytes));
        }
    };
    parse(text, &name, directory_of(path), &|name| std::env::var(name).ok())
}

/// Reads a file's text. `directory` is where its relative paths start; `variable` looks `{env: NAME}` up.
pub fn parse(text: &str, name: &str, directory: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Loaded {
    let hash = hash(text.as_bytes());
    let mut mistakes = Mistakes::default();
    let source = Source::new(name, text);
    let Some(root) = tree::compose(text, &mut mistakes) else {
        if mistakes.errors() == 0 {
            mistakes.add(
                Mistake::error(&codes::NO_ROUTES, None, "the file is empty")
                    .help("begin with version: 1; see `gateway.yaml`"),
            );
        }
        let report = Report::of(source, None, mistakes, Money::default());
        return Loaded { config: None, report, hash, lists: Vec::new() };
    };
    let Some(file) = raw::read(&root, &mut mistakes) else {
        let report = Report::of(source, Some(&root), mistakes, Money::default());
        return Loaded { config: None, report, hash, lists: Vec::new() };
    };
    let around = Surroundings { directory, variable };
    let Meaning { config, money, lists } = resolve::resolve(&file, &source, &around, &mut mistakes);
    let mut report = Report::of(source, Some(&root), mistakes, money);
    if let Some(config) = &config {
        report.count(&config.live.tariff);
    }
    Loaded { config, report, hash, lists }
}

/// A file that could not be read, and what to do about it.
fn unreadable(error: &std::io::Error) -> Mistake {
    let help = match error.kind() {
        ErrorKind::NotFound => {
            "name the file that is there; without a name it is ./gateway.yaml, then /etc/tollhouse/gateway.yaml"
        }
        ErrorKind::PermissionDenied => "let the user that tollhouse runs as read it",
        ErrorKind::IsADirectory => "name a file in it",
        _ => "make it a file that this user can read",
    };
    Mistake::error(&codes::NO_FILE, None, format!("the file cannot be read: {error}")).help(help)
}

/// A file that is no text from this byte on.
fn not_text(at: usize, bytes: &[u8]) -> Mistake {
    let start = u32::try_from(at).unwrap_or(u32::MAX);
    let byte = bytes.get(at).copied().unwrap_or_default();
    Mistake::error(&codes::YAML, Span { start, end: start }, "the file is not UTF-8 text")
        .label(format!("a byte 0x{byte:02x} follows"))
        .help("save the file as UTF-8")
}

/// A few bytes more than the limit are enough to see that a file is too large.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(tree::MOST_BYTES as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The directory a file stands in.
fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(directory) if directory != Path::new("") => directory,
        _ => Path::new("."),
    }
}

fn hash(bytes: &[u8]) -> String {
    hex::encode(&ring::digest::digest(&ring::digest::SHA256, bytes).as_ref()[..8])
}
