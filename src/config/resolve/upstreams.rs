//! `upstream` and `upstreams`: where requests go.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use url::Url;

use super::scalar::{count, duration, flag, shown, word};
use super::{Surroundings, reference, tls};
use crate::config::codes;
use crate::config::lists::ListFile;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, Reference, SOCKET, listed, nearest};
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::proxy::upstream::{Address, Auth, AuthError, Balance, Config, Health, Host, Retry, Target};
use crate::tariff::Tariff;

/// The upstreams of the file, and those that a URL in a route adds.
#[derive(Debug)]
pub(super) struct Upstreams {
    configs: Vec<Config>,
    /// Names, and URLs that stand for one. `None` for a name whose upstream is wrong: that has been noted once.
    names: HashMap<Arc<str>, Option<Arc<str>>>,
    /// What they are read from beside the file, for whoever watches it.
    pub(super) files: Vec<ListFile>,
}

impl Upstreams {
    pub(super) fn of(raw: &[raw::Upstream], around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Self {
        let mut upstreams = Self { configs: Vec::new(), names: HashMap::new(), files: Vec::new() };
        for raw in raw {
            let config = named(raw, around, &mut upstreams.files, mistakes);
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
        let name = if text.text.contains("://") || text.text.starts_with(SOCKET) {
            self.at_url(text, mistakes)
        } else {
            mistakes.add(self.unknown(text));
            None
        };
        self.names.insert(text.text.clone(), name.clone());
        name
    }

    /// The upstreams, as the routes of this tariff need them.
    pub(super) fn into_configs(mut self, tariff: &Tariff) -> Vec<Config> {
        for config in &mut self.configs {
            let mut routes = tariff.routes().filter(|route| route.upstream == config.name);
            config.hasty = !config.http2 && routes.any(|route| config.head(route.limits.timeout) < config.idle);
        }
        self.configs
    }

    fn at_url(&mut self, text: &Text, mistakes: &mut Mistakes) -> Option<Arc<str>> {
        let target = target(&text.text, text.span, mistakes)?;
        let name: Arc<str> = text.text.trim_end_matches('/').into();
        if !self.configs.iter().any(|config| config.name == name) {
            self.configs.push(Config::at(name.clone(), vec![target]));
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

fn named(
    raw: &raw::Upstream,
    around: &Surroundings<'_>,
    files: &mut Vec<ListFile>,
    mistakes: &mut Mistakes,
) -> Option<Config> {
    let mut targets = Vec::new();
    for reference in &raw.targets {
        targets.extend(referred_target(reference, around, mistakes));
    }
    let config = Config::at(raw.name.text.clone(), targets);
    let sensible = Duration::from_millis(10)..=Duration::from_secs(3600);
    let connect = duration(raw.connect.as_ref(), config.connect, sensible.clone(), mistakes);
    let limit = duration(raw.first_byte.as_ref(), Duration::ZERO, sensible.clone(), mistakes);
    let first_byte = limit.map(|limit| raw.first_byte.as_ref().map(|_| limit));
    let idle = duration(raw.idle.as_ref(), config.idle, sensible, mistakes);
    let balances = [
        ("round_robin", Balance::RoundRobin),
        ("least_connections", Balance::LeastConnections),
        ("hash", Balance::Hash),
    ];
    let balance = word(raw.balance.as_ref(), &balances, config.balance, mistakes);
    let retries = [("connect_error", Retry::ConnectError), ("never", Retry::Never)];
    let retry = word(raw.retry.as_ref(), &retries, config.retry, mistakes);
    let health = raw.health.as_ref().map(|raw| health(raw, mistakes));
    let host = host(raw.host.as_ref(), mistakes);
    let auth = raw.auth.as_ref().map(|raw| auth(raw, around, files, mistakes));
    let over_tls = config.targets.iter().any(|target| target.tls);
    let tls = tls::resolve(raw.tls.as_ref(), over_tls || config.targets.is_empty(), around, files, mistakes);
    let http2 = flag(raw.http2.as_ref(), config.http2, mistakes);
    if config.targets.is_empty() {
        return None;
    }
    Some(Config {
        balance: balance?,
        health: health.map_or(Some(None), |health| health.map(Some))?,
        connect: connect?,
        first_byte: first_byte?,
        idle: idle?,
        retry: retry?,
        host: host?,
        auth: auth.map_or(Some(None), |auth| auth.map(Some))?,
        tls: tls?,
        http2: http2?,
        ..config
    })
}

fn health(raw: &raw::UpstreamHealth, mistakes: &mut Mistakes) -> Option<Health> {
    let path = &raw.path;
    let plain = path.text.starts_with('/') && path.text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !plain {
        let message = format!("`{}` is not a path to look at", shown(&path.text));
        mistakes.add(Mistake::error(&codes::URL, path.span, message).help("write path: /healthz"));
    }
    let sensible = Duration::from_millis(250)..=Duration::from_secs(3600);
    let every = duration(raw.every.as_ref(), Duration::from_secs(5), sensible, mistakes);
    let unhealthy_after = count(raw.unhealthy_after.as_ref(), 3, 1..=100, mistakes);
    let healthy_after = count(raw.healthy_after.as_ref(), 2, 1..=100, mistakes);
    let health = Health {
        path: path.text.to_string(),
        every: every?,
        unhealthy_after: unhealthy_after?,
        healthy_after: healthy_after?,
    };
    plain.then_some(health)
}

fn host(raw: Option<&Text>, mistakes: &mut Mistakes) -> Option<Host> {
    let Some(text) = raw else { return Some(Host::Preserve) };
    match &*text.text {
        "preserve" => Some(Host::Preserve),
        "upstream" => Some(Host::Upstream),
        name => {
            let authority = name.parse::<http::uri::Authority>().ok().filter(|_| !name.contains('@'));
            let value = authority.and_then(|_| HeaderValue::try_from(name).ok());
            if value.is_none() {
                let message = format!("`{}` is neither a policy nor a host", shown(name));
                let help = "write preserve, upstream, or a host: api.internal";
                mistakes.add(Mistake::error(&codes::HOST, text.span, message).help(help));
            }
            value.map(Host::Literal)
        }
    }
}

fn auth(
    raw: &raw::UpstreamAuth,
    around: &Surroundings<'_>,
    files: &mut Vec<ListFile>,
    mistakes: &mut Mistakes,
) -> Option<Auth> {
    files.extend(reference::watched(&raw.value, around));
    let secret = reference::secret(&raw.value, around, mistakes)?;
    let refuse = |error: AuthError| {
        let mistake = match error {
            AuthError::NotAValue => Mistake::error(&codes::BAD_SECRET, raw.value.span(), error.to_string())
                .help("put one line of plain text there"),
            AuthError::NotAField | AuthError::NotForSecrets => {
                Mistake::error(&codes::BACKEND, raw.header.span, error.to_string())
                    .help("write header: Authorization, or a field that the backend knows")
            }
        };
        mistakes.add(mistake);
    };
    Auth::new(&raw.header.text, &secret).map_err(refuse).ok()
}

fn referred_target(reference: &Reference, around: &Surroundings<'_>, mistakes: &mut Mistakes) -> Option<Target> {
    let url = reference::plain(reference, around, mistakes)?;
    target(&url, reference.span(), mistakes)
}

/// A host and a port, or a socket in the file system. Paths are never rewritten, so a URL with a path would promise too
/// much.
fn target(text: &str, span: Span, mistakes: &mut Mistakes) -> Option<Target> {
    let refuse = |message: &str| Mistake::error(&codes::URL, span, message);
    const HELP: &str = "write http://HOST:PORT, https://HOST:PORT or unix:/PATH";
    if let Some(path) = text.strip_prefix(SOCKET) {
        return socket(path, text, span, mistakes);
    }
    let Some(url) = Url::parse(text).ok().filter(|url| url.has_host()) else {
        mistakes.add(refuse("this is not the URL of an upstream").help(HELP));
        return None;
    };
    if !matches!(url.scheme(), "http" | "https") {
        mistakes.add(refuse("an upstream speaks http or https").help(HELP));
        return None;
    }
    if url.path() != "/" || url.query().is_some() || url.fragment().is_some() {
        mistakes.add(
            refuse("an upstream is a host and a port, without a path")
                .note("the path of a request is forwarded as it was priced")
                .help(HELP),
        );
        return None;
    }
    if !url.username().is_empty() || url.password().is_some() {
        mistakes.add(refuse("an upstream's URL holds no password").help(HELP));
        return None;
    }
    let host = url.host_str()?.trim_start_matches('[').trim_end_matches(']').to_owned();
    let address = Address::Tcp { host, port: url.port_or_known_default()? };
    Some(Target { name: text.trim_end_matches('/').into(), address, tls: url.scheme() == "https" })
}

/// A path that a socket can have: `sun_path` of `sockaddr_un` holds 107 bytes and their end (unix(7)).
fn socket(path: &str, text: &str, span: Span, mistakes: &mut Mistakes) -> Option<Target> {
    if !path.starts_with('/') || path.len() > 107 || path.contains('\0') {
        mistakes.add(
            Mistake::error(&codes::URL, span, "this is not the path of a socket")
                .help("write unix:/run/app.sock: an absolute path of at most 107 bytes"),
        );
        return None;
    }
    Some(Target { name: text.into(), address: Address::Unix(PathBuf::from(path)), tls: false })
}
