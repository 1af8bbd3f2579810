//! One line of the price table: key, price, and what it inherits.

use std::sync::Arc;
use std::time::Duration;

use super::facilitators::{self, Resolved};
use super::hosts::PublicUrl;
use super::network::Chains;
use super::offers::Pricing;
use super::paths::Paths;
use super::payees::{Payees, Whose};
use super::scalar::{at_once, duration, rate, size, word, word_built};
use super::upstreams::Upstreams;
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::{Source, Span};
use crate::config::tree::Text;
use crate::payment::{Offer, Replay, SettleMode};
use crate::tariff::{Charge, CountBy, Host, Limits, Route, RouteKey, Slash, Toll, Tunnel, parse_key};

/// What the gateway itself may take between the answer and the settlement (SAFETY, "Times").
const SLACK: Duration = Duration::from_secs(6);
/// How far the clocks of client, gateway and chain may differ.
const SKEW: Duration = Duration::from_secs(30);
/// What a client has from the 402 until its payment arrives.
const TO_SIGN: Duration = Duration::from_secs(60);

const REQUEST_BODY: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);
const OFFER_TTL: Duration = Duration::from_secs(60);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);
/// What is said about a route travels in a header of every 402.
const LONGEST_DESCRIPTION: usize = 500;
const LONGEST_MIME_TYPE: usize = 100;
const LONGEST_OFFER_TTL: Duration = Duration::from_secs(86_400);
const LONGEST_TUNNEL: Duration = Duration::from_secs(7 * 86_400);

/// What a route has that says nothing itself: nearest wins, and `limits` key by key.
#[derive(Debug, Clone)]
pub(super) struct Inherited {
    settle: SettleMode,
    replay: Replay,
    offer_ttl: Duration,
    slash: Slash,
    paths: Paths,
    limits: Limits,
}

impl Inherited {
    pub(super) fn built_in() -> Self {
        Self {
            settle: SettleMode::OnResponse,
            replay: Replay::Redeliver,
            offer_ttl: OFFER_TTL,
            slash: Slash::Distinct,
            paths: Paths::default(),
            limits: Limits::new(REQUEST_BODY, TIMEOUT),
        }
    }

    /// These, where `raw` does not say otherwise.
    pub(super) fn with(&self, raw: &raw::Defaults, mistakes: &mut Mistakes) -> Self {
        let ttl = Duration::from_secs(1)..=LONGEST_OFFER_TTL;
        word_built(raw.browser.as_ref(), &[("none", ())], &["page"], (), mistakes);
        Self {
            settle: settle(raw.settle.as_ref(), self.settle, mistakes).unwrap_or(self.settle),
            replay: replay(raw.replay.as_ref(), self.replay, mistakes).unwrap_or(self.replay),
            offer_ttl: duration(raw.offer_ttl.as_ref(), self.offer_ttl, ttl, mistakes).unwrap_or(self.offer_ttl),
            slash: slash(raw.trailing_slash.as_ref(), self.slash, mistakes).unwrap_or(self.slash),
            paths: self.paths.with(&raw.target, mistakes).unwrap_or_else(|| self.paths.clone()),
            limits: limits(&raw.limits, self.limits, mistakes).unwrap_or(self.limits),
        }
    }

    /// What a slash at the end of a path means in this table.
    pub(super) fn slash(&self) -> Slash {
        self.slash
    }
}

fn settle(raw: Option<&Text>, default: SettleMode, mistakes: &mut Mistakes) -> Option<SettleMode> {
    let words = [SettleMode::OnResponse, SettleMode::BeforeForward].map(|mode| (mode.as_str(), mode));
    word_built(raw, &words, &["after_body"], default, mistakes)
}

fn replay(raw: Option<&Text>, default: Replay, mistakes: &mut Mistakes) -> Option<Replay> {
    let words = [Replay::Refuse, Replay::Redeliver, Replay::SameAnswer].map(|replay| (replay.as_str(), replay));
    word(raw, &words, default, mistakes)
}

fn slash(raw: Option<&Text>, default: Slash, mistakes: &mut Mistakes) -> Option<Slash> {
    word(raw, &[Slash::Distinct, Slash::Same].map(|slash| (slash.as_str(), slash)), default, mistakes)
}

fn limits(raw: &raw::Limits, default: Limits, mistakes: &mut Mistakes) -> Option<Limits> {
    let request_body = size(raw.request_body.as_ref(), default.request_body, mistakes);
    let sensible = Duration::from_millis(100)..=LONGEST_TIMEOUT;
    let timeout = duration(raw.timeout.as_ref(), default.timeout, sensible, mistakes);
    let whose = [CountBy::Client, CountBy::Payer, CountBy::Route].map(|by| (by.as_str(), by));
    let rate = rate(raw.rate.as_ref(), default.rate, mistakes);
    let rate_by = word(raw.rate_by.as_ref(), &whose, default.rate_by, mistakes);
    let concurrency = at_once(raw.concurrency.as_ref(), default.concurrency, mistakes);
    let concurrency_by = word(raw.concurrency_by.as_ref(), &whose, default.concurrency_by, mistakes);
    Some(Limits {
        request_body: request_body?,
        timeout: timeout?,
        rate: rate?,
        rate_by: rate_by?,
        concurrency: concurrency?,
        concurrency_by: concurrency_by?,
    })
}

/// What one payment buys of a connection. `None` when none are sold, or what is said of them is wrong and has been noted.
fn tunnel(raw: Option<&raw::Websocket>, replay: Option<Replay>, mistakes: &mut Mistakes) -> Option<Tunnel> {
    let raw = raw?;
    if replay == Some(Replay::SameAnswer) {
        let message = "a connection is not an answer that could be kept and given again";
        mistakes.add(Mistake::error(&codes::WEBSOCKET, raw.span, message).help("write replay: redeliver beside it"));
    }
    let (lasts, bytes) = (raw.lasts.as_ref()?, raw.bytes.as_ref()?);
    let sensible = Duration::from_secs(1)..=LONGEST_TUNNEL;
    let lasts = duration(Some(lasts), LONGEST_TUNNEL, sensible, mistakes);
    let most = size(Some(bytes), 0, mistakes);
    if most == Some(0) {
        let message = "a connection of no bytes is cut at its first, and was paid for";
        mistakes.add(Mistake::error(&codes::WEBSOCKET, bytes.span, message).help("write bytes: 100MiB"));
    }
    Some(Tunnel { lasts: lasts?, bytes: most? })
}

/// Says so where a free route is to be limited by who pays for it.
fn warn_of_idle_limits(raw: &raw::Limits, mistakes: &mut Mistakes) {
    let by = [&raw.rate_by, &raw.concurrency_by].into_iter().flatten();
    for text in by.filter(|text| &*text.text == CountBy::Payer.as_str()) {
        let message = "nobody pays on a free route, so this limits nobody";
        mistakes.add(Mistake::warning(&codes::IDLE_LIMIT, text.span, message).help("write client or route"));
    }
}

/// A text for a header: not too long for one.
fn short(raw: Option<&Text>, longest: usize, mistakes: &mut Mistakes) -> Option<String> {
    let Some(text) = raw else { return Some(String::new()) };
    let characters = text.text.chars().count();
    if characters > longest {
        let message = format!("{characters} characters are too many for a header");
        mistakes.add(Mistake::error(&codes::RANGE, text.span, message).help(format!("write at most {longest}")));
        return None;
    }
    Some(text.text.to_string())
}

/// What the routes of one table share.
#[derive(Clone)]
pub(super) struct Table<'a> {
    pub payees: &'a Payees,
    pub facilitators: &'a [Resolved],
    pub chains: &'a Chains,
    pub source: &'a Source,
    /// `None` when it is wrong; that has been noted.
    pub public_url: Option<PublicUrl>,
    /// `None` for the main table.
    pub host: Option<Host>,
    /// `None` when there is none; `Some(None)` when there is a wrong one, which has been noted.
    pub upstream: Option<Option<Arc<str>>>,
    pub inherited: Inherited,
}

impl Table<'_> {
    /// Every route that can be understood.
    pub(super) fn routes(
        &self,
        raw: &[raw::Route],
        upstreams: &mut Upstreams,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) -> Vec<Arc<Route>> {
        raw.iter().filter_map(|raw| self.route(raw, upstreams, collected, mistakes)).map(Arc::new).collect()
    }

    fn route(
        &self,
        raw: &raw::Route,
        upstreams: &mut Upstreams,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) -> Option<Route> {
        let key = parse_key(&raw.key.text).map_err(|error| mistakes.add(wrong_key(&raw.key, &error))).ok();
        let limits = limits(&raw.terms.limits, self.inherited.limits, mistakes);
        let charge = limits.and_then(|limits| self.charge(raw, limits, collected, mistakes));
        let upstream = self.upstream(raw, upstreams, mistakes);
        let paths = self.inherited.paths.with(&raw.terms.target, mistakes);
        let public_url = self.public_url.as_ref().map(|url| url.url.clone());
        let ((methods, pattern), paths) = (key?, paths?);
        let rewrite = paths.rewrite(&pattern, raw, mistakes);
        Some(Route {
            key: self.name(raw),
            methods,
            pattern,
            charge: charge?,
            upstream: upstream?,
            // A table with a wrong URL is never posted, but its routes are checked all the same.
            public_url: public_url.unwrap_or_default(),
            limits: limits?,
            encoded_slash: paths.encoded_slash,
            rewrite: rewrite?,
            place: self.source.place(raw.key.span),
        })
    }

    fn name(&self, raw: &raw::Route) -> RouteKey {
        RouteKey(match &self.host {
            Some(host) => format!("{} {}", host.0, raw.key.text).into(),
            None => raw.key.text.clone(),
        })
    }

    /// A route that lets nothing through needs no upstream; it gets an empty name.
    fn upstream(&self, raw: &raw::Route, upstreams: &mut Upstreams, mistakes: &mut Mistakes) -> Option<Arc<str>> {
        if let Some(text) = &raw.terms.upstream {
            return upstreams.find(text, mistakes);
        }
        match &self.upstream {
            Some(known) => known.clone(),
            None if is(raw, "deny") => Some(Arc::from("")),
            None => {
                mistakes.add(
                    Mistake::error(&codes::NO_UPSTREAM, raw.key.span, "nothing says where this route leads")
                        .help("write upstream: http://127.0.0.1:3000 at the top of the file"),
                );
                None
            }
        }
    }

    fn charge(
        &self,
        raw: &raw::Route,
        limits: Limits,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) -> Option<Charge> {
        // What a route says is checked even if its price makes it idle: it may be sold again tomorrow.
        let settle = settle(raw.terms.settle.as_ref(), self.inherited.settle, mistakes);
        let replay = replay(raw.terms.replay.as_ref(), self.inherited.replay, mistakes);
        let description = short(raw.terms.description.as_ref(), LONGEST_DESCRIPTION, mistakes);
        let mime_type = short(raw.terms.mime_type.as_ref(), LONGEST_MIME_TYPE, mistakes);
        let tunnel = tunnel(raw.terms.websocket.as_ref(), replay, mistakes);
        let pricing = Pricing { payees: self.payees, chains: self.chains };
        let payees = pricing.payees_of(raw, collected, mistakes);
        if is(raw, "free") {
            warn_of_idle_limits(&raw.terms.limits, mistakes);
            return Some(Charge::Free);
        }
        if is(raw, "deny") {
            return Some(Charge::Deny);
        }
        let (settle, replay) = (settle?, replay?);
        let priced = pricing.offers(raw, &payees?, settle, mistakes);
        let networks = priced.iter().map(|offer| &offer.network.id);
        let settling = facilitators::settle_timeout(self.facilitators, networks);
        let hold = limits.timeout + settling + SLACK + SKEW;
        let margin = match settle {
            SettleMode::OnResponse => hold,
            SettleMode::BeforeForward => settling + SLACK + SKEW,
        };
        let offers: Vec<_> = priced.into_iter().map(|offer| Offer { max_timeout: hold + TO_SIGN, ..offer }).collect();
        let (description, mime_type) = (description?, mime_type?);
        (!offers.is_empty()).then(|| {
            Charge::Toll(Arc::new(Toll {
                offers,
                settle,
                replay,
                replay_explicit: raw.terms.replay.is_some(),
                offer_ttl: self.inherited.offer_ttl,
                hold,
                margin,
                description,
                mime_type,
                tunnel,
            }))
        })
    }
}

fn is(raw: &raw::Route, word: &str) -> bool {
    matches!(&raw.charge, raw::Charge::Word(text) if &*text.text == word)
}

fn wrong_key(key: &Text, error: &crate::tariff::KeyError) -> Mistake {
    // In quotes and with escapes, the text is not what stands in the file; then the whole key is pointed at.
    let at = |offset: usize| key.span.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    let within = Span { start: at(error.offset), end: at(error.offset + error.length) };
    let span = if key.quoted || error.length == 0 { key.span } else { within };
    Mistake::error(&codes::ROUTE_KEY, span, error.to_string()).help(error.help())
}
