//! Fakes, wallets and a manual clock, for tests and benches.

pub mod clock;
pub mod sales;

pub use clock::ManualClock;
