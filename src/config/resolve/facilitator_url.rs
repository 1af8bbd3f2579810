//! Where a remote facilitator is.

use url::{Host, Url};

use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::tree::Text;
use crate::facilitator;

/// The base URL of a facilitator: https unless it is on this machine (S61).
pub(super) fn facilitator_url(text: &Text, mistakes: &mut Mistakes) -> Option<Url> {
    let refuse = |message: &str| Mistake::error(&codes::URL, text.span, message);
    let url = Url::parse(&text.text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host());
    let Some(mut url) = url else {
        mistakes.add(refuse("this is not the URL of a facilitator").help("write https://facilitator.example"));
        return None;
    };
    if !url.username().is_empty() || url.password().is_some() {
        mistakes.add(refuse("a password stands in the URL").help("write auth: {bearer: {file: PATH}}"));
        return None;
    }
    if url.query().is_some() || url.fragment().is_some() {
        mistakes.add(refuse("a facilitator's URL has no query and no fragment").help("end it after the path"));
        return None;
    }
    if url.scheme() == "http" && !is_loopback(&url) {
        mistakes.add(
            refuse("a facilitator is asked over https unless it runs on this machine")
                .note("whoever can change its answers can be served for nothing")
                .help(format!("write https{}", &text.text["http".len()..])),
        );
        return None;
    }
    if facilitator::check_url(&url).is_err() {
        mistakes.add(
            refuse("no facilitator has this address")
                .note("link-local addresses and metadata services of clouds are never called")
                .help("write the name or the address of a facilitator"),
        );
        return None;
    }
    let path = url.path().trim_end_matches('/').to_owned();
    url.set_path(&path);
    Some(url)
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}
