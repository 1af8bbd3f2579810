//! Fakes, wallets and a manual clock, for tests and benches.

pub mod anvil;
