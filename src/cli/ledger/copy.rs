//! `tollhouse ledger backup` and `restore`.

use std::path::PathBuf;

use clap::Args;

use super::super::Verdict;
use super::super::words::{explain, moment};
use super::verify::printed;
use super::{Ended, Hand, Place};
use crate::ledger::{CopyError, Sqlite};
use crate::primitives::{Clock, SystemClock};

#[derive(Debug, Args)]
pub(super) struct Backup {
    /// The copy; there must be no such file yet
    file: PathBuf,
    #[command(flatten)]
    place: Place,
}

impl Backup {
    pub(super) fn run(self) -> Ended {
        match Sqlite::back_up(&self.place.path()?, &self.file) {
            Ok(extent) => {
                put!("head {}", printed(&extent));
                talk!("{} holds signatures and keys: keep it as safe as the ledger", self.file.display());
                Ok(Verdict::Yes)
            }
            Err(error) => refused(&error),
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Restore {
    /// The copy that `ledger backup` made
    file: PathBuf,
    #[command(flatten)]
    pub(super) hand: Hand,
    #[command(flatten)]
    place: Place,
}

impl Restore {
    pub(super) fn run(self) -> Ended {
        let ledger = self.place.path()?;
        let now = SystemClock.now();
        match Sqlite::restore(&self.file, &ledger, self.hand.author(), now) {
            Ok(restored) => {
                put!("head {}", printed(&restored.extent));
                if let Some(replaced) = &restored.replaced {
                    talk!("what stood there before is now {}", replaced.display());
                }
                talk!(
                    "This copy knows nothing of payments after it was made. Each of them has used up its authorization on \
                     the chain, so with a node in `networks` none can be served twice; without one, a facilitator may \
                     say yes to it again until it lapses: do not start before {}. Then find what is missing with \
                     `tollhouse ledger reconcile --from WHEN`.",
                    moment(now.after(LAPSED)),
                );
                Ok(Verdict::Yes)
            }
            Err(error) => refused(&error),
        }
    }
}

/// After which every authorization that was taken before has lapsed, with the windows that stock clients sign.
const LAPSED: std::time::Duration = std::time::Duration::from_secs(2 * 3600);

fn refused(error: &CopyError) -> Ended {
    match error {
        CopyError::Exists(_) | CopyError::InUse(_) | CopyError::Damaged { .. } => {
            talk!("tollhouse: {}", explain(error));
            Ok(Verdict::No)
        }
        CopyError::Open(_) | CopyError::Database(_) | CopyError::Files(_) => Err(explain(error)),
    }
}
