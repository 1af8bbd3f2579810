//! `tollhouse ledger resolve`: a person knows how a settlement ended. The chain is asked first, where it can be.

use clap::{ArgGroup, Args};

use super::super::Verdict;
use super::super::words::explain;
use super::payment::Payment;
use super::{Ended, Hand, Place, chain, known};
use crate::facilitator::chain::{Chain, Found, Verdict as OnChain};
use crate::gate::claims_of;
use crate::ledger::{Entry, FileError, State, Undone, Unsettled};
use crate::payment::{Receipt, TransactionHash};
use crate::primitives::{Clock, SystemClock};

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("finding").required(true).args(["settled", "not_settled"])))]
pub(super) struct Resolve {
    #[command(flatten)]
    payment: Payment,
    /// The money moved, in this transaction
    #[arg(long, value_name = "TX")]
    settled: Option<TransactionHash>,
    /// The money did not move and will not
    #[arg(long)]
    not_settled: bool,
    /// Believe it even though no node can be asked, or none can tell. What a node disproves is never believed
    #[arg(long)]
    unchecked: bool,
    #[command(flatten)]
    pub(super) hand: Hand,
    #[command(flatten)]
    place: Place,
}

/// What the chain says about a person's finding.
enum Check {
    /// It agrees; for a settlement, in this block.
    Agrees(Option<u64>),
    /// It says otherwise.
    Contradicts(String),
    /// It cannot be asked or cannot tell.
    Silent(String),
}

impl Resolve {
    pub(super) async fn run(self) -> Ended {
        let Some(key) = self.payment.find(&self.place).await? else { return Ok(Verdict::No) };
        let ledger = self.place.amend(self.hand.author()).await?;
        let Some(found) = known(key, ledger.store().load(key).await)? else { return Ok(Verdict::No) };
        let is_missed = matches!(found.entry.state, State::Settled { undone: Some(Undone::Missed { .. }), .. });
        if !is_missed && !matches!(found.entry.state, State::Settling { .. }) {
            talk!("nothing is unknown about this payment: it is {}", found.entry.state.name());
            return Ok(Verdict::No);
        }
        let block = match self.check(&found.entry).await? {
            Check::Agrees(block) => block,
            Check::Contradicts(why) => {
                talk!("not recorded: {why}");
                return Ok(Verdict::No);
            }
            Check::Silent(why) if self.unchecked => {
                talk!("recorded without a look at the chain: {why}");
                None
            }
            Check::Silent(why) => {
                talk!("not recorded, nobody can tell: {why}; --unchecked records it all the same");
                return Ok(Verdict::Unknown);
            }
        };
        let payment = found.entry.sale.payment.clone();
        let unsettled = Unsettled { key, version: found.version, entry: found.entry };
        let ended = match self.settled {
            Some(transaction) => {
                let receipt = Receipt { block, ..Receipt::of(&payment, transaction, SystemClock.now()) };
                let claims = claims_of(&payment, &receipt);
                ledger.file(unsettled, receipt, &claims).await
            }
            None => ledger.decline(unsettled, &self.hand.why).await.map_err(FileError::from),
        };
        match ended {
            Ok(Some(entry)) => {
                put!("{key} is {}", entry.state.name());
                Ok(Verdict::Yes)
            }
            Ok(None) | Err(FileError::Overtaken) => {
                talk!("somebody else found out meanwhile; see `tollhouse ledger show {key}`");
                Ok(Verdict::No)
            }
            Err(error @ FileError::ClaimedBy(_)) => {
                talk!("not recorded: {error}");
                Ok(Verdict::No)
            }
            Err(FileError::Store(error)) => Err(explain(&error)),
        }
    }

    async fn check(&self, entry: &Entry) -> Result<Check, String> {
        let network = &entry.sale.payment.offer.network;
        let Some(chain) = chain::connect(&self.place, &network.id)? else {
            return Ok(Check::Silent(format!("no node of {} is configured", network.name)));
        };
        Ok(match self.settled {
            Some(transaction) => settled(&chain, entry, transaction).await,
            None => not_settled(&chain, entry).await,
        })
    }
}

async fn settled(chain: &Chain, entry: &Entry, transaction: TransactionHash) -> Check {
    match chain.transfer_in(transaction, &entry.sale.payment).await {
        Ok(Found::Yes { block, .. }) => Check::Agrees(Some(block)),
        Ok(Found::Shallow { block, .. }) => Check::Silent(format!(
            "transaction {transaction} lies in block {block}, not yet as deep as `confirmations` asks"
        )),
        Ok(Found::No(why)) => Check::Contradicts(format!("{why}: {transaction}")),
        Ok(Found::NotYet) => Check::Silent(format!("no node knows transaction {transaction}")),
        Err(error) => Check::Silent(explain(&error)),
    }
}

async fn not_settled(chain: &Chain, entry: &Entry) -> Check {
    match chain.find_settlement(&entry.sale.payment, entry.created).await {
        OnChain::Never(_) => Check::Agrees(None),
        OnChain::Settled { transaction, .. } => {
            Check::Contradicts(format!("the money moved in {transaction}; resolve it with --settled {transaction}"))
        }
        OnChain::CannotTell(error) => Check::Silent(explain(&*error)),
    }
}
