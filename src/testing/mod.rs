//! Fakes, wallets and a manual clock, for tests and benches.

pub mod clock;

pub use clock::ManualClock;
