//! Where a backend has a path that clients know under another one: a prefix taken off, and one put in front.
//!
//! It is applied to the canonical path of a request after its price is found, so it changes where a request goes and
//! never what it costs. Both prefixes are whole segments. What is left of a canonical path is canonical and has no dot
//! segment, so the result is canonical as well and lies below the prefix that was put in front.

use std::sync::Arc;

use super::{Pattern, Segment};

/// How the path of a request becomes the path at the backend.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    /// How many segments go.
    strip: usize,
    /// What comes in front, in canonical form, without a slash at its end.
    add: Arc<str>,
    /// The same, decoded.
    added: Vec<Segment>,
}

/// Some paths of a route do not begin with the prefix that should be taken off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not every path of this route begins with the prefix")]
pub struct NotInFront;

impl Rewrite {
    /// Takes `strip`, a [prefix](Pattern::is_prefix), off the paths of `pattern` and puts `add` in front, a prefix with its
    /// canonical form. `None` where neither changes anything.
    ///
    /// # Errors
    /// When some of the paths do not begin with what should be taken off.
    pub fn of(
        pattern: &Pattern,
        strip: Option<&Pattern>,
        add: Option<(&Pattern, &str)>,
    ) -> Result<Option<Self>, NotInFront> {
        let gone = strip.map_or(&[][..], |strip| &strip.segments);
        if !pattern.segments.starts_with(gone) {
            return Err(NotInFront);
        }
        let (added, add) = add.map_or((&[][..], ""), |(pattern, canonical)| (&pattern.segments, canonical));
        let changes = !gone.is_empty() || !add.is_empty();
        Ok(changes.then(|| Self { strip: gone.len(), add: add.into(), added: added.to_vec() }))
    }

    /// The target to forward for one in canonical form that the route matches. The query is left alone.
    ///
    /// ```
    /// use tollhouse::tariff::{Pattern, Rewrite};
    /// let [pattern, strip, add] = ["/api/v1/**", "/api", "/backend"].map(|path| Pattern::parse(path).unwrap());
    /// let rewrite = Rewrite::of(&pattern, Some(&strip), Some((&add, "/backend"))).unwrap().unwrap();
    /// assert_eq!(rewrite.apply("/api/v1/a%20b?x=/api"), "/backend/v1/a%20b?x=/api");
    /// ```
    pub fn apply(&self, target: &str) -> String {
        let path = target.find('?').unwrap_or(target.len());
        // The slash that the first segment that stays begins with.
        let slashes = target[..path].match_indices('/').map(|(place, _)| place);
        let start = slashes.chain(std::iter::once(path)).nth(self.strip).unwrap_or(path);
        let mut forwarded = String::with_capacity(self.add.len() + 1 + target.len() - start);
        forwarded.push_str(&self.add);
        if forwarded.is_empty() && start == path {
            forwarded.push('/');
        }
        forwarded.push_str(&target[start..]);
        forwarded
    }

    /// The paths at the backend for those of `pattern`, which the prefix that goes is in front of.
    pub(super) fn behind(&self, pattern: &Pattern) -> Pattern {
        let stays = pattern.segments.get(self.strip..).unwrap_or_default();
        let mut segments = [&self.added, stays].concat();
        if segments.is_empty() && !pattern.subtree {
            segments.push(Segment::Literal("".into()));
        }
        Pattern { segments, subtree: pattern.subtree }
    }

    /// What goes from the front of the paths of `pattern`.
    pub(super) fn gone<'p>(&self, pattern: &'p Pattern) -> &'p [Segment] {
        pattern.segments.get(..self.strip).unwrap_or_default()
    }

    /// The paths of `pattern` that become these at the backend, which are some of those [behind](Self::behind) it.
    pub(super) fn in_front(&self, behind: &Pattern, pattern: &Pattern) -> Pattern {
        let gone = self.gone(pattern);
        let stays = behind.segments.get(self.added.len()..).unwrap_or_default();
        let is_root = self.added.is_empty() && *stays == [Segment::Literal("".into())];
        let stays = if is_root && pattern.segments.len() == gone.len() { &[] } else { stays };
        Pattern { segments: [gone, stays].concat(), subtree: behind.subtree }
    }
}

impl Pattern {
    /// Whether it can stand in front of other paths: whole segments, none of them a parameter.
    pub fn is_prefix(&self) -> bool {
        self.is_one_path() && self.segments.last() != Some(&Segment::Literal("".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).expect("a pattern")
    }

    fn forwarded(key: &str, strip: &str, add: &str, target: &str) -> String {
        let strip = (!strip.is_empty()).then(|| pattern(strip));
        let added = if add.is_empty() { pattern("/") } else { pattern(add) };
        let add = (!add.is_empty()).then_some((&added, add));
        let rewrite = Rewrite::of(&pattern(key), strip.as_ref(), add).expect("it fits");
        rewrite.expect("it changes something").apply(target)
    }

    #[test]
    fn whole_segments_go_and_come() {
        for (key, strip, add, target, expected) in [
            ("/api/**", "/api", "", "/api/x", "/x"),
            ("/api/**", "/api", "", "/api", "/"),
            ("/api/**", "/api", "", "/api/", "/"),
            ("/api/**", "/api", "", "/api?q", "/?q"),
            ("/api/**", "/api", "/b/c", "/api/x/?q=/api", "/b/c/x/?q=/api"),
            ("/api/**", "/api", "/b", "/api", "/b"),
            ("/api/**", "/api", "/b", "/api/", "/b/"),
            ("/api/v1/{x}", "/api/v1", "", "/api/v1/a%2Fb", "/a%2Fb"),
            ("/{x}", "", "/b", "/a", "/b/a"),
            ("/**", "", "/b", "/", "/b/"),
            ("/**", "", "/b", "/?q", "/b/?q"),
        ] {
            assert_eq!(forwarded(key, strip, add, target), expected, "{target} of {key}");
        }
    }

    #[test]
    fn a_prefix_that_some_paths_lack_is_refused() {
        let of = |key: &str, strip: &str| Rewrite::of(&pattern(key), Some(&pattern(strip)), None);
        for (key, strip) in [("/api2/x", "/api"), ("/{x}/y", "/api"), ("/api", "/api/v1"), ("/**", "/api")] {
            assert_eq!(of(key, strip), Err(NotInFront), "{strip} of {key}");
        }
    }

    #[test]
    fn a_prefix_is_whole_segments() {
        assert!(pattern("/api/v1").is_prefix());
        for text in ["/", "/api/", "/api/{x}", "/api/**", "/**"] {
            assert!(!pattern(text).is_prefix(), "{text}");
        }
    }

    #[test]
    fn what_changes_nothing_is_nothing() {
        assert_eq!(Rewrite::of(&pattern("/a"), None, None), Ok(None));
    }
}
