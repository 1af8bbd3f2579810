//! The text in front of a price: `GET|POST /users/{id}/**`.

use http::Method;

use super::methods::NAMEABLE;
use super::{Methods, Pattern, Segment};

/// How many segments a pattern may have. It bounds how deep a lookup can go.
const MAX_SEGMENTS: usize = 64;

/// Reads the key of a route.
///
/// ```
/// let (methods, pattern) = tollhouse::tariff::parse_key("GET|POST /users/{id}/**").unwrap();
/// assert_eq!((methods.to_string(), pattern.to_string()), ("GET|POST".into(), "/users/{id}/**".into()));
/// ```
///
/// # Errors
/// When the text could be meant in more than one way, or could match no request in canonical form.
pub fn parse_key(text: &str) -> Result<(Methods, Pattern), KeyError> {
    if text.starts_with('/') {
        return Ok((Methods::Any, Pattern::parse(text)?));
    }
    let Some((methods, path)) = text.split_once(' ') else {
        let mistake = if text.contains('/') { Mistake::NoLeadingSlash } else { Mistake::NoPath };
        return Err(KeyError { offset: 0, length: text.len(), mistake });
    };
    let start = methods.len() + 1;
    let pattern = Pattern::parse(path).map_err(|error| KeyError { offset: error.offset + start, ..error })?;
    Ok((parse_methods(methods)?, pattern))
}

impl Pattern {
    /// Reads the path of a key.
    ///
    /// # Errors
    /// When the text could be meant in more than one way, or could match no request in canonical form.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if !text.starts_with('/') {
            return Err(KeyError { offset: 0, length: text.len(), mistake: Mistake::NoLeadingSlash });
        }
        for (offset, character) in text.char_indices() {
            if let Some(mistake) = forbidden(character) {
                return Err(KeyError { offset, length: character.len_utf8(), mistake });
            }
        }
        let mut pattern = Self { segments: Vec::new(), subtree: false };
        let mut parts = text[1..].split('/').peekable();
        let mut offset = 1;
        while let Some(part) = parts.next() {
            let last = parts.peek().is_none();
            match read_segment(part, last, &pattern.segments) {
                Ok(Some(segment)) => pattern.segments.push(segment),
                Ok(None) => pattern.subtree = true,
                Err(mistake) => return Err(KeyError { offset, length: part.len(), mistake }),
            }
            offset += part.len() + 1;
        }
        if pattern.segments.len() > MAX_SEGMENTS {
            return Err(KeyError { offset: 0, length: text.len(), mistake: Mistake::TooDeep });
        }
        Ok(pattern)
    }
}

/// A mistake in a key, and where it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{mistake}")]
pub struct KeyError {
    /// Where it starts, in bytes from the start of the text.
    pub offset: usize,
    /// How many bytes it spans.
    pub length: usize,
    /// What it is.
    pub mistake: Mistake,
}

impl KeyError {
    /// What to write instead.
    pub fn help(&self) -> String {
        self.mistake.help()
    }
}

/// What can be wrong with a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "each variant's message is its documentation")]
pub enum Mistake {
    #[error("a route needs a path")]
    NoPath,
    #[error("a path starts with `/`")]
    NoLeadingSlash,
    #[error("`{0}` is not a method")]
    UnknownMethod(String),
    #[error("methods are written in capitals")]
    LowerCaseMethod(Method),
    #[error("{0} is never forwarded")]
    MethodOff(Method),
    #[error("{0} is named twice")]
    DuplicateMethod(Method),
    #[error("`**` stands only at the end")]
    SubtreeInside,
    #[error("`*` is not a wildcard")]
    Star,
    #[error("a parameter is a whole segment")]
    PartialParameter,
    #[error("a parameter needs a name")]
    UnnamedParameter,
    #[error("`{0}` is not a name for a parameter")]
    ParameterName(String),
    #[error("the parameter `{0}` is named twice")]
    DuplicateParameter(String),
    #[error("a segment is empty")]
    EmptySegment,
    #[error("`.` and `..` are never matched")]
    DotSegment,
    #[error("the query takes no part in matching")]
    Query,
    #[error("a fragment is never sent")]
    Fragment,
    #[error("paths are compared decoded")]
    Escape,
    #[error("`;` is never matched")]
    Semicolon,
    #[error("`\\` is never matched")]
    Backslash,
    #[error("a path holds no spaces or control characters")]
    Space,
    #[error("a path has more than {MAX_SEGMENTS} segments")]
    TooDeep,
}

impl Mistake {
    fn help(&self) -> String {
        match self {
            Self::NoPath | Self::NoLeadingSlash => "write for example GET /v1/weather".into(),
            Self::UnknownMethod(_) => {
                let names: Vec<&str> = NAMEABLE.iter().map(Method::as_str).collect();
                format!("use {}, or only the path for every method", names.join(", "))
            }
            Self::LowerCaseMethod(method) => format!("write {method}"),
            Self::MethodOff(_) | Self::DuplicateMethod(_) => "leave it out".into(),
            Self::SubtreeInside => "write {name} for one segment, and /** at the end for everything below".into(),
            Self::Star => "write {name} for one segment, or /** at the end for everything below".into(),
            Self::PartialParameter => "write {name} between slashes".into(),
            Self::UnnamedParameter => "write for example {id}".into(),
            Self::ParameterName(_) => "use letters, digits, `_` and `-`; start with a letter or `_`".into(),
            Self::DuplicateParameter(_) => "give each its own name".into(),
            Self::EmptySegment => "write one slash; `//` in a request is refused".into(),
            Self::DotSegment => "write the path without it; in a request it is refused".into(),
            Self::Query | Self::Fragment => "write only the path".into(),
            Self::Escape => "write the text itself; a request's escapes are decoded once before matching".into(),
            Self::Semicolon | Self::Backslash => "leave it out; in a request it is refused".into(),
            Self::Space => "write {name} for a segment with spaces".into(),
            Self::TooDeep => "end it with /** earlier".into(),
        }
    }
}

fn parse_methods(text: &str) -> Result<Methods, KeyError> {
    let mut methods = Vec::new();
    let mut offset = 0;
    for name in text.split('|') {
        let refused = |mistake| KeyError { offset, length: name.len(), mistake };
        let method = read_method(name).map_err(refused)?;
        if methods.contains(&method) {
            return Err(refused(Mistake::DuplicateMethod(method)));
        }
        methods.push(method);
        offset += name.len() + 1;
    }
    methods.sort_by(|one, other| one.as_str().cmp(other.as_str()));
    Ok(Methods::Named(methods))
}

fn read_method(name: &str) -> Result<Method, Mistake> {
    let known = |text: &str| NAMEABLE.iter().find(|method| method.as_str() == text).cloned();
    if let Some(method) = known(name) {
        return Ok(method);
    }
    let capitals = name.to_ascii_uppercase();
    Err(match [Method::TRACE, Method::CONNECT].into_iter().find(|off| off.as_str() == capitals) {
        Some(off) => Mistake::MethodOff(off),
        None => known(&capitals).map_or_else(|| Mistake::UnknownMethod(name.to_owned()), Mistake::LowerCaseMethod),
    })
}

/// What no canonical target contains, or no path at all.
fn forbidden(character: char) -> Option<Mistake> {
    match character {
        '?' => Some(Mistake::Query),
        '#' => Some(Mistake::Fragment),
        '%' => Some(Mistake::Escape),
        ';' => Some(Mistake::Semicolon),
        '\\' => Some(Mistake::Backslash),
        _ if character.is_whitespace() || character.is_control() => Some(Mistake::Space),
        _ => None,
    }
}

/// `None` is the `**` at the end.
fn read_segment(part: &str, last: bool, before: &[Segment]) -> Result<Option<Segment>, Mistake> {
    match part {
        "**" if last => return Ok(None),
        "**" => return Err(Mistake::SubtreeInside),
        "" if !last => return Err(Mistake::EmptySegment),
        "." | ".." => return Err(Mistake::DotSegment),
        _ if part.contains('*') => return Err(Mistake::Star),
        _ => {}
    }
    if !part.contains(['{', '}']) {
        return Ok(Some(Segment::Literal(part.into())));
    }
    let name = part
        .strip_prefix('{')
        .and_then(|rest| rest.strip_suffix('}'))
        .filter(|name| !name.contains(['{', '}']))
        .ok_or(Mistake::PartialParameter)?;
    read_name(name)?;
    let parameter = Segment::Parameter(name.into());
    if before.contains(&parameter) {
        return Err(Mistake::DuplicateParameter(name.to_owned()));
    }
    Ok(Some(parameter))
}

fn read_name(name: &str) -> Result<(), Mistake> {
    let Some(first) = name.chars().next() else {
        return Err(Mistake::UnnamedParameter);
    };
    let fits = (first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
    if fits { Ok(()) } else { Err(Mistake::ParameterName(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(key: &str) -> (usize, Mistake) {
        let error = parse_key(key).expect_err(key);
        assert!(key.get(error.offset..error.offset + error.length).is_some(), "{key}: the span is not in the text");
        assert!(!error.help().is_empty());
        (error.offset, error.mistake)
    }

    #[test]
    fn a_key_names_methods_and_a_path() {
        let (methods, pattern) = parse_key("POST|GET /a/{id}/**").expect("a key");
        assert_eq!(methods, Methods::Named(vec![Method::GET, Method::POST]));
        assert_eq!(
            pattern,
            Pattern { segments: vec![Segment::Literal("a".into()), Segment::Parameter("id".into())], subtree: true }
        );
        assert_eq!(parse_key("/a").expect("a key").0, Methods::Any);
    }

    #[test]
    fn slashes_at_the_end_and_alone_are_kept() {
        let segments = |key: &str| parse_key(key).expect("a key").1.segments.len();
        assert_eq!((segments("/"), segments("/a"), segments("/a/"), segments("/**")), (1, 1, 2, 0));
    }

    #[test]
    fn methods_are_capitals_known_on_and_named_once() {
        assert_eq!(mistake("get /a"), (0, Mistake::LowerCaseMethod(Method::GET)));
        assert_eq!(mistake("GET|post /a"), (4, Mistake::LowerCaseMethod(Method::POST)));
        assert_eq!(mistake("FETCH /a"), (0, Mistake::UnknownMethod("FETCH".into())));
        assert_eq!(mistake("GET| /a"), (4, Mistake::UnknownMethod(String::new())));
        assert_eq!(mistake("GET|POST|GET /a"), (9, Mistake::DuplicateMethod(Method::GET)));
    }

    #[test]
    fn s39_trace_and_connect_cannot_be_sold() {
        assert_eq!(mistake("TRACE /a"), (0, Mistake::MethodOff(Method::TRACE)));
        assert_eq!(mistake("GET|connect /a"), (4, Mistake::MethodOff(Method::CONNECT)));
    }

    #[test]
    fn a_path_that_could_be_meant_two_ways_is_refused_where_it_stands() {
        for (key, offset, expected) in [
            ("GET", 0, Mistake::NoPath),
            ("v1/weather", 0, Mistake::NoLeadingSlash),
            ("GET v1", 4, Mistake::NoLeadingSlash),
            ("GET  /v1", 4, Mistake::NoLeadingSlash),
            ("GET /a/**/b", 7, Mistake::SubtreeInside),
            ("/a/**/", 3, Mistake::SubtreeInside),
            ("/a/*", 3, Mistake::Star),
            ("/a/b**", 3, Mistake::Star),
            ("GET /files/{x}.json", 11, Mistake::PartialParameter),
            ("/files/{{x}}", 7, Mistake::PartialParameter),
            ("/files/{x", 7, Mistake::PartialParameter),
            ("/a/{}", 3, Mistake::UnnamedParameter),
            ("/a/{1}", 3, Mistake::ParameterName("1".into())),
            ("/{a}/{b}/{a}", 9, Mistake::DuplicateParameter("a".into())),
            ("/a//b", 3, Mistake::EmptySegment),
            ("//", 1, Mistake::EmptySegment),
            ("/a/../b", 3, Mistake::DotSegment),
            ("/a/.", 3, Mistake::DotSegment),
            ("/a?b=c", 2, Mistake::Query),
            ("/a#b", 2, Mistake::Fragment),
            ("/a%20b", 2, Mistake::Escape),
            ("/a;b", 2, Mistake::Semicolon),
            ("/a\\b", 2, Mistake::Backslash),
            ("/a b", 2, Mistake::Space),
            ("/a ", 2, Mistake::Space),
            ("/a\u{0}", 2, Mistake::Space),
        ] {
            assert_eq!(mistake(key), (offset, expected), "{key}");
        }
        assert_eq!(mistake(&"/a".repeat(MAX_SEGMENTS + 1)).1, Mistake::TooDeep);
    }
}
