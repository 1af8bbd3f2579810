//! One event, written: the loop of read, apply and swap.

use super::{Claimed, Entry, Event, Ledger, Spending, Step, StoreError, Swap, Version, Versioned, Write};
use crate::payment::PaymentKey;
use crate::primitives::failpoint;

/// How often a write is tried again because somebody was faster. Each time somebody else got on.
const RACES: usize = 16;

/// How a write ended.
#[derive(Debug)]
pub(super) enum Written {
    /// It is durable, and this is what stands.
    Applied(Versioned),
    /// It does not fit what stands (any more).
    Unfit,
    /// It rests on a fact of another payment (S5).
    Claimed(PaymentKey),
}

impl Ledger {
    /// Applies an event to an entry as it was last seen; if somebody was faster, to what stands now, as long as
    /// `event` still names one that fits.
    pub(super) async fn write(
        &self,
        key: PaymentKey,
        mut seen: Versioned,
        claims: &[Claimed],
        event: impl Fn(&Versioned) -> Option<Event> + Send,
    ) -> Result<Written, StoreError> {
        for _ in 0..RACES {
            let Some(event) = event(&seen) else { return Ok(Written::Unfit) };
            let (entry, version) = (seen.entry, seen.version);
            match self.advance(key, Some((entry, version)), event, claims).await? {
                Some((entry, Swap::Applied(version))) => {
                    self.front.notice(key, &entry);
                    return Ok(Written::Applied(Versioned { entry, version }));
                }
                Some((_, Swap::Claimed(owner))) => return Ok(Written::Claimed(owner)),
                Some((_, Swap::Stale(Some(found)))) => seen = found,
                Some((_, Swap::Stale(None) | Swap::Overspent)) | None => return Ok(Written::Unfit),
            }
        }
        Err(StoreError("too many writers want the same entry".into()))
    }

    /// Applies an event once and swaps the outcome in, on record. `None` when the event does not fit the entry.
    pub(super) async fn advance(
        &self,
        key: PaymentKey,
        current: Option<(Entry, Version)>,
        event: Event,
        claims: &[Claimed],
    ) -> Result<Option<(Entry, Swap)>, StoreError> {
        let now = self.clock.now();
        let (current, expected) = current.unzip();
        let was = current.as_ref().and_then(|entry| entry.day);
        let Ok(next) = Entry::apply(current, event.clone(), now) else { return Ok(None) };
        let spending = Spending::between(was, &next, &self.allowance);
        let step = Step::of(&event, now, &self.author);
        failpoint::reached("before", step.name());
        let swap = self.store.swap(Write { key, expected, next: &next, claims, spending, step: &step }).await?;
        if matches!(swap, Swap::Applied(_)) {
            failpoint::reached("after", step.name());
        }
        Ok(Some((next, swap)))
    }
}
