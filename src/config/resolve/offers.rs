//! What is offered for a route: its price in every asset that somebody is paid in.

use std::collections::HashMap;
use std::time::Duration;

use super::facilitators::not_paid_on;
use super::network::{Chains, account};
use super::payees::{Paid, Payees, Whose};
use super::price::Price;
use super::{first_of, reference};
use crate::config::codes;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::raw::{self, RoutePayTo, either, nearest};
use crate::config::source::Span;
use crate::config::tree::Text;
use crate::payment::{Offer, SchemeName, SettleMode};
use crate::primitives::{Caip2, Payee};

/// What the price of every route is worked out from.
#[derive(Clone, Copy)]
pub(super) struct Pricing<'a> {
    pub payees: &'a Payees,
    pub chains: &'a Chains,
}

/// The networks a route is paid on, each with who is paid.
pub(super) type PaidFor<'a> = Vec<(&'a Paid, Payee)>;

impl<'a> Pricing<'a> {
    /// Who is paid for a route. `None` when that is wrong.
    pub(super) fn payees_of(
        &self,
        raw: &raw::Route,
        collected: &mut Whose,
        mistakes: &mut Mistakes,
    ) -> Option<PaidFor<'a>> {
        let paid = self.payees.paid.iter();
        let Some(own) = &raw.terms.pay_to else { return Some(paid.map(|paid| (paid, paid.payee)).collect()) };
        if self.payees.sandbox() {
            let place = match own {
                RoutePayTo::Everywhere(reference) => reference.span(),
                RoutePayTo::ByNetwork(_) => raw.key.span,
            };
            mistakes.add(
                Mistake::error(&codes::SANDBOX, place, "in the sandbox nobody else is paid")
                    .help("remove this `pay_to`"),
            );
            return None;
        }
        match own {
            RoutePayTo::Everywhere(reference) => {
                let address = reference::literal(reference, "who is paid", mistakes)?;
                let payee = collector(&address, collected, mistakes)?;
                Some(paid.map(|paid| (paid, payee)).collect())
            }
            RoutePayTo::ByNetwork(own) => {
                let own = self.by_network(own, mistakes);
                let payee = |(paid, text): (&'a Paid, Option<&Text>)| match text {
                    Some(address) => Some((paid, collector(address, collected, mistakes)?)),
                    None => Some((paid, paid.payee)),
                };
                let all: Vec<_> =
                    paid.map(|paid| (paid, own.get(&paid.chain.network.id).copied())).map(payee).collect();
                all.into_iter().collect()
            }
        }
    }

    /// The offers, in the order of `pay_to`; none when the price is wrong. How long they last is not known here.
    pub(super) fn offers(
        &self,
        raw: &raw::Route,
        payees: &[(&Paid, Payee)],
        settle: SettleMode,
        mistakes: &mut Mistakes,
    ) -> Vec<Offer> {
        let mut offers = Vec::new();
        let mut priced =
            |text: &Text, payees: &[(&Paid, Payee)], mistakes: &mut Mistakes| match self.priced(text, payees, settle) {
                Ok(more) => offers.extend(more),
                Err(mistake) => mistakes.add(*mistake),
            };
        match &raw.charge {
            raw::Charge::Word(text) => priced(text, payees, mistakes),
            raw::Charge::Price(raw::Price(prices)) => {
                let prices = self.by_network(prices, mistakes);
                for (paid, payee) in payees {
                    if let Some(text) = prices.get(&paid.chain.network.id) {
                        priced(text, &[(*paid, *payee)], mistakes);
                    }
                }
            }
        }
        offers
    }

    /// What is written for each network. Every network has to be one of `pay_to`, named once.
    fn by_network<'t>(&self, written: &'t [(Text, Text)], mistakes: &mut Mistakes) -> HashMap<Caip2, &'t Text> {
        let mut places: HashMap<Caip2, Span> = HashMap::new();
        let mut values = HashMap::new();
        for (network, value) in written {
            let Some(chain) = self.chains.find(network, mistakes) else { continue };
            let id = &chain.network.id;
            if !self.payees.paid.iter().any(|paid| paid.chain.network.id == *id) {
                mistakes.add(not_paid_on(network));
            } else if let Some(first) = first_of(&mut places, id.clone(), network.span) {
                mistakes.add(
                    Mistake::error(&codes::NETWORK_TWICE, network.span, format!("{id} is named twice"))
                        .related(first, "first here")
                        .help("keep one of them"),
                );
            } else {
                values.insert(id.clone(), value);
            }
        }
        values
    }

    fn priced(&self, text: &Text, payees: &[(&Paid, Payee)], settle: SettleMode) -> Result<Vec<Offer>, Box<Mistake>> {
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
                    settle,
                    sandbox: self.payees.sandbox(),
                });
            }
        }
        // Where nobody is paid in anything, that has been noted at `pay_to`.
        if offers.is_empty() && payees.iter().any(|(paid, _)| !paid.assets.is_empty()) {
            return Err(Box::new(no_offer(price, text, payees)));
        }
        Ok(offers)
    }
}

/// An account that is paid for one route; remembered, because its key must not be ours (S59).
fn collector(address: &Text, collected: &mut Whose, mistakes: &mut Mistakes) -> Option<Payee> {
    let payee = Payee(account(address, mistakes)?);
    collected.0.entry(payee).or_insert(address.span);
    Some(payee)
}

fn suggest_word(text: &Text, mistake: Box<Mistake>) -> Box<Mistake> {
    match nearest(&text.text, ["free", "deny"]) {
        Some(word) if word == &*text.text => Box::new(
            Mistake::error(&codes::PRICE, text.span, format!("`{word}` is about every network, not one of them"))
                .help(format!("write price: {word}, or leave this network out")),
        ),
        Some(near) if mistake.code == &codes::PRICE => Box::new(mistake.label(format!("did you mean `{near}`?"))),
        _ => mistake,
    }
}

fn no_offer(price: Price<'_>, text: &Text, payees: &[(&Paid, Payee)]) -> Mistake {
    let symbols = || payees.iter().flat_map(|(paid, _)| &paid.assets).map(|asset| &*asset.symbol);
    let mistake = |message: String| Mistake::error(&codes::NO_OFFER, text.span, message);
    match price {
        Price::Dollars(amount) => mistake(String::from("none of the assets you are paid in is pegged to the dollar"))
            .help(format!("write {}", either_of(symbols().map(|symbol| format!("{amount} {symbol}"))))),
        Price::Token { amount, symbol } => {
            let mistake = mistake(format!("nobody is paid in `{symbol}`"));
            match nearest(symbol, symbols()) {
                Some(near) => mistake.label(format!("did you mean `{near}`?")),
                None => mistake.help(format!("write ${amount}, or a price in {}", either(symbols()))),
            }
        }
    }
}

fn either_of(texts: impl Iterator<Item = String>) -> String {
    let texts: Vec<_> = texts.collect();
    either(texts.iter().map(String::as_str))
}
