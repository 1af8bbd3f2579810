//! `facilitators`: who settles payments on which network, and how they know us.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::facilitator_url::facilitator_url;
use super::network::Chains;
use super::payees::Payees;
use super::scalar::{count, duration, shown, word};
use super::signer::{coin, coin_price, gas_key, gas_price};
use super::{Surroundings, first_of, looking, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::facilitator::{Auth, BreakerConfig, Config, Kind, Trust};
use crate::primitives::{Address, Caip2};

const VERIFY_TIMEOUT: Duration = Duration::from_secs(5);
const SETTLE_TIMEOUT: Duration = Duration::from_secs(30);
/// The facilitator that the SDKs use when none is named. It settles on test networks only (protocol digest, C).
const PUBLIC_TEST_URL: &str = "https://x402.org/facilitator";
/// The network of it that tollhouse speaks: Base Sepolia.
const PUBLIC_TEST_CHAIN: u64 = 84_532;

/// A facilitator, and what is needed to check it against the rest of the file.
#[derive(Debug)]
pub(super) struct Resolved {
    pub config: Config,
    pub span: Span,
    /// The account of the key we hold for it.
    pub signer: Option<Address>,
}

/// Every facilitator, in order of preference.
pub(super) fn resolve(
    file: &raw::File,
    chains: &Chains,
    payees: &Payees,
    around: &Surroundings<'_>,
    mistakes: &mut Mistakes,
) -> Vec<Resolved> {
    if payees.sandbox() {
        return vec![built_in("sandbox", Kind::Sandbox, payees.paid.iter().map(|paid| paid.chain.network.id.clone()))];
    }
    let mut resolved = Vec::new();
    match &file.facilitators {
        None => resolved.extend(public_test_facilitator(payees)),
        Some(raw) => {
            let mut names = HashMap::new();
            for raw in raw {
                refuse_second_name(raw, &mut names, mistakes);
                let reader = Reader { chains, payees, around };
                resolved.extend(reader.facilitator(raw, mistakes));
            }
        }
    }
    looking::refuse_blind(chains, &resolved, mistakes);
    looking::refuse_lonely(chains, &resolved, mistakes);
    let all_read = file.facilitators.as_ref().is_none_or(|raw| raw.len() == resolved.len());
    if all_read {
        refuse_unserved_networks(&resolved, payees, mistakes);
    }
    resolved
}

/// The longest that settling on one of these networks may take.
pub(super) fn settle_timeout<'n>(facilitators: &[Resolved], networks: impl Iterator<Item = &'n Caip2>) -> Duration {
    let networks: Vec<_> = networks.collect();
    let serves = |config: &&Config| config.networks.iter().any(|network| networks.contains(&network));
    let candidates = facilitators.iter().map(|resolved| &resolved.config).filter(serves);
    candidates.map(|config| config.settle_timeout).max().unwrap_or(SETTLE_TIMEOUT)
}

/// When facilitators are no longer asked. `None` when that is wrong; it has been noted.
pub(super) fn breaker(raw: &raw::Breaker, mistakes: &mut Mistakes) -> Option<BreakerConfig> {
    let default = BreakerConfig::default();
    let sensible = Duration::from_secs(1)..=Duration::from_secs(3600);
    let open_after = count(raw.open_after.as_ref(), default.open_after, 1..=100, mistakes);
    let half_open_after = duration(raw.half_open_after.as_ref(), default.half_open_after, sensible, mistakes);
    Some(BreakerConfig { open_after: open_after?, half_open_after: half_open_after? })
}

fn built_in(name: &str, kind: Kind, networks: impl Iterator<Item = Caip2>) -> Resolved {
    let config = Config {
        name: name.into(),
        networks: networks.collect(),
        verify_timeout: VERIFY_TIMEOUT,
        settle_timeout: SETTLE_TIMEOUT,
        kind,
    };
    Resolved { config, span: Span::default(), signer: None }
}

/// Test money needs no account anywhere; real money never gets a facilitator that the file does not name.
fn public_test_facilitator(payees: &Payees) -> Option<Resolved> {
    let id = Caip2::evm(PUBLIC_TEST_CHAIN);
    let url = Url::parse(PUBLIC_TEST_URL).expect("the constant is a URL");
    let kind = Kind::Remote { url, auth: Auth::None, trust: Trust::Verify };
    let wanted = payees.paid.iter().any(|paid| paid.chain.network.id == id);
    wanted.then(|| built_in("x402.org", kind, std::iter::once(id)))
}

fn refuse_second_name(raw: &raw::Facilitator, names: &mut HashMap<Arc<str>, Span>, mistakes: &mut Mistakes) {
    let Some(name) = &raw.name else { return };
    if let Some(first) = first_of(names, name.text.clone(), name.span) {
        let message = format!("two facilitators are called `{}`", shown(&name.text));
        mistakes.add(
            Mistake::error(&codes::FACILITATOR, name.span, message)
                .related(first, "first here")
                .help("the ledger remembers payments by this name; give each its own"),
        );
    }
}

fn refuse_unserved_networks(facilitators: &[Resolved], payees: &Payees, mistakes: &mut Mistakes) {
    for paid in &payees.paid {
        let network = &paid.chain.network;
        if facilitators.iter().any(|facilitator| facilitator.config.networks.contains(&network.id)) {
            continue;
        }
        let message = format!("no facilitator settles on `{}`", network.name);
        let help = if facilitators.is_empty() {
            String::from("add facilitators: [{name: primary, url: https://…}]")
        } else {
            format!("add {} to the `networks` of one that does", network.name)
        };
        mistakes.add(Mistake::error(&codes::NO_FACILITATOR, paid.span, message).help(help));
    }
}

struct Reader<'a> {
    chains: &'a Chains,
    payees: &'a Payees,
    around: &'a Surroundings<'a>,
}

impl Reader<'_> {
    fn facilitator(&self, raw: &raw::Facilitator, mistakes: &mut Mistakes) -> Option<Resolved> {
        let networks = self.networks(raw, mistakes);
        let sensible = Duration::from_millis(100)..=Duration::from_secs(300);
        let verify = duration(raw.timeout.verify.as_ref(), VERIFY_TIMEOUT, sensible.clone(), mistakes);
        let settle = duration(raw.timeout.settle.as_ref(), SETTLE_TIMEOUT, sensible, mistakes);
        let (kind, signer) = match (&raw.url, &raw.local) {
            (Some(url), None) => (self.remote(raw, url, networks.as_deref(), mistakes)?, None),
            (None, Some(local)) => self.local(raw, local, networks.as_deref(), mistakes)?,
            (Some(_), Some(_)) => {
                mistakes.add(
                    Mistake::error(&codes::FACILITATOR, raw.span, "a facilitator has either `url` or `local`")
                        .help("make two of it"),
                );
                return None;
            }
            (None, None) => {
                mistakes.add(raw::missing("url", "a facilitator", raw.span).help("write url: https://…, or `local`"));
                return None;
            }
        };
        let config = Config {
            name: raw.name.as_ref()?.text.clone(),
            networks: networks?,
            verify_timeout: verify?,
            settle_timeout: settle?,
            kind,
        };
        Some(Resolved { config, span: raw.span, signer })
    }

    /// Those it names, or all that somebody is paid on.
    fn networks(&self, raw: &raw::Facilitator, mistakes: &mut Mistakes) -> Option<Vec<Caip2>> {
        let paid = || self.payees.paid.iter().map(|paid| &paid.chain.network.id);
        let Some(names) = &raw.networks else { return Some(paid().cloned().collect()) };
        let mut networks = Vec::new();
        let before = mistakes.errors();
        for name in names {
            let Some(chain) = self.chains.find(name, mistakes) else { continue };
            if paid().any(|id| *id == chain.network.id) {
                networks.push(chain.network.id.clone());
            } else {
                mistakes.add(not_paid_on(name));
            }
        }
        (mistakes.errors() == before).then_some(networks)
    }

    fn remote(
        &self,
        raw: &raw::Facilitator,
        url: &Text,
        networks: Option<&[Caip2]>,
        mistakes: &mut Mistakes,
    ) -> Option<Kind> {
        let url = facilitator_url(url, mistakes);
        let auth = match &raw.auth {
            None => Some(Auth::None),
            Some(raw::Auth::Bearer(token)) => reference::secret(token, self.around, mistakes).map(Auth::Bearer),
            Some(raw::Auth::Cdp { key_id, secret }) => {
                let key_id = reference::secret(key_id, self.around, mistakes);
                let secret = reference::secret(secret, self.around, mistakes);
                key_id.zip(secret).map(|(key_id, secret)| Auth::Cdp { key_id, secret })
            }
        };
        let words = [("verify", Trust::Verify), ("facilitator", Trust::Facilitator)];
        let trust = word(raw.trust.as_ref(), &words, Trust::Verify, mistakes);
        if let (Some(written), Some(Trust::Verify), Some(networks)) = (&raw.trust, trust, networks) {
            self.refuse_blind_trust(written, networks, mistakes);
        }
        Some(Kind::Remote { url: url?, auth: auth?, trust: trust? })
    }

    /// Whoever writes `trust: verify` expects transfers to be looked up, so there has to be a node to ask.
    fn refuse_blind_trust(&self, written: &Text, networks: &[Caip2], mistakes: &mut Mistakes) {
        let paid = self.payees.paid.iter().filter(|paid| networks.contains(&paid.chain.network.id));
        for blind in paid.filter(|paid| paid.chain.rpc.is_empty()) {
            let name = &blind.chain.network.name;
            mistakes.add(
                Mistake::error(&codes::NO_NODE, written.span, format!("`trust: verify` needs a node of `{name}`"))
                    .help(format!("add networks: {{{name}: {{rpc: [https://…]}}}}, or write trust: facilitator")),
            );
        }
    }

    fn local(
        &self,
        raw: &raw::Facilitator,
        local: &raw::Local,
        networks: Option<&[Caip2]>,
        mistakes: &mut Mistakes,
    ) -> Option<(Kind, Option<Address>)> {
        if let Some(networks) = networks.filter(|networks| networks.len() != 1) {
            let message = format!("a local facilitator serves one network, not {}", networks.len());
            mistakes.add(
                Mistake::error(&codes::FACILITATOR, raw.span, message)
                    .note("its nodes belong to one chain")
                    .help("write networks: [NAME]; make one facilitator for each network"),
            );
        }
        if raw.auth.is_some() || raw.trust.is_some() {
            let message = "`auth` and `trust` are about remote facilitators, not local ones";
            mistakes.add(Mistake::error(&codes::FACILITATOR, raw.span, message).help("remove them"));
        }
        let rpc: Vec<_> = local.rpc.iter().filter_map(|node| reference::node(node, self.around, mistakes)).collect();
        let max_gas_price = local.max_gas_price.as_ref().map(|text| gas_price(text, mistakes));
        let alarm_below = local.alarm_below.as_ref().map(|text| coin(text, mistakes));
        let coin_price = local.coin_price.as_ref().map(|text| coin_price(text, mistakes));
        let (signer, address) = gas_key(local.signer.as_ref()?, self.around, mistakes)?;
        let network = networks.and_then(<[Caip2]>::first);
        let confirmations = network.and_then(|network| self.chains.depths().remove(network)).unwrap_or_default();
        let kind = Kind::Local {
            rpc,
            signer,
            max_gas_price: whole(max_gas_price)?,
            alarm_below: whole(alarm_below)?,
            coin_price: whole(coin_price)?,
            confirmations,
        };
        Some((kind, Some(address)))
    }
}

/// What was read of a key that may be left out; `None` when it is wrong.
fn whole<T>(read: Option<Option<T>>) -> Option<Option<T>> {
    read.map_or(Some(None), |read| read.map(Some))
}

/// A network of which `pay_to` says nothing.
pub(super) fn not_paid_on(name: &Text) -> Mistake {
    let message = format!("`{}` is not one of the networks of `pay_to`", shown(&name.text));
    Mistake::error(&codes::NOT_PAID_ON, name.span, message)
        .help(format!("remove it, or add {}: \"0x…\" to `pay_to`", shown(&name.text)))
}
