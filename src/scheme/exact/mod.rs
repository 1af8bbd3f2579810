//! `exact`: the amount of the offer, moved once.

pub mod eip3009;
