//! The one canonical form of a request target: what is matched is what is forwarded (I9, S38).
//!
//! The raw path is split on `/` and each segment is decoded once. Whatever a backend might read in another way is
//! refused with 400 before anything is matched. What remains is forwarded in canonical escapes, and the query as it
//! came. (SAFETY, "Canonical target".)

use std::borrow::Cow;
use std::fmt::Write;
use std::net::Ipv6Addr;

use unicode_normalization::UnicodeNormalization;

use crate::primitives::letters::{is_blank, is_unseen};

/// How long a path may be, in bytes as it arrives.
pub const MAX_PATH: usize = 8 * 1024;

/// A slash inside a segment, as it is matched and forwarded.
const KEPT_SLASH: &str = "%2F";

/// A request target in canonical form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    path_and_query: String,
    path_length: usize,
    /// The path with its segments decoded, where that differs. No decoded segment contains a `/`.
    decoded: Option<String>,
    /// Whether a segment has a `%2F`, which stays one when the segment is decoded. Nothing else is decoded to that.
    keeps_slash: bool,
}

impl Target {
    /// Reads the target of a request line in origin form, for example `/v1/weather?city=oslo`.
    ///
    /// Bytes outside ASCII are not allowed in a target, but clients send them: they are accepted where they are UTF-8,
    /// escaped in the path and left alone in the query.
    ///
    /// ```
    /// use tollhouse::proxy::target::Target;
    /// let target = Target::parse(b"/caf%c3%a9/%7Ejo?q=%2e%2e").unwrap();
    /// assert_eq!(target.path_and_query(), "/caf%C3%A9/~jo?q=%2e%2e");
    /// assert_eq!(target.segments().collect::<Vec<_>>(), ["café", "~jo"]);
    /// assert!(Target::parse(b"/v1/../admin").is_err());
    /// ```
    ///
    /// # Errors
    /// When the target can be read in more than one way: 400.
    pub fn parse(target: &[u8]) -> Result<Self, Ambiguous> {
        let target = Self::parse_keeping(target)?;
        if target.keeps_slash { Err(Ambiguous::Slash) } else { Ok(target) }
    }

    /// As [`parse`](Self::parse), but a segment may have escaped slashes between other characters: they are kept, as
    /// `%2F`, in what is matched and in what is forwarded. Only some routes take such a target.
    ///
    /// ```
    /// use tollhouse::proxy::target::Target;
    /// let target = Target::parse_keeping(b"/projects/group%2fname").unwrap();
    /// assert_eq!(target.path(), "/projects/group%2Fname");
    /// assert_eq!(target.segments().collect::<Vec<_>>(), ["projects", "group%2Fname"]);
    /// assert_eq!(target.divided(), "/projects/group/name");
    /// assert!(Target::parse_keeping(b"/projects/..%2fadmin").is_err());
    /// ```
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_keeping(target: &[u8]) -> Result<Self, Ambiguous> {
        let (path, query) = match target.iter().position(|byte| *byte == b'?') {
            Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
            None => (target, None),
        };
        let Some(segments) = path.strip_prefix(b"/") else { return Err(Ambiguous::NotOriginForm) };
        if path.len() > MAX_PATH {
            return Err(Ambiguous::TooLong);
        }
        let mut path_and_query = String::with_capacity(target.len());
        let (decoded, keeps_slash) = match plain(path) {
            Some(plain) => {
                check_shape(&plain[1..])?;
                path_and_query.push_str(plain);
                (None, false)
            }
            None => {
                let decoded = recode(segments, &mut path_and_query)?;
                let keeps_slash = decoded.contains(KEPT_SLASH);
                (Some(decoded), keeps_slash)
            }
        };
        let path_length = path_and_query.len();
        if let Some(query) = query {
            path_and_query.push('?');
            path_and_query.push_str(check_query(query)?);
        }
        Ok(Self { path_and_query, path_length, decoded, keeps_slash })
    }

    /// The canonical path: what is matched and forwarded.
    pub fn path(&self) -> &str {
        &self.path_and_query[..self.path_length]
    }

    /// What is forwarded: the canonical path and the query as it came.
    pub fn path_and_query(&self) -> &str {
        &self.path_and_query
    }

    /// What stands after the first `?`, untouched; empty when nothing does.
    pub fn query(&self) -> Option<&str> {
        self.path_and_query[self.path_length..].strip_prefix('?')
    }

    /// The canonical path and the query, each by itself.
    pub fn into_parts(self) -> (String, Option<String>) {
        let query = self.query().map(str::to_owned);
        let Self { path_and_query: mut path, path_length, .. } = self;
        path.truncate(path_length);
        (path, query)
    }

    /// Whether a segment has an escaped slash.
    pub fn keeps_slash(&self) -> bool {
        self.keeps_slash
    }

    /// The decoded path as a backend sees it for which an escaped slash divides segments.
    pub fn divided(&self) -> String {
        self.decoded.as_deref().unwrap_or_else(|| self.path()).replace(KEPT_SLASH, "/")
    }

    /// The segments, decoded. A trailing slash is an empty last one; `/` alone is one empty segment.
    pub fn segments(&self) -> Segments<'_> {
        let decoded = self.decoded.as_deref().unwrap_or_else(|| self.path());
        Segments { rest: decoded.strip_prefix('/') }
    }
}

/// The decoded segments of a path. A lookup copies it at every segment, so it is no larger than it must be.
#[derive(Debug, Clone, Copy)]
pub struct Segments<'a> {
    rest: Option<&'a str>,
}

impl<'a> Iterator for Segments<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?;
        let (segment, rest) = match rest.bytes().position(|byte| byte == b'/') {
            Some(slash) => (&rest[..slash], Some(&rest[slash + 1..])),
            None => (rest, None),
        };
        self.rest = rest;
        Some(segment)
    }
}

/// Why a target can be read in more than one way, in words for the 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Ambiguous {
    /// `*`, an absolute URL, an authority, or nothing.
    #[error("the request target does not start with `/`")]
    NotOriginForm,
    /// Above [`MAX_PATH`].
    #[error("the path is longer than {MAX_PATH} bytes")]
    TooLong,
    /// `//`: some servers see one slash.
    #[error("the path has an empty segment")]
    EmptySegment,
    /// `.` or `..`, plain, escaped or with blanks around them: some servers resolve them.
    #[error("the path has a `.` or `..` segment")]
    DotSegment,
    /// `%2F`: some servers see a slash. Also where it may stand in a segment: at its end, or beside dots.
    #[error("the path has an escaped `/`")]
    Slash,
    /// `\` or `%5C`: some servers see a slash.
    #[error("the path has a `\\`")]
    Backslash,
    /// `;` or `%3B`: some servers cut a segment there.
    #[error("the path has a `;`")]
    Semicolon,
    /// A plain space; or NUL, line breaks and their like, plain or escaped: some servers end a path there.
    #[error("the path has a space or a control character")]
    Control,
    /// A `%` without two hexadecimal digits.
    #[error("the path has a malformed escape")]
    Escape,
    /// `%2541`: some servers decode twice.
    #[error("the path is escaped twice")]
    EscapedTwice,
    /// The bytes of a segment, decoded, are no text.
    #[error("the path is not UTF-8")]
    NotUtf8,
    /// Characters that some servers turn into one of the above, for example fullwidth `．．`.
    #[error("the path has characters that stand for `/`, `\\`, `;`, `%` or dots")]
    Disguised,
    /// A `#`: whoever sent it did not mean it to arrive.
    #[error("the request target has a fragment")]
    Fragment,
    /// A space or a control character after the `?`.
    #[error("the query has a space or a control character")]
    QueryControl,
    /// The bytes of the query are no text.
    #[error("the query is not UTF-8")]
    QueryNotUtf8,
}

/// The canonical form of a `Host`: lower-case, without port and trailing dot (S41). `None` when it is not a host.
///
/// ```
/// use tollhouse::proxy::target::canonical_host;
/// assert_eq!(canonical_host("API.Example.com.:8443").as_deref(), Some("api.example.com"));
/// assert_eq!(canonical_host("user@api.example.com"), None);
/// ```
pub fn canonical_host(value: &str) -> Option<Cow<'_, str>> {
    if let Some(rest) = value.strip_prefix('[') {
        let (address, port) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        return (port.is_empty() || port.strip_prefix(':').is_some_and(is_port)).then(|| format!("[{address}]").into());
    }
    let name = match value.split_once(':') {
        Some((name, port)) if is_port(port) => name,
        Some(_) => return None,
        None => value,
    };
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.len() > 253 || !name.as_bytes().split(|byte| *byte == b'.').all(is_label) {
        return None;
    }
    Some(if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        name.to_ascii_lowercase().into()
    } else {
        name.into()
    })
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn is_label(text: &[u8]) -> bool {
    (1..=63).contains(&text.len())
        && text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// The path as text, if it stands for itself.
fn plain(path: &[u8]) -> Option<&str> {
    let plain = path.iter().all(|byte| is_literal(*byte) || *byte == b'/');
    std::str::from_utf8(path).ok().filter(|_| plain)
}

/// Decodes each segment and writes the canonical path; gives the decoded path.
fn recode(segments: &[u8], canonical: &mut String) -> Result<String, Ambiguous> {
    let mut decoded = Vec::with_capacity(segments.len() + 1);
    for segment in segments.split(|byte| *byte == b'/') {
        decoded.push(b'/');
        canonical.push('/');
        let start = decoded.len();
        let mut rest = segment;
        while let Some((&first, after)) = rest.split_first() {
            rest = after;
            let byte = if first == b'%' { unescape(&mut rest)? } else { check_raw(first)? };
            decoded.push(byte);
            // An escaped sub-delimiter is not the same as a plain one, so only what is unreserved loses its escape.
            if is_unreserved(byte) || (first != b'%' && is_literal(byte)) {
                canonical.push(char::from(byte));
            } else {
                let _infallible = write!(canonical, "%{byte:02X}");
            }
        }
        let text = std::str::from_utf8(&decoded[start..]).map_err(|_| Ambiguous::NotUtf8)?;
        if text.contains('/') {
            check_divided(text)?;
            let kept = text.replace('/', KEPT_SLASH);
            decoded.splice(start.., kept.into_bytes());
        } else {
            check_text(text)?;
        }
    }
    let decoded = String::from_utf8(decoded).map_err(|_| Ambiguous::NotUtf8)?;
    check_shape(&decoded[1..])?;
    Ok(decoded)
}

/// A segment with slashes in it. Divided there, none of its parts is empty or a dot segment: whoever divides segments
/// at escaped slashes sees a path all the same.
fn check_divided(segment: &str) -> Result<(), Ambiguous> {
    segment.split('/').try_for_each(|part| match part {
        "" | "." | ".." => Err(Ambiguous::Slash),
        part => check_text(part),
    })
}

fn unescape(rest: &mut &[u8]) -> Result<u8, Ambiguous> {
    let [high, low, after @ ..] = rest else { return Err(Ambiguous::Escape) };
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (Some(high), Some(low)) = (digit(*high), digit(*low)) else { return Err(Ambiguous::Escape) };
    *rest = after;
    Ok(high << 4 | low)
}

fn check_raw(byte: u8) -> Result<u8, Ambiguous> {
    match byte {
        b'#' => Err(Ambiguous::Fragment),
        // A plain space ends the request line; whatever let one through read it in its own way.
        b' ' => Err(Ambiguous::Control),
        _ => Ok(byte),
    }
}

/// What no segment may contain once it is decoded.
fn check_text(segment: &str) -> Result<(), Ambiguous> {
    check_characters(segment)?;
    // Some systems trim a name before they look whether it is one of these.
    let is_dots = |text: &str| matches!(text.trim_matches(is_blank), "." | "..");
    if is_dots(segment) {
        return Err(Ambiguous::DotSegment);
    }
    if segment.is_ascii() {
        return Ok(());
    }
    let plain: String = segment.nfkc().filter(|letter| !is_unseen(*letter)).collect();
    match check_characters(&plain) {
        Ok(()) if !is_dots(&plain) => Ok(()),
        _ => Err(Ambiguous::Disguised),
    }
}

fn check_characters(text: &str) -> Result<(), Ambiguous> {
    for (position, character) in text.char_indices() {
        match character {
            '/' => return Err(Ambiguous::Slash),
            '\\' => return Err(Ambiguous::Backslash),
            ';' => return Err(Ambiguous::Semicolon),
            '%' if starts_with_hex(&text[position + 1..]) => return Err(Ambiguous::EscapedTwice),
            _ if character.is_control() => return Err(Ambiguous::Control),
            _ => {}
        }
    }
    Ok(())
}

fn starts_with_hex(text: &str) -> bool {
    matches!(text.as_bytes(), [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
}

/// No empty segment but the last, and no dot segments. `path` is decoded, without the first slash.
fn check_shape(path: &str) -> Result<(), Ambiguous> {
    let mut segments = path.split('/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            "" if segments.peek().is_some() => return Err(Ambiguous::EmptySegment),
            "." | ".." => return Err(Ambiguous::DotSegment),
            _ => {}
        }
    }
    Ok(())
}

fn check_query(query: &[u8]) -> Result<&str, Ambiguous> {
    let query = std::str::from_utf8(query).map_err(|_| Ambiguous::QueryNotUtf8)?;
    if query.contains('#') {
        return Err(Ambiguous::Fragment);
    }
    if query.contains(|character: char| character == ' ' || character.is_control()) {
        return Err(Ambiguous::QueryControl);
    }
    Ok(query)
}

/// RFC 3986, section 2.3.
fn is_unreserved(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~')
}

/// What stands for itself in a segment: RFC 3986, `pchar`, without `;`.
fn is_literal(byte: u8) -> bool {
    is_unreserved(byte)
        || matches!(byte, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@')
}
