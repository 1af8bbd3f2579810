//! `upstream` and `upstreams`: where requests go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::scalar::{duration, shown};
use super::{Surroundings, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Reference, listed, nearest};
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::proxy::upstream::{Config, Target};

const CONNECT: Duration = Duration::from_secs(1);
const IDLE: Duration = Duration::from_secs(60);

/// The upstreams of the file, and those that a URL in a route adds.
#[derive(Debug)]
pub(super) struct Upstreams {
    configs: Vec<Config>,
    /// Names, and URLs that stand for one. `None` for a name whose upstream is wrong: that has been noted once.
    names: HashMap<Arc<str>, Option<Arc<str>>>,
}

impl Upstreams {
    pub(super) fn of(raw: &[raw::Upstream], around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Self {
        let mut upstreams = Self { configs: Vec::new(), names: HashMap::new() };
        for raw in raw {
            let config = named(raw, around, mistakes);
            let name: Arc<str> = raw.name.text.clone();
            upstreams.names.insert(name.clone(), config.is_some().then_some(name));
            upstreams.configs.extend(config);
        }
        upstreams
    }

    /// The upstream with this name, or at this URL.
    pub(super) fn find(&mut self, text: &Text, mistakes: &mut Mistakes) -> Option<Arc<str>> {
        if let Some(known) = self.names.get(&text.text) {
            return known.clone();
        }
        let name = if text.text.contains("://") { self.at_url(text, mistakes) } else { None };
        if !text.text.contains("://") {
            mistakes.add(self.unknown(text));
        }
        self.names.insert(text.text.clone(), name.clone());
        name
    }

    pub(super) fn into_configs(self) -> Vec<Config> {
        self.configs
    }

    fn at_url(&mut self, text: &Text, mistakes: &mut Mistakes) -> Option<Arc<str>> {
        let target = target(&text.text, text.span, mistakes)?;
        let name: Arc<str> = text.text.trim_end_matches('/').into();
        if !self.configs.iter().any(|config| config.name == name) {
            self.configs.push(Config { name: name.clone(), targets: vec![target], connect: CONNECT, idle: IDLE });
        }
        Some(name)
    }

    fn unknown(&self, text: &Text) -> Mistake {
        let names = || self.configs.iter().map(|config| &*config.name);
        let message = format!("no upstream is called `{}`", shown(&text.text));
        let mistake = Mistake::error(&codes::UPSTREAM, text.span, message);
        match nearest(&text.text, names()) {
            Some(near) => mistake.label(format!("did you mean `{near}`?")),
            None if self.configs.is_empty() => mistake.help("write a URL: http://127.0.0.1:3000"),
            None => mistake.help(format!("write a URL, or one of {}", listed(names()))),
        }
    }
}

fn named(raw: &raw::Upstream, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Config> {
    let sensible = Duration::from_millis(10)..=Duration::from_secs(3600);
    let connect = duration(raw.connect.as_ref(), CONNECT, sensible.clone(), mistakes);
    let idle = duration(raw.idle.as_ref(), IDLE, sensible, mistakes);
    let mut targets = Vec::new();
    for reference in &raw.targets {
        targets.extend(referred_target(reference, around, mistakes));
    }
    if targets.is_empty() {
        return None;
    }
    Some(Config { name: raw.name.text.clone(), targets, connect: connect?, idle: idle? })
}

fn referred_target(reference: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Target> {
    let url = reference::plain(reference, around, mistakes)?;
    target(&url, reference.span(), mistakes)
}

/// Plain HTTP to a host and a port. Paths are never rewritten, so a URL with a path would promise too much.
fn target(text: &str, span: Span, mistakes: &mut Mistakes) -> Option<Target> {
    let refuse = |message: &str| Mistake::error(&codes::URL, span, message);
    let Some(url) = Url::parse(text).ok().filter(|url| url.has_host()) else {
        mistakes.add(refuse("this is not the URL of an upstream").help("write http://HOST:PORT"));
        return None;
    };
    match url.scheme() {
        "http" => {}
        "https" => {
            mistakes.add(
                Mistake::error(&codes::NOT_SUPPORTED, span, "upstreams over TLS are not supported in this version")
                    .help("run the gateway beside the API and write http://127.0.0.1:PORT"),
            );
            return None;
        }
        _ => {
            mistakes.add(refuse("an upstream speaks http").help("write http://HOST:PORT"));
            return None;
        }
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        mistakes.add(
            refuse("an upstream is a host and a port, without a path")
                .note("the path of a request is forwarded as it was priced")
                .help("write http://HOST:PORT"),
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        mistakes.add(refuse("an upstream's URL holds no password").help("write http://HOST:PORT"));
        return None;
    }
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    Some(Target { host, port: url.port_or_known_default()? })
}
