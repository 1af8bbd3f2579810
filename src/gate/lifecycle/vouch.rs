//! Unjudged → Proven: the payer's wallet is asked whether it accepts the signature, before the payment holds anything.

use super::{Candidate, Proven, Unjudged};
use crate::facilitator::wallets::{Unvouched, Vouched};
use crate::gate::known::{is_of, load};
use crate::gate::{Event, Gate, Refusal};
use crate::payment::Payment;
use crate::primitives::explain;
use crate::scheme::{Mismatch, WalletSignature};

impl<'a> Unjudged<'a> {
    /// Has somebody ask the wallet. What a wallet said yes to when we took it needs no other answer: its owners may have
    /// changed since, and what was bought stays bought.
    pub(in crate::gate) async fn vouched(self, gate: &Gate) -> Result<Proven<'a>, Refusal> {
        let Self { visit, signatures, credential } = self;
        let mut refusal = Refusal::Mismatch(credential.dialect, Mismatch::Signature);
        for (Candidate { offer, quote }, presented) in signatures {
            if let Some(screened) = visit.screening.spoil(&offer, credential.dialect) {
                return Err(gate.screened(visit, screened, Some(credential.authorization.payer())));
            }
            let payment = Payment {
                offer,
                authorization: credential.authorization.clone(),
                dialect: credential.dialect,
                resource: visit.resource(),
            };
            let key = payment.key();
            let proven = |payment, confirmed_by| Proven { visit, payment, key, quote, confirmed_by };
            // What it says stays here unless it holds this very signature (S69).
            let taken = load(gate, payment.dialect, key).await?;
            if taken.is_some_and(|entry| is_of(&entry, &payment.authorization)) {
                return Ok(proven(payment, None));
            }
            match ask(gate, &presented, &payment).await {
                Ok(Vouched::BySignature) => return Ok(proven(payment, None)),
                Ok(Vouched::ByVerifying(facilitator)) => return Ok(proven(payment, Some(facilitator))),
                Err(unvouched) => refusal = refused(gate, &payment, unvouched),
            }
        }
        Err(refusal)
    }
}

async fn ask(gate: &Gate, presented: &WalletSignature, payment: &Payment) -> Result<Vouched, Unvouched> {
    let facilitators = gate.pool.candidates(&payment.offer, payment.dialect);
    let answer = gate.wallets().ask(presented, payment, &facilitators, gate.clock.now()).await;
    let network = payment.offer.network.id.clone();
    gate.observe(&Event::WalletAsked { network, outcome: word(&answer) });
    answer
}

/// What the client hears.
fn refused(gate: &Gate, payment: &Payment, unvouched: Unvouched) -> Refusal {
    let dialect = payment.dialect;
    match unvouched {
        Unvouched::Refused => Refusal::Mismatch(dialect, Mismatch::Signature),
        Unvouched::Factory => Refusal::Mismatch(dialect, Mismatch::Factory),
        // Money may have moved, to us perhaps, so nobody is asked for more (I4).
        Unvouched::Declined(decline) if decline.nonce_used() => Refusal::Spent { dialect, receipt: None },
        Unvouched::Declined(decline) => Refusal::Declined { dialect, code: decline.code, settlement: None },
        Unvouched::BeingAsked => Refusal::InFlight { dialect, until: gate.clock.now() },
        Unvouched::Busy => Refusal::Unvouched(dialect),
        Unvouched::Unavailable(cause) => {
            tracing::warn!(payment = %payment.key(), cause = %explain(&*cause), "a contract wallet could not be asked");
            Refusal::Unvouched(dialect)
        }
    }
}

const fn word(answer: &Result<Vouched, Unvouched>) -> &'static str {
    match answer {
        Ok(_) => "accepted",
        Err(Unvouched::Refused | Unvouched::Declined(_)) => "refused",
        Err(Unvouched::Factory) => "factory",
        Err(Unvouched::BeingAsked | Unvouched::Busy) => "shed",
        Err(Unvouched::Unavailable(_)) => "unavailable",
    }
}
