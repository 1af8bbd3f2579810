//! Fakes, wallets and a manual clock, for tests and benches.

pub mod facilitator;

pub use facilitator::ScriptedFacilitator;
