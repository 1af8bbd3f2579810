//! What no single request can tell: how many payments are open, and who answers.

use std::sync::Arc;
use std::time::Duration;

use crate::facilitator::Pool;
use crate::ledger::Store;
use crate::primitives::Clock;
use crate::telemetry::{Metrics, NodesOf};

use super::facilitators::{Chains, Watched};

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
        metrics.gas_keys(active.iter().filter_map(|one| Some((one.name().to_owned(), one.purse()?))));
        tokio::time::sleep(EVERY).await;
    }
}

/// How often every node is asked for its head.
const SURVEY: Duration = Duration::from_secs(10);

/// Keeps what is known of the nodes fresh, until dropped.
pub(super) async fn survey(chains: Chains, metrics: Arc<Metrics>) {
    loop {
        let looked_at = chains.load_full();
        for watched in looked_at.iter() {
            watched.chain.survey().await;
        }
        metrics.nodes(looked_at.iter().map(|Watched { named_in, chain }| NodesOf {
            network: chain.network().to_string(),
            named_in: named_in.to_string(),
            skew: chain.skew(),
            health: chain.health(),
        }));
        tokio::time::sleep(SURVEY).await;
    }
}
