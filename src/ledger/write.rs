//! One event, written: the loop of read, apply and swap.

use super::{Claimed, Entry, Event, Ledger, StoreError, Swap, Versioned};
use crate::payment::PaymentKey;

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
            let Ok(next) = Entry::apply(Some(seen.entry.clone()), event, self.clock.now()) else {
                return Ok(Written::Unfit);
            };
            match self.store.swap(key, Some(seen.version), &next, claims).await? {
                Swap::Applied(version) => {
                    self.front.notice(key, &next);
                    return Ok(Written::Applied(Versioned { entry: next, version }));
                }
                Swap::Claimed(owner) => return Ok(Written::Claimed(owner)),
                Swap::Stale(Some(found)) => seen = found,
                Swap::Stale(None) => return Ok(Written::Unfit),
            }
        }
        Err(StoreError("too many writers want the same entry".into()))
    }
}
