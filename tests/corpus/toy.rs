//! Four small backends with the same things to give, which find them in four different ways.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use unicode_normalization::UnicodeNormalization;

/// What only those may see who have paid for it, or nobody.
pub const PRICED: &str = "sold: tomorrow's weather";
/// What everybody may see.
pub const OPEN: &str = "open: yesterday's weather";
/// How every piece of what is for sale begins, the part that [`PART`] asks for included.
pub const MARK: &str = "sold";
/// The one range that is served.
const PART: &[u8] = b"bytes=0-3";

/// How a backend reads a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Byte for byte.
    Strict,
    /// As nginx: decoded once, slashes merged, dots resolved.
    Nginx,
    /// As Express: without regard to case and to a slash at the end, segments decoded one by one; and it believes what
    /// override fields say.
    Express,
    /// As much as any server we heard of does, all at once: case, compatibility forms, backslashes, parameters after
    /// `;`, dots and blanks at the end, overlong UTF-8, `%` decoded until there is none.
    CaseInsensitive,
}

impl Manner {
    pub const ALL: [Self; 4] = [Self::Strict, Self::Nginx, Self::Express, Self::CaseInsensitive];

    pub const fn host(self) -> &'static str {
        match self {
            Self::Strict => "strict.test",
            Self::Nginx => "nginx.test",
            Self::Express => "express.test",
            Self::CaseInsensitive => "careless.test",
        }
    }

    /// The path as this backend sees it; `None` when it answers 400.
    pub fn resolve(self, path: &[u8]) -> Option<String> {
        match self {
            Self::Strict => Some(String::from_utf8_lossy(path).into_owned()),
            Self::Nginx => Some(String::from_utf8_lossy(&walk(&decode(path)?)).into_owned()),
            Self::Express => {
                let segments = path.split(|byte| *byte == b'/').map(decode).collect::<Option<Vec<_>>>()?;
                let path = String::from_utf8_lossy(&segments.join(&b'/')).to_lowercase();
                Some(path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path).to_owned())
            }
            Self::CaseInsensitive => Some(carelessly(path)),
        }
    }
}

/// What the careless one does not see.
const UNSEEN: [char; 13] = [
    '\u{ad}',
    '\u{34f}',
    '\u{200b}',
    '\u{200c}',
    '\u{200d}',
    '\u{200e}',
    '\u{202e}',
    '\u{2060}',
    '\u{3164}',
    '\u{fe0f}',
    '\u{feff}',
    '\u{ffa0}',
    '\u{e0001}',
];

/// Without what a server of another decade would not have noticed.
fn carelessly(path: &[u8]) -> String {
    let mut bytes = path.to_vec();
    for _ in 0..4 {
        bytes = decode(&bytes).unwrap_or(bytes);
    }
    let text: String = shorten(&bytes).nfkc().flat_map(char::to_lowercase).collect();
    let text: String = text.chars().filter(|letter| !letter.is_control() && !UNSEEN.contains(letter)).collect();
    let text = text.replace('\\', "/");
    let plain = text.split('/').map(|segment| {
        let segment = segment.split(';').next().unwrap_or_default().trim();
        if matches!(segment, "." | "..") { segment } else { segment.trim_end_matches(['.', ' ']).trim() }
    });
    let path = String::from_utf8_lossy(&walk(plain.collect::<Vec<_>>().join("/").as_bytes())).into_owned();
    path.strip_suffix('/').filter(|rest| !rest.is_empty()).unwrap_or(&path).to_owned()
}

/// UTF-8 with two bytes where one would do, which decoders of old accepted.
fn shorten(bytes: &[u8]) -> String {
    let mut short = Vec::new();
    let mut rest = bytes;
    loop {
        rest = match rest {
            [] => return String::from_utf8_lossy(&short).into_owned(),
            [0xe0, high @ 0x80..=0x9f, low @ 0x80..=0xbf, rest @ ..] if (high & 0x3f) < 2 => {
                short.push((high & 1) << 6 | (low & 0x3f));
                rest
            }
            [high @ 0xc0..=0xc1, low @ 0x80..=0xbf, rest @ ..] => {
                short.push((high & 1) << 6 | (low & 0x3f));
                rest
            }
            [byte, rest @ ..] => {
                short.push(*byte);
                rest
            }
        };
    }
}

/// Every escape once; `None` for what is none.
fn decode(path: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::new();
    let mut rest = path;
    loop {
        rest = match rest {
            [] => return Some(decoded),
            [b'%', high, low, rest @ ..] => {
                let digits = [*high, *low];
                decoded.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
                rest
            }
            [b'%', ..] => return None,
            [byte, rest @ ..] => {
                decoded.push(*byte);
                rest
            }
        };
    }
}

/// Merges slashes and follows dots.
fn walk(path: &[u8]) -> Vec<u8> {
    let mut stack: Vec<&[u8]> = Vec::new();
    for segment in path.split(|byte| *byte == b'/') {
        match segment {
            b"" | b"." => {}
            b".." => drop(stack.pop()),
            name => stack.push(name),
        }
    }
    let slash: &[u8] = if path.ends_with(b"/") && !stack.is_empty() { b"/" } else { b"" };
    [b"/".as_slice(), &stack.join(&b'/'), slash].concat()
}

/// A request, byte for byte.
#[derive(Debug, Clone)]
pub struct Arrived {
    pub head: Vec<Vec<u8>>,
    pub body: Vec<u8>,
}

/// A running one.
pub struct Toy {
    address: SocketAddr,
    arrived: Arc<Mutex<Vec<Arrived>>>,
    server: JoinHandle<()>,
}

impl Toy {
    pub async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let arrived = Arc::new(Mutex::new(Vec::new()));
        let notes = Arc::clone(&arrived);
        let server = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let notes = Arc::clone(&notes);
                tokio::spawn(async move {
                    let mut stream = BufStream::new(stream);
                    while answer(&mut stream, manner, &notes).await.is_some() {}
                });
            }
        });
        Self { address, arrived, server }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has arrived since the last time.
    pub fn take(&self) -> Vec<Arrived> {
        std::mem::take(&mut *self.arrived.lock().expect("nobody panics while holding it"))
    }
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// Answers one request; `None` ends the connection.
async fn answer(stream: &mut BufStream<TcpStream>, manner: Manner, notes: &Mutex<Vec<Arrived>>) -> Option<()> {
    let mut head = Vec::new();
    loop {
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.ok().filter(|read| *read > 0)?;
        let line = line.strip_suffix(b"\r\n").unwrap_or(&line).to_vec();
        if line.is_empty() {
            break;
        }
        head.push(line);
    }
    let body = body(stream, &head).await?;
    let (status, text) = give(manner, &head);
    let is_head = head[0].starts_with(b"HEAD ");
    notes.lock().expect("nobody panics while holding it").push(Arrived { head, body });
    let (range, length) = (if status == 206 { "content-range: bytes 0-3/24\r\n" } else { "" }, text.len());
    let framing = if status == 304 { String::new() } else { format!("content-length: {length}\r\n") };
    let text = if is_head || status == 304 { "" } else { text };
    let answer = format!("HTTP/1.1 {status} Toy\r\netag: \"1\"\r\n{range}{framing}\r\n{text}");
    stream.write_all(answer.as_bytes()).await.ok()?;
    stream.flush().await.ok()
}

/// The bytes of a body, framing included.
async fn body(stream: &mut BufStream<TcpStream>, head: &[Vec<u8>]) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    if field(head, b"transfer-encoding").is_some() {
        loop {
            let start = body.len();
            stream.read_until(b'\n', &mut body).await.ok().filter(|read| *read > 0)?;
            let size = std::str::from_utf8(&body[start..]).ok()?.trim();
            let size = u64::from_str_radix(size, 16).ok()?;
            let mut chunk = vec![0; usize::try_from(size).ok()? + 2];
            stream.read_exact(&mut chunk).await.ok()?;
            body.extend(chunk);
            if size == 0 {
                return Some(body);
            }
        }
    }
    if let Some(length) = field(head, b"content-length") {
        body.resize(std::str::from_utf8(length).ok()?.parse().ok()?, 0);
        stream.read_exact(&mut body).await.ok()?;
    }
    Some(body)
}

fn field<'h>(head: &'h [Vec<u8>], name: &[u8]) -> Option<&'h [u8]> {
    let value = |line: &'h Vec<u8>| {
        let colon = line.iter().position(|byte| *byte == b':')?;
        line[..colon].eq_ignore_ascii_case(name).then(|| line[colon + 1..].trim_ascii())
    };
    head[1..].iter().find_map(value)
}

/// What the backend has under the path of a request. It has no idea of prices.
fn give(manner: Manner, head: &[Vec<u8>]) -> (u16, &'static str) {
    let mut words = head[0].split(|byte| *byte == b' ');
    let (Some(mut method), Some(mut target)) = (words.next(), words.next()) else { return (400, "") };
    if manner == Manner::Express {
        // So do Symfony, Rails and others, each some of them.
        let overridden = |names: [&[u8]; 3]| names.into_iter().find_map(|name| field(head, name));
        target = overridden([b"x-original-url", b"x-rewrite-url", b"x_original_url"]).unwrap_or(target);
        method = overridden([b"x-http-method-override", b"x-method-override", b"x_http_method"]).unwrap_or(method);
    }
    let path = target.split(|byte| matches!(byte, b'?' | b'#')).next().unwrap_or_default();
    let path = manner.resolve(path);
    match path.as_deref() {
        None => (400, ""),
        Some(path) if is_priced(path) && method != b"OPTIONS" => match field(head, b"range") {
            _ if field(head, b"if-none-match") == Some(b"\"1\"") => (304, ""),
            Some(PART) => (206, MARK),
            _ => (200, PRICED),
        },
        Some(_) => (200, OPEN),
    }
}

/// What the shop sells or keeps closed, however its path ends. Who tells cases apart asks with one, who does not with
/// small letters.
fn is_priced(path: &str) -> bool {
    let path = path.strip_suffix('/').unwrap_or(path);
    let below = |top: &str| path.strip_prefix(top).filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let package = below("/packages").and_then(|rest| rest.get(1..)?.split_once('/'));
    matches!(path, "/secret" | "/v1/reports/7" | "/Big/Report" | "/big/report")
        || below("/closed").is_some()
        || package.is_some_and(|(_, rest)| rest == "secret")
}
