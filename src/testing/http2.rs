//! A client of HTTP/2 that chooses every frame and every field, well-formed or not.
//!
//! Fields are encoded as literals without Huffman codes or a dynamic table (RFC 7541, 6.2.2), so what a test says is what
//! is on the wire. Of answers it reads what tests look at: the status, the body, and how a stream or connection ended.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::TcpStream;

/// Nothing in a test takes longer; what does, is stuck.
const PATIENCE: Duration = Duration::from_secs(20);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// `SETTINGS_HEADER_TABLE_SIZE` of 0: answers refer to no earlier ones.
const SETTINGS: [u8; 6] = [0, 1, 0, 0, 0, 0];
/// As much as may be given at once: no test waits for leave to be answered.
const WINDOW: [u8; 4] = [0x3f, 0xff, 0, 0];

/// Kinds of frames (RFC 9113, 6).
pub mod kind {
    /// A piece of a body.
    pub const DATA: u8 = 0;
    /// Fields.
    pub const HEADERS: u8 = 1;
    /// A stream is given up.
    pub const RST_STREAM: u8 = 3;
    /// What the sender asks of its peer.
    pub const SETTINGS: u8 = 4;
    /// A question whether the peer is there.
    pub const PING: u8 = 6;
    /// The connection ends.
    pub const GOAWAY: u8 = 7;
    /// Leave to send more.
    pub const WINDOW_UPDATE: u8 = 8;
    /// More fields.
    pub const CONTINUATION: u8 = 9;
}

/// Nothing follows on this stream; of SETTINGS and PING, that they have arrived.
pub const END_STREAM: u8 = 0x1;
/// No more fields follow.
pub const END_HEADERS: u8 = 0x4;

/// A field, pseudo-fields included.
pub type Field = (Vec<u8>, Vec<u8>);

/// A frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// One of [`kind`].
    pub kind: u8,
    /// What it ends.
    pub flags: u8,
    /// The stream it belongs to; 0 for the connection.
    pub stream: u32,
    /// What it holds.
    pub payload: Vec<u8>,
}

/// How a stream ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// With an answer.
    Answered {
        /// Its status.
        status: u16,
        /// Its body, as far as it came.
        body: Vec<u8>,
        /// Whether the body came to its end.
        whole: bool,
    },
    /// It was reset without an answer, for this reason (RFC 9113, 7).
    Reset(u32),
    /// The connection ended without an answer.
    Closed,
}

impl Outcome {
    /// The status, if there was an answer.
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Answered { status, .. } => Some(*status),
            Self::Reset(_) | Self::Closed => None,
        }
    }

    /// The body as text, if there was one.
    pub fn text(&self) -> String {
        match self {
            Self::Answered { body, .. } => String::from_utf8_lossy(body).into_owned(),
            Self::Reset(_) | Self::Closed => String::new(),
        }
    }
}

/// A connection in plaintext.
pub struct Wire {
    stream: BufStream<TcpStream>,
    next: u32,
}

impl Wire {
    /// Connects and says the little that has to be said first.
    ///
    /// # Panics
    /// When nobody listens there.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server listens");
        let mut wire = Self { stream: BufStream::new(stream), next: 1 };
        let mut bytes = PREFACE.to_vec();
        put(&mut bytes, kind::SETTINGS, 0, 0, &SETTINGS);
        put(&mut bytes, kind::WINDOW_UPDATE, 0, 0, &WINDOW);
        wire.write(&bytes).await;
        wire
    }

    /// Begins a stream with these fields; `end` says that nothing follows. Returns its number.
    pub async fn begin(&mut self, fields: &[Field], end: bool) -> u32 {
        let (stream, flags) = (self.next, END_HEADERS | if end { END_STREAM } else { 0 });
        self.next += 2;
        self.send(kind::HEADERS, flags, stream, &encoded(fields)).await;
        stream
    }

    /// Sends a piece of a body.
    pub async fn data(&mut self, stream: u32, piece: &[u8], end: bool) {
        self.send(kind::DATA, if end { END_STREAM } else { 0 }, stream, piece).await;
    }

    /// Ends a stream with trailers.
    pub async fn trailers(&mut self, stream: u32, fields: &[Field]) {
        self.send(kind::HEADERS, END_HEADERS | END_STREAM, stream, &encoded(fields)).await;
    }

    /// Gives a stream up, with CANCEL.
    pub async fn reset(&mut self, stream: u32) {
        self.send(kind::RST_STREAM, 0, stream, &8u32.to_be_bytes()).await;
    }

    /// Sends any frame.
    pub async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let mut bytes = Vec::with_capacity(payload.len() + 9);
        put(&mut bytes, kind, flags, stream, payload);
        self.write(&bytes).await;
    }

    /// Sends these bytes as they are. A server that hangs up in the middle is part of many a test.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
        let _ = self.stream.flush().await;
    }

    /// What becomes of a stream. What belongs to others is passed over.
    pub async fn outcome(&mut self, stream: u32) -> Outcome {
        let (mut status, mut body) = (None, Vec::new());
        let ended = |status: Option<u16>, body: Vec<u8>, otherwise| match status {
            Some(status) => Outcome::Answered { status, body, whole: false },
            None => otherwise,
        };
        loop {
            let Some(frame) = self.next_frame().await else { return ended(status, body, Outcome::Closed) };
            if frame.stream != stream {
                continue;
            }
            match frame.kind {
                // Trailers have no status.
                kind::HEADERS => status = status.or_else(|| status_of(&frame.payload)),
                kind::DATA => body.extend_from_slice(&frame.payload),
                kind::RST_STREAM => return ended(status, body, Outcome::Reset(code(&frame.payload))),
                _ => continue,
            }
            if frame.flags & END_STREAM != 0 {
                let Some(status) = status else { return Outcome::Closed };
                return Outcome::Answered { status, body, whole: true };
            }
        }
    }

    /// The next frame; `None` at the end of the connection. What has to be acknowledged is.
    ///
    /// # Panics
    /// When nothing comes, and the connection does not end either.
    pub async fn next_frame(&mut self) -> Option<Frame> {
        let reading = tokio::time::timeout(PATIENCE, self.read_frame()).await;
        let frame = reading.expect("the server is stuck").ok()?;
        if matches!(frame.kind, kind::SETTINGS | kind::PING) && frame.flags & END_STREAM == 0 {
            let echoed = if frame.kind == kind::PING { frame.payload.clone() } else { Vec::new() };
            self.send(frame.kind, END_STREAM, 0, &echoed).await;
        }
        Some(frame)
    }

    /// Reads to the end of the connection, and returns the reason that was given for it, if one was.
    pub async fn farewell(&mut self) -> Option<u32> {
        let mut reason = None;
        while let Some(frame) = self.next_frame().await {
            if frame.kind == kind::GOAWAY {
                reason = frame.payload.get(4..).map(code);
            }
        }
        reason
    }

    async fn read_frame(&mut self) -> io::Result<Frame> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let [high, middle, low, kind, flags, a, b, c, d] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, high, middle, low]) as usize];
        self.stream.read_exact(&mut payload).await?;
        Ok(Frame { kind, flags, stream: u32::from_be_bytes([a & 0x7f, b, c, d]), payload })
    }
}

/// Appends a frame.
pub fn put(bytes: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    let length = u32::try_from(payload.len()).expect("no test sends more").to_be_bytes();
    bytes.extend_from_slice(&length[1..]);
    bytes.extend_from_slice(&[kind, flags]);
    bytes.extend_from_slice(&stream.to_be_bytes());
    bytes.extend_from_slice(payload);
}

/// These fields as a block.
pub fn encoded(fields: &[Field]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend_from_slice(text);
        }
    }
    block
}

/// A length of up to seven bits, or of more (RFC 7541, 5.1).
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(length as u8);
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push((rest % 128) as u8 | 128);
        rest /= 128;
    }
    block.push(rest as u8);
}

fn code(payload: &[u8]) -> u32 {
    payload.first_chunk().map_or(u32::MAX, |bytes| u32::from_be_bytes(*bytes))
}

/// The statuses that have a number of their own (RFC 7541, appendix A), from 8 on.
const NUMBERED: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];

/// The status, which every block of an answer begins with (RFC 9113, 8.3).
fn status_of(block: &[u8]) -> Option<u16> {
    // The table may be said to have shrunk to nothing, as it was asked to.
    let block = block.strip_prefix(&[0x20]).unwrap_or(block);
    match block {
        [number, ..] if number & 0x80 != 0 => NUMBERED.get(usize::from((number & 0x7f).checked_sub(8)?)).copied(),
        // A literal whose name is `:status`, in one of the three ways to write one.
        [0x08 | 0x18 | 0x48, head, rest @ ..] => {
            let text = rest.get(..usize::from(head & 0x7f))?;
            if head & 0x80 == 0 { std::str::from_utf8(text).ok()?.parse().ok() } else { digits(text) }
        }
        _ => None,
    }
}

/// Three digits in Huffman's code: 0 to 2 have five bits, from 0 on, and 3 to 9 six, from 25 on (RFC 7541, appendix B).
fn digits(text: &[u8]) -> Option<u16> {
    let bits: Vec<u16> = text.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let number = |bits: &[u16]| bits.iter().fold(0, |number, bit| number << 1 | bit);
    let (mut rest, mut status) = (&bits[..], 0);
    for _ in 0..3 {
        let short = number(rest.get(..5)?);
        let (digit, taken) = if short < 3 { (short, 5) } else { (number(rest.get(..6)?).checked_sub(22)?, 6) };
        (rest, status) = (&rest[taken..], status * 10 + digit);
    }
    Some(status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_however_it_is_written() {
        assert_eq!(status_of(&[0x88]), Some(200));
        assert_eq!(status_of(&[0x20, 0x8d]), Some(404));
        // RFC 7541, C.6.1: `302` is 64 02 and C.6.2: `307` is 64 0e ff.
        assert_eq!(status_of(&[0x48, 0x82, 0x64, 0x02, 0x58]), Some(302));
        assert_eq!(status_of(&[0x48, 0x83, 0x64, 0x0e, 0xff]), Some(307));
        assert_eq!(status_of(&[0x08, 0x03, b'4', b'0', b'2']), Some(402));
        assert_eq!(status_of(b"\x00\x0bgrpc-status"), None);
    }

    #[test]
    fn a_long_field_has_a_long_length() {
        // RFC 7541, C.1.2, with a prefix of seven bits: 1337 - 127 = 1210.
        let mut block = Vec::new();
        length(&mut block, 1337);
        assert_eq!(block, [127, 0b1011_1010, 0b0000_1001]);
    }
}
