//! How a facilitator's answers are read, for those who feed the readers nonsense.

pub use crate::facilitator::readers::{Settlement, settled, supported, verified};
