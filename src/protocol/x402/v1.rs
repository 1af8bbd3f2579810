//! v1: the payment in `X-PAYMENT`, the challenge in the body.

use super::wire;
use crate::payment::{Chosen, ChosenNetwork, Offer, Resource};
use crate::primitives::TransferMethod;
use crate::protocol::Quoted;
use crate::protocol::json::{self, Fault, Object};

/// The client's word; v1 knows only scheme and network.
pub(super) fn chosen(envelope: &Object<'_>) -> Result<Chosen, Fault> {
    Ok(Chosen {
        scheme: envelope.text("scheme")?.to_owned(),
        network: ChosenNetwork::Name(envelope.text("network")?.to_owned()),
        terms: None,
        resource_url: None,
    })
}

/// The body of a 402. Offers on chains without a v1 name are left out: v1 clients throw on the first entry they
/// cannot parse, and one exotic offer would hide all good ones (protocol digest, A6). So are those that take Permit2:
/// v1 clients do not look at `assetTransferMethod` and would sign what the token does not take.
pub(super) fn challenge(error: &str, resource: &Resource, offers: &[Quoted<'_>]) -> Vec<u8> {
    let takes = |offer: &Offer| offer.network.v1_name.is_some() && offer.asset.method == TransferMethod::Eip3009;
    let named = offers.iter().filter(|quoted| takes(quoted.offer));
    let accepts = named.map(|quoted| wire::RequirementsV1::new(quoted.offer, resource)).collect();
    json::write(&wire::ChallengeV1::new(error, accepts))
}
