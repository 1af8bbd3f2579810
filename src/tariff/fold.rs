//! Paths as a backend reads them that is not particular about spelling (S38): case-folded, in compatibility form, and
//! without the blanks and dots that a segment ends in.
//!
//! `/v1/Admin`, `/v1/admin.` and `/v1/admin%20` are not `/v1/admin`, but the backend may think so. If that reading costs
//! more, the request is refused rather than sold under the cheaper one. The slash at the end is left to
//! [`Index`](super::index::Index): there both spellings may be listed.

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

/// The folded path, without the slash in front; `None` if folding changes nothing. What the pattern that was found
/// spells out keeps its ending: it is listed like that. A blank between two slashes is no segment.
pub(super) fn fold_path<'t>(segments: impl Iterator<Item = &'t str> + Clone, found: &Pattern) -> Option<String> {
    let spelled_out = found.segments.iter().map(|segment| matches!(segment, Segment::Literal(_)));
    let segments = segments.zip(spelled_out.chain(std::iter::repeat(false)));
    if segments.clone().all(|(segment, spelled_out)| is_small(segment) && (spelled_out || is_trimmed(segment))) {
        return None;
    }
    let mut path = String::new();
    let mut segments = segments.peekable();
    let mut first = true;
    while let Some((segment, spelled_out)) = segments.next() {
        let folded = fold(segment);
        let folded = if spelled_out { &folded } else { trim(&folded) };
        if folded.is_empty() && segments.peek().is_some() {
            continue;
        }
        if !first {
            path.push('/');
        }
        first = false;
        path.push_str(folded);
    }
    Some(path)
}

fn fold_pattern(pattern: &Pattern) -> Pattern {
    let fold_segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(trim(&fold(text)).into()),
        Segment::Parameter(name) => Segment::Parameter(name.clone()),
    };
    Pattern { segments: pattern.segments.iter().map(fold_segment).collect(), subtree: pattern.subtree }
}

/// NFKC around case folding. Upper case and back is what folds `ß` with `ss`, and `ς` with `σ`.
fn fold(text: &str) -> Cow<'_, str> {
    if is_small(text) {
        return Cow::Borrowed(text);
    }
    if text.is_ascii() {
        return Cow::Owned(text.to_ascii_lowercase());
    }
    Cow::Owned(text.nfkc().flat_map(char::to_uppercase).flat_map(char::to_lowercase).nfkc().collect())
}

/// Without blanks around it, which many a framework trims, and without the dots at its end, which file systems drop.
fn trim(text: &str) -> &str {
    text.trim_start_matches(is_blank).trim_end_matches(|letter| letter == '.' || is_blank(letter))
}

/// Unicode's white space, and what languages call so that are older than its present list.
fn is_blank(letter: char) -> bool {
    letter.is_whitespace() || matches!(letter, '\u{180e}' | '\u{200b}' | '\u{feff}')
}

/// Whether [`fold`] is sure to change nothing.
fn is_small(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// Whether [`trim`] changes nothing about a text without control characters, if it [is small](is_small).
fn is_trimmed(text: &str) -> bool {
    !text.starts_with(' ') && !text.ends_with([' ', '.'])
}
