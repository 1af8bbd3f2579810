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
    let (texts, spelled_out): (Vec<&str>, Vec<bool>) = segments.unzip();
    let mut readings: Vec<Reading> = Vec::new();
    for fold in Fold::all(&texts) {
        for trimming in [false, true] {
            let path = join(&fold.texts, &spelled_out, trimming, fold.unseeing);
            if !readings.iter().any(|known| known.caseless == fold.caseless && known.path == path) {
                readings.push(Reading { path, caseless: fold.caseless });
            }
        }
    }
    Some(readings)
}

/// A text that is compared without regard to anything.
pub(super) fn fold(text: &str) -> String {
    if is_small(text) {
        return trim(text).to_owned();
    }
    let form: String = text.nfkc().collect();
    trim(&with_habits(&form, true, true, true)).to_owned()
}

/// Segments as somebody reads them who trims nothing.
struct Fold<'t> {
    texts: Vec<Cow<'t, str>>,
    caseless: bool,
    unseeing: bool,
}

impl<'t> Fold<'t> {
    /// Every combination. Where all is ASCII, forms and unseen letters play no part.
    fn all(texts: &[&'t str]) -> Vec<Self> {
        let plain = texts.iter().map(|text| Cow::Borrowed(*text)).collect();
        let mut folds = vec![Self { texts: plain, caseless: false, unseeing: false }];
        if texts.iter().all(|text| text.is_ascii()) {
            // Without capitals, too: there may be some in what is listed.
            let texts = texts.iter().map(|text| Cow::Owned(text.to_ascii_lowercase())).collect();
            folds.push(Self { texts, caseless: true, unseeing: false });
            return folds;
        }
        // Once for all that want it: this is what takes long.
        let forms: Vec<String> = texts.iter().map(|text| text.nfkc().collect()).collect();
        for bits in 1..8_u8 {
            let [caseless, compatible, unseeing] = [1, 2, 4].map(|bit| bits & bit != 0);
            let fold = |(text, form): (&&str, &String)| {
                with_habits(if compatible { form } else { text }, compatible, unseeing, caseless)
            };
            let texts = texts.iter().zip(&forms).map(fold).map(Cow::Owned).collect();
            folds.push(Self { texts, caseless, unseeing });
        }
        folds
    }
}

/// Upper case and back is what folds `ß` with `ss`, and `ς` with `σ`.
fn with_habits(form: &str, compatible: bool, unseeing: bool, caseless: bool) -> String {
    let mut text = form.to_owned();
    if unseeing {
        text.retain(|letter| !is_unseen(letter));
    }
    if caseless {
        text = text.chars().flat_map(char::to_uppercase).flat_map(char::to_lowercase).collect();
    }
    if compatible && text != form { text.nfkc().collect() } else { text }
}

fn join(texts: &[Cow<'_, str>], spelled_out: &[bool], trimming: bool, unseeing: bool) -> String {
    let mut path = String::new();
    let mut first = true;
    for (place, (text, spelled_out)) in texts.iter().zip(spelled_out).enumerate() {
        let text = if trimming && !spelled_out { trim(text) } else { text };
        if text.is_empty() && place + 1 < texts.len() && (trimming || unseeing) {
            continue;
        }
        if !first {
            path.push('/');
        }
        first = false;
        path.push_str(text);
    }
    path
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
