//! The lists of accounts that are not dealt with: how old they are, and what a reload made of them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::gate::rails::Screening;
use crate::primitives::Clock;
use crate::proxy::Live;
use crate::telemetry::{ListInForce, Metrics};

/// How often their age is looked at.
const EVERY: Duration = Duration::from_secs(15);

/// Keeps what the metrics say of the lists fresh, and tells when one has become stale; until dropped.
pub(super) async fn watch(live: Arc<ArcSwap<Live>>, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    let mut stale = BTreeSet::new();
    loop {
        let screening = Arc::clone(&live.load().screening);
        note(&screening, &*clock, &metrics);
        stale = tell_stale(&screening, &*clock, &stale);
        tokio::time::sleep(EVERY).await;
    }
}

/// What the metrics say of them.
pub(super) fn note(screening: &Screening, clock: &dyn Clock, metrics: &Metrics) {
    let now = clock.now();
    metrics.lists(screening.lists.iter().map(|list| ListInForce {
        name: Arc::clone(&list.name),
        addresses: list.len(),
        age: list.age(now),
        stale: list.is_stale(now),
    }));
}

/// Returns the names of those that are stale, and tells of those that were not before.
fn tell_stale(screening: &Screening, clock: &dyn Clock, before: &BTreeSet<Arc<str>>) -> BTreeSet<Arc<str>> {
    let now = clock.now();
    let stale = screening.lists.iter().filter(|list| list.is_stale(now));
    let stale: BTreeSet<_> = stale.map(|list| Arc::clone(&list.name)).collect();
    for list in stale.difference(before) {
        tracing::error!(list = &**list, when_stale = ?screening.when_stale, "screening list stale");
    }
    stale
}

/// Tells of lists that have lost more than half of what they named. That may be right; more often whatever fetches
/// them has failed.
pub(super) fn tell_shrunken(before: &Screening, after: &Screening) {
    for list in &after.lists {
        let earlier = before.lists.iter().find(|earlier| earlier.name == list.name);
        if let Some(earlier) = earlier.filter(|earlier| list.len() < earlier.len() / 2) {
            let (addresses, were) = (list.len(), earlier.len());
            tracing::warn!(list = &*list.name, addresses, were, "screening list has shrunk");
        }
    }
}
