//! The sample API: an ordinary service that knows nothing of payments, and counts who asks it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use pingora::apps::http_app::ServeHttp;
use pingora::protocols::http::ServerSession;
use tokio::task::JoinSet;

use crate::server::{Connections, Door, Hours, StartError};

/// What the weather is, whoever asks.
pub(super) const WEATHER: &str = r#"{"city":"Berlin","celsius":21,"sky":"clear"}"#;

/// The API, answering until it is dropped.
pub(super) struct SampleApi {
    weather: Arc<Weather>,
    address: SocketAddr,
    _hours: Hours,
    _serving: JoinSet<()>,
}

impl SampleApi {
    /// Answers on a free port of this machine.
    pub(super) async fn open() -> Result<Self, StartError> {
        let door = Door::at((Ipv4Addr::LOCALHOST, 0).into(), None).await?;
        let address = door.place().port().expect("it was opened at one");
        let weather = Arc::new(Weather::default());
        let hours = Hours::default();
        let mut serving = JoinSet::new();
        serving.spawn(door.serve(Arc::clone(&weather), Connections::default(), hours.shift("the sample API")));
        Ok(Self { weather, address, _hours: hours, _serving: serving })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many requests have come through.
    pub(super) fn asked(&self) -> u64 {
        self.weather.asked.load(Ordering::Acquire)
    }
}

#[derive(Default)]
struct Weather {
    asked: AtomicU64,
}

#[async_trait]
impl ServeHttp for Weather {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        self.asked.fetch_add(1, Ordering::AcqRel);
        let (status, body) = match session.req_header().uri.path() {
            "/v1/weather" => (StatusCode::OK, WEATHER),
            "/v1/health" => (StatusCode::OK, r#"{"status":"ok"}"#),
            _ => (StatusCode::NOT_FOUND, r#"{"error":"no such thing"}"#),
        };
        let mut response = Response::new(format!("{body}\n").into_bytes());
        *response.status_mut() = status;
        let fields = response.headers_mut();
        fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        fields.insert(CONTENT_LENGTH, HeaderValue::from(body.len() + 1));
        response
    }
}
