//! What one connection of HTTP/2 may take.

use pingora::protocols::http::v2::server::{H2Options, default_h2_options};

/// How much of one request body waits here to be passed on: with a round trip of 50 ms, an upload of 5 MiB a second.
const STREAM_WINDOW: u32 = 256 * 1024;
/// How much of all of them on one connection. More than a stream's, or one upload to a backend that has stopped reading
/// would stop all others (RFC 9113, 5.2.1).
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// How much of one answer waits here for its client. What does not fit waits at the backend.
const SEND_BUFFER: usize = 64 * 1024;

/// Pingora's bounds: 100 streams at once, heads of 64 KiB, which also bounds CONTINUATION frames. Those of the `h2` crate
/// hold besides: who resets 20 streams before they were looked at, or errs 1,024 times, is told to go (CVE-2023-44487).
pub(super) fn bounds() -> H2Options {
    let mut options = default_h2_options();
    options
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buffer_size(SEND_BUFFER);
    options
}
