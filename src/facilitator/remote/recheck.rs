//! What the chain says about settlements that were declined (S16).

use futures_util::future::join_all;

use super::Witness;
use crate::facilitator::chain::{Never, Unused, Verdict};
use crate::facilitator::{BoxError, Decline, Standing, Unresolved};
use crate::payment::{Payment, Receipt, TransactionHash};
use crate::primitives::Caip2;

/// Why nobody can tell about one of many payments that were asked about together.
#[derive(Debug, thiserror::Error)]
#[error("our own node could not be asked: {0}")]
struct NotTold(String);

/// Where each of them stands, in their order; `receipt` says what a transaction paid.
pub(super) async fn recheck(
    witness: &dyn Witness,
    declined: &[Unresolved],
    receipt: impl Fn(&Payment, TransactionHash) -> Receipt,
) -> Vec<Standing> {
    let mut standings: Vec<Standing> = declined.iter().map(|_| Standing::Stands).collect();
    for network in networks(declined).into_iter().filter(|network| witness.watches(network)) {
        let here: Vec<usize> =
            (0..declined.len()).filter(|at| declined[*at].payment.offer.network.id == *network).collect();
        let payments: Vec<&Payment> = here.iter().map(|at| &declined[*at].payment).collect();
        let unused = witness.unused(network, &payments).await.and_then(|unused| match unused.len() == here.len() {
            true => Ok(unused),
            false => Err("another number of payments".into()),
        });
        match unused {
            Ok(unused) => {
                // All at once: one search may take half a minute, and whoever waits does not wait for each in turn.
                let searches =
                    here.iter().zip(unused).map(|(at, unused)| standing(witness, &declined[*at], unused, &receipt));
                for (at, standing) in here.iter().zip(join_all(searches).await) {
                    standings[*at] = standing;
                }
            }
            Err(error) => {
                here.into_iter().for_each(|at| standings[at] = Standing::Unclear(not_told(&error)));
            }
        }
    }
    standings
}

async fn standing(
    witness: &dyn Witness,
    declined: &Unresolved,
    unused: Unused,
    receipt: &impl Fn(&Payment, TransactionHash) -> Receipt,
) -> Standing {
    let Unresolved { payment, reserved_at, .. } = declined;
    let dead = |never: Never| Standing::Dead(Decline { code: never.code(payment.authorization.method()).to_owned() });
    match unused {
        Unused::Yet => Standing::Open,
        Unused::ForGood => dead(Never::Lapsed),
        Unused::Perhaps => match witness.settlement(payment, *reserved_at).await {
            Verdict::Settled { transaction, block, .. } => {
                Standing::Moved(receipt(payment, transaction).in_block(block))
            }
            Verdict::Never(never) => dead(never),
            Verdict::CannotTell(source) => Standing::Unclear(source),
        },
    }
}

/// Each once.
fn networks(declined: &[Unresolved]) -> Vec<&Caip2> {
    let mut networks: Vec<&Caip2> = declined.iter().map(|declined| &declined.payment.offer.network.id).collect();
    networks.sort_unstable();
    networks.dedup();
    networks
}

fn not_told(error: &BoxError) -> BoxError {
    NotTold(error.to_string()).into()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;

    use super::super::Witnessed;
    use super::*;
    use crate::facilitator::Means;
    use crate::primitives::Timestamp;
    use crate::testing::sales::{receipt, sale};

    /// Has to search for each payment, and takes as long as a search may.
    struct Slow;

    #[async_trait]
    impl Witness for Slow {
        fn watches(&self, _: &Caip2) -> bool {
            true
        }

        async fn witnessed(&self, _: &Payment, _: TransactionHash) -> Result<Witnessed, BoxError> {
            Err("nobody asks".into())
        }

        async fn settlement(&self, payment: &Payment, _: Timestamp) -> Verdict {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let transaction = receipt(&sale(1), Timestamp::EPOCH).transaction;
            match *payment == sale(1).payment {
                true => Verdict::Settled { transaction, block: 1, at: Timestamp::EPOCH },
                false => Verdict::Never(Never::Cancelled),
            }
        }

        async fn unused(&self, _: &Caip2, payments: &[&Payment]) -> Result<Vec<Unused>, BoxError> {
            Ok(vec![Unused::Perhaps; payments.len()])
        }

        async fn means(&self, _: &Payment) -> Result<Means, BoxError> {
            Err("nobody asks".into())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn s16_one_search_does_not_wait_for_another() {
        let declined: Vec<Unresolved> = (0..64)
            .map(|number| Unresolved {
                payment: sale(number).payment,
                transaction: None,
                reserved_at: Timestamp::EPOCH,
                since: Timestamp::EPOCH,
            })
            .collect();
        let paid = |_: &Payment, _| receipt(&sale(1), Timestamp::EPOCH);
        let looked = tokio::time::timeout(Duration::from_secs(60), recheck(&Slow, &declined, paid)).await;
        let standings = looked.expect("nobody waits for longer than that");
        for (number, standing) in standings.iter().enumerate() {
            match number {
                1 => assert!(matches!(standing, Standing::Moved(_)), "{standing:?}"),
                _ => assert!(matches!(standing, Standing::Dead(_)), "{standing:?}"),
            }
        }
    }
}
