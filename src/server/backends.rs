//! Backends, from beside the requests: where their names lead, and how each of them is doing.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use crate::proxy::Live;
use crate::proxy::upstream::Patrol;
use crate::telemetry::Metrics;

/// How often the names of backends are looked up anew. Pods behind a headless Service come and go within seconds.
const LOOK_UP_EVERY: Duration = Duration::from_secs(10);
/// How often somebody asks whether a backend is due to be looked at.
const TICK: Duration = Duration::from_millis(250);

/// Keeps the addresses of all upstreams fresh, until dropped.
pub(super) async fn look_up(live: Arc<ArcSwap<Live>>) {
    loop {
        tokio::time::sleep(LOOK_UP_EVERY).await;
        join_all(live.load_full().upstreams.values().map(|upstream| upstream.resolve())).await;
    }
}

/// Looks at backends when it is time, and keeps what the metrics say of them fresh, until dropped.
pub(super) async fn watch(live: Arc<ArcSwap<Live>>, metrics: Arc<Metrics>) {
    let mut patrol = Patrol::default();
    let mut known = Vec::new();
    loop {
        let mut found = Vec::new();
        for (name, upstream) in &live.load_full().upstreams {
            patrol.tend(upstream);
            found.extend(upstream.census().into_iter().map(|(target, up)| (Arc::clone(name), target, up)));
        }
        found.sort();
        if found != known {
            metrics.backends(&found);
            known = found;
        }
        tokio::time::sleep(TICK).await;
    }
}
