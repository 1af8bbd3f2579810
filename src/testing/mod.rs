//! Fakes, wallets and a manual clock, for tests and benches.

pub mod facilitator;
pub mod wallet;
pub mod vectors;

pub use facilitator::ScriptedFacilitator;
pub use wallet::Wallet;
pub mod clock;
pub mod sales;

pub use clock::ManualClock;
pub mod anvil;
