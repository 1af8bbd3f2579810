//! Sets of paths, and how two of them relate.

use std::fmt;
use std::sync::Arc;

/// One part of a pattern between slashes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Segment {
    /// Exactly this text, decoded.
    Literal(Arc<str>),
    /// `{name}`: one non-empty segment.
    Parameter(Arc<str>),
}

/// The paths a route names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Pattern {
    /// The segments in front; a trailing slash is an empty literal at the end.
    pub segments: Vec<Segment>,
    /// Whether it ends in `/**`: what stands in front, the same with a slash, and everything below.
    pub subtree: bool,
}

/// How the paths of one pattern relate to those of another. Names of parameters play no part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// The same paths.
    Same,
    /// Some of the other's paths and no others: the more specific of the two.
    Narrower,
    /// All of the other's paths and more.
    Wider,
    /// Some paths in common, and each has some of its own.
    Crossing {
        /// Exactly the paths in common.
        witness: Pattern,
    },
    /// No path in common.
    Disjoint,
}

impl Pattern {
    /// How this pattern's paths relate to those of `other`.
    ///
    /// ```
    /// use tollhouse::tariff::{Pattern, Relation};
    /// let admin = Pattern::parse("/v1/admin/**").unwrap();
    /// let all = Pattern::parse("/v1/**").unwrap();
    /// assert_eq!(admin.relation(&all), Relation::Narrower);
    /// ```
    pub fn relation(&self, other: &Self) -> Relation {
        match (self.within(other), other.within(self)) {
            (true, true) => Relation::Same,
            (true, false) => Relation::Narrower,
            (false, true) => Relation::Wider,
            (false, false) => match self.common(other) {
                Some(witness) => Relation::Crossing { witness },
                None => Relation::Disjoint,
            },
        }
    }

    /// Whether every path of this pattern is one of `other`.
    pub(super) fn within(&self, other: &Self) -> bool {
        let lengths_fit = if other.subtree {
            self.segments.len() >= other.segments.len()
        } else {
            !self.subtree && self.segments.len() == other.segments.len()
        };
        lengths_fit && self.segments.iter().zip(&other.segments).all(|(own, wide)| own.within(wide))
    }

    /// Whether it matches a single path.
    pub(super) fn is_one_path(&self) -> bool {
        !self.subtree && self.segments.iter().all(|segment| matches!(segment, Segment::Literal(_)))
    }

    /// The same paths with the slash at their end left out, or added where there is none; `None` where a slash at the
    /// end is no other spelling.
    pub(super) fn twin(&self) -> Option<Self> {
        let mut segments = self.segments.clone();
        let slash = Segment::Literal("".into());
        if segments.last() == Some(&slash) {
            segments.pop();
        } else {
            segments.push(slash);
        }
        (!self.subtree && !segments.is_empty()).then_some(Self { segments, subtree: false })
    }

    /// The paths without a slash at the end, but for that of the root.
    pub(super) fn without_slash(&self) -> Self {
        let mut segments = self.segments.clone();
        if segments.len() > 1 && segments.last() == Some(&Segment::Literal("".into())) {
            segments.pop();
        }
        Self { segments, subtree: self.subtree }
    }

    /// Whether the two differ only in a slash at the end.
    pub(super) fn is_twin_of(&self, other: &Self) -> bool {
        other.twin().is_some_and(|twin| twin.within(self) && self.within(&twin))
    }

    /// The paths that both patterns match: one pattern again, whatever the two are.
    pub(super) fn common(&self, other: &Self) -> Option<Self> {
        let (long, short) = if self.segments.len() >= other.segments.len() { (self, other) } else { (other, self) };
        if !short.subtree && long.segments.len() > short.segments.len() {
            return None;
        }
        let mut segments = long.segments.clone();
        for (own, other) in segments.iter_mut().zip(&short.segments) {
            *own = own.common(other)?;
        }
        // A subtree cut by an exact pattern is exact: `/a/{x}` of `/a/**`.
        Some(Self { segments, subtree: long.subtree && short.subtree })
    }
}

impl Segment {
    fn within(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Literal(own), Self::Literal(other)) => own == other,
            (Self::Literal(own), Self::Parameter(_)) => !own.is_empty(),
            (Self::Parameter(_), Self::Literal(_)) => false,
            (Self::Parameter(_), Self::Parameter(_)) => true,
        }
    }

    fn common(&self, other: &Self) -> Option<Self> {
        if self.within(other) {
            Some(self.clone())
        } else if other.within(self) {
            Some(other.clone())
        } else {
            None
        }
    }
}

/// As a key writes it.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(text) => write!(f, "/{text}")?,
                Segment::Parameter(name) => write!(f, "/{{{name}}}")?,
            }
        }
        if self.subtree { f.write_str("/**") } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> Pattern {
        Pattern::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn relation(one: &str, other: &str) -> Relation {
        pattern(one).relation(&pattern(other))
    }

    #[test]
    fn more_specific_means_a_strict_subset_of_paths() {
        for (narrow, wide) in [
            ("/v1/admin/**", "/v1/**"),
            ("/v1/a", "/v1/{x}"),
            ("/v1/a/x", "/v1/{id}/**"),
            ("/files", "/files/**"),
            ("/files/", "/files/**"),
            ("/{a}/**", "/**"),
            ("/", "/**"),
        ] {
            assert_eq!(relation(narrow, wide), Relation::Narrower, "{narrow} and {wide}");
            assert_eq!(relation(wide, narrow), Relation::Wider, "{wide} and {narrow}");
        }
    }

    #[test]
    fn names_of_parameters_do_not_tell_patterns_apart() {
        assert_eq!(relation("/users/{id}", "/users/{name}"), Relation::Same);
    }

    #[test]
    fn a_trailing_slash_is_another_path() {
        assert_eq!(relation("/a", "/a/"), Relation::Disjoint);
        assert_eq!(relation("/a/", "/a/{x}"), Relation::Disjoint);
        assert_eq!(relation("/", "/{x}"), Relation::Disjoint);
    }

    #[test]
    fn a_crossing_is_shown_by_the_paths_in_common() {
        for (one, other, both) in [
            ("/v1/{id}/x", "/v1/a/{y}", "/v1/a/x"),
            ("/{t}/x/{z}", "/a/{y}/{w}", "/a/x/{z}"),
            ("/{t}/x/**", "/a/{y}/**", "/a/x/**"),
            ("/a/**", "/{t}/x", "/a/x"),
            ("/a/**", "/{t}/", "/a/"),
        ] {
            let Relation::Crossing { witness } = relation(one, other) else {
                panic!("{one} and {other} do not cross");
            };
            assert_eq!(witness.to_string(), both);
        }
    }

    #[test]
    fn a_pattern_is_written_as_it_was_read() {
        for text in ["/", "/**", "/a", "/a/", "/users/{id}", "/a/{b}/c/**", "/übersicht"] {
            assert_eq!(pattern(text).to_string(), text);
        }
    }
}
