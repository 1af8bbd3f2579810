//! `exact`: the amount of the offer, moved once.

pub mod eip3009;

pub use eip3009::Eip3009Exact;
