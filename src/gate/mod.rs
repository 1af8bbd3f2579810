//! May it pass?

pub mod event;
