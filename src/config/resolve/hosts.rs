//! `public_url` and the names under `hosts:`: what clients call us.

use std::sync::Arc;

use url::Url;

use super::scalar::shown;
use super::{Surroundings, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::Reference;
use crate::config::tree::Text;
use crate::tariff::Host;

/// What clients see in front of every path; never taken from a request.
#[derive(Debug, Clone)]
pub(super) struct PublicUrl {
    /// Without a trailing slash.
    pub url: Arc<str>,
    /// Lower-case, without the port and a trailing dot.
    pub host: Host,
}

/// Reads a `public_url`: scheme, host and port, nothing else. With real money it has to be https.
pub(super) fn public_url(
    reference: &Reference,
    live: bool,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Option<PublicUrl> {
    let text = reference::plain(reference, around, mistakes)?;
    let span = reference.span();
    let refuse = |message: &str| Mistake::error(&codes::URL, span, message);
    let url = Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(url) = url else {
        mistakes.add(refuse("this is not an absolute URL").help("write https://api.example.com"));
        return None;
    };
    let bare = matches!(url.path(), "" | "/") && url.query().is_none() && url.fragment().is_none();
    if !bare || !url.username().is_empty() || url.password().is_some() {
        let origin = url.origin().ascii_serialization();
        mistakes.add(
            refuse("`public_url` is a scheme and a host, and a port if need be")
                .note("the path of a request is put behind it")
                .help(format!("write {origin}")),
        );
        return None;
    }
    if live && url.scheme() == "http" {
        mistakes.add(
            Mistake::error(&codes::INSECURE, span, "`public_url` is http, and the money is real")
                .note("a payment header that others can read is a payment that others can use")
                .help(format!("write {}", url.as_str().trim_end_matches('/').replacen("http:", "https:", 1))),
        );
        return None;
    }
    let host = canonical(url.host_str()?)?;
    Some(PublicUrl { url: url.origin().ascii_serialization().into(), host })
}

/// Reads a name under `hosts:` (S41).
pub(super) fn host(name: &Text, mistakes: &mut Mistakes) -> Option<Host> {
    let host = canonical(&name.text);
    if host.is_none() {
        let mistake = Mistake::error(&codes::HOST, name.span, format!("`{}` is not a host", shown(&name.text)));
        let without_port = name.text.rsplit_once(':').map(|(host, _)| host).and_then(canonical);
        mistakes.add(match without_port {
            Some(host) => mistake.label("a host has no port").help(format!("write {}", host.0)),
            None => mistake.help("write a name such as tiles.example.com"),
        });
    }
    host
}

fn canonical(name: &str) -> Option<Host> {
    if name.contains('*') || name.contains('%') {
        return None;
    }
    let host = url::Host::parse(name).ok()?.to_string();
    let host = host.strip_suffix('.').unwrap_or(&host);
    (!host.is_empty()).then(|| Host(host.into()))
}
