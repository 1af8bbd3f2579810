//! Whole gateways before facilitators that answer badly over real HTTP, one row for each way of doing so; and before
//! several facilitators, of which some do not answer at all.

mod answers;
mod breaker;
mod denied;
mod pool;
mod settle;
mod stage;
mod supported;
mod verify;
