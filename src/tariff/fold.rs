//! Paths as a backend reads them that is not particular about spelling: case-folded, in compatibility form (S38).
//!
//! `/v1/Admin` is not `/v1/admin`, but the backend may think so. If that reading costs more, the request is refused
//! rather than sold under the cheaper one.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::lanes::Lanes;
use super::trie::Trie;
use super::{Pattern, Segment};

/// The patterns of a table with their literals folded.
#[derive(Debug, Default)]
pub(super) struct Folded {
    trie: Trie,
    readings: Vec<Reading>,
    /// Whether folding changed any literal. If not, only a path that folding changes can be misread.
    changed: bool,
}

/// A folded pattern, and the slots of the patterns that fold to it.
#[derive(Debug)]
struct Reading {
    pattern: Pattern,
    slots: Vec<usize>,
}

impl Folded {
    /// Folds the patterns of a table. A slot is a position in `lanes`.
    pub(super) fn of(lanes: &[Lanes]) -> Self {
        let mut folded = Self::default();
        for (slot, lanes) in lanes.iter().enumerate() {
            let pattern = fold_pattern(&lanes.pattern);
            folded.changed |= pattern != lanes.pattern;
            let reading = folded.trie.slot(&pattern);
            if reading == folded.readings.len() {
                folded.readings.push(Reading { pattern, slots: Vec::new() });
            }
            folded.readings[reading].slots.push(slot);
        }
        folded
    }

    /// The slots of the most specific patterns that match the folded path, among those that `count`. Empty when
    /// folding changes nothing.
    ///
    /// Folded patterns may cross, so there can be several that are not wider than another.
    pub(super) fn matching<'t>(
        &self,
        segments: impl Iterator<Item = &'t str> + Clone,
        count: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        if !self.changed && segments.clone().all(is_folded) {
            return Vec::new();
        }
        // Joined and split again: some characters fold to text with a slash in it.
        let path = segments.map(fold).collect::<Vec<_>>().join("/");
        let mut nearest: Vec<&Reading> = Vec::new();
        self.trie.matching(path.split('/'), |reading| {
            let reading = &self.readings[reading];
            if reading.slots.iter().any(|slot| count(*slot))
                && !nearest.iter().any(|nearer| nearer.pattern.within(&reading.pattern))
            {
                nearest.push(reading);
            }
            None::<()>
        });
        nearest.into_iter().flat_map(|reading| reading.slots.iter().copied()).collect()
    }
}

fn fold_pattern(pattern: &Pattern) -> Pattern {
    let fold_segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(fold(text).into()),
        Segment::Parameter(name) => Segment::Parameter(name.clone()),
    };
    Pattern { segments: pattern.segments.iter().map(fold_segment).collect(), subtree: pattern.subtree }
}

/// NFKC around case folding. Upper case and back is what folds `ß` with `ss`, and `ς` with `σ`.
fn fold(text: &str) -> Cow<'_, str> {
    if is_folded(text) {
        return Cow::Borrowed(text);
    }
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    Cow::Owned(text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect())
}

/// Whether folding is sure to change nothing.
fn is_folded(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}
