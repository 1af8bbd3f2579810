//! A payment that is no good as a new one, but may be one we took.
//!
//! Its time may have run out or its price may have changed since it was settled. To answer 402 then would ask for
//! a second payment (I4), so before such a refusal goes out the ledger is asked. Only after the signature has been
//! checked: nothing about the ledger is disclosed to a stranger (S33, S69).

use std::sync::Arc;

use crate::ledger::{Claim, Entry, Keyed, Sale, State};
use crate::payment::{Authorization, Chosen, ChosenNetwork, Credential, Dialect, PaymentKey};
use crate::scheme;

use super::lifecycle::{bought_before, check_signature, wallet_signature};
use super::{Admission, Gate, Refusal, Visit};

/// A credential that cannot be taken as a new payment, and why.
pub(super) struct Unpayable {
    pub(super) refusal: Refusal,
    pub(super) credential: Credential,
}

/// What the payment still opens if we took it before; else its refusal.
pub(super) async fn recall(gate: &Gate, visit: &Visit<'_>, unpayable: Unpayable) -> Result<Admission, Refusal> {
    let Unpayable { refusal, credential } = unpayable;
    if matches!(refusal, Refusal::Mismatch(_, mismatch) if mismatch.is_unsigned()) {
        return Err(refusal);
    }
    let Some(entry) = remembered(gate, visit, &credential).await? else { return Err(refusal) };
    let sale = represented(gate, visit, &credential, &entry);
    open(gate, visit, credential.dialect, &entry.state, Arc::new(sale).into(), refusal).await
}

/// What a good payment still opens if we took it before, where no new one is taken; else the refusal.
pub(super) async fn reopen(
    gate: &Gate,
    visit: &Visit<'_>,
    presented: Keyed,
    refusal: Refusal,
) -> Result<Admission, Refusal> {
    let dialect = presented.sale().payment.dialect;
    match load(gate, dialect, presented.key()).await? {
        Some(entry) => open(gate, visit, dialect, &entry.state, presented, refusal).await,
        None => Err(refusal),
    }
}

/// What a payment in this state still opens.
async fn open(
    gate: &Gate,
    visit: &Visit<'_>,
    dialect: Dialect,
    state: &State,
    presented: Keyed,
    refusal: Refusal,
) -> Result<Admission, Refusal> {
    match *state {
        // It is being served at this moment, perhaps for longer than it may still be presented anew.
        State::Reserved { until } if gate.clock.now() < until => return Err(Refusal::InFlight { dialect, until }),
        State::Exhausted => return Err(Refusal::Exhausted(dialect)),
        State::Released => return Err(refusal),
        // The holder of a hold that lapsed may only be late, and about to settle. It is taken over below, so that what
        // we refuse here cannot be charged for any more (I4).
        State::Reserved { .. } | State::Settling { .. } | State::Settled { .. } => {}
    }
    let claim = gate.ledger.claim(presented, visit.toll.hold, visit.toll.replay).await;
    let claim = claim.map_err(|error| Refusal::ledger(Some(dialect), &error))?;
    match claim {
        Claim::Granted(lease) => {
            lease.release().await;
            Err(refusal)
        }
        known => bought_before(gate, visit, dialect, known),
    }
}

/// The entry of this payment, if the presenter holds its signature.
async fn remembered(gate: &Gate, visit: &Visit<'_>, credential: &Credential) -> Result<Option<Entry>, Refusal> {
    let mut seen = Vec::new();
    // One look for each asset the client may mean, so that a refusal never costs more than a few recoveries.
    for offer in visit.toll.offers.iter().filter(|offer| scheme::same_asset(offer, &credential.chosen)) {
        let key = PaymentKey::of(&offer.network.id, offer.asset.address, &credential.authorization);
        let proven = check_signature(gate, key, offer, &credential.authorization).is_ok();
        let may_be_wallets = || wallet_signature(gate, offer, &credential.authorization).is_some();
        if seen.contains(&key) || !proven && !may_be_wallets() {
            continue;
        }
        seen.push(key);
        let entry = load(gate, credential.dialect, key).await?;
        // A wallet is not asked again: whoever has the signature that it accepted holds what we took.
        if let Some(entry) = entry.filter(|entry| proven || is_of(entry, &credential.authorization)) {
            return Ok(Some(entry));
        }
    }
    if seen.is_empty() { withdrawn(gate, credential).await } else { Ok(None) }
}

/// The entry of a payment in an asset that the route no longer takes. Only the ledger still knows the token's name,
/// which the signature depends on, so here it is read first; what it says stays here unless the signature fits.
async fn withdrawn(gate: &Gate, credential: &Credential) -> Result<Option<Entry>, Refusal> {
    let Chosen { network: ChosenNetwork::Caip2(network), terms: Some(terms), .. } = &credential.chosen else {
        return Ok(None);
    };
    let key = PaymentKey::of(network, terms.asset, &credential.authorization);
    let entry = load(gate, credential.dialect, key).await?;
    let signed = |entry: &Entry| {
        is_of(entry, &credential.authorization)
            || check_signature(gate, key, &entry.sale.payment.offer, &credential.authorization).is_ok()
    };
    Ok(entry.filter(signed))
}

/// Whether the ledger holds this very authorization, signature and all. It was proven when it was taken.
pub(super) fn is_of(entry: &Entry, authorization: &Authorization) -> bool {
    entry.sale.payment.authorization == *authorization
}

pub(super) async fn load(gate: &Gate, dialect: Dialect, key: PaymentKey) -> Result<Option<Entry>, Refusal> {
    let stored = gate.ledger.store().load(key).await;
    let stored = stored.map_err(|error| Refusal::ledger(Some(dialect), &error))?;
    Ok(stored.map(|versioned| versioned.entry))
}

/// The sale of the entry as this request presents it: same payment, this request's line, this request's quote.
fn represented(gate: &Gate, visit: &Visit<'_>, credential: &Credential, entry: &Entry) -> Sale {
    let quote = credential.chosen.terms.as_ref().and_then(|terms| {
        let text = terms.quote.as_deref()?;
        gate.quotes.check(text, &visit.route.key.0, &entry.sale.payment.offer)
    });
    Sale {
        request: visit.digest(),
        request_line: visit.line(),
        route: Arc::clone(&visit.route.key.0),
        quote: quote.map(|quote| quote.digest),
        redeemable: entry.sale.redeemable,
        payment: entry.sale.payment.clone(),
    }
}
