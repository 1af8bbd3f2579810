//! How are you: `/livez`, `/readyz` and `/metrics`. Read-only, on the pod address, for kubelet and Prometheus.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{Method, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;

use crate::telemetry::Metrics;

/// Answers questions about the process.
pub struct Status {
    metrics: Arc<Metrics>,
    ready: Arc<Readiness>,
}

/// Whether requests should be sent here: the price table is loaded, the listeners are bound, and nobody has asked the
/// process to stop. Not whether a facilitator, the ledger or the backend answers: free routes work without.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// From now on, or no longer.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether requests should be sent here.
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Status {
    /// Answers from these.
    pub fn new(metrics: Arc<Metrics>, ready: Arc<Readiness>) -> Self {
        Self { metrics, ready }
    }

    fn answer(&self, method: &Method, path: &str) -> (StatusCode, &'static str, String) {
        const TEXT: &str = "text/plain; charset=utf-8";
        if !matches!(*method, Method::GET | Method::HEAD) {
            return (StatusCode::METHOD_NOT_ALLOWED, TEXT, "only GET is answered here\n".to_owned());
        }
        match path {
            "/livez" => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" if self.ready.get() => (StatusCode::OK, TEXT, "ok\n".to_owned()),
            "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n".to_owned()),
            "/metrics" => {
                (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", self.metrics.render())
            }
            _ => (StatusCode::NOT_FOUND, TEXT, "/livez, /readyz and /metrics are answered here\n".to_owned()),
        }
    }
}

#[async_trait]
impl ServeHttp for Status {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let request = session.req_header();
        let (status, kind, body) = self.answer(&request.method, request.uri.path());
        let length = body.len();
        let body = if request.method == Method::HEAD { Vec::new() } else { body.into_bytes() };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, http::HeaderValue::from_static(kind));
        fields.insert(CONTENT_LENGTH, http::HeaderValue::from(length));
        fields.insert(CACHE_CONTROL, http::HeaderValue::from_static("no-store"));
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readiness_does_not_touch_liveness() {
        let ready = Arc::new(Readiness::default());
        let status = Status::new(Arc::new(Metrics::new()), Arc::clone(&ready));
        assert_eq!(status.answer(&Method::GET, "/livez").0, StatusCode::OK);
        assert_eq!(status.answer(&Method::GET, "/readyz").0, StatusCode::SERVICE_UNAVAILABLE);
        ready.set(true);
        assert_eq!(status.answer(&Method::GET, "/readyz").0, StatusCode::OK);
        assert_eq!(status.answer(&Method::POST, "/metrics").0, StatusCode::METHOD_NOT_ALLOWED);
        assert!(status.answer(&Method::GET, "/metrics").2.contains("tollhouse_live"));
    }
}
