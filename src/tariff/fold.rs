//! Patterns as a backend has them that is not particular about spelling, to look up the [readings](super::reading) of a
//! path that disregard case.

use super::lanes::Lanes;
use super::reading::fold;
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

fn fold_pattern(pattern: &Pattern) -> Pattern {
    let fold_segment = |segment: &Segment| match segment {
        Segment::Literal(text) => Segment::Literal(fold(text).into()),
        Segment::Parameter(name) => Segment::Parameter(name.clone()),
    };
    Pattern { segments: pattern.segments.iter().map(fold_segment).collect(), subtree: pattern.subtree }
}
