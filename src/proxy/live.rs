//! What a request lives under: the posted tariff and the upstreams its routes name.

use std::collections::HashMap;
use std::sync::Arc;

use crate::gate::rails::{Screening, Turnstile};
use crate::tariff::{RouteKey, Tariff};

use super::Proxies;
use super::upstream::Upstream;

/// One consistent picture of the file. A request takes it once and keeps it (S64).
pub struct Live {
    /// What things cost.
    pub tariff: Arc<Tariff>,
    /// Who is not sold to.
    pub screening: Arc<Screening>,
    /// Proxies whose word about clients counts.
    pub trusted: Arc<Proxies>,
    /// Where requests go, by name.
    pub upstreams: HashMap<Arc<str>, Arc<Upstream>>,
    /// What counts the requests of routes that are limited.
    pub turnstiles: HashMap<RouteKey, Arc<Turnstile>>,
}
