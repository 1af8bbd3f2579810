//! Certificates are renewed by whoever renews them: here their files are looked at.

use std::sync::Arc;
use std::time::Duration;

use crate::primitives::{Place, explain};
use crate::proxy::tls::{Certificates, TlsError};
use crate::telemetry::Metrics;

/// How often. A look costs reading a few files; a mounted secret changes by a link that no watch of a file would see.
const EVERY: Duration = Duration::from_secs(2);

/// Takes over certificates of a listener that have changed, until dropped.
pub(super) async fn renew(place: Place, certificates: Arc<Certificates>, metrics: Arc<Metrics>) {
    let mut told = Vec::new();
    loop {
        tokio::time::sleep(EVERY).await;
        let own = Arc::clone(&certificates);
        let Ok(looked) = tokio::task::spawn_blocking(move || own.refresh()).await else { return };
        told.resize(looked.len(), String::new());
        for (told, looked) in told.iter_mut().zip(looked) {
            tell(&place, looked, told, &metrics);
        }
    }
}

/// What became of one certificate. A failure is the same every two seconds until somebody mends it, and `told` once.
fn tell(place: &Place, looked: Result<bool, TlsError>, told: &mut String, metrics: &Metrics) {
    match looked {
        Ok(renewed) => {
            told.clear();
            if renewed {
                metrics.certificates_renewed("ok");
                tracing::info!(%place, "a certificate was renewed");
            }
        }
        Err(error) => {
            let cause = explain(&error).to_string();
            if cause != *told {
                metrics.certificates_renewed("failed");
                tracing::error!(%place, cause, "a changed certificate cannot be used, the old one stays");
                *told = cause;
            }
        }
    }
}
