//! Reading a tree by hand: every helper notes what is wrong and lets its caller go on.

use crate::config::codes;
use crate::config::keys::Section;
use crate::config::mistake::{Mistake, Mistakes};
use crate::config::secrets;
use crate::config::source::Span;
use crate::config::tree::{Entry, Node, Text, Value};

/// A mapping whose keys have been checked against its section.
#[derive(Clone, Copy)]
pub(super) struct Fields<'t> {
    section: &'static Section,
    entries: &'t [Entry],
}

impl<'t> Fields<'t> {
    /// Reads a mapping and reports every key that does not belong.
    pub(super) fn of(node: &'t Node, section: &'static Section, mistakes: &mut Mistakes) -> Option<Self> {
        let entries = entries(node, mistakes)?;
        for entry in entries {
            check_key(&entry.key, section, mistakes);
        }
        Some(Self { section, entries })
    }

    /// The value of a key; an empty one is reported and counts as absent.
    pub(super) fn node(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'t Node> {
        debug_assert!(self.section.known.contains(&key), "`{key}` is missing from the keys of {}", self.section.name);
        let entry = self.entries.iter().find(|entry| &*entry.key.text == key)?;
        if entry.node.value == Value::Empty {
            mistakes.add(
                Mistake::error(&codes::EMPTY, entry.key.span, format!("`{key}` has no value"))
                    .help("leave the key out to get its default"),
            );
            return None;
        }
        Some(&entry.node)
    }

    /// Whether every key belongs; if not, a missing one may be what was meant.
    pub(super) fn all_known(&self) -> bool {
        self.entries.iter().all(|entry| self.section.known.contains(&&*entry.key.text))
    }

    /// The place of a key.
    pub(super) fn key_span(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|entry| &*entry.key.text == key).map(|entry| entry.key.span)
    }

    pub(super) fn text(&self, key: &str, mistakes: &mut Mistakes) -> Option<Text> {
        text(self.node(key, mistakes)?, mistakes)
    }

    pub(super) fn fields(&self, key: &str, section: &'static Section, mistakes: &mut Mistakes) -> Option<Self> {
        Fields::of(self.node(key, mistakes)?, section, mistakes)
    }

    /// The lines of a mapping with free keys.
    pub(super) fn entries(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'t [Entry]> {
        entries(self.node(key, mistakes)?, mistakes)
    }

    /// The items of a list.
    pub(super) fn list(&self, key: &str, mistakes: &mut Mistakes) -> Option<&'t [Node]> {
        let node = self.node(key, mistakes)?;
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                wrong_shape(node, "a list", mistakes);
                None
            }
        }
    }

    /// A list of texts.
    pub(super) fn texts(&self, key: &str, mistakes: &mut Mistakes) -> Option<Vec<Text>> {
        let items = self.list(key, mistakes)?;
        Some(items.iter().filter_map(|item| text(item, mistakes)).collect())
    }
}

pub(super) fn text(node: &Node, mistakes: &mut Mistakes) -> Option<Text> {
    match &node.value {
        Value::Text(text) => Some(text.clone()),
        _ => {
            wrong_shape(node, "a text", mistakes);
            None
        }
    }
}

pub(super) fn entries<'t>(node: &'t Node, mistakes: &mut Mistakes) -> Option<&'t [Entry]> {
    match &node.value {
        Value::Map(entries) => Some(entries),
        _ => {
            wrong_shape(node, "a mapping", mistakes);
            None
        }
    }
}

pub(super) fn wrong_shape(node: &Node, expected: &str, mistakes: &mut Mistakes) {
    let message = format!("expected {expected}, found {}", node.kind());
    mistakes.add(Mistake::error(&codes::SHAPE, node.span, message).help(format!("write {expected}")));
}

fn check_key(key: &Text, section: &Section, mistakes: &mut Mistakes) {
    let name = &*key.text;
    if section.known.contains(&name) {
        return;
    }
    if section.later.contains(&name) {
        mistakes.add(not_supported(name, key.span));
        return;
    }
    let shown = if secrets::is_name(name) { format!(" `{name}`") } else { String::new() };
    let message = format!("unknown field{shown} in {}", section.name);
    let mistake = Mistake::error(&codes::UNKNOWN_FIELD, key.span, message);
    let known = || section.known.iter().copied();
    mistakes.add(match nearest(name, known()).or_else(|| nearest(name, section.later.iter().copied())) {
        Some(near) => mistake.label(format!("did you mean `{near}`?")),
        None => mistake.help(format!("{} may hold {}", section.name, listed(known()))),
    });
}

/// Something of the design that this version refuses rather than ignores.
pub(in crate::config) fn not_supported(what: &str, span: Span) -> Mistake {
    Mistake::error(&codes::NOT_SUPPORTED, span, format!("`{what}` is not supported in this version"))
        .help("remove it; nothing of it would take effect")
}

/// The word that was probably meant.
pub(in crate::config) fn nearest<'w>(written: &str, words: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let written = written.to_lowercase();
    let distance = |word: &str| strsim::damerau_levenshtein(&written, &word.to_lowercase());
    let near = words.into_iter().map(|word| (distance(word), word)).min_by_key(|(distance, _)| *distance)?;
    let allowed = (near.1.len().max(written.len()) / 3).clamp(1, 3);
    (near.0 <= allowed).then_some(near.1)
}

/// `a`, `b` and `c`.
pub(in crate::config) fn listed<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    joined(words, "and")
}

/// `a`, `b` or `c`.
pub(in crate::config) fn either<'w>(words: impl IntoIterator<Item = &'w str>) -> String {
    joined(words, "or")
}

fn joined<'w>(words: impl IntoIterator<Item = &'w str>, last_two: &str) -> String {
    let words: Vec<String> = words.into_iter().map(|word| format!("`{word}`")).collect();
    match words.split_last() {
        None => String::from("nothing"),
        Some((last, [])) => last.clone(),
        Some((last, front)) => format!("{} {last_two} {last}", front.join(", ")),
    }
}
