//! A request to a priced route, as the gate sees it.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use alloy::primitives::{B256, Keccak256};
use http::{HeaderMap, Method};

use crate::payment::{Dialect, Payment, Replay, Resource, SettleMode};
use crate::tariff::{Route, Toll};

use super::rails::{Crowded, Screening, Slot, Turnstile};
use super::{Admission, Connection, Refusal};

/// A request to a priced route, as the gate sees it. Speaks `http`, not Pingora.
#[derive(Debug, Clone, Copy)]
pub struct Visit<'a> {
    /// The route it matched.
    pub route: &'a Route,
    /// What that route asks.
    pub toll: &'a Toll,
    /// Its header fields.
    pub fields: &'a HeaderMap,
    /// Its method.
    pub method: &'a Method,
    /// Its host, canonical; empty when none is told apart.
    pub host: &'a str,
    /// Its path in canonical form: what was matched and will be forwarded (I9).
    pub path: &'a str,
    /// Its query, untouched.
    pub query: Option<&'a str>,
    /// The connection it came on, where that can be seen.
    pub connection: Option<&'a Arc<dyn Connection>>,
    /// Who asks, as the connection shows it, or a proxy we trust.
    pub client: Option<IpAddr>,
    /// The other end of the connection, a proxy or not.
    pub peer: Option<IpAddr>,
    /// Who is not sold to.
    pub screening: &'a Screening,
    /// What counts the requests of a route that is limited, and the place for whoever enters.
    pub turnstile: Option<(&'a Turnstile, &'a OnceLock<Slot>)>,
}

impl Visit<'_> {
    /// What is sold, for the 402.
    pub fn resource(&self) -> Resource {
        let (mark, query) = self.query.map_or(("", ""), |query| ("?", query));
        Resource {
            url: [&*self.route.public_url, self.path, mark, query].concat(),
            description: self.toll.description.clone(),
            mime_type: self.toll.mime_type.clone(),
        }
    }

    /// Counts the request as one of this payer's.
    pub(super) fn count_payer(&self, payment: &Payment) -> Result<(), Refusal> {
        self.enter(payment.dialect, |turnstile| turnstile.pay(payment.payer()))
    }

    /// Counts the request as one that is forwarded.
    pub(super) fn count_forwarded(&self, payment: &Payment) -> Result<(), Refusal> {
        self.enter(payment.dialect, Turnstile::forward)
    }

    /// What was paid for earlier is not made to wait, and takes a place inside.
    pub(super) fn collect(&self, admission: Admission) -> Admission {
        if let (Admission::Settled(settled), Some((turnstile, place))) = (&admission, self.turnstile)
            && let Some(slot) = turnstile.collect(settled.payment().payer())
        {
            let _ = place.set(slot);
        }
        admission
    }

    fn enter(
        &self,
        dialect: Dialect,
        enter: impl FnOnce(&Turnstile) -> Result<Option<Slot>, Crowded>,
    ) -> Result<(), Refusal> {
        let Some((turnstile, place)) = self.turnstile else { return Ok(()) };
        let slot =
            enter(turnstile).map_err(|crowded| Refusal::Crowded { dialect: Some(dialect), wait: crowded.wait })?;
        if let Some(slot) = slot {
            // A request enters once, so the place is empty.
            let _ = place.set(slot);
        }
        Ok(())
    }

    /// A digest of what makes two requests identical: host, method, canonical path and query bytes.
    pub fn digest(&self) -> B256 {
        let mut digest = Keccak256::new();
        for part in [self.host, self.method.as_str(), self.path] {
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        // An empty query is not the same request as none: the backend may tell them apart.
        digest.update([u8::from(self.query.is_some())]);
        digest.update(self.query.unwrap_or_default().as_bytes());
        digest.finalize()
    }

    /// The request line for people, without the query (S63).
    pub fn line(&self) -> String {
        [self.method.as_str(), " ", self.path].concat()
    }

    /// Whether the backend may be asked again after it may have seen the request (S25).
    pub fn repeatable(&self) -> bool {
        self.toll.replay != Replay::Refuse && (self.method.is_safe_to_repeat() || self.toll.replay_explicit)
    }

    /// When it is charged.
    pub fn settle_mode(&self) -> SettleMode {
        self.toll.settle
    }
}

trait SafeToRepeat {
    fn is_safe_to_repeat(&self) -> bool;
}

impl SafeToRepeat for Method {
    fn is_safe_to_repeat(&self) -> bool {
        matches!(*self, Method::GET | Method::HEAD)
    }
}
