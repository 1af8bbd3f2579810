//! Just enough HTTP/1.1 to be either end of a connection.

use std::io;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufStream};
use tokio::net::TcpStream;

/// A connection, read in lines and pieces.
pub(super) type Stream = BufStream<TcpStream>;

/// The largest piece of a body that is read at once.
const PIECE: u64 = 64 * 1024;

/// A first line and the fields below it.
#[derive(Debug)]
pub(super) struct Head {
    pub first: String,
    pub fields: HeaderMap,
}

/// Reads a head; `None` when the other side has closed before the first byte of one.
pub(super) async fn read_head(stream: &mut Stream) -> io::Result<Option<Head>> {
    let Some(first) = read_line(stream).await? else { return Ok(None) };
    let first = String::from_utf8(first).map_err(|_| malformed())?;
    let mut fields = HeaderMap::new();
    loop {
        let line = read_line(stream).await?.ok_or_else(malformed)?;
        let Some(colon) = line.iter().position(|byte| *byte == b':') else { break };
        let name = HeaderName::from_bytes(&line[..colon]).map_err(|_| malformed())?;
        let value = HeaderValue::from_bytes(line[colon + 1..].trim_ascii()).map_err(|_| malformed())?;
        fields.append(name, value);
    }
    Ok(Some(Head { first, fields }))
}

/// Where a body ends, and how much of it is still to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Length(u64),
    Chunked,
    UntilClose,
}

impl Framing {
    /// There is no body, or nothing more of it.
    pub const DONE: Self = Self::Length(0);

    /// What these fields announce; a request without an announcement has no body.
    pub fn of_request(fields: &HeaderMap) -> Self {
        Self::announced(fields).unwrap_or(Self::DONE)
    }

    /// What these fields announce; an answer without an announcement ends with the connection.
    pub fn of_answer(fields: &HeaderMap) -> Self {
        Self::announced(fields).unwrap_or(Self::UntilClose)
    }

    fn announced(fields: &HeaderMap) -> Option<Self> {
        if fields.contains_key(header::TRANSFER_ENCODING) {
            return Some(Self::Chunked);
        }
        let length = fields.get(header::CONTENT_LENGTH)?;
        length.to_str().ok()?.parse().ok().map(Self::Length)
    }

    /// The next piece of a body; `None` at its end. A body that ends too soon is an error.
    pub async fn piece(&mut self, stream: &mut Stream) -> io::Result<Option<Bytes>> {
        match self {
            Self::Length(0) => Ok(None),
            Self::Length(left) => {
                let piece = read_some(stream, *left).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
                *left -= piece.len() as u64;
                Ok(Some(piece))
            }
            Self::UntilClose => read_some(stream, PIECE).await,
            Self::Chunked => {
                let chunk = read_chunk(stream).await?;
                if chunk.is_none() {
                    *self = Self::DONE;
                }
                Ok(chunk)
            }
        }
    }

    /// All that is left of a body.
    pub async fn rest(&mut self, stream: &mut Stream) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while let Some(piece) = self.piece(stream).await? {
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }
}

async fn read_chunk(stream: &mut Stream) -> io::Result<Option<Bytes>> {
    let line = read_line(stream).await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = std::str::from_utf8(&line).ok().and_then(|line| u64::from_str_radix(line.trim(), 16).ok());
    let length = length.ok_or_else(malformed)?;
    if length == 0 {
        // Trailers, which end with an empty line.
        while read_line(stream).await?.is_some_and(|line| !line.is_empty()) {}
        return Ok(None);
    }
    let mut chunk = vec![0; usize::try_from(length).map_err(|_| malformed())?];
    stream.read_exact(&mut chunk).await?;
    read_line(stream).await?;
    Ok(Some(chunk.into()))
}

/// At most `limit` bytes; `None` when the other side has closed.
async fn read_some(stream: &mut Stream, limit: u64) -> io::Result<Option<Bytes>> {
    let mut piece = vec![0; usize::try_from(limit.min(PIECE)).map_err(|_| malformed())?];
    let read = stream.read(&mut piece).await?;
    piece.truncate(read);
    Ok((read > 0).then(|| piece.into()))
}

/// A line without its end; `None` when the other side has closed.
async fn read_line(stream: &mut Stream) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    if stream.read_until(b'\n', &mut line).await? == 0 {
        return Ok(None);
    }
    let end = line.trim_ascii_end().len();
    line.truncate(end);
    Ok(Some(line))
}

/// Ends a connection the hard way: closing with no linger makes the kernel send RST rather than FIN.
pub(super) fn reset(stream: &Stream) -> io::Result<()> {
    stream.get_ref().set_zero_linger()
}

pub(super) fn malformed() -> io::Error {
    io::Error::from(io::ErrorKind::InvalidData)
}
