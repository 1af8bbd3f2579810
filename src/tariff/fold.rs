//! Paths as a backend reads them that is not particular about spelling: case-folded, in compatibility form (S38).
//!
//! `/v1/Admin` is not `/v1/admin`, but the backend may think so. If that reading costs more, the request is refused
//! rather than sold under the cheaper one.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::lanes::Lanes;
use super::trie::Trie;
use super::{Pattern, Segment};

/// The patterns of a table in which folding changes a literal: they may cross when folded, and one path may have
/// several readings. Most tables hold none, and there a folded path is simply looked up.
#[derive(Debug)]
pub(super) struct Folded {
    trie: Trie,
    readings: Vec<Reading>,
}

/// A folded pattern, and the slots of the patterns that fold to it.
#[derive(Debug)]
struct Reading {
    pattern: Pattern,
    slots: Vec<usize>,
}

impl Folded {
    /// Folds the patterns of a table; `None` if that changes nothing. A slot is a position in `lanes`.
    pub(super) fn of(lanes: &[Lanes]) -> Option<Self> {
        let mut folded = Self { trie: Trie::default(), readings: Vec::new() };
        let patterns: Vec<Pattern> = lanes.iter().map(|lanes| fold_pattern(&lanes.pattern)).collect();
        if patterns.iter().zip(lanes).all(|(folded, lanes)| *folded == lanes.pattern) {
            return None;
        }
        for (slot, pattern) in patterns.into_iter().enumerate() {
            let reading = folded.trie.slot(&pattern);
            if reading == folded.readings.len() {
                folded.readings.push(Reading { pattern, slots: Vec::new() });
            }
            folded.readings[reading].slots.push(slot);
        }
        Some(folded)
    }

    /// The slots of the patterns that match a folded path and of which no other that `counts` is more specific.
    pub(super) fn matching<'t>(
        &self,
        segments: impl Iterator<Item = &'t str> + Clone,
        counts: impl Fn(usize) -> bool,
    ) -> Vec<usize> {
        let mut nearest: Vec<&Reading> = Vec::new();
        self.trie.matching(segments, |reading| {
            let reading = &self.readings[reading];
            if reading.slots.iter().any(|slot| counts(*slot))
                && !nearest.iter().any(|nearer| nearer.pattern.within(&reading.pattern))
            {
                nearest.push(reading);
            }
            None::<()>
        });
        nearest.into_iter().flat_map(|reading| reading.slots.iter().copied()).collect()
    }
}

/// The folded path, without the slash in front; `None` if folding changes nothing.
pub(super) fn fold_path<'t>(segments: impl Iterator<Item = &'t str> + Clone) -> Option<String> {
    if segments.clone().all(is_folded) {
        return None;
    }
    let mut path = String::new();
    for (position, segment) in segments.enumerate() {
        if position > 0 {
            path.push('/');
        }
        path.push_str(&fold(segment));
    }
    Some(path)
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
