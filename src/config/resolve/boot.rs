//! What takes effect at start: listeners, the status address, the admin API, the ledger.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as SocketName;
use std::path::{Path, PathBuf};

use super::payees::Payees;
use super::reference::secret;
use super::scalar::{flag, shown};
use super::{Surroundings, first_of};
use super::{admin, listen};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::config::{Boot, codes};
use crate::ledger;
use crate::primitives::Place;

const STATUS: &str = "0.0.0.0:9402";
/// Beside the file, unless it says otherwise.
const LEDGER_FILE: &str = "tollhouse.db";

pub(super) fn resolve(
    file: &raw::File,
    payees: &Payees,
    connections: Option<usize>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Boot> {
    let mut seen = HashMap::new();
    let listen = listen::resolve(file.listen.as_deref(), file.trusted_proxies.is_some(), &mut seen, around, mistakes);
    let status = status(file.status.as_ref(), &mut seen, mistakes);
    let admin = admin::resolve(file.admin.as_ref(), &mut seen, around, mistakes);
    let ledger = ledger(file.ledger.as_ref(), payees, around, mistakes);
    Some(Boot { listen: listen?, status: status?, admin: admin?, ledger: ledger?, connections })
}

/// `Some(None)` when there is to be none.
fn status(raw: Option<&Text>, seen: &mut HashMap<Place, Span>, mistakes: &mut Mistakes) -> Option<Option<SocketAddr>> {
    match raw {
        None => Some(Some(STATUS.parse().expect("the constant is an address"))),
        Some(text) if &*text.text == "none" => Some(None),
        Some(text) => address(text, STATUS, seen, mistakes).map(Some),
    }
}

/// Reads an address; `example` is one that fits.
pub(super) fn address(
    text: &Text,
    example: &str,
    seen: &mut HashMap<Place, Span>,
    mistakes: &mut Mistakes,
) -> Option<SocketAddr> {
    let Ok(address) = text.text.parse::<SocketAddr>() else {
        let message = format!("`{}` is not an address to listen at", shown(&text.text));
        let mistake = Mistake::error(&codes::LISTEN, text.span, message);
        mistakes.add(match text.text.rsplit(':').next().and_then(|port| port.parse::<u16>().ok()) {
            Some(port) => mistake.help(format!("write 0.0.0.0:{port}, or 127.0.0.1:{port} for this machine only")),
            None => mistake.help(format!("write an IP address and a port: {example}")),
        });
        return None;
    };
    // Port 0 asks the system for a free one, as often as it is asked.
    if address.port() != 0 {
        note_twice(address.into(), text, "give one of them another port", seen, mistakes);
    }
    Some(address)
}

/// Reads the path of a Unix socket, which stands behind `unix:` in `text`; `example` is one that fits.
pub(super) fn socket(
    path: &str,
    text: &Text,
    example: &str,
    seen: &mut HashMap<Place, Span>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<PathBuf> {
    let whole = around.directory.join(path);
    // The system knows names of sockets up to 107 bytes.
    if path.is_empty() || SocketName::from_pathname(&whole).is_err() {
        let message = format!("`{}` is not the name of a socket", shown(&text.text));
        mistakes.add(
            Mistake::error(&codes::LISTEN, text.span, message)
                .note("its whole path has at most 107 bytes; a relative one starts at the directory of this file")
                .help(format!("write {example}")),
        );
        return None;
    }
    note_twice(Place::Socket(whole.clone()), text, "give one of them another path", seen, mistakes);
    Some(whole)
}

fn note_twice(place: Place, text: &Text, help: &'static str, seen: &mut HashMap<Place, Span>, mistakes: &mut Mistakes) {
    if let Some(first) = first_of(seen, place, text.span) {
        let message = format!("{} is listened at twice", shown(&text.text));
        mistakes.add(Mistake::error(&codes::LISTEN_TWICE, text.span, message).related(first, "first here").help(help));
    }
}

fn ledger(
    raw: Option<&raw::Ledger>,
    payees: &Payees,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<ledger::Config> {
    let real_money = !payees.live_networks().is_empty();
    let sqlite = |path: &str| ledger::Config::Sqlite { path: around.directory.join(Path::new(path)), real_money };
    match raw {
        None if payees.sandbox() => Some(ledger::Config::Memory),
        None => {
            refuse_replicas(None, false, payees, around, mistakes);
            Some(sqlite(LEDGER_FILE))
        }
        Some(raw::Ledger::Sqlite { path, single_instance }) => {
            let alone = flag(single_instance.as_ref(), false, mistakes)?;
            refuse_replicas(Some(path.span), alone, payees, around, mistakes);
            Some(sqlite(&path.text))
        }
        Some(raw::Ledger::Postgres { url }) => postgres(url, around, mistakes),
        Some(raw::Ledger::Short(text)) => match text.text.split_once(':') {
            None if &*text.text == "memory" => {
                refuse_forgetting(text, payees, mistakes);
                Some(ledger::Config::Memory)
            }
            Some(("sqlite", path)) if !path.is_empty() => {
                refuse_replicas(Some(text.span), false, payees, around, mistakes);
                Some(sqlite(path))
            }
            Some(("postgres" | "postgresql", _)) => {
                mistakes.add(
                    Mistake::error(&codes::INLINE_SECRET, text.span, "the URL of a database stands in the file itself")
                        .note("it holds a password, or will one day")
                        .help("write ledger: {postgres: {url: {env: LEDGER_URL}}}, or {file: PATH}"),
                );
                None
            }
            _ => {
                let message = format!("`{}` is not a ledger", shown(&text.text));
                mistakes.add(Mistake::error(&codes::WORD, text.span, message).help(
                    "write memory, sqlite:/var/lib/tollhouse/ledger.db, or {postgres: {url: {env: LEDGER_URL}}}",
                ));
                None
            }
        },
    }
}

fn postgres(url: &raw::Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<ledger::Config> {
    let text = secret(url, around, mistakes)?;
    match ledger::PostgresUrl::parse(&text, around.directory) {
        Ok(url) => Some(ledger::Config::Postgres { url }),
        Err(why) => {
            // The reason quotes nothing: the URL holds a password.
            let message = format!("this is not the URL of a PostgreSQL database: {why}");
            mistakes.add(
                Mistake::error(&codes::BAD_SECRET, url.span(), message)
                    .help("put postgres://USER:PASSWORD@HOST/DATABASE?sslmode=verify-full there"),
            );
            None
        }
    }
}

fn refuse_forgetting(text: &Text, payees: &Payees, mistakes: &mut Mistakes) {
    if let [network, ..] = &payees.live_networks()[..] {
        mistakes.add(
            Mistake::error(&codes::FORGETFUL, text.span, format!("`ledger: memory`, and money on {network} is real"))
                .note("after a restart nobody would know which payments were used")
                .help("write ledger: sqlite:/var/lib/tollhouse/ledger.db"),
        );
    }
}

/// In Kubernetes nobody here can see how many replicas there are; with real money the operator has to say (S5).
fn refuse_replicas(
    span: Option<Span>,
    alone: bool,
    payees: &Payees,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) {
    let in_kubernetes = (around.variable)("KUBERNETES_SERVICE_HOST").is_some();
    if in_kubernetes && !alone && !payees.live_networks().is_empty() {
        mistakes.add(
            Mistake::error(&codes::REPLICAS, span, "every replica would keep its own ledger")
                .note("running in Kubernetes, and the money is real")
                .help(
                    "share one: ledger: {postgres: {url: {env: LEDGER_URL}}}; or run one replica with a \
                     PersistentVolume, and write ledger: {sqlite: PATH, single_instance: true}",
                ),
        );
    }
}
