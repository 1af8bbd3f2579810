//! Our codec, our checks and our client against what the published x402 SDKs produce and accept.
//!
//! The vectors are dated in `fixtures/SOURCES.md`. Where we answer differently from the SDKs, the difference stands
//! here in a table with its reason, and every case of a group must be named by one table or the other.

mod clients;
mod codec;
mod exchanges;
mod hostile;
mod permit2;
mod scheme;
mod support;
