//! Upgraded connections: what one payment buys of a WebSocket, and what it may not become (S51).

use std::time::Instant;

use http::header::UPGRADE;
use pingora::http::RequestHeader;
use pingora::prelude::{Error, ErrorType, Result};

use crate::tariff;

/// What is left of a connection that was paid for.
#[derive(Debug)]
pub(super) struct Tunnel {
    until: Instant,
    left: u64,
}

impl Tunnel {
    /// It has just been opened.
    pub(super) fn sold(sold: &tariff::Tunnel) -> Self {
        Self { until: Instant::now() + sold.lasts, left: sold.bytes }
    }

    /// Bytes pass, either way.
    ///
    /// # Errors
    /// When they are more than was sold, or come later.
    pub(super) fn pass(&mut self, bytes: usize) -> Result<()> {
        let ended = |why| Err(Error::explain(ErrorType::ConnectionClosed, why));
        match self.left.checked_sub(bytes as u64) {
            None => ended("the connection has carried all the bytes that were paid for"),
            Some(_) if Instant::now() >= self.until => ended("the connection has lasted as long as was paid for"),
            Some(left) => {
                self.left = left;
                Ok(())
            }
        }
    }
}

/// Whether a request asks for a WebSocket and for nothing else.
pub(super) fn asks_for_websocket(request: &RequestHeader) -> bool {
    let mut upgrades = request.headers.get_all(UPGRADE).iter();
    let websocket = upgrades.next().is_some_and(|upgrade| upgrade.as_bytes().eq_ignore_ascii_case(b"websocket"));
    websocket && upgrades.next().is_none()
}
