//! What dropped handles still have to write.
//!
//! A drop cannot wait, so it leaves an errand here. The queue needs no bound of its own: an errand comes from a
//! handle, a handle from a claim that was written, and while nothing can be written nothing is claimed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::write::Written;
use super::{Claimed, Delivered, Entry, Event, Ledger, Response, State, StoreError, Versioned};
use crate::payment::PaymentKey;
use crate::primitives::{Timestamp, at_once};

/// How many errands are written at once; they share a commit where the store groups them.
const AT_ONCE: usize = 64;

/// How long a store that failed is left alone.
const PAUSE: Duration = Duration::from_millis(250);

/// Something to write about one payment.
#[derive(Debug)]
pub(super) struct Errand {
    pub(super) key: PaymentKey,
    /// The entry when its holder last saw it.
    pub(super) seen: Versioned,
    pub(super) what: What,
}

/// What there is to write.
#[derive(Debug)]
pub(super) enum What {
    /// A reservation is let go. `begun`: its settlement may have been written, but was never asked for.
    Release { counted: bool, begun: bool },
    /// A settlement that began at `since` ended, or somebody looked in vain.
    Settlement { since: Timestamp, event: Event, claims: Vec<Claimed> },
    /// The client left while a settlement that began at `since` was under way.
    Departure { since: Timestamp },
    /// A delivery ended.
    Delivery { turn: u32, delivered: Delivered, response: Option<Response> },
}

#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<VecDeque<Errand>>,
    /// Queued, or taken and not yet written.
    unwritten: AtomicUsize,
    posted: Notify,
    /// Something was written or came back.
    changed: Notify,
}

impl Outbox {
    pub(super) fn post(&self, errand: Errand) {
        self.unwritten.fetch_add(1, Ordering::AcqRel);
        self.queue().push_back(errand);
        self.posted.notify_one();
    }

    fn queue(&self) -> MutexGuard<'_, VecDeque<Errand>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Ledger {
    /// How many errands of dropped handles are still to be written.
    pub fn queued(&self) -> usize {
        self.outbox.unwritten.load(Ordering::Acquire)
    }

    /// Writes what is queued, and waits until nothing is left. As long as the store fails, it goes on trying: give
    /// it a deadline.
    pub async fn flush(self: &Arc<Self>) {
        loop {
            let changed = self.outbox.changed.notified();
            tokio::pin!(changed);
            changed.as_mut().enable();
            self.run_queued().await;
            if self.queued() == 0 {
                return;
            }
            // The rest is in the hands of `tend`.
            changed.await;
        }
    }

    /// Writes errands as they come, for ever.
    pub(super) async fn run_errands(self: &Arc<Self>) {
        loop {
            self.run_queued().await;
            self.outbox.posted.notified().await;
        }
    }

    async fn run_queued(self: &Arc<Self>) {
        loop {
            let batch: Vec<InHand> = {
                let mut queue = self.outbox.queue();
                let taken = queue.len().min(AT_ONCE);
                queue.drain(..taken).map(|errand| InHand { ledger: self.clone(), errand: Some(errand) }).collect()
            };
            if batch.is_empty() {
                return;
            }
            let (mut errands, mut failures) = (JoinSet::new(), Vec::new());
            for in_hand in batch {
                let mut errand = Box::pin(in_hand.run());
                // A ledger in memory has written it after one look; what waits for its store needs a task of its own.
                match at_once(&mut errand).await {
                    Some(ran) => failures.extend(ran.err()),
                    None => drop(errands.spawn(errand)),
                }
            }
            while let Some(ran) = errands.join_next().await {
                failures.extend(ran.ok().and_then(Result::err));
            }
            for error in &failures {
                tracing::warn!(error = error as &dyn std::error::Error, "the ledger could not be written");
            }
            if !failures.is_empty() {
                tokio::time::sleep(PAUSE).await;
            }
        }
    }

    /// Does one errand. That it does not fit any more is an end, too: somebody else has written what happened.
    pub(super) async fn run(&self, errand: &Errand) -> Result<Written, StoreError> {
        let claims: &[Claimed] = match &errand.what {
            What::Settlement { claims, .. } => claims,
            What::Release { .. } | What::Departure { .. } | What::Delivery { .. } => &[],
        };
        let max_releases = self.limits.max_releases;
        let event = |found: &Versioned| errand.event(found, max_releases);
        let written = self.write(errand.key, errand.seen.clone(), claims, event).await?;
        if let What::Delivery { turn, .. } = errand.what {
            self.live.remove_if(&errand.key, |_, live| live.entry.redemptions == turn);
        }
        match &written {
            Written::Applied(now) => self.tell(errand.key, &now.entry),
            Written::Claimed(owner) => {
                tracing::error!(payment = %errand.key, %owner, "a settlement rests on another payment's transaction");
            }
            Written::Unfit => {}
        }
        Ok(written)
    }
}

impl Errand {
    /// The event for the entry as it stands; `None` when it is no longer this errand's.
    pub(super) fn event(&self, found: &Versioned, max_releases: u32) -> Option<Event> {
        match &self.what {
            What::Release { counted, .. } if found.version == self.seen.version => {
                Some(Event::Release { counted: *counted, max_releases })
            }
            // Nobody but the holder can have begun a settlement right after the reservation, and the holder never
            // came to ask for it: it is certain that nothing moves.
            What::Release { begun: true, .. }
                if found.version == self.seen.version + 1 && matches!(found.entry.state, State::Settling { .. }) =>
            {
                Some(Event::Decline { why: "it was never asked for".to_owned(), max_releases, watch_from: None })
            }
            What::Release { .. } => None,
            What::Settlement { since, event, .. } => match (&found.entry.state, event) {
                // That money moved is true whoever asked.
                (State::Settling { .. }, Event::Settle { .. }) => Some(event.clone()),
                // That it did not, only of what was asked: from the moment somebody sets out to ask again, it may.
                (State::Settling { .. }, Event::Decline { .. }) if !self.still_asks(found) => None,
                (State::Settling { since: current, .. }, _) if current == since => Some(event.clone()),
                _ => None,
            },
            What::Departure { since } => match &found.entry.state {
                State::Settling { since: current, checks: 0, left: false, .. } if current == since => {
                    Some(Event::Leave)
                }
                _ => None,
            },
            What::Delivery { turn, delivered, response } => {
                Some(Event::Deliver { turn: *turn, delivered: delivered.clone(), response: *response })
            }
        }
    }
}

impl Errand {
    /// Whether nothing was written since but that the client left.
    fn still_asks(&self, found: &Versioned) -> bool {
        let has_left = |entry: &Entry| matches!(entry.state, State::Settling { left: true, .. });
        let only_left = found.version == self.seen.version + 1 && has_left(&found.entry) && !has_left(&self.seen.entry);
        found.version == self.seen.version || only_left
    }
}

/// An errand being done. If that is cut short, it goes back to the queue.
struct InHand {
    ledger: Arc<Ledger>,
    errand: Option<Errand>,
}

impl InHand {
    async fn run(mut self) -> Result<(), StoreError> {
        if let Some(errand) = &self.errand {
            self.ledger.run(errand).await?;
        }
        self.errand = None;
        Ok(())
    }
}

impl Drop for InHand {
    fn drop(&mut self) {
        let outbox = &self.ledger.outbox;
        if let Some(errand) = self.errand.take() {
            outbox.queue().push_back(errand);
            outbox.posted.notify_one();
        } else {
            outbox.unwritten.fetch_sub(1, Ordering::AcqRel);
        }
        outbox.changed.notify_waiters();
    }
}
