//! Fakes, wallets and a manual clock, for tests and benches.

pub mod answers;
pub mod anvil;
pub mod backend;
pub mod client;
pub mod clock;
pub mod facilitator;
pub mod gateway;
mod http1;
pub mod http2;
pub mod latch;
pub mod postgres;
pub mod process;
pub mod relay;
pub mod sales;
pub mod smart_wallet;
pub mod vectors;
pub mod wallet;

pub use backend::Backend;
pub use clock::ManualClock;
pub use facilitator::ScriptedFacilitator;
pub use gateway::Gateway;
pub use latch::Latch;
pub use postgres::Postgres;
pub use process::Process;
pub use relay::Relay;
pub use smart_wallet::SmartWallet;
pub use wallet::Wallet;
