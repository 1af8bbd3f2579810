//! What does this route cost?

mod route;
mod toll;

pub use crate::payment::Replay;
pub use route::{Host, Limits, Methods, Pattern, Place, Route, RouteKey, Segment};
pub use toll::{Charge, Toll};
