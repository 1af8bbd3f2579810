//! Where the admin API is, and what opens it.

use std::collections::HashMap;

use super::reference::secret;
use super::{Surroundings, boot};
use crate::admin::{Config, Token};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::primitives::Place;

/// Where people would expect it.
const PORT: &str = "127.0.0.1:9403";
const ADMIN: &str = "unix:/run/tollhouse/admin.sock";

/// `Some(None)` when there is to be none.
pub(super) fn resolve(
    raw: Option<&raw::Admin>,
    seen: &mut HashMap<Place, Span>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Option<Config>> {
    let Some(raw::Admin { address, token: reference }) = raw else { return Some(None) };
    let token = reference.as_ref().map(|reference| token(reference, around, mistakes));
    let config = match address.text.strip_prefix(raw::SOCKET) {
        Some(path) => {
            let path = boot::socket(path, address, ADMIN, seen, around, mistakes)?;
            Config::Socket { path, token: token.map_or(Some(None), |token| token.map(Some))? }
        }
        // That a port needs a token is noted where it is read.
        None => Config::Port { address: boot::address(address, PORT, seen, mistakes)?, token: token?? },
    };
    Some(Some(config))
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
