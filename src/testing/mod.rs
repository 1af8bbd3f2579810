//! Fakes, wallets and a manual clock, for tests and benches.

pub mod wallet;

pub use wallet::Wallet;
