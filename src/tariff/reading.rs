//! Paths as backends read them that are not particular about spelling (S38): without regard to case, in compatibility
//! form, without letters that have no shape, without the blanks and dots that a segment ends in; each by itself and all
//! together, since no two backends agree.
//!
//! `/v1/Admin`, `/v1/admin.` and `/v1/admin%20` are not `/v1/admin`, but the backend may think so. If that reading costs
//! more, the request is refused rather than sold under the cheaper one. The slash at the end is left to
//! [`Index`](super::index::Index): there both spellings may be listed.

use std::borrow::Cow;

use unicode_normalization::UnicodeNormalization;

use super::{Pattern, Segment};
use crate::primitives::letters::{is_blank, is_unseen};

/// A path as somebody may read it, without the slash in front.
pub(super) struct Reading {
    pub(super) path: String,
    /// Whether it is to be compared without regard to case.
    pub(super) caseless: bool,
}

/// What a reader does to segments before it compares them.
#[derive(Clone, Copy)]
struct Habits {
    caseless: bool,
    compatible: bool,
    unseeing: bool,
    trimming: bool,
}

/// The path in every reading, its own among them; `None` where all are the same. Few paths have several, for readers
/// differ only about capitals, blanks, dots and what is not ASCII. What the pattern that was found spells out keeps its
/// ending: it is listed like that. Who leaves something out of a segment sees none where nothing is left.
pub(super) fn readings<'t>(segments: impl Iterator<Item = &'t str> + Clone, found: &Pattern) -> Option<Vec<Reading>> {
    let spelled_out = found.segments.iter().map(|segment| matches!(segment, Segment::Literal(_)));
    let segments = segments.zip(spelled_out.chain(std::iter::repeat(false)));
    let is_plain = |(segment, spelled_out): (&str, bool)| is_small(segment) && (spelled_out || is_trimmed(segment));
    if segments.clone().all(is_plain) {
        return None;
    }
    let ascii = segments.clone().all(|(segment, _)| segment.is_ascii());
    let mut readings: Vec<Reading> = Vec::new();
    for habits in Habits::all(ascii) {
        let (path, caseless) = (habits.read(segments.clone()), habits.caseless);
        if !readings.iter().any(|known| known.caseless == caseless && known.path == path) {
            readings.push(Reading { path, caseless });
        }
    }
    Some(readings)
}

/// A text that is compared without regard to anything.
pub(super) fn fold(text: &str) -> String {
    let all = Habits { caseless: true, compatible: true, unseeing: true, trimming: true };
    trim(&all.fold(text)).to_owned()
}

impl Habits {
    /// Every combination. Where all is ASCII, forms and unseen letters play no part.
    fn all(ascii: bool) -> impl Iterator<Item = Self> {
        let has = |bits: u8, bit: u8| bits & bit != 0;
        (0..if ascii { 4 } else { 16 }).map(move |bits| Self {
            caseless: has(bits, 1),
            trimming: has(bits, 2),
            compatible: has(bits, 4),
            unseeing: has(bits, 8),
        })
    }

    fn read<'t>(self, segments: impl Iterator<Item = (&'t str, bool)>) -> String {
        let mut path = String::new();
        let mut segments = segments.peekable();
        let mut first = true;
        while let Some((segment, spelled_out)) = segments.next() {
            let read = self.fold(segment);
            let read = if self.trimming && !spelled_out { trim(&read) } else { &read };
            if read.is_empty() && segments.peek().is_some() && (self.trimming || self.unseeing) {
                continue;
            }
            if !first {
                path.push('/');
            }
            first = false;
            path.push_str(read);
        }
        path
    }

    /// NFKC around case folding. Upper case and back is what folds `ß` with `ss`, and `ς` with `σ`.
    fn fold(self, text: &str) -> Cow<'_, str> {
        if is_small(text) || (text.is_ascii() && !self.caseless) {
            return Cow::Borrowed(text);
        }
        if text.is_ascii() {
            return Cow::Owned(text.to_ascii_lowercase());
        }
        let mut text = if self.compatible { text.nfkc().collect() } else { text.to_owned() };
        if self.unseeing {
            text.retain(|letter| !is_unseen(letter));
        }
        if self.caseless {
            text = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
        }
        Cow::Owned(if self.compatible { text.nfkc().collect() } else { text })
    }
}

/// Without blanks around it, which many a framework trims, and without the dots at its end, which file systems drop.
fn trim(text: &str) -> &str {
    text.trim_start_matches(is_blank).trim_end_matches(|letter| letter == '.' || is_blank(letter))
}

/// Whether folding is sure to change nothing.
fn is_small(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase())
}

/// Whether [`trim`] changes nothing about a text without control characters, if it [is small](is_small).
fn is_trimmed(text: &str) -> bool {
    !text.starts_with(' ') && !text.ends_with([' ', '.'])
}
