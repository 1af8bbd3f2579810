//! Fakes, wallets and a manual clock, for tests and benches.

pub mod anvil;
pub mod clock;
pub mod facilitator;
pub mod sales;
pub mod vectors;
pub mod wallet;

pub use clock::ManualClock;
pub use facilitator::ScriptedFacilitator;
pub use wallet::Wallet;
