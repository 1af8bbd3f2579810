//! `tollhouse ledger refunds` and `refund`: what is owed, and how it was paid back.

use clap::Args;

use super::super::words::{explain, moment};
use super::super::{Shape, Verdict};
use super::list::{each, json};
use super::payment::Payment;
use super::{Ended, Hand, Place, chain, known};
use crate::facilitator::chain::{Moved, Transfer};
use crate::ledger::{Entry, Filter, Refund, RefundError, State};
use crate::payment::TransactionHash;
use crate::primitives::Address;

#[derive(Debug, Args)]
pub(super) struct Refunds {
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

impl Refunds {
    pub(super) async fn run(self) -> Ended {
        let filter = Filter { state: Some("refund_due".into()), ..Filter::default() };
        let mut owed = 0;
        each(&self.place.look().await?, filter, usize::MAX, |key, found| {
            owed += 1;
            let offer = &found.entry.sale.payment.offer;
            match self.format {
                Shape::Human => put!(
                    "{}  {:>10}  {} units of {} on {}  to {}  for {}  {key}",
                    moment(found.entry.updated),
                    offer.price(),
                    offer.amount,
                    offer.asset.address,
                    offer.network.id,
                    found.entry.sale.payment.payer(),
                    found.entry.sale.route,
                ),
                Shape::Json => put!("{}", json(key, &found.entry)),
            }
            Ok(())
        })
        .await?;
        talk!("{owed} payments are owed; pay one back, then: tollhouse ledger refund PAYMENT --tx HASH --why TEXT");
        Ok(Verdict::Yes)
    }
}

#[derive(Debug, Args)]
pub(super) struct Record {
    #[command(flatten)]
    payment: Payment,
    /// The transaction that paid it back
    #[arg(long, value_name = "HASH")]
    tx: TransactionHash,
    /// The account it was paid back from, when that is not the one that was paid
    #[arg(long, value_name = "ADDRESS")]
    from: Option<Address>,
    #[command(flatten)]
    pub(super) hand: Hand,
    #[command(flatten)]
    place: Place,
}

impl Record {
    pub(super) async fn run(self) -> Ended {
        let Some(key) = self.payment.find(&self.place).await? else { return Ok(Verdict::No) };
        let ledger = self.place.amend(self.hand.author()).await?;
        let Some(found) = known(key, ledger.store().load(key).await)? else { return Ok(Verdict::No) };
        let offer = &found.entry.sale.payment.offer;
        let chain = chain::required(&self.place, &offer.network)?;
        let moved = chain.moved_by(self.tx, offer.asset.address).await.map_err(|error| explain(&error))?;
        let Some(moved) = moved else { return Err(format!("no node knows transaction {}", self.tx)) };
        let candidates = match self.repayments(&found.entry, &moved) {
            Ok(candidates) => candidates,
            Err(why) => {
                talk!("not recorded: {why}");
                return Ok(Verdict::No);
            }
        };
        // One transaction may pay several back; each of its transfers counts once.
        let mut refused = None;
        for transfer in candidates {
            let refund =
                Refund { transaction: self.tx, log: transfer.log, amount: transfer.amount, block: transfer.block };
            match ledger.refunded(key, refund).await {
                Ok(entry) => {
                    put!("{key} is {}", entry.state.name());
                    return Ok(Verdict::Yes);
                }
                Err(RefundError::Store(error)) => return Err(explain(&error)),
                Err(taken @ RefundError::ClaimedBy(_)) => refused = Some(taken),
                Err(other) => {
                    refused = Some(other);
                    break;
                }
            }
        }
        if let Some(why) = refused {
            talk!("not recorded: {why}");
        }
        Ok(Verdict::No)
    }

    /// The transfers that could have paid it back.
    fn repayments<'a>(&self, entry: &Entry, moved: &'a Moved) -> Result<Vec<&'a Transfer>, String> {
        let (offer, payer) = (&entry.sale.payment.offer, entry.sale.payment.payer().0);
        let from = self.from.unwrap_or(offer.pay_to.0);
        if let State::Settled { receipt, .. } = &entry.state
            && moved.at.as_secs() + SKEW < receipt.settled_at.as_secs()
        {
            return Err("the transaction is older than the payment".to_owned());
        }
        let back: Vec<_> = moved.transfers.iter().filter(|t| t.from == from && t.to == payer).collect();
        if back.is_empty() {
            return Err(format!("the transaction moves no {} from {from} to {payer}", offer.asset.symbol));
        }
        let enough: Vec<_> = back.into_iter().filter(|transfer| transfer.amount >= offer.amount).collect();
        if enough.is_empty() {
            return Err(format!("the transaction moves less than the {} units that were paid", offer.amount));
        }
        Ok(enough)
    }
}

/// How far our clock and a block's may be apart, in seconds (S29).
const SKEW: u64 = 60;
