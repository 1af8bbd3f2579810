//! The limits of a route, held against a payment that no other request holds: only from here on does it count.
//!
//! An authorization is public once it has settled, and anybody may present it. What is spent, repeated or held by another
//! request gets no further than the ledger, and so uses nothing of its payer's share and nothing of the route's.

use super::{Admission, Reserved};
use crate::gate::{Refusal, Visit};
use crate::payment::SettleMode;

impl Reserved<'_> {
    /// Counts the request as its payer's, before anybody is asked about the payment. Where it settles at once, as the
    /// route's, too: afterwards it would be paid for. Whoever has to wait is not charged.
    pub(in crate::gate) async fn hold_to_limits(self) -> Result<Self, Refusal> {
        let payment = &self.lease.sale().payment;
        let counted = self.visit.count_payer(payment).and_then(|()| match self.visit.settle_mode() {
            SettleMode::BeforeForward => self.visit.count_forwarded(payment),
            SettleMode::OnResponse => Ok(()),
        });
        match counted {
            Ok(()) => Ok(self),
            Err(refusal) => {
                self.lease.release().await;
                Err(refusal)
            }
        }
    }
}

/// Counts a request as the route's once its payment is confirmed: whoever signs without money takes nothing from those
/// who have some.
pub(in crate::gate) async fn hold_to_limits(visit: &Visit<'_>, admission: Admission) -> Result<Admission, Refusal> {
    let Admission::Confirmed(confirmed) = admission else { return Ok(admission) };
    match visit.count_forwarded(confirmed.payment()) {
        Ok(()) => Ok(Admission::Confirmed(confirmed)),
        Err(refusal) => {
            confirmed.release().await;
            Err(refusal)
        }
    }
}
