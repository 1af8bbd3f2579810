//! `tollhouse ledger`: the payments that are remembered, and what happened to them.

mod chain;
mod copy;
mod export;
mod list;
mod payment;
mod reconcile;
mod refund;
mod resolve;
mod show;
mod stats;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;

use clap::{Args, Subcommand};

use super::words::explain;
use super::{ConfigFile, Verdict, block_on};
use crate::config::{self, Format, Live};
use crate::ledger::{
    self, Archive, Author, Ledger, Limits, Postgres, PostgresUrl, Sqlite, Store, StoreError, Versioned,
};
use crate::payment::PaymentKey;
use crate::primitives::SystemClock;

#[derive(Debug, Args)]
#[command(
    before_help = "Examples:\n  tollhouse ledger list --state settling                 payments nobody knows the end of\n  \
                         tollhouse ledger show PAYMENT                          one payment's life\n  \
                         tollhouse ledger export --format csv --from 2026-11-01 > november.csv\n  \
                         tollhouse ledger verify                                was anything changed?\n  \
                         tollhouse ledger reconcile --from 24h                  does the chain agree?"
)]
pub(super) struct LedgerCommand {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// List payments, newest first
    List(list::List),
    /// Show all that is remembered of one payment, and its life as a timeline
    Show(show::Show),
    /// Count payments and add up money
    Stats(stats::Stats),
    /// Write payments for accounting: CSV or JSON Lines, amounts as integers of the smallest unit
    Export(export::Export),
    /// Go through the evidence again: was a record or an entry changed, removed or moved?
    Verify(verify::Verify),
    /// Put on record how a settlement ended that nobody else could find out about
    Resolve(resolve::Resolve),
    /// Compare settled payments with the transfers on the chain, both ways
    Reconcile(reconcile::Reconcile),
    /// List what is owed: payments whose answer never arrived
    Refunds(refund::Refunds),
    /// Put on record the transfer that paid a payment back
    Refund(refund::Record),
    /// Copy the ledger to a new file, while gateways go on writing
    Backup(copy::Backup),
    /// Put a copy in the place of the ledger
    Restore(copy::Restore),
}

/// What a command ends with; the error is for people, and means that nothing could be found out.
pub(super) type Ended = Result<Verdict, String>;

impl LedgerCommand {
    pub(super) fn execute(self) -> Verdict {
        block_on(async {
            let ended = match self.question {
                Question::List(command) => command.run().await,
                Question::Show(command) => command.run().await,
                Question::Stats(command) => command.run().await,
                Question::Export(command) => command.run().await,
                Question::Verify(command) => command.run().await,
                Question::Resolve(command) => command.run().await,
                Question::Reconcile(command) => command.run().await,
                Question::Refunds(command) => command.run().await,
                Question::Refund(command) => command.run().await,
                Question::Backup(command) => command.run(),
                Question::Restore(command) => command.run(),
            };
            told(ended)
        })
    }

    /// Whoever takes responsibility, where somebody has to.
    pub(super) fn hand(&self) -> Option<&Hand> {
        match &self.question {
            Question::Resolve(command) => Some(&command.hand),
            Question::Refund(command) => Some(&command.hand),
            Question::Restore(command) => Some(&command.hand),
            Question::List(_)
            | Question::Show(_)
            | Question::Stats(_)
            | Question::Export(_)
            | Question::Verify(_)
            | Question::Reconcile(_)
            | Question::Refunds(_)
            | Question::Backup(_) => None,
        }
    }
}

/// The verdict; what could not be found out is told.
pub(super) fn told(ended: Ended) -> Verdict {
    ended.unwrap_or_else(|why| {
        talk!("tollhouse: {why}");
        Verdict::CouldNotFindOut
    })
}

/// What was looked up; that there is none is told.
fn known(key: PaymentKey, loaded: Result<Option<Versioned>, StoreError>) -> Result<Option<Versioned>, String> {
    let found = loaded.map_err(|error| explain(&error))?;
    if found.is_none() {
        talk!("the ledger knows no payment {key}");
    }
    Ok(found)
}

/// Which ledger.
#[derive(Debug, Args)]
pub(super) struct Place {
    /// The ledger's file, when it is not the one of the configuration
    #[arg(long, value_name = "FILE")]
    ledger: Option<PathBuf>,
    #[command(flatten)]
    file: ConfigFile,
}

/// Where it is kept.
enum Kept {
    File(PathBuf),
    Database(PostgresUrl),
}

impl Place {
    /// Opens it for a look.
    pub(super) async fn look(&self) -> Result<Arc<dyn Archive>, String> {
        Ok(match self.kept()? {
            Kept::File(path) => Arc::new(Sqlite::inspect(&path).map_err(|error| explain(&error))?),
            Kept::Database(url) => Arc::new(Postgres::inspect(&url).await.map_err(|error| explain(&error))?),
        })
    }

    /// Opens it for a person to write to.
    pub(super) async fn amend(&self, author: Author) -> Result<Arc<Ledger>, String> {
        let store: Arc<dyn Store> = match self.kept()? {
            Kept::File(path) => Arc::new(Sqlite::open_existing(&path).map_err(|error| explain(&error))?),
            Kept::Database(url) => Arc::new(Postgres::open_existing(&url).await.map_err(|error| explain(&error))?),
        };
        Ok(Ledger::of(store, Arc::new(SystemClock), Limits::default(), author))
    }

    /// The ledger's file, for what can be done to files only.
    fn path(&self) -> Result<PathBuf, String> {
        match self.kept()? {
            Kept::File(path) => Ok(path),
            Kept::Database(url) => Err(format!("{url} is a database: back it up and restore it with its own tools")),
        }
    }

    fn kept(&self) -> Result<Kept, String> {
        if let Some(path) = &self.ledger {
            return Ok(Kept::File(path.clone()));
        }
        let path = self.file.path();
        match self.load()?.boot.ledger {
            ledger::Config::Sqlite { path, .. } => Ok(Kept::File(path)),
            ledger::Config::Postgres { url } => Ok(Kept::Database(url)),
            ledger::Config::Memory => {
                Err(format!("{} keeps its ledger in memory: it is gone with the process", path.display()))
            }
        }
    }

    /// What the configuration says; `None` when the ledger was named and there is no configuration beside it.
    pub(super) fn live(&self) -> Result<Option<Live>, String> {
        if self.ledger.is_some() && !self.file.path().exists() {
            return Ok(None);
        }
        self.load().map(|config| Some(config.live))
    }

    fn load(&self) -> Result<config::Config, String> {
        let loaded = config::load(&self.file.path());
        loaded.config.ok_or_else(|| loaded.report.render(Format::Short, false))
    }
}

/// Who takes responsibility, and why. Both go on record.
#[derive(Debug, Args)]
pub(super) struct Hand {
    /// Why, in a sentence
    #[arg(long, value_name = "TEXT")]
    pub why: String,
    /// Who says so; needed where $USER is not set, as in containers and under cron
    #[arg(long, value_name = "NAME", env = "USER", default_value = "", hide_default_value = true)]
    pub by: String,
}

impl Hand {
    pub(super) fn author(&self) -> Author {
        Author::person(self.by.as_str(), self.why.as_str())
    }
}
