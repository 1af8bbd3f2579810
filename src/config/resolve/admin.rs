//! Where the admin API is, and what opens it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::unix::net::SocketAddr as SocketName;
use std::path::PathBuf;

use super::reference::secret;
use super::scalar::shown;
use super::{Surroundings, boot};
use crate::admin::{Config, Token};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;

/// Where people would expect it.
const PORT: &str = "127.0.0.1:9403";

/// `Some(None)` when there is to be none.
pub(super) fn resolve(
    raw: Option<&raw::Admin>,
    seen: &mut HashMap<SocketAddr, Span>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Option<Config>> {
    let Some(raw::Admin { address, token: reference }) = raw else { return Some(None) };
    let token = reference.as_ref().map(|reference| token(reference, around, mistakes));
    let config = match address.text.strip_prefix(raw::SOCKET) {
        Some(path) => {
            let path = socket(path, address, around, mistakes)?;
            Config::Socket { path, token: token.map_or(Some(None), |token| token.map(Some))? }
        }
        // That a port needs a token is noted where it is read.
        None => Config::Port { address: boot::address(address, PORT, seen, mistakes)?, token: token?? },
    };
    Some(Some(config))
}

fn socket(path: &str, address: &Text, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<PathBuf> {
    let whole = around.directory.join(path);
    // The system knows names of sockets up to 107 bytes.
    if !path.is_empty() && SocketName::from_pathname(&whole).is_ok() {
        return Some(whole);
    }
    let message = format!("`{}` is not the name of a socket", shown(&address.text));
    mistakes.add(
        Mistake::error(&codes::LISTEN, address.span, message)
            .note("its whole path has at most 107 bytes; a relative one starts at the directory of this file")
            .help("write unix:/run/tollhouse/admin.sock"),
    );
    None
}

fn token(reference: &raw::Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Token> {
    Token::new(secret(reference, around, mistakes)?)
        .map_err(|weak| {
            mistakes.add(
                Mistake::error(&codes::BAD_SECRET, reference.span(), format!("this is no token: {weak}"))
                    .help("make one: openssl rand -hex 32"),
            );
        })
        .ok()
}
