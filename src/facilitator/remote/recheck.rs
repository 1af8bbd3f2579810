//! What the chain says about settlements that were declined (S16).

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
                for (at, unused) in here.into_iter().zip(unused) {
                    standings[at] = standing(witness, &declined[at], unused, &receipt).await;
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
    receipt: impl Fn(&Payment, TransactionHash) -> Receipt,
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
