//! Values that are true without context: amounts, assets, networks, accounts, moments.

mod account;
mod amount;
mod asset;
mod at_once;
pub mod calendar;
mod clock;
mod dollars;
mod explain;
pub mod failpoint;
pub mod file;
pub mod letters;
mod network;
mod nonce;
mod place;
mod presets;
mod rate;
mod secret;

pub use account::{Checksummed, Payee, Payer};
pub use alloy::primitives::Address;
pub use amount::{AmountError, AtomicAmount};
pub use asset::{Asset, Decimals, Eip712Name, PERMIT2, Peg, TooManyDecimals, TransferMethod};
pub use at_once::at_once;
pub use clock::{Clock, SystemClock, Timestamp};
pub use dollars::Dollars;
pub use explain::explain;
pub use network::{Caip2, InvalidCaip2, Network};
pub use nonce::Nonce;
pub use place::Place;
pub use presets::{Preset, preset, preset_by_id, presets};
pub use rate::Rate;
pub use secret::Secret;
