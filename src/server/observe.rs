//! What no single request can tell: how many payments are open, and who answers.

use std::sync::Arc;
use std::time::Duration;

use crate::facilitator::Pool;
use crate::ledger::Store;
use crate::primitives::Clock;
use crate::telemetry::Metrics;

/// How often the whole ledger is looked at.
const EVERY: Duration = Duration::from_secs(15);

/// Keeps the gauges about the ledger and the facilitators fresh, until dropped.
pub(super) async fn census(store: Arc<dyn Store>, clock: Arc<dyn Clock>, pool: Arc<Pool>, metrics: Arc<Metrics>) {
    loop {
        match store.census(clock.now()).await {
            Ok(census) => metrics.take_census(&census),
            Err(error) => tracing::warn!(%error, "the ledger could not be looked at"),
        }
        let active = pool.active();
        metrics.facilitators(active.iter().map(|one| (one.name().to_owned(), one.is_up())));
        metrics.breakers(active.iter().flat_map(|one| {
            one.breakers().into_iter().map(|(network, state)| (one.name().to_owned(), network, state))
        }));
        tokio::time::sleep(EVERY).await;
    }
}
