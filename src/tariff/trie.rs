//! Patterns by their segments, so that a lookup costs what the path costs and not what the table costs.
//!
//! A walk tries the literal child of a node, then its parameter, then its subtree. For one path it visits at most
//! one node per arrangement of literals and parameters, and the table limits how many arrangements there are.

use std::collections::HashMap;

use super::{Pattern, Segment};

/// A set of patterns. Each has a slot, a number counted from zero; patterns with the same paths share theirs.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    slots: usize,
}

#[derive(Debug, Default)]
struct Node {
    literals: Literals,
    parameter: Option<usize>,
    exact: Option<usize>,
    subtree: Option<usize>,
}

/// Most nodes lead to one other, and comparing a text is cheaper than hashing it.
#[derive(Debug, Default)]
enum Literals {
    #[default]
    None,
    One(Box<str>, usize),
    Many(HashMap<Box<str>, usize>),
}

/// What stands between two slashes of what is looked up.
#[derive(Debug, Clone, Copy)]
enum Step<'t> {
    Text(&'t str),
    AnyText,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], slots: 0 }
    }
}

impl Trie {
    /// The slot of these paths, a new one if there is none yet.
    pub(super) fn slot(&mut self, pattern: &Pattern) -> usize {
        let mut node = 0;
        for segment in &pattern.segments {
            let next = self.nodes.len();
            let child = match segment {
                Segment::Literal(text) => self.nodes[node].literals.get_or_insert(text, next),
                Segment::Parameter(_) => *self.nodes[node].parameter.get_or_insert(next),
            };
            if child == next {
                self.nodes.push(Node::default());
            }
            node = child;
        }
        let node = &mut self.nodes[node];
        let slot = if pattern.subtree { &mut node.subtree } else { &mut node.exact };
        *slot.get_or_insert_with(|| {
            self.slots += 1;
            self.slots - 1
        })
    }

    /// The slot of exactly these paths.
    pub(super) fn get(&self, pattern: &Pattern) -> Option<usize> {
        let node = pattern.segments.iter().try_fold(&self.nodes[0], |node, segment| {
            let child = match segment {
                Segment::Literal(text) => node.literals.get(text),
                Segment::Parameter(_) => node.parameter,
            };
            child.map(|child| &self.nodes[child])
        })?;
        if pattern.subtree { node.subtree } else { node.exact }
    }

    /// Visits what matches a path, every pattern before those it is more specific than, until a visit yields.
    pub(super) fn matching<'t, T>(
        &self,
        segments: impl Iterator<Item = &'t str> + Clone,
        mut visit: impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        self.walk(&self.nodes[0], segments.map(Step::Text), false, &mut visit)
    }

    /// Visits what matches every path of `pattern`, it and its like included, in the same order.
    pub(super) fn containing<T>(&self, pattern: &Pattern, mut visit: impl FnMut(usize) -> Option<T>) -> Option<T> {
        let steps = pattern.segments.iter().map(|segment| match segment {
            Segment::Literal(text) => Step::Text(text),
            Segment::Parameter(_) => Step::AnyText,
        });
        self.walk(&self.nodes[0], steps, pattern.subtree, &mut visit)
    }

    /// Literal before parameter before subtree. If pattern A is more specific than B and both match, then where
    /// their ways part A goes on by the earlier of the three, so it is met first.
    fn walk<'t, T>(
        &self,
        node: &Node,
        mut steps: impl Iterator<Item = Step<'t>> + Clone,
        open: bool,
        visit: &mut impl FnMut(usize) -> Option<T>,
    ) -> Option<T> {
        let found = match steps.next() {
            None if open => None,
            None => node.exact.and_then(&mut *visit),
            Some(Step::Text(text)) => node
                .literals
                .get(text)
                .and_then(|child| self.walk(&self.nodes[child], steps.clone(), open, visit))
                .or_else(|| {
                    let child = node.parameter.filter(|_| !text.is_empty())?;
                    self.walk(&self.nodes[child], steps, open, visit)
                }),
            Some(Step::AnyText) => node.parameter.and_then(|child| self.walk(&self.nodes[child], steps, open, visit)),
        };
        found.or_else(|| node.subtree.and_then(visit))
    }
}

impl Literals {
    fn get(&self, text: &str) -> Option<usize> {
        match self {
            Self::None => None,
            Self::One(only, child) => (**only == *text).then_some(*child),
            Self::Many(children) => children.get(text).copied(),
        }
    }

    fn get_or_insert(&mut self, text: &str, next: usize) -> usize {
        match self {
            Self::None => {
                *self = Self::One(text.into(), next);
                next
            }
            Self::One(only, child) if **only == *text => *child,
            Self::One(only, child) => {
                *self = Self::Many(HashMap::from([(std::mem::take(only), *child), (text.into(), next)]));
                next
            }
            Self::Many(children) => match children.get(text) {
                Some(child) => *child,
                None => {
                    children.insert(text.into(), next);
                    next
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trie(patterns: &[&str]) -> Trie {
        let mut trie = Trie::default();
        for pattern in patterns {
            trie.slot(&Pattern::parse(pattern).expect("a pattern"));
        }
        trie
    }

    fn visited(trie: &Trie, path: &str) -> Vec<usize> {
        let mut slots = Vec::new();
        trie.matching(path[1..].split('/'), |slot| {
            slots.push(slot);
            None::<()>
        });
        slots
    }

    #[test]
    fn what_matches_is_met_from_narrow_to_wide() {
        let trie = trie(&["/**", "/a/**", "/a/{x}", "/a/b", "/a/b/**", "/{x}/**", "/a/c"]);
        assert_eq!(visited(&trie, "/a/b"), [3, 4, 2, 1, 5, 0]);
        assert_eq!(visited(&trie, "/a"), [1, 5, 0]);
        assert_eq!(visited(&trie, "/a/"), [1, 5, 0]);
        assert_eq!(visited(&trie, "/"), [0]);
    }

    #[test]
    fn a_dead_end_leads_back_to_the_parameter() {
        let trie = trie(&["/a/b/c", "/{x}/b/d"]);
        assert_eq!(visited(&trie, "/a/b/d"), [1]);
        assert_eq!(visited(&trie, "/a/b/e"), [0; 0]);
    }

    #[test]
    fn what_contains_a_pattern_is_met_from_narrow_to_wide() {
        let trie = trie(&["/**", "/a/**", "/a/{y}", "/a/b", "/{x}/b", "/a/{y}/**"]);
        let containing = |pattern: &str| {
            let mut slots = Vec::new();
            trie.containing(&Pattern::parse(pattern).expect("a pattern"), |slot| {
                slots.push(slot);
                None::<()>
            });
            slots
        };
        assert_eq!(containing("/a/{z}"), [2, 5, 1, 0]);
        assert_eq!(containing("/a/{z}/**"), [5, 1, 0]);
        assert_eq!(containing("/a/b"), [3, 2, 5, 1, 4, 0]);
    }
}
