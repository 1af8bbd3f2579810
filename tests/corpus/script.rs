//! Reads the files of the corpus. README.md beside them says what their lines mean.

use std::fs;
use std::path::{Path, PathBuf};

use tollhouse::testing::http2::Field;

/// One spelling of a target, and what becomes of it.
#[derive(Debug, Clone)]
pub struct Alias {
    /// The file and line it stands in.
    pub place: String,
    pub method: Vec<u8>,
    /// As it stands in the request line.
    pub target: Vec<u8>,
    /// `None` when any answer will do that gives nothing away.
    pub status: Option<u16>,
    /// What the backend is asked for, when that is not the same bytes.
    pub forwarded: Option<Vec<u8>>,
}

/// Bytes on one connection, and what becomes of them.
#[derive(Debug)]
pub struct Script {
    /// Its file, and what it shows.
    pub name: String,
    pub sent: Vec<u8>,
    /// Whether the client says that nothing more will come.
    pub half_closed: bool,
    /// The statuses of the answers, in order.
    pub answers: Vec<u16>,
    /// The requests that reach the backend, line by line; `*` stands for any value of a field.
    pub forwarded: Vec<Forwarded>,
}

/// A request at the backend.
#[derive(Debug, Default)]
pub struct Forwarded {
    pub head: Vec<String>,
    pub body: Vec<u8>,
}

/// One stream of HTTP/2, and what becomes of it.
#[derive(Debug)]
pub struct Exchange {
    /// Its file, and what it shows.
    pub name: String,
    /// Pseudo-fields included.
    pub fields: Vec<Field>,
    /// A DATA frame each.
    pub pieces: Vec<Vec<u8>>,
    pub trailers: Vec<Field>,
    /// The status of the answer; `None` when the stream or the connection is given up instead.
    pub status: Option<u16>,
    pub forwarded: Vec<Forwarded>,
}

/// The aliases in a folder.
pub fn aliases(folder: &str) -> Vec<Alias> {
    let mut aliases = Vec::new();
    for (name, text) in files(folder) {
        for (number, line) in text.lines().enumerate() {
            if !line.is_empty() && !line.starts_with('#') {
                aliases.push(alias(format!("{folder}/{name}:{}", number + 1), line));
            }
        }
    }
    aliases
}

fn alias(place: String, line: &str) -> Alias {
    let mut words = line.split(' ').filter(|word| !word.is_empty());
    let mut next = || words.next();
    let (Some(status), Some(method), Some(target)) = (next(), next(), next()) else { panic!("{place}: {line}") };
    let forwarded = match (next(), next()) {
        (None, None) => None,
        (Some("=>"), Some(forwarded)) => Some(bytes(forwarded)),
        _ => panic!("{place}: {line}"),
    };
    let status = (status != "any").then(|| status.parse().unwrap_or_else(|_| panic!("{place}: {status}")));
    Alias { place, method: bytes(method), target: bytes(target), status, forwarded }
}

/// The scripts of a file.
pub fn requests(file: &str) -> Vec<Script> {
    told("requests", file)
}

/// The streams of a file.
pub fn streams(file: &str) -> Vec<Exchange> {
    told("streams", file)
}

/// What is told in a file, line by line, under a title each.
trait Told {
    fn titled(name: String) -> Self;

    /// `None` for a line that is none.
    fn add(&mut self, line: &str) -> Option<()>;
}

fn told<T: Told>(folder: &str, file: &str) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for (name, text) in files(folder).into_iter().filter(|(name, _)| name == file) {
        for (number, line) in text.lines().enumerate() {
            let place = format!("{folder}/{name}:{}", number + 1);
            if let Some(title) = line.strip_prefix("## ") {
                all.push(T::titled(format!("{place} {title}")));
            } else if !line.is_empty() && !line.starts_with("# ") {
                let last = all.last_mut().unwrap_or_else(|| panic!("{place}: it starts with its name"));
                last.add(line).unwrap_or_else(|| panic!("{place}: {line}"));
            }
        }
    }
    all
}

impl Told for Exchange {
    fn titled(name: String) -> Self {
        let (fields, pieces, trailers, forwarded) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Self { name, fields, pieces, trailers, status: None, forwarded }
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        let field = |text: &str| {
            let (name, value) = text.split_once(' ').unwrap_or((text, ""));
            (bytes(name), bytes(value))
        };
        match kind {
            ">" => self.fields.push(field(rest)),
            ">|" => self.pieces.push(bytes(rest)),
            ">>" => self.trailers.push(field(rest)),
            "=" if rest == "refused" => self.status = None,
            "=" => self.status = Some(rest.parse().ok()?),
            _ => return expect(&mut self.forwarded, kind, rest),
        }
        Some(())
    }
}

/// A line about what reaches the backend.
fn expect(forwarded: &mut Vec<Forwarded>, kind: &str, rest: &str) -> Option<()> {
    match kind {
        "<<" => forwarded.push(Forwarded { head: vec![rest.to_owned()], ..Forwarded::default() }),
        "<" => forwarded.last_mut()?.head.push(rest.to_owned()),
        "<|" => forwarded.last_mut()?.body.extend(bytes(rest)),
        _ => return None,
    }
    Some(())
}

impl Told for Script {
    fn titled(name: String) -> Self {
        let (sent, answers, forwarded) = (Vec::new(), Vec::new(), Vec::new());
        Self { name, sent, half_closed: false, answers, forwarded }
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
        match kind {
            ">" => {
                self.sent.extend(bytes(rest));
                self.sent.extend(b"\r\n");
            }
            ">|" => self.sent.extend(bytes(rest)),
            "!" if rest == "half-close" => self.half_closed = true,
            "=" => self.answers = rest.split_whitespace().map(|status| status.parse().ok()).collect::<Option<_>>()?,
            _ => return expect(&mut self.forwarded, kind, rest),
        }
        Some(())
    }
}

/// The names of the files in a folder.
pub fn names(folder: &str) -> Vec<String> {
    files(folder).into_iter().map(|(name, _)| name).collect()
}

/// The files of a folder, by name.
fn files(folder: &str) -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).expect("the corpus is there").map(|entry| entry.expect("a file").path()).collect();
    paths.sort();
    let named = |path: PathBuf| {
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        (name, fs::read_to_string(&path).expect("the corpus is text"))
    };
    paths.into_iter().map(named).collect()
}

/// `\r`, `\n`, `\t`, `\s` (a space), `\0`, `\\` and `\xHH` are the bytes they name; the rest stands for itself.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'\\' {
            bytes.push(byte);
            continue;
        }
        bytes.push(match rest.next() {
            Some(b'r') => b'\r',
            Some(b'n') => b'\n',
            Some(b't') => b'\t',
            Some(b's') => b' ',
            Some(b'0') => 0,
            Some(b'\\') => b'\\',
            Some(b'x') => {
                let digits: String = rest.by_ref().take(2).map(char::from).collect();
                u8::from_str_radix(&digits, 16).unwrap_or_else(|_| panic!("{text}"))
            }
            _ => panic!("{text}"),
        });
    }
    bytes
}
