//! `tollhouse ledger`: the payments that are remembered. Reads only.

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::words::{explain, moment};
use super::{ConfigFile, Shape, Verdict, block_on};
use crate::config::{self, Format};
use crate::ledger::{self, Entry, Filter, Postgres, Sqlite, State, Store};
use crate::payment::PaymentKey;
use crate::primitives::Payer;

#[derive(Debug, Args)]
pub(super) struct LedgerCommand {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// List payments, newest first
    List {
        /// Only this route, by its key: `GET /v1/weather`
        #[arg(long)]
        route: Option<String>,
        /// Only this payer
        #[arg(long)]
        payer: Option<alloy::primitives::Address>,
        /// Only this state: reserved, released, exhausted, settling, undelivered, delivering, partial, delivered, refund_due
        #[arg(long)]
        state: Option<String>,
        /// At most this many
        #[arg(long, default_value_t = 50)]
        limit: usize,
        #[command(flatten)]
        at: At,
    },
    /// Show all that is remembered of one payment
    Show {
        /// The payment, as `list` and `Tollhouse-Payment` name it
        key: PaymentKey,
        #[command(flatten)]
        at: At,
    },
}

/// Which ledger, and how the answer is written.
#[derive(Debug, Args)]
struct At {
    /// The ledger's file, when it is not the one of the configuration
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    /// How the answer is written
    #[arg(long, value_enum, default_value = "human")]
    format: Shape,
    #[command(flatten)]
    file: ConfigFile,
}

impl LedgerCommand {
    pub(super) fn execute(self) -> Verdict {
        block_on(async {
            match self.question.answer().await {
                Ok(verdict) => verdict,
                Err(why) => {
                    eprintln!("tollhouse: {why}");
                    Verdict::CouldNotFindOut
                }
            }
        })
    }
}

impl Question {
    async fn answer(self) -> Result<Verdict, String> {
        match self {
            Self::List { route, payer, state, limit, at } => {
                let filter = Filter { route, payer: payer.map(Payer), state, limit, ..Filter::default() };
                let page = at.open().await?.list(&filter).await.map_err(|error| explain(&error))?;
                for (key, found) in &page {
                    match at.format {
                        Shape::Human => println!("{}", line(*key, &found.entry)),
                        Shape::Json => println!("{}", json(*key, &found.entry)),
                    }
                }
                if page.is_empty() {
                    eprintln!("no payment fits");
                }
                Ok(Verdict::Yes)
            }
            Self::Show { key, at } => {
                let found = at.open().await?.load(key).await.map_err(|error| explain(&error))?;
                let Some(found) = found else {
                    eprintln!("the ledger knows no payment {key}");
                    return Ok(Verdict::No);
                };
                match at.format {
                    Shape::Human => print!("{}", page(key, &found.entry)),
                    Shape::Json => println!("{}", json(key, &found.entry)),
                }
                Ok(Verdict::Yes)
            }
        }
    }
}

impl At {
    async fn open(&self) -> Result<Arc<dyn Store>, String> {
        let path = match &self.ledger {
            Some(path) => path.clone(),
            None => match self.configured()? {
                ledger::Config::Sqlite { path, .. } => path,
                ledger::Config::Postgres { url } => {
                    return Ok(Arc::new(Postgres::inspect(&url).await.map_err(|error| explain(&error))?));
                }
                ledger::Config::Memory => {
                    let file = self.file.path();
                    return Err(format!("{} keeps its ledger in memory: it is gone with the process", file.display()));
                }
            },
        };
        Ok(Arc::new(Sqlite::inspect(&path).map_err(|error| explain(&error))?))
    }

    fn configured(&self) -> Result<ledger::Config, String> {
        let loaded = config::load(&self.file.path());
        let Some(config) = loaded.config else { return Err(loaded.report.render(Format::Short, false)) };
        Ok(config.boot.ledger)
    }
}

fn line(key: PaymentKey, entry: &Entry) -> String {
    let offer = &entry.sale.payment.offer;
    let short: String = key.to_string().chars().take(16).collect();
    format!(
        "{}  {short}…  {:<12} {:>10} {:<14} {}  {}",
        moment(entry.created),
        entry.state.name(),
        offer.price(),
        offer.network.name,
        entry.sale.payment.payer(),
        entry.sale.route
    )
}

/// No signature leaves the ledger this way (I8).
fn page(key: PaymentKey, entry: &Entry) -> String {
    let sale = &entry.sale;
    let offer = &sale.payment.offer;
    let mut rows = vec![
        ("payment", key.to_string()),
        ("state", entry.state.name().to_owned()),
        ("route", sale.route.clone()),
        ("request", sale.request_line.clone()),
        ("price", format!("{} ({} {} units)", offer.price(), offer.amount, offer.asset.symbol)),
        ("network", format!("{} ({})", offer.network.name, offer.network.id)),
        ("payer", sale.payment.payer().to_string()),
        ("payee", offer.pay_to.to_string()),
        ("settle", offer.settle.as_str().to_owned()),
        ("reserved", moment(entry.created)),
        ("changed", moment(entry.updated)),
        ("releases", entry.releases.to_string()),
        ("redemptions", entry.redemptions.to_string()),
    ];
    match &entry.state {
        State::Settling { since, facilitator, transaction, check_at, checks } => {
            rows.push(("asked", format!("{facilitator}, {}", moment(*since))));
            rows.push(("transaction", transaction.map_or("not known".to_owned(), |hash| hash.to_string())));
            rows.push(("next look", format!("{} (looked {checks} times)", moment(*check_at))));
        }
        State::Settled { receipt, facilitator, .. } => {
            rows.push(("settled", format!("{} by {facilitator}", moment(receipt.settled_at))));
            rows.push(("transaction", receipt.transaction.to_string()));
            if let Some(explorer) = &offer.network.explorer {
                rows.push(("look at it", explorer.replace("{tx}", &receipt.transaction.to_string())));
            }
        }
        State::Reserved { until } => rows.push(("held until", moment(*until))),
        State::Released | State::Exhausted => {}
    }
    rows.iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect()
}

fn json(key: PaymentKey, entry: &Entry) -> serde_json::Value {
    let sale = &entry.sale;
    let offer = &sale.payment.offer;
    let transaction = match &entry.state {
        State::Settled { receipt, .. } => Some(receipt.transaction),
        State::Settling { transaction, .. } => *transaction,
        State::Reserved { .. } | State::Released | State::Exhausted => None,
    };
    serde_json::json!({
        "payment": key.to_string(),
        "state": entry.state.name(),
        "route": sale.route,
        "request": sale.request_line,
        "amount": offer.amount,
        "asset": offer.asset.address,
        "symbol": offer.asset.symbol,
        "network": offer.network.id,
        "payer": sale.payment.payer(),
        "payTo": offer.pay_to,
        "settle": offer.settle,
        "transaction": transaction,
        "created": entry.created,
        "updated": entry.updated,
        "releases": entry.releases,
        "redemptions": entry.redemptions,
    })
}
