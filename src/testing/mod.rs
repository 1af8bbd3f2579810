//! Fakes, wallets and a manual clock, for tests and benches.

pub mod facilitator;
pub mod vectors;

pub use facilitator::ScriptedFacilitator;
