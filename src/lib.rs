//! tollhouse is a reverse proxy that charges for an API: prices in a YAML file, no code changes.
//!
//! The modules stand in the order a request travels. Each answers one question; each imports only from modules
//! above it (`tests/architecture.rs` keeps it so). `docs/ARCHITECTURE.md` is the map.

#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod primitives;

pub mod payment;

pub mod ledger;
pub mod protocol;
pub mod scheme;
pub mod tariff;

pub mod facilitator;

pub mod gate;

pub mod proxy;
pub mod telemetry;

pub mod admin;
pub mod status;

pub mod config;

pub mod server;

pub mod cli;

#[cfg(feature = "testing")]
pub mod testing;
