//! The text of a file, and where in it something stands.

use std::sync::Arc;

use crate::tariff::Place;

/// A stretch of the file, in bytes. Files are at most 16 MiB, so 32 bits hold every offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span {
    /// The first byte.
    pub start: u32,
    /// The byte after the last.
    pub end: u32,
}

/// A file as it was read. Its text may hold a secret that does not belong there, so it does not print (S60).
#[derive(Clone)]
pub(super) struct Source {
    name: Arc<str>,
    text: Arc<str>,
    /// Where each line begins.
    lines: Vec<u32>,
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Source({}, {} lines)", self.name, self.lines.len())
    }
}

/// One line of a file, without its line break.
#[derive(Debug, Clone, Copy)]
pub(super) struct Line<'a> {
    pub number: u32,
    pub start: u32,
    pub text: &'a str,
}

impl Source {
    pub(super) fn new(name: &str, text: &str) -> Self {
        let breaks = text.bytes().zip(1..).filter(|(byte, _)| *byte == b'\n').map(|(_, after)| after);
        Self { name: name.into(), text: text.into(), lines: std::iter::once(0).chain(breaks).collect() }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The line a byte stands on.
    pub(super) fn line(&self, offset: u32) -> Line<'_> {
        let index = self.lines.partition_point(|start| *start <= offset) - 1;
        let start = self.lines[index];
        let end = self.lines.get(index + 1).map_or(self.text.len(), |next| *next as usize);
        let text = self.text.get(start as usize..end).unwrap_or_default().trim_end_matches(['\n', '\r']);
        Line { number: u32::try_from(index + 1).unwrap_or(u32::MAX), start, text }
    }

    /// Line and column, both from one; columns count characters.
    pub(super) fn place(&self, span: Span) -> Place {
        let line = self.line(span.start);
        let within = (span.start - line.start) as usize;
        let column = line.text.get(..within).map_or(within, |before| before.chars().count()) + 1;
        Place { file: self.name.clone(), line: line.number, column: u32::try_from(column).unwrap_or(u32::MAX) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_counts_lines_and_characters_from_one() {
        let source = Source::new("f", "a: 1\né: x\n");
        let place = |start| source.place(Span { start, end: start });
        assert_eq!((place(0).line, place(0).column), (1, 1));
        assert_eq!((place(9).line, place(9).column), (2, 4), "é is two bytes and one column");
        assert_eq!(source.line(4).text, "a: 1");
        assert_eq!((place(11).line, place(11).column), (3, 1), "the end of the file is a place");
    }
}
