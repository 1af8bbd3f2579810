//! `pay_to`: on which networks, in which assets and to whom money is paid.

use std::collections::HashMap;
use std::sync::Arc;

use super::network::{Chain, Chains, account};
use super::{first_of, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, PayTo, nearest};
use crate::config::report::Money;
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::facilitator::sandbox;
use crate::primitives::{Asset, Payee};

/// Who is paid, network by network, in the order of the file: the order of the offers.
#[derive(Debug, Default)]
pub(super) struct Payees {
    pub paid: Vec<Paid>,
    sandbox: bool,
}

/// A network that somebody is paid on.
#[derive(Debug)]
pub(super) struct Paid {
    pub chain: Arc<Chain>,
    pub payee: Payee,
    pub assets: Vec<Arc<Asset>>,
    /// Where the network is named.
    pub span: Span,
    /// Where the address stands.
    pub address: Span,
}

/// The accounts that single routes pay, each with the first place that names it.
#[derive(Debug, Default)]
pub(super) struct Whose(pub HashMap<Payee, Span>);

impl Payees {
    pub(super) fn of(file: &raw::File, chains: &Chains, mistakes: &mut Mistakes) -> Self {
        match &file.pay_to {
            None => Self::default(),
            Some(PayTo::Word(word)) if &*word.text == "sandbox" => Self::play_money(file, word, mistakes),
            Some(PayTo::Word(word)) => {
                mistakes.add(wrong_word(word));
                Self::default()
            }
            Some(PayTo::Networks(payees)) => Self::real(payees, chains, mistakes),
        }
    }

    /// Whether money is play money.
    pub(super) fn sandbox(&self) -> bool {
        self.sandbox
    }

    /// Names of the networks with real money.
    pub(super) fn live_networks(&self) -> Vec<Arc<str>> {
        self.networks(true)
    }

    /// What kind of money changes hands, for the last line of a report.
    pub(super) fn money(&self) -> Money {
        Money { live: self.networks(true), test: self.networks(false), sandbox: self.sandbox }
    }

    fn networks(&self, live: bool) -> Vec<Arc<str>> {
        let networks = self.paid.iter().map(|paid| &paid.chain.network);
        networks.filter(|network| network.live == live).map(|network| network.name.as_str().into()).collect()
    }

    fn play_money(file: &raw::File, word: &Text, mistakes: &mut Mistakes) -> Self {
        if let Some(facilitator) = file.facilitators.as_deref().unwrap_or_default().first() {
            mistakes.add(
                Mistake::error(&codes::SANDBOX, facilitator.span, "the sandbox is its own facilitator")
                    .related(word.span, "because of this")
                    .help("remove `facilitators`, or pay to an address of yours"),
            );
        }
        let chain = Chain {
            network: Arc::new(sandbox::network()),
            tokens: Vec::new(),
            rpc: Vec::new(),
            confirmations: None,
            factories: None,
        };
        let paid = Paid {
            chain: Arc::new(chain),
            payee: sandbox::PAYEE,
            assets: vec![Arc::new(sandbox::asset())],
            span: word.span,
            address: word.span,
        };
        Self { paid: vec![paid], sandbox: true }
    }

    fn real(raw: &[raw::Payee], chains: &Chains, mistakes: &mut Mistakes) -> Self {
        let mut paid = Vec::new();
        let mut seen = HashMap::new();
        for raw in raw {
            if &*raw.network.text == "sandbox" {
                mistakes.add(
                    Mistake::error(&codes::SANDBOX, raw.network.span, "the sandbox stands alone")
                        .help("write pay_to: sandbox, or remove this line"),
                );
                continue;
            }
            let chain = chains.find(&raw.network, mistakes);
            let address = reference::literal(&raw.address, "who is paid", mistakes);
            let payee = address.as_ref().and_then(|address| account(address, mistakes));
            let Some(chain) = chain else { continue };
            if let Some(first) = first_of(&mut seen, chain.network.id.clone(), raw.network.span) {
                let message = format!("`{}` is paid on twice", chain.network.name);
                mistakes.add(
                    Mistake::error(&codes::NETWORK_TWICE, raw.network.span, message)
                        .related(first, "first here")
                        .help("keep one of them"),
                );
                continue;
            }
            let assets = chain.choose(raw.assets.as_deref(), raw.network.span, mistakes);
            let (Some(payee), Some(address)) = (payee, address) else { continue };
            let span = raw.network.span;
            paid.push(Paid { chain: chain.clone(), payee: Payee(payee), assets, span, address: address.span });
        }
        Self { paid, sandbox: false }
    }
}

fn wrong_word(word: &Text) -> Mistake {
    let refuse = |message: &str| Mistake::error(&codes::SHAPE, word.span, message);
    if word.text.starts_with("0x") {
        return refuse("an address without a network")
            .help(format!("write pay_to: {{base-sepolia: \"{}\"}}, or `base` for real money", word.text));
    }
    let mistake = refuse("expected `sandbox` or a mapping of networks to addresses");
    match nearest(&word.text, ["sandbox"]) {
        Some(near) => mistake.label(format!("did you mean `{near}`?")),
        None => mistake.help("write pay_to: sandbox, or pay_to: {base-sepolia: \"0x…\"}"),
    }
}
