//! What does this route cost?

mod route;
mod toll;

pub use route::{Host, Limits, Methods, Pattern, Place, Route, RouteKey, Segment};
pub use toll::{Charge, Replay, Toll};
