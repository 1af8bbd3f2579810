//! Reserved → Confirmed, or with `before_forward` → Settled: whom to ask, and when nobody else may be asked any more.

use std::sync::Arc;

use tokio::time::{Instant, timeout, timeout_at};

use super::{Admission, Confirmed, Reserved, bought_before, reserve};
use crate::facilitator::{Facilitator, VerifyError};
use crate::gate::overdraft::Hold;
use crate::gate::{Event, Gate, Refusal, Visit};
use crate::ledger::{Claim, Keyed, Lease};
use crate::payment::{Payment, SettleMode};
use crate::primitives::{TransferMethod, explain};

impl Reserved<'_> {
    /// Asks whether the payment would settle. With `before_forward` it settles at once: settling is the proof.
    pub(in crate::gate) async fn confirm(self, gate: &Arc<Gate>) -> Result<Admission, Refusal> {
        let candidates = gate.pool.candidates(&self.payment().offer, self.payment().dialect);
        match self.visit.settle_mode() {
            SettleMode::OnResponse => self.verify(gate, candidates).await,
            SettleMode::BeforeForward => self.settle(gate, candidates).await,
        }
    }

    /// Whoever answers first, in the order of the file, decides: verifying moves nothing, so of those that do not
    /// answer any number may be asked.
    async fn verify(self, gate: &Arc<Gate>, candidates: Vec<Arc<dyn Facilitator>>) -> Result<Admission, Refusal> {
        let dialect = self.payment().dialect;
        let Self { visit, lease, attending, confirmed_by } = self;
        // However many are asked: the payment is held for no longer than its route allows the request.
        let deadline = Instant::now() + visit.route.limits.timeout;
        let hold = match hold_back(gate, visit, &lease, &candidates).await {
            Ok(hold) => hold,
            Err(refusal) => {
                lease.release().await;
                return Err(refusal);
            }
        };
        if let Some(facilitator) = confirmed_by {
            return Ok(Admission::Confirmed(Confirmed { lease, facilitator, hold, attending }));
        }
        for facilitator in candidates {
            let Ok(verdict) = timeout_at(deadline, facilitator.verify(&lease.sale().payment)).await else { break };
            match verdict {
                Ok(()) => return Ok(Admission::Confirmed(Confirmed { lease, facilitator, hold, attending })),
                // Somebody else may have submitted what the payer signed, after we took it: then it is paid (S18).
                Err(VerifyError::Declined(decline)) if decline.nonce_used() && facilitator.sees_chain() => {
                    let confirmed = Confirmed { lease, facilitator, hold, attending };
                    return gate.settled_by_others(confirmed).await.map(Admission::Settled);
                }
                // Nobody here can look. Money may have moved, to us perhaps, so nobody is asked for more (I4).
                Err(VerifyError::Declined(decline)) if decline.nonce_used() => {
                    lease.release().await;
                    return Err(Refusal::Spent { dialect, receipt: None });
                }
                Err(VerifyError::Declined(decline)) => {
                    gate.observe(&Event::Declined {
                        route: visit.route.key.clone(),
                        key: lease.key(),
                        code: decline.code.clone(),
                    });
                    lease.release().await;
                    return Err(Refusal::Declined { dialect, code: decline.code, settlement: None });
                }
                Err(VerifyError::Unavailable(cause)) => {
                    gate.doubt(lease.key(), &cause);
                    tracing::warn!(facilitator = facilitator.name(), cause = %explain(&*cause), "verify failed");
                }
            }
        }
        lease.release().await;
        Err(Refusal::FacilitatorUnavailable(Some(dialect)))
    }

    /// Settles at the first, in the order of the file, that something can be sent to. As soon as it is not certain
    /// that nothing was sent, nobody else is ever asked (S13).
    async fn settle(self, gate: &Arc<Gate>, candidates: Vec<Arc<dyn Facilitator>>) -> Result<Admission, Refusal> {
        let dialect = self.payment().dialect;
        let Self { visit, mut lease, attending, .. } = self;
        for (at, facilitator) in candidates.iter().enumerate() {
            let hold = match hold_back(gate, visit, &lease, &candidates).await {
                Ok(hold) => hold,
                Err(refusal) => {
                    lease.release().await;
                    return Err(refusal);
                }
            };
            let presented = Keyed::new(lease.key(), Arc::clone(lease.sale()));
            let (facilitator, attending) = (Arc::clone(facilitator), Arc::clone(&attending));
            let confirmed = Confirmed { lease, facilitator, hold, attending };
            match gate.settle(confirmed).await {
                // Of all refusals this one alone says that nothing was sent, and it is said only after the ledger has
                // let the payment go. So it is taken anew, like any payment, and the next one is asked.
                Err(Refusal::FacilitatorUnavailable(_)) if at + 1 < candidates.len() => {
                    match reserve(gate, visit, presented).await? {
                        Claim::Granted(granted) => lease = granted,
                        taken => return bought_before(gate, visit, dialect, taken),
                    }
                }
                ended => return ended.map(Admission::Settled),
            }
        }
        lease.release().await;
        Err(Refusal::FacilitatorUnavailable(Some(dialect)))
    }

    fn payment(&self) -> &Payment {
        &self.lease.sale().payment
    }
}

/// Counts what the payment draws on its payer, where that is not held by the signature itself (S36).
async fn hold_back(
    gate: &Gate,
    visit: &Visit<'_>,
    lease: &Lease,
    candidates: &[Arc<dyn Facilitator>],
) -> Result<Option<Hold>, Refusal> {
    let payment = &lease.sale().payment;
    match payment.authorization.method() {
        TransferMethod::Eip3009 => Ok(None),
        // Boxed: other payments need no room for it.
        TransferMethod::Permit2 => {
            let held =
                Box::pin(timeout(visit.route.limits.timeout, gate.hold_back(visit, lease.key(), payment, candidates)));
            held.await.unwrap_or(Err(Refusal::FacilitatorUnavailable(Some(payment.dialect)))).map(Some)
        }
    }
}
