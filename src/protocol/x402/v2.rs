//! v2: the payment in `PAYMENT-SIGNATURE`, the challenge in `PAYMENT-REQUIRED`.

use super::wire;
use crate::payment::{Chosen, ChosenNetwork, ChosenTerms, Resource};
use crate::protocol::Quoted;
use crate::protocol::json::{self, Fault, Object};

/// The client's word: a copy of the offer it accepts. Fields we do not know are ignored, there as in `extra`,
/// `resource` and `extensions`.
pub(super) fn chosen(envelope: &Object<'_>) -> Result<Chosen, Fault> {
    let accepted = envelope.object("accepted")?;
    let network = accepted.text("network")?.parse().map_err(|_| Fault::new("network is not a CAIP-2 identifier"))?;
    let quote = match accepted.optional_object("extra")? {
        Some(extra) => extra.optional_text("quote")?.map(str::to_owned),
        None => None,
    };
    let resource_url = match envelope.optional_object("resource")? {
        Some(resource) => resource.optional_text("url")?.map(str::to_owned),
        None => None,
    };
    Ok(Chosen {
        scheme: accepted.text("scheme")?.to_owned(),
        network: ChosenNetwork::Caip2(network),
        terms: Some(ChosenTerms {
            amount: accepted.amount("amount")?,
            asset: accepted.address("asset")?,
            pay_to: accepted.address("payTo")?,
            quote,
        }),
        resource_url,
    })
}

/// What `PAYMENT-REQUIRED` holds in base64: every offer, in our order of preference.
pub(super) fn challenge(error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> Vec<u8> {
    let accepts = offers.iter().map(|quoted| wire::RequirementsV2::new(quoted.offer, quoted.quote.as_deref()));
    let challenge = wire::ChallengeV2::new(error, resource, accepts.collect());
    json::write(&challenge)
}
