//! Certificates are renewed by whoever renews them: here their files are looked at.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::primitives::explain;
use crate::proxy::tls::Certificates;
use crate::telemetry::Metrics;

/// How often. A look costs reading a few files; a mounted secret changes by a link that no watch of a file would see.
const EVERY: Duration = Duration::from_secs(2);

/// Takes over certificates of a listener that have changed, until dropped.
pub(super) async fn renew(address: SocketAddr, certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let own = Arc::clone(&certificates);
        let Ok(looked) = tokio::task::spawn_blocking(move || own.refresh()).await else { return };
        match looked {
            Ok(false) => {}
            Ok(true) => {
                metrics.certificates_renewed("ok");
                tracing::info!(%address, "certificates were renewed");
                told.clear();
            }
            Err(error) => {
                let cause = explain(&error).to_string();
                // It is the same every two seconds until somebody mends it.
                if cause != told {
                    metrics.certificates_renewed("failed");
                    tracing::error!(%address, cause, "changed certificates cannot be used, the old ones stay");
                    told = cause;
                }
            }
        }
    }
}
