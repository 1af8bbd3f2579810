//! Patterns, to be asked which of them have a path in common with another one.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Pattern, Segment};

/// Patterns by their segments, each under a number.
#[derive(Default)]
pub(super) struct Overlaps {
    literals: HashMap<Arc<str>, Overlaps>,
    parameter: Option<Box<Overlaps>>,
    /// What ends here, with everything below or without.
    here: Vec<(usize, bool)>,
}

impl Overlaps {
    pub(super) fn add(&mut self, pattern: &Pattern, number: usize) {
        let node = pattern.segments.iter().fold(self, |node, segment| match segment {
            Segment::Literal(text) => node.literals.entry(Arc::clone(text)).or_default(),
            Segment::Parameter(_) => node.parameter.get_or_insert_default(),
        });
        node.here.push((number, pattern.subtree));
    }

    /// The numbers of those that may have a path in common with this one, and of all that have.
    pub(super) fn of(&self, pattern: &Pattern) -> Vec<usize> {
        let mut found = Vec::new();
        self.collect(&pattern.segments, pattern.subtree, &mut found);
        found.sort_unstable();
        found
    }

    fn collect(&self, segments: &[Segment], subtree: bool, found: &mut Vec<usize>) {
        let Some((segment, rest)) = segments.split_first() else {
            return if subtree {
                self.everything(found)
            } else {
                found.extend(self.here.iter().map(|(number, _)| *number))
            };
        };
        found.extend(self.here.iter().filter(|(_, subtree)| *subtree).map(|(number, _)| *number));
        if let Some(parameter) = &self.parameter {
            parameter.collect(rest, subtree, found);
        }
        match segment {
            Segment::Literal(text) => {
                if let Some(literal) = self.literals.get(text) {
                    literal.collect(rest, subtree, found);
                }
            }
            Segment::Parameter(_) => self.literals.values().for_each(|literal| literal.collect(rest, subtree, found)),
        }
    }

    fn everything(&self, found: &mut Vec<usize>) {
        found.extend(self.here.iter().map(|(number, _)| *number));
        let children = self.literals.values().chain(self.parameter.as_deref());
        children.for_each(|child| child.everything(found));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_a_common_path_are_found_and_few_others() {
        let texts = ["/", "/a", "/a/b", "/a/{x}", "/{x}", "/{x}/b/c", "/a/**", "/**", "/{x}/**", "/c/d/e", "/a/b/c/**"];
        let patterns: Vec<Pattern> = texts.iter().map(|text| Pattern::parse(text).expect("a pattern")).collect();
        let mut overlaps = Overlaps::default();
        for (number, pattern) in patterns.iter().enumerate() {
            overlaps.add(pattern, number);
        }
        for pattern in &patterns {
            let meeting = |number: &usize| patterns[*number].common(pattern).is_some();
            let found: Vec<usize> = overlaps.of(pattern).into_iter().filter(meeting).collect();
            let expected: Vec<usize> = (0..patterns.len()).filter(meeting).collect();
            assert_eq!(found, expected, "{pattern}");
        }
        assert_eq!(overlaps.of(&Pattern::parse("/c/d/e").expect("a pattern")).len(), 3);
    }
}
