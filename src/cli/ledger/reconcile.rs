//! `tollhouse ledger reconcile`: the ledger against the chain, both ways.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::super::words::{explain, when};
use super::super::{Shape, Verdict};
use super::list::each;
use super::{Ended, Place, chain};
use crate::facilitator::chain::{Chain, Found, Spent, Transfer};
use crate::ledger::{Archive, Entry, Filter, State};
use crate::payment::{Offer, PaymentKey, TransactionHash};
use crate::primitives::{Address, AtomicAmount, Caip2, Clock, Payee, SystemClock, Timestamp};
use crate::tariff::Charge;

/// How long before it settles a payment may have been presented first: its hold, its window, and a slow settlement.
const EARLIER: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, Args)]
pub(super) struct Reconcile {
    /// Settlements from this moment on: `2026-11-22`, `2026-11-22T13:05:00Z`, or `24h` for a day ago
    #[arg(long, value_name = "WHEN", value_parser = when)]
    from: Timestamp,
    /// Settlements before this moment [default: five minutes ago, so that nothing is still under way]
    #[arg(long, value_name = "WHEN", value_parser = when)]
    to: Option<Timestamp>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    place: Place,
}

/// Something that one side knows and the other does not.
struct Difference {
    what: &'static str,
    payment: Option<PaymentKey>,
    network: Caip2,
    transaction: Option<TransactionHash>,
    payer: Address,
    amount: AtomicAmount,
    detail: String,
}

/// What one transfer looks like from the ledger.
type Sight = (TransactionHash, Address, AtomicAmount);

impl Reconcile {
    pub(super) async fn run(self) -> Ended {
        let to = self.to.unwrap_or_else(|| Timestamp::from_secs(SystemClock.now().as_secs().saturating_sub(300)));
        let archive = self.place.look().await?;
        let entries = remembered(&archive, self.from, to).await?;
        let mut accounts = self.accounts()?;
        accounts.extend(entries.iter().map(|(_, entry)| Account::of(&entry.sale.payment.offer)));
        if accounts.is_empty() {
            talk!("nobody is paid on a chain");
        }
        let (mut differences, mut agreed) = (Vec::new(), 0);
        for account in accounts {
            let network = &account.network;
            let chain = chain::connect(&self.place, network)?
                .ok_or_else(|| format!("no node of {network} is configured, so its transfers cannot be looked up"))?;
            let transfers = chain.income(account.asset, account.payee, self.from, to).await;
            let transfers = transfers.map_err(|error| format!("{network}: {}", explain(&error)))?;
            let books = entries.iter().filter(|(_, entry)| Account::of(&entry.sale.payment.offer) == account);
            let look = Look { archive: &archive, chain: &chain, account: &account, from: self.from, to };
            agreed += look.compare(books, transfers, &mut differences).await?;
        }
        for difference in &differences {
            match self.format {
                Shape::Human => put!("{}", difference.line()),
                Shape::Json => put!("{}", difference.json()),
            }
        }
        talk!("{agreed} transfers agree, {} do not", differences.len());
        Ok(if differences.is_empty() { Verdict::Yes } else { Verdict::No })
    }

    /// Whom the configuration pays, wherever that is not play money.
    fn accounts(&self) -> Result<BTreeSet<Account>, String> {
        let Some(live) = self.place.live()? else { return Ok(BTreeSet::new()) };
        let tolls = live.tariff.routes().filter_map(|route| match &route.charge {
            Charge::Toll(toll) => Some(toll),
            Charge::Free | Charge::Deny => None,
        });
        Ok(tolls.flat_map(|toll| &toll.offers).filter(|offer| !offer.sandbox).map(Account::of).collect())
    }
}

/// Payments of real money that may have settled in this span.
async fn remembered(
    archive: &Arc<dyn Archive>,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<(PaymentKey, Entry)>, String> {
    let earlier = Timestamp::from_secs(from.as_secs().saturating_sub(EARLIER.as_secs()));
    let filter = Filter { from: Some(earlier), to: Some(to), ..Filter::default() };
    let mut entries = Vec::new();
    each(archive, filter, usize::MAX, |key, found| {
        if !found.entry.sale.payment.offer.sandbox {
            entries.push((key, found.entry));
        }
        Ok(())
    })
    .await?;
    Ok(entries)
}

/// Where money arrives.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Account {
    network: Caip2,
    asset: Address,
    payee: Address,
}

impl Account {
    fn of(offer: &Offer) -> Self {
        let Payee(payee) = offer.pay_to;
        Self { network: offer.network.id.clone(), asset: offer.asset.address, payee }
    }
}

/// One account, both sides of it.
struct Look<'a> {
    archive: &'a Arc<dyn Archive>,
    chain: &'a Chain,
    account: &'a Account,
    from: Timestamp,
    to: Timestamp,
}

impl Look<'_> {
    /// Returns how many transfers agree.
    async fn compare<'e>(
        &self,
        books: impl Iterator<Item = &'e (PaymentKey, Entry)>,
        transfers: Vec<Transfer>,
        differences: &mut Vec<Difference>,
    ) -> Result<u64, String> {
        let mut settled: HashMap<Sight, Vec<(PaymentKey, &Entry, Timestamp)>> = HashMap::new();
        for (key, entry) in books {
            // What the chain took back is named by its state.
            if let State::Settled { receipt, undone: None, .. } = &entry.state {
                let sight = (receipt.transaction, receipt.payer.0, receipt.amount);
                settled.entry(sight).or_default().push((*key, entry, receipt.settled_at));
            }
        }
        let mut agreed = 0;
        for transfer in transfers {
            let sight = (transfer.transaction, transfer.from, transfer.amount);
            if settled.get_mut(&sight).and_then(Vec::pop).is_some() {
                agreed += 1;
            } else {
                differences.push(self.not_in_the_books(&transfer).await?);
            }
        }
        for (key, entry, at) in settled.into_values().flatten().filter(|(_, _, at)| self.from <= *at && *at < self.to) {
            // It may have moved a little before or after the span that was asked for.
            match self.not_on_chain(key, entry, at).await? {
                Some(difference) => differences.push(difference),
                None => agreed += 1,
            }
        }
        Ok(agreed)
    }

    async fn not_in_the_books(&self, transfer: &Transfer) -> Result<Difference, String> {
        let moved = self.chain.moved_by(transfer.transaction, self.account.asset).await;
        let moved = moved.map_err(|error| explain(&error))?;
        let spent = moved
            .and_then(|moved| moved.transfers.into_iter().find(|other| other.log == transfer.log))
            .and_then(|found| found.spent);
        let (network, payer) = (&self.account.network, transfer.from);
        let key = spent.map(|spent| match spent {
            Spent::Eip3009(nonce) => PaymentKey::of_eip3009(network, self.account.asset, payer, nonce),
            Spent::Permit2(nonce) => PaymentKey::of_permit2(network, payer, nonce),
        });
        let entry = match key {
            Some(key) => self.archive.load(key).await.map_err(|error| explain(&error))?.map(|found| found.entry),
            None => None,
        };
        let (what, detail) = match (&entry, key) {
            (Some(entry), _) => ("moved on chain, not settled here", format!("the ledger says {}", entry.state.name())),
            (None, Some(_)) => ("moved on chain, not in the ledger", "by an authorization that is unknown here".into()),
            (None, None) => (
                "moved on chain, not in the ledger",
                "no authorization is seen to have moved it: a plain transfer, perhaps".into(),
            ),
        };
        Ok(Difference {
            what,
            payment: key.filter(|_| entry.is_some()),
            network: self.account.network.clone(),
            transaction: Some(transfer.transaction),
            payer: transfer.from,
            amount: transfer.amount,
            detail,
        })
    }

    async fn not_on_chain(&self, key: PaymentKey, entry: &Entry, at: Timestamp) -> Result<Option<Difference>, String> {
        let payment = &entry.sale.payment;
        let Some(transaction) = entry.transaction() else { return Ok(None) };
        let detail = match self.chain.transfer_in(transaction, payment).await.map_err(|error| explain(&error))? {
            Found::Yes { .. } | Found::Shallow { .. } => return Ok(None),
            Found::No(why) => why.to_string(),
            Found::NotYet => "no node knows the transaction".to_owned(),
        };
        Ok(Some(Difference {
            what: "settled here, not moved on chain",
            payment: Some(key),
            network: self.account.network.clone(),
            transaction: Some(transaction),
            payer: payment.payer().0,
            amount: payment.offer.amount,
            detail: format!("{detail}; settled {}", super::super::words::moment(at)),
        }))
    }
}

impl Difference {
    fn line(&self) -> String {
        let payment = self.payment.map(|key| format!("  payment {key}")).unwrap_or_default();
        let transaction = self.transaction.map(|hash| format!("  tx {hash}")).unwrap_or_default();
        format!(
            "{}: {} units from {} on {}{transaction}{payment}  ({})",
            self.what, self.amount, self.payer, self.network, self.detail
        )
    }

    fn json(&self) -> serde_json::Value {
        json!({
            "difference": self.what,
            "payment": self.payment.map(|key| key.to_string()),
            "network": self.network,
            "transaction": self.transaction,
            "payer": self.payer,
            "amount": self.amount,
            "detail": self.detail,
        })
    }
}
