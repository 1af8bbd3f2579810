//! Whom to ask, in order of preference, and whom we asked before the last reload.

use std::sync::Arc;

use arc_swap::ArcSwap;

use super::{Facilitator, VerifyError};
use crate::payment::{Dialect, Offer, Payment};

/// How many removed facilitators stay known, so that reloading for years does not grow the process (I7).
const RETIRED_LIMIT: usize = 32;

/// The facilitators of the current configuration, and those of earlier ones for reconciliation.
///
/// A name is an identity: the ledger remembers it, and only the facilitator that was asked to settle a payment is
/// ever asked about it again (S13). Another facilitator needs another name.
pub struct Pool {
    members: ArcSwap<Members>,
}

#[derive(Default)]
struct Members {
    active: Vec<Arc<dyn Facilitator>>,
    /// Removed by a reload, the latest first.
    retired: Vec<Arc<dyn Facilitator>>,
}

impl Pool {
    /// A pool of these, the preferred one first.
    pub fn new(facilitators: Vec<Arc<dyn Facilitator>>) -> Self {
        Self { members: ArcSwap::from_pointee(Members { active: facilitators, retired: Vec::new() }) }
    }

    /// Those that can settle this offer in this dialect, the preferred one first.
    pub fn candidates(&self, offer: &Offer, dialect: Dialect) -> Vec<Arc<dyn Facilitator>> {
        let members = self.members.load();
        members.active.iter().filter(|one| takes(one, offer, dialect)).cloned().collect()
    }

    /// What those that could settle this payment say without asking anybody, and who says it. `None` when one of them
    /// would ask, or there is none. The first that refuses decides, as if it had been asked.
    pub fn foresee(&self, payment: &Payment) -> Option<(Arc<dyn Facilitator>, VerifyError)> {
        let members = self.members.load();
        let mut foreseen = None;
        for facilitator in members.active.iter().filter(|one| takes(one, &payment.offer, payment.dialect)) {
            let said = facilitator.foresee(payment)?;
            let decides = matches!(said, VerifyError::Declined(_));
            foreseen = Some((Arc::clone(facilitator), said));
            if decides {
                break;
            }
        }
        foreseen
    }

    /// Whether anybody can settle this offer. One that nobody can settle is not worth making.
    pub fn can_settle(&self, offer: &Offer) -> bool {
        let in_any_dialect = |one| takes(one, offer, Dialect::V2) || takes(one, offer, Dialect::V1);
        self.members.load().active.iter().any(in_any_dialect)
    }

    /// The one with this name, also when a reload has removed it since.
    pub fn named(&self, name: &str) -> Option<Arc<dyn Facilitator>> {
        let members = self.members.load();
        members.active.iter().chain(&members.retired).find(|facilitator| facilitator.name() == name).cloned()
    }

    /// Those of the current configuration, the preferred one first.
    pub fn active(&self) -> Vec<Arc<dyn Facilitator>> {
        self.members.load().active.clone()
    }

    /// Posts the facilitators of a new configuration. Removed ones get no new payments but stay known by name.
    pub fn replace(&self, facilitators: Vec<Arc<dyn Facilitator>>) {
        self.members.rcu(|before| {
            let mut retired: Vec<Arc<dyn Facilitator>> = Vec::new();
            for candidate in before.active.iter().chain(&before.retired) {
                let known = |other: &Arc<dyn Facilitator>| other.name() == candidate.name();
                if retired.len() < RETIRED_LIMIT && !facilitators.iter().any(known) && !retired.iter().any(known) {
                    retired.push(candidate.clone());
                }
            }
            Members { active: facilitators.clone(), retired }
        });
    }
}

/// Whether a new payment for this offer is taken by this facilitator: it can be settled, and not at a loss (S31).
fn takes(one: &Arc<dyn Facilitator>, offer: &Offer, dialect: Dialect) -> bool {
    one.accepts(offer, dialect) && one.pays_off(offer)
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members = self.members.load();
        let names = |list: &[Arc<dyn Facilitator>]| list.iter().map(|one| one.name().to_owned()).collect::<Vec<_>>();
        f.debug_struct("Pool")
            .field("active", &names(&members.active))
            .field("retired", &names(&members.retired))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::*;
    use crate::facilitator::{BoxError, Decline, Outcome, Prepared, SettleError, Unresolved};
    use crate::payment::Receipt;
    use crate::testing::vectors::eip3009_base_sepolia;

    /// What somebody says who is not asked.
    #[derive(Clone, Copy, PartialEq)]
    enum Says {
        Nothing,
        TooMany,
        TooLittle,
    }

    #[async_trait]
    impl Facilitator for Says {
        fn name(&self) -> &str {
            match self {
                Self::Nothing => "free",
                Self::TooMany => "busy",
                Self::TooLittle => "knowing",
            }
        }

        fn accepts(&self, _: &Offer, _: Dialect) -> bool {
            true
        }

        fn settle_timeout(&self) -> Duration {
            Duration::ZERO
        }

        async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
            self.foresee(payment).map_or(Ok(()), Err)
        }

        fn foresee(&self, _: &Payment) -> Option<VerifyError> {
            match self {
                Self::Nothing => None,
                Self::TooMany => Some(VerifyError::Unavailable("too many strangers".into())),
                Self::TooLittle => Some(VerifyError::Declined(Decline { code: "insufficient_funds".into() })),
            }
        }

        async fn prepare(&self, _: &Payment) -> Result<Prepared, SettleError> {
            Ok(Prepared { transaction: None, raw: None })
        }

        async fn submit(&self, _: &Payment, _: Prepared) -> Result<Receipt, SettleError> {
            Err(SettleError::NotSent("nothing is settled here".into()))
        }

        async fn outcome(&self, _: &Unresolved) -> Outcome {
            Outcome::Unknown { transaction: None, source: BoxError::from("nothing is settled here") }
        }

        fn is_up(&self) -> bool {
            true
        }
    }

    #[test]
    fn s32_a_payment_is_turned_away_only_where_nobody_would_be_asked_about_it() {
        use Says::{Nothing, TooLittle, TooMany};
        let foreseen = |members: &[Says]| {
            let pool = Pool::new(members.iter().map(|says| Arc::new(*says) as Arc<dyn Facilitator>).collect());
            pool.foresee(&eip3009_base_sepolia()).map(|(by, said)| (by.name().to_owned(), said.decline().is_some()))
        };
        let by = |name: &str, declined| Some((name.to_owned(), declined));
        assert_eq!(foreseen(&[]), None);
        assert_eq!(foreseen(&[TooMany]), by("busy", false));
        assert_eq!(foreseen(&[TooMany, Nothing]), None, "the next one is asked");
        assert_eq!(foreseen(&[TooMany, TooLittle]), by("knowing", true));
        assert_eq!(foreseen(&[TooLittle, Nothing]), by("knowing", true), "the first that refuses decides");
        assert_eq!(foreseen(&[Nothing, TooLittle]), None);
    }
}
