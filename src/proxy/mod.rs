//! Carry it: the only module that knows Pingora.

pub mod target;
pub mod upstream;
