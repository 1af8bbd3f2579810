//! One process takes over from another without a moment in which nobody listens.
//!
//! The old process starts the binary anew and sends it the sockets it listens at. The new one reads the file, opens the
//! ledger, takes the sockets that its file still names, and says that it is ready. Only when the old one answers
//! `serve` does it accept; only then does the old one stop to. Until that word nothing has happened: whatever goes wrong, the
//! new process is ended and the old one serves on.

mod estate;
mod legacy;
mod mail;

use std::io;
use std::net::SocketAddr;

use crate::primitives::Place;

pub use estate::HandoverError;
pub(super) use estate::{Estate, Heir, Origin};
pub use legacy::Legacy;

/// Set for a process that takes over from another one: to that one's number.
const MARK: &str = "TOLLHOUSE_HANDOVER";
/// What the old process says first. Another version of these words would have another number.
const GREETING: &str = "tollhouse 1";
/// Before the name of a socket that comes with the message.
const SOCKET: &str = "socket ";
/// Before what the old process's ledger is known by.
const LEDGER: &str = "ledger ";
/// All sockets have been sent.
const ALL: &str = "that is all";
/// Before the name of a socket that the new process keeps.
const TAKES: &str = "takes ";
/// The new process can serve.
const READY: &str = "ready";
/// It is the new one's turn.
const SERVE: &str = "serve";

/// Whether an error says that the other process is gone.
fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

/// What both processes call the socket of a door: by its place in the file, so port 0 is handed on as well.
pub(super) fn door(place: &Place) -> String {
    format!("door {place}")
}

/// What they call that of the status listener.
pub(super) fn status(address: SocketAddr) -> String {
    format!("status {address}")
}

/// What they call that of the admin API.
pub(super) fn admin(place: &Place) -> String {
    format!("admin {place}")
}

#[cfg(test)]
mod tests;
