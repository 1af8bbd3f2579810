//! YAML as a tree in which every node knows where it stands.
//!
//! Scalars keep their text: a price never becomes a float and `0x1111…` never a number. Reading the tree by hand,
//! instead of deserializing into types, is what lets a file's mistakes be reported all at once.

use std::collections::HashMap;
use std::sync::Arc;

use serde_yaml::granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Span as Marks, options};

use super::codes;
use super::mistake::{Mistake, Mistakes};
use super::secrets;
use super::source::Span;

/// The largest file that is read.
pub(super) const MOST_BYTES: usize = 16 * 1024 * 1024;
/// How deep lists and mappings may nest; the deepest key of the file stands at eight.
const MOST_DEPTH: usize = 32;
/// How many nodes a file may have, aliases written out: a few lines of aliases can stand for billions.
const MOST_NODES: usize = 4_000_000;

/// A scalar as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Text {
    pub text: Arc<str>,
    pub span: Span,
    /// Whether it stands in quotes (or is a block scalar): other YAML parsers then leave it alone too.
    pub quoted: bool,
}

/// A value and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    pub span: Span,
    pub value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    /// Nothing after the colon, `~` or `null`.
    Empty,
    Text(Text),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

/// A line of a mapping. No two of one mapping have the same key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub key: Text,
    pub node: Node,
}

impl Node {
    /// What it is, for "expected …, found …".
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Empty => "nothing",
            Value::Text(_) => "a text",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
        }
    }

    fn count(&self) -> usize {
        match &self.value {
            Value::Empty | Value::Text(_) => 1,
            Value::List(items) => 1 + items.iter().map(Self::count).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|entry| 1 + entry.node.count()).sum::<usize>(),
        }
    }
}

/// Reads one YAML document. `None` when there is none to go on with; what is wrong is in `mistakes`.
pub(super) fn compose(text: &str, mistakes: &mut Mistakes) -> Option<Node> {
    let options = options! {
        emit_comments: false,
        flow_nesting_limit: MOST_DEPTH,
        block_nesting_limit: MOST_DEPTH,
    };
    let mut composer = Composer {
        events: parser(text, options),
        mistakes,
        anchors: HashMap::new(),
        nodes: 0,
        text,
        last: Span::default(),
    };
    composer.document().unwrap_or_default()
}

fn parser(text: &str, options: Options) -> impl Iterator<Item = Result<(Event<'_>, Marks), ScanError>> {
    Parser::new_from_str_with_options(text, options)
}

/// The rest of the file cannot be read; the mistake has been noted.
struct Stop;

struct Composer<'t, 'm, I> {
    events: I,
    mistakes: &'m mut Mistakes,
    /// Nodes that are complete and have a name. An alias to a node that still encloses it finds nothing here.
    anchors: HashMap<usize, Node>,
    nodes: usize,
    text: &'t str,
    last: Span,
}

impl<'t, I: Iterator<Item = Result<(Event<'t>, Marks), ScanError>>> Composer<'t, '_, I> {
    fn document(&mut self) -> Result<Option<Node>, Stop> {
        let mut root = None;
        loop {
            match self.next()? {
                (Event::StreamStart | Event::DocumentEnd, _) => {}
                (Event::DocumentStart(..), span) if root.is_some() => {
                    self.mistakes.add(
                        Mistake::error(&codes::YAML, span, "the file holds more than one YAML document")
                            .help("remove the `---`; one file describes one gateway"),
                    );
                    return Ok(root);
                }
                (Event::DocumentStart(..), _) => {}
                (Event::StreamEnd, _) => return Ok(root),
                (event, span) => root = Some(self.node(event, span)?),
            }
        }
    }

    fn next(&mut self) -> Result<(Event<'t>, Span), Stop> {
        match self.events.next() {
            Some(Ok((event, marks))) => {
                let span = self.span(&marks);
                self.last = span;
                Ok((event, span))
            }
            Some(Err(error)) => Err(self.unreadable(&error)),
            None => Err(Stop),
        }
    }

    fn span(&self, marks: &Marks) -> Span {
        let bytes = marks.byte_range().unwrap_or_default();
        let written = self.text.get(bytes.clone()).unwrap_or_default().trim_end();
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        Span { start: offset(bytes.start), end: offset(bytes.start + written.len()) }
    }

    fn unreadable(&mut self, error: &ScanError) -> Stop {
        let at = error.marker().byte_offset().map_or(self.last.end, |at| u32::try_from(at).unwrap_or(u32::MAX));
        let at = at.min(u32::try_from(self.text.trim_end().len()).unwrap_or(u32::MAX));
        let message = format!("this is not YAML: {}", error.kind());
        self.mistakes.add(
            Mistake::error(&codes::YAML, Span { start: at, end: at }, message)
                .label("reading stopped here")
                .help("look at the indentation, the quotes and the colons of this line and the one above"),
        );
        Stop
    }

    fn node(&mut self, event: Event<'t>, span: Span) -> Result<Node, Stop> {
        self.nodes += 1;
        if self.nodes > MOST_NODES {
            return Err(self.too_big(span));
        }
        if event.tag().is_some() {
            self.mistakes.add(
                Mistake::error(&codes::YAML_FEATURE, span, "YAML tags (`!…`) have no meaning here")
                    .help("remove the tag; write secrets as {file: PATH} or {env: NAME}"),
            );
        }
        let anchor = event.anchor_id();
        let node = match event {
            Event::Scalar(text, style, ..) => scalar(&text, style, span),
            Event::SequenceStart(..) => self.list(span)?,
            Event::MappingStart(..) => self.map(span)?,
            Event::Alias(id) => return self.alias(id, span),
            _ => Node { span, value: Value::Empty },
        };
        if let Some(id) = anchor {
            self.anchors.insert(id, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, span: Span) -> Result<Node, Stop> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Node { span, value: Value::List(items) }),
                (event, at) => items.push(self.node(event, at)?),
            }
        }
    }

    fn map(&mut self, span: Span) -> Result<Node, Stop> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut places: HashMap<Arc<str>, Span> = HashMap::new();
        loop {
            let (event, at) = self.next()?;
            if matches!(event, Event::MappingEnd) {
                return Ok(Node { span, value: Value::Map(entries) });
            }
            let key = self.node(event, at)?;
            let (event, at) = self.next()?;
            let node = self.node(event, at)?;
            let Some(key) = self.key(key) else { continue };
            match places.get(&key.text) {
                Some(first) => self.duplicate(&key, *first),
                None => {
                    places.insert(key.text.clone(), key.span);
                    entries.push(Entry { key, node });
                }
            }
        }
    }

    fn key(&mut self, key: Node) -> Option<Text> {
        match key.value {
            Value::Text(text) if &*text.text == "<<" && !text.quoted => {
                self.mistakes.add(
                    Mistake::error(&codes::YAML_FEATURE, text.span, "merge keys (`<<`) are not read")
                        .help("write the lines out, or put what routes share under `defaults`"),
                );
                None
            }
            Value::Text(text) => Some(text),
            _ => {
                self.mistakes.add(Mistake::error(&codes::SHAPE, key.span, "a key has to be a text"));
                None
            }
        }
    }

    fn duplicate(&mut self, key: &Text, first: Span) {
        self.mistakes.add(
            Mistake::error(&codes::DUPLICATE_KEY, key.span, format!("`{}` stands here twice", key.text))
                .label("again here")
                .related(first, "first here")
                .help("keep one of them"),
        );
    }

    /// Writes an alias out. What it stands for counts in full against the limit.
    fn alias(&mut self, id: usize, span: Span) -> Result<Node, Stop> {
        let Some(node) = self.anchors.get(&id) else {
            self.mistakes.add(
                Mistake::error(&codes::YAML_FEATURE, span, "this alias stands inside what it stands for")
                    .help("write the value out"),
            );
            return Ok(Node { span, value: Value::Empty });
        };
        self.nodes = self.nodes.saturating_add(node.count());
        if self.nodes > MOST_NODES { Err(self.too_big(span)) } else { Ok(node.clone()) }
    }

    fn too_big(&mut self, span: Span) -> Stop {
        self.mistakes.add(
            Mistake::error(&codes::TOO_LARGE, span, format!("the file has more than {MOST_NODES} values"))
                .help("an alias counts as everything it stands for"),
        );
        Stop
    }
}

fn scalar(text: &str, style: ScalarStyle, span: Span) -> Node {
    let quoted = style != ScalarStyle::Plain;
    let empty = !quoted && ["", "~", "null", "Null", "NULL"].contains(&text);
    let value = if empty { Value::Empty } else { Value::Text(Text { text: text.into(), span, quoted }) };
    Node { span, value }
}

/// The way to a place: `routes[GET /v1/weather].price`.
pub(super) fn path_to(root: &Node, offset: u32) -> String {
    let mut path = String::new();
    let mut node = root;
    let mut guarded = false;
    loop {
        match &node.value {
            Value::Map(entries) => {
                let Some(entry) = last_before(entries, offset, |entry| entry.key.span.start) else { return path };
                if guarded && !secrets::is_name(&entry.key.text) {
                    return path;
                }
                guarded |= secrets::is_guarded(&entry.key.text);
                push_key(&mut path, &entry.key.text);
                node = &entry.node;
            }
            Value::List(items) => {
                let index = items.partition_point(|item| item.span.start <= offset);
                let Some(item) = index.checked_sub(1).and_then(|index| items.get(index)) else { return path };
                path.push_str(&format!("[{}]", index - 1));
                node = item;
            }
            Value::Empty | Value::Text(_) => return path,
        }
    }
}

fn last_before(entries: &[Entry], offset: u32, start: impl Fn(&Entry) -> u32) -> Option<&Entry> {
    entries.partition_point(|entry| start(entry) <= offset).checked_sub(1).and_then(|index| entries.get(index))
}

fn push_key(path: &mut String, key: &str) {
    let plain = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
    match (plain, path.is_empty()) {
        (true, true) => path.push_str(key),
        (true, false) => path.extend([".", key]),
        (false, _) => path.extend(["[", key, "]"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(text: &str) -> Node {
        let mut mistakes = Mistakes::default();
        let node = compose(text, &mut mistakes).expect("the text is YAML");
        assert!(mistakes.is_empty(), "{mistakes:?}");
        node
    }

    #[test]
    fn scalars_keep_their_text_and_their_quotes() {
        let Value::Map(entries) = tree("a: 0.10\nb: 0x1111\nc: \"yes\"\nd: ~\n").value else { panic!("a mapping") };
        let texts: Vec<_> = entries
            .iter()
            .map(|entry| match &entry.node.value {
                Value::Text(text) => (text.text.to_string(), text.quoted),
                other => (format!("{other:?}"), false),
            })
            .collect();
        let expected = [("0.10", false), ("0x1111", false), ("yes", true), ("Empty", false)];
        assert_eq!(texts, expected.map(|(text, quoted)| (text.to_owned(), quoted)));
    }

    #[test]
    fn a_path_leads_to_a_place() {
        let text = "listen:\n  - address: a\n  - address: b\nroutes:\n  GET /x: {price: 1}\n";
        let root = tree(text);
        let path = |needle: &str| path_to(&root, u32::try_from(text.find(needle).unwrap()).unwrap());
        assert_eq!(path("b\n"), "listen[1].address");
        assert_eq!(path("price"), "routes[GET /x].price");
    }

    #[test]
    fn aliases_cannot_stand_for_billions() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..10 {
            let below = level - 1;
            text += &format!("a{level}: &a{level} [{}]\n", vec![format!("*a{below}"); 10].join(", "));
        }
        let mut mistakes = Mistakes::default();
        assert!(compose(&text, &mut mistakes).is_none());
        assert_eq!(mistakes.codes(), ["TH1026"]);
    }

    #[test]
    fn nesting_is_bounded() {
        let mut mistakes = Mistakes::default();
        assert!(compose(&"[".repeat(20_000), &mut mistakes).is_none());
        assert_eq!(mistakes.codes(), ["TH1001"]);
    }
}
