//! `listen`: where clients connect, and what they speak there.

use std::collections::HashMap;
use std::time::Duration;

use super::boot::{address, socket};
use super::scalar::{duration, flag, shown, word};
use super::{Surroundings, reference};
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Reference};
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::config::{Listener, ProxyProtocol, codes};
use crate::primitives::Place;
use crate::proxy::patience::Timeouts;
use crate::proxy::tls::{Config, Files, TlsError};

const LISTEN: &str = "0.0.0.0:8402";
const SOCKET: &str = "unix:/run/tollhouse/http.sock";
/// A Unix socket is its owner's alone, unless the file says otherwise.
const OWNER: u32 = 0o600;

pub(super) fn resolve(
    raw: Option<&[raw::Listener]>,
    has_proxies: bool,
    seen: &mut HashMap<Place, Span>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Vec<Listener>> {
    let Some(raw) = raw else {
        let place = Place::Port(LISTEN.parse().expect("the constant is an address"));
        let timeouts = Timeouts::default();
        return Some(vec![Listener { place, mode: OWNER, tls: None, h2c: false, proxy_protocol: None, timeouts }]);
    };
    let listeners: Vec<_> = raw.iter().filter_map(|raw| listener(raw, has_proxies, seen, around, mistakes)).collect();
    (!listeners.is_empty() && listeners.len() == raw.len()).then_some(listeners)
}

fn listener(
    raw: &raw::Listener,
    has_proxies: bool,
    seen: &mut HashMap<Place, Span>,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<Listener> {
    let path = raw.address.text.strip_prefix(raw::SOCKET);
    let place = match path {
        Some(path) => socket(path, &raw.address, SOCKET, seen, around, mistakes).map(Place::Socket),
        None => address(&raw.address, LISTEN, seen, mistakes).map(Place::Port),
    };
    let mode = match &raw.mode {
        Some(text) => mode(text, path.is_some(), mistakes),
        None => Some(OWNER),
    };
    let tls = match &raw.tls {
        Some(raw) => Some(tls(raw, around, mistakes)?),
        None => None,
    };
    let h2c = flag(raw.h2c.as_ref(), false, mistakes)?;
    if let (Some(text), true, Some(_)) = (&raw.h2c, h2c, &tls) {
        let message = "HTTP/2 without TLS is not spoken where there is TLS";
        mistakes.add(
            Mistake::error(&codes::LISTEN, text.span, message)
                .help("remove h2c; over TLS clients choose between HTTP/2 and HTTP/1.1 anyway"),
        );
    }
    let proxy_protocol = match &raw.proxy_protocol {
        Some(text) => Some(proxy_protocol(text, has_proxies, mistakes)?),
        None => None,
    };
    let timeouts = timeouts(&raw.timeouts, mistakes);
    Some(Listener { place: place?, mode: mode?, tls, h2c, proxy_protocol, timeouts: timeouts? })
}

/// As `chmod` takes it. Without the owner's own bits not even this gateway's user could connect.
fn mode(text: &Text, is_socket: bool, mistakes: &mut Mistakes) -> Option<u32> {
    let digits = text.text.strip_prefix("0o").unwrap_or(&text.text);
    let mode = u32::from_str_radix(digits, 8).ok().filter(|mode| mode & !0o777 == 0 && mode & OWNER == OWNER);
    let mistake = |message: String| Mistake::error(&codes::LISTEN, text.span, message);
    if mode.is_none() {
        let message = format!("`{}` is not the mode of a socket", shown(&text.text));
        mistakes.add(mistake(message).help("write 0600 for its owner, 0660 for its group too, or 0666 for everybody"));
    } else if !is_socket {
        mistakes.add(
            mistake("only a Unix socket has a mode".to_owned()).help("remove it: whoever reaches the port may connect"),
        );
        return None;
    }
    mode
}

/// Only proxies that are trusted may say who their clients are, so without any nobody could connect.
fn proxy_protocol(text: &Text, has_proxies: bool, mistakes: &mut Mistakes) -> Option<ProxyProtocol> {
    let words = [("v1", ProxyProtocol::V1), ("v2", ProxyProtocol::V2), ("any", ProxyProtocol::Any)];
    let accepted = word(Some(text), &words, ProxyProtocol::Any, mistakes)?;
    if !has_proxies {
        mistakes.add(
            Mistake::error(&codes::NO_PROXIES, text.span, "`proxy_protocol` needs `trusted_proxies`")
                .help("name the addresses of the proxies: trusted_proxies: [10.0.0.0/8], or [\"unix:\"] for whoever comes by a Unix socket"),
        );
        return None;
    }
    Some(accepted)
}

/// A client connection that may be idle for less than a second is not worth keeping.
fn timeouts(raw: &raw::Timeouts, mistakes: &mut Mistakes) -> Option<Timeouts> {
    let default = Timeouts::default();
    let (longest, shortest) = (Duration::from_secs(3600), Duration::from_millis(100));
    let head = duration(raw.head.as_ref(), default.head, shortest..=longest, mistakes);
    let idle = duration(raw.idle.as_ref(), default.idle, Duration::from_secs(1)..=longest, mistakes);
    Some(Timeouts { head: head?, idle: idle? })
}

fn tls(raw: &raw::Tls, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Config> {
    let versions = [("1.2", true), ("1.3", false)];
    let tls12 = word(raw.min_version.as_ref(), &versions, true, mistakes);
    let certificates: Vec<_> = raw.certificates.iter().filter_map(|raw| files(raw, around, mistakes)).collect();
    let all = !certificates.is_empty() && certificates.len() == raw.certificates.len();
    all.then_some(Config { certificates, tls12: tls12? })
}

/// Both are read, so that `check` finds what the listener would.
fn files(raw: &raw::Certificate, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Files> {
    let key = reference::secret_file(&raw.key, around, mistakes).map(|(path, _)| path);
    let Reference::File(certificate) = &raw.cert else {
        mistakes.add(
            Mistake::error(&codes::SHAPE, raw.cert.span(), "a certificate is a file").help("write {file: tls.crt}"),
        );
        return None;
    };
    let files = Files { certificate: around.directory.join(&*certificate.text), key: key? };
    let error = match files.check() {
        Ok(()) => return Some(files),
        Err(error) => error,
    };
    mistakes.add(told(&error, certificate, &raw.key));
    None
}

/// Names the files as the file does; where they are on the machine is not for the report.
fn told(error: &TlsError, certificate: &Text, key: &Reference) -> Mistake {
    let own = shown(&certificate.text);
    let (span, message) = match error {
        TlsError::NoKey(_) => (key.span(), "this file holds no private key in PEM".to_owned()),
        TlsError::NoCertificate(_) => (certificate.span, format!("`{own}` holds no certificate in PEM")),
        TlsError::Broken(_) => (certificate.span, format!("`{own}` holds a certificate that cannot be read")),
        TlsError::Unfit { source, .. } => (certificate.span, format!("`{own}` and its key do not fit: {source}")),
        TlsError::Unreadable { source, .. } => (certificate.span, format!("`{own}` cannot be read: {source}")),
    };
    Mistake::error(&codes::CERTIFICATE, span, message)
        .help("name a certificate with its chain, and its key, both in PEM")
}
