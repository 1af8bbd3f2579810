//! Rails: when a route takes no payment although it has a price. A closed rail is 503, never free (S65).
//!
//! A rail is looked at twice. Whoever asks for a price hears 503 instead of an offer; a payment that is presented all
//! the same is turned back before it is reserved. What was already paid is still served, and what is under way ends.

mod pauses;

use std::time::Duration;

use arc_swap::ArcSwap;

use crate::ledger::StoreError;
use crate::payment::Dialect;

use super::{Event, Gate, Refusal, Visit};

pub use pauses::{ChangeError, MOST_ROUTES, MOST_WORDS, Pause, Pauses, Scope};

/// How often the ledger is asked what is closed: a pause reaches every process on it this soon.
const EVERY: Duration = Duration::from_secs(1);

/// What is closed, as far as this process knows.
#[derive(Debug, Default)]
pub struct Rails {
    pauses: ArcSwap<Pauses>,
}

impl Rails {
    /// Why this route asks for no payment now.
    pub(super) fn bar(&self, visit: &Visit<'_>, dialect: Option<Dialect>) -> Option<Refusal> {
        self.pauses.load().of(&visit.route.key).map(|_| Refusal::Paused(dialect))
    }
}

impl Gate {
    /// Keeps what is known of the rails fresh, until dropped. What was known stays while the ledger does not answer.
    pub async fn watch_rails(self: std::sync::Arc<Self>) {
        let mut silent = false;
        loop {
            tokio::time::sleep(EVERY).await;
            let looked = self.look_at_rails().await;
            if let (Err(error), false) = (&looked, silent) {
                tracing::warn!(cause = %super::lifecycle::chain(error), "what is paused cannot be looked up");
            }
            silent = looked.is_err();
        }
    }

    /// Asks the ledger what is closed, and tells the observer what has changed.
    ///
    /// # Errors
    /// When the ledger does not answer; then all is as it was.
    pub async fn look_at_rails(&self) -> Result<(), StoreError> {
        let found = Pauses::read(&**self.ledger.store()).await?;
        let before = self.rails.pauses.swap(found.clone().into());
        for (scope, pause) in found.each().filter(|(scope, pause)| before.at(scope) != Some(pause)) {
            self.observe(&Event::Paused { scope, pause: pause.clone() });
        }
        for (scope, _) in before.each().filter(|(scope, _)| found.at(scope).is_none()) {
            self.observe(&Event::Resumed { scope, by: found.resumed().cloned() });
        }
        Ok(())
    }
}
