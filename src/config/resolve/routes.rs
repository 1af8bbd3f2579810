//! One line of the price table: key, price, and what it inherits.

use std::sync::Arc;
use std::time::Duration;

use super::facilitators::{self, Resolved, not_paid_on};
use super::hosts::PublicUrl;
use super::network::{Chains, account};
use super::payees::{Paid, Payees, Whose};
use super::price::Price;
use super::reference;
use super::scalar::{duration, size, word, word_built};
use super::upstreams::Upstreams;
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, RoutePayTo, listed, nearest};
use crate::config::source::{Source, Span};
use crate::config::tree::Text;
use crate::payment::{Offer, SchemeName, SettleMode};
use crate::primitives::Payee;
use crate::tariff::{Charge, Host, Limits, Replay, Route, RouteKey, Toll, parse_key};

/// Looking a settlement up and giving up on it takes this long at most (SAFETY, "Times").
const SLACK: Duration = Duration::from_secs(6);
/// How far the clocks of client, gateway and chain may differ.
const SKEW: Duration = Duration::from_secs(30);
/// What a client has from the 402 until its payment arrives.
const TO_SIGN: Duration = Duration::from_secs(60);

const REQUEST_BODY: u64 = 1 << 20;
const TIMEOUT: Duration = Duration::from_secs(60);
const OFFER_TTL: Duration = Duration::from_secs(60);
const LONGEST_TIMEOUT: Duration = Duration::from_secs(3600);
const LONGEST_OFFER_TTL: Duration = Duration::from_secs(86_400);

/// What a route has that says nothing itself: nearest wins, and `limits` key by key.
#[derive(Debug, Clone, Copy)]
pub(super) struct Inherited {
    settle: SettleMode,
    replay: Replay,
    offer_ttl: Duration,
    limits: Limits,
}

impl Inherited {
    pub(super) const fn built_in() -> Self {
        Self {
            settle: SettleMode::OnResponse,
            replay: Replay::Redeliver,
            offer_ttl: OFFER_TTL,
            limits: Limits { request_body: REQUEST_BODY, timeout: TIMEOUT },
        }
    }

    /// These, where `raw` does not say otherwise.
    pub(super) fn with(self, raw: &raw::Defaults, mistakes: &mut Mistakes) -> Self {
        let ttl = Duration::from_secs(1)..=LONGEST_OFFER_TTL;
        word_built(raw.browser.as_ref(), &[("none", ())], &["page"], (), mistakes);
        Self {
            settle: settle(raw.settle.as_ref(), self.settle, mistakes).unwrap_or(self.settle),
            replay: replay(raw.replay.as_ref(), self.replay, mistakes).unwrap_or(self.replay),
            offer_ttl: duration(raw.offer_ttl.as_ref(), self.offer_ttl, ttl, mistakes).unwrap_or(self.offer_ttl),
            limits: limits(&raw.limits, self.limits, mistakes).unwrap_or(self.limits),
        }
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

fn limits(raw: &raw::Limits, default: Limits, mistakes: &mut Mistakes) -> Option<Limits> {
    let request_body = size(raw.request_body.as_ref(), default.request_body, mistakes);
    let sensible = Duration::from_millis(100)..=LONGEST_TIMEOUT;
    let timeout = duration(raw.timeout.as_ref(), default.timeout, sensible, mistakes);
    Some(Limits { request_body: request_body?, timeout: timeout? })
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
        let public_url = self.public_url.as_ref().map(|url| url.url.clone());
        let (methods, pattern) = key?;
        Some(Route {
            key: self.name(raw),
            methods,
            pattern,
            charge: charge?,
            upstream: upstream?,
            // A table with a wrong URL is never posted, but its routes are checked all the same.
            public_url: public_url.unwrap_or_default(),
            limits: limits?,
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
        if is(raw, "free") {
            return Some(Charge::Free);
        }
        if is(raw, "deny") {
            return Some(Charge::Deny);
        }
        let settle = settle(raw.terms.settle.as_ref(), self.inherited.settle, mistakes);
        let replay = replay(raw.terms.replay.as_ref(), self.inherited.replay, mistakes);
        let payees = self.payees_of(raw, collected, mistakes);
        let priced = self.priced(raw, &payees?, mistakes);
        let (settle, replay) = (settle?, replay?);
        let networks = priced.iter().map(|offer| &offer.network.id);
        let settling = facilitators::settle_timeout(self.facilitators, networks);
        let hold = limits.timeout + settling + SLACK + SKEW;
        let margin = match settle {
            SettleMode::OnResponse => hold,
            SettleMode::BeforeForward => settling + SLACK + SKEW,
        };
        let offers: Vec<_> =
            priced.into_iter().map(|offer| Offer { settle, max_timeout: hold + TO_SIGN, ..offer }).collect();
        let text = |text: &Option<Text>| text.as_ref().map(|text| text.text.to_string()).unwrap_or_default();
        (!offers.is_empty()).then(|| {
            Charge::Toll(Arc::new(Toll {
                offers,
                settle,
                replay,
                replay_explicit: raw.terms.replay.is_some(),
                offer_ttl: self.inherited.offer_ttl,
                hold,
                margin,
                description: text(&raw.terms.description),
                mime_type: text(&raw.terms.mime_type),
            }))
        })
    }

    /// Who is paid for this route, network by network.
    fn payees_of(&self, raw: &raw::Route, collected: &mut Whose, mistakes: &mut Mistakes) -> Option<Vec<(&Paid, Payee)>> {
        let paid = self.payees.paid.iter();
        let Some(own) = &raw.terms.pay_to else { return Some(paid.map(|paid| (paid, paid.payee)).collect()) };
        if self.payees.sandbox() {
            let place = match own {
                RoutePayTo::Everywhere(reference) => reference.span(),
                RoutePayTo::ByNetwork(_) => raw.key.span,
            };
            mistakes.add(
                Mistake::error(&codes::SANDBOX, place, "in the sandbox nobody else is paid").help("remove this `pay_to`"),
            );
            return None;
        }
        match own {
            RoutePayTo::Everywhere(reference) => {
                let address = reference::literal(reference, "who is paid", mistakes)?;
                let payee = self.collector(&address, collected, mistakes)?;
                Some(paid.map(|paid| (paid, payee)).collect())
            }
            RoutePayTo::ByNetwork(own) => {
                let mut payees: Vec<_> = paid.map(|paid| (paid, paid.payee)).collect();
                let before = mistakes.errors();
                for (network, address) in own {
                    let payee = self.collector(address, collected, mistakes);
                    let Some(chain) = self.chains.find(network, mistakes) else { continue };
                    let at = payees.iter_mut().find(|(paid, _)| paid.chain.network.id == chain.network.id);
                    match (at, payee) {
                        (Some(at), Some(payee)) => at.1 = payee,
                        (None, _) => mistakes.add(not_paid_on(network)),
                        (Some(_), None) => {}
                    }
                }
                (mistakes.errors() == before).then_some(payees)
            }
        }
    }

    fn collector(&self, address: &Text, collected: &mut Whose, mistakes: &mut Mistakes) -> Option<Payee> {
        let payee = Payee(account(address, mistakes)?);
        collected.0.entry(payee).or_insert(address.span);
        Some(payee)
    }

    /// The offers, without what depends on the time they leave.
    fn priced(&self, raw: &raw::Route, payees: &[(&Paid, Payee)], mistakes: &mut Mistakes) -> Vec<Offer> {
        match &raw.charge {
            raw::Charge::Word(text) => {
                let offers = self.offers(text, payees);
                offers.unwrap_or_else(|mistake| {
                    mistakes.add(mistake);
                    Vec::new()
                })
            }
            raw::Charge::Price(raw::Price(prices)) => {
                let mut offers = Vec::new();
                for (network, _) in prices {
                    let known = self.chains.find(network, mistakes);
                    let paid = known.is_none_or(|chain| payees.iter().any(|(paid, _)| paid.chain.network.id == chain.network.id));
                    if !paid {
                        mistakes.add(not_paid_on(network));
                    }
                }
                for (paid, payee) in payees {
                    let price = prices.iter().find(|(network, _)| is_called(paid, network));
                    let Some((_, text)) = price else { continue };
                    match self.offers(text, &[(paid, *payee)]) {
                        Ok(more) => offers.extend(more),
                        Err(mistake) => mistakes.add(mistake),
                    }
                }
                offers
            }
        }
    }

    fn offers(&self, text: &Text, payees: &[(&Paid, Payee)]) -> Result<Vec<Offer>, Mistake> {
        let price = Price::parse(text).map_err(|mistake| suggest_word(text, mistake))?;
        let mut offers = Vec::new();
        for (paid, payee) in payees {
            for asset in paid.assets.iter().filter(|asset| price.fits(asset)) {
                offers.push(Offer {
                    scheme: SchemeName::Exact,
                    network: paid.chain.network.clone(),
                    asset: asset.clone(),
                    amount: price.in_units_of(asset, text)?,
                    pay_to: *payee,
                    max_timeout: Duration::ZERO,
                    settle: self.inherited.settle,
                    sandbox: self.payees.sandbox(),
                });
            }
        }
        if offers.is_empty() && payees.iter().any(|(paid, _)| !paid.assets.is_empty()) {
            return Err(no_offer(price, text, payees));
        }
        Ok(offers)
    }
}

fn is(raw: &raw::Route, word: &str) -> bool {
    matches!(&raw.charge, raw::Charge::Word(text) if &*text.text == word)
}

/// The name in the file may be the CAIP-2 identifier.
fn is_called(paid: &Paid, network: &Text) -> bool {
    let known = &paid.chain.network;
    known.name == *network.text || known.id.as_str() == &*network.text
}

fn suggest_word(text: &Text, mistake: Mistake) -> Mistake {
    match nearest(&text.text, ["free", "deny"]) {
        Some(near) if mistake.code == &codes::PRICE => mistake.label(format!("did you mean `{near}`?")),
        _ => mistake,
    }
}

fn no_offer(price: Price<'_>, text: &Text, payees: &[(&Paid, Payee)]) -> Mistake {
    let assets = || payees.iter().flat_map(|(paid, _)| &paid.assets);
    let symbols: Vec<_> = assets().map(|asset| &*asset.symbol).collect();
    let mistake = |message: String| Mistake::error(&codes::NO_OFFER, text.span, message);
    match price {
        Price::Dollars(amount) => mistake(String::from("none of the assets you are paid in is pegged to the dollar"))
            .help(format!("write the price in {}: {amount} {}", listed(symbols.iter().copied()), symbols[0])),
        Price::Token { amount, symbol } => {
            let mistake = mistake(format!("nobody is paid in `{symbol}`"));
            match nearest(symbol, symbols.iter().copied()) {
                Some(near) => mistake.label(format!("did you mean `{near}`?")),
                None => mistake.help(format!("write ${amount}, or a price in {}", listed(symbols.iter().copied()))),
            }
        }
    }
}

fn wrong_key(key: &Text, error: &crate::tariff::KeyError) -> Mistake {
    // In quotes and with escapes, the text is not what stands in the file; then the whole key is pointed at.
    let at = |offset: usize| key.span.start.saturating_add(u32::try_from(offset).unwrap_or(u32::MAX));
    let within = Span { start: at(error.offset), end: at(error.offset + error.length) };
    let span = if key.quoted || error.length == 0 { key.span } else { within };
    Mistake::error(&codes::ROUTE_KEY, span, error.to_string()).help(error.help())
}
