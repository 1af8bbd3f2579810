//! Imports point one way: the rows of `docs/ARCHITECTURE.md`, "Which way imports point", held against the source.
//!
//! The module tree is walked from `lib.rs` the way the compiler does, so a file that nothing declares is noticed
//! too. Paths are read from the syntax tree, and from the tokens inside macros, where syntax is anybody's.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};

use proc_macro2::{Delimiter, Spacing, Span, TokenStream, TokenTree};
use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, File, ImplItemFn, Item, ItemMod, ItemUse, Macro, UseTree};

/// A module imports only from rows above its own; neighbours on a row do not see each other.
const ROWS: [&[&str]; 10] = [
    &["primitives"],
    &["payment"],
    &["tariff", "protocol", "scheme", "ledger"],
    &["facilitator"],
    &["gate"],
    &["proxy", "telemetry"],
    &["status", "admin"],
    &["config"],
    &["server"],
    &["cli"],
];

/// May use every row but `cli`, and is itself used by tests alone.
const TESTING: &str = "testing";

/// The gate knows the traits of these modules and none of the implementations below them.
const IMPLEMENTATIONS: [(&str, &[&str]); 4] = [
    ("protocol", &["x402"]),
    ("scheme", &["exact"]),
    ("ledger", &["memory", "sqlite", "postgres"]),
    ("facilitator", &["remote", "local", "sandbox", "guarded"]),
];

#[test]
fn imports_point_only_to_rows_above() {
    let tree = Tree::walk();
    let wrong: Vec<String> = tree.sources.iter().flat_map(Source::violations).map(|wrong| wrong.to_string()).collect();
    assert!(wrong.is_empty(), "{} imports point the wrong way:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_file_is_declared_and_says_what_it_is() {
    let tree = Tree::walk();
    let declared: BTreeSet<_> = tree.sources.iter().map(|source| source.path.clone()).collect();
    let mut wrong = Vec::new();
    for path in files_below(Path::new("src")) {
        if !declared.contains(&path) {
            wrong.push(format!("{}: no `mod` line declares this file", path.display()));
        }
        if !read(&path).lines().any(|line| line.starts_with("//! ")) {
            wrong.push(format!("{}: has no `//!` line that says what it is", path.display()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_module_has_a_row() {
    let tree = Tree::walk();
    let unplaced: BTreeSet<_> = tree
        .sources
        .iter()
        .filter_map(|source| source.module.first())
        .filter(|module| row(module).is_none() && *module != TESTING && *module != MAIN)
        .collect();
    assert!(unplaced.is_empty(), "give these modules a row in docs/ARCHITECTURE.md and here: {unplaced:?}");
}

#[test]
fn a_wrong_import_is_found_wherever_it_hides() {
    let cases = [
        ("primitives", "use crate::payment::Offer;"),
        ("payment", "use crate::{primitives::{Nonce, Payer}, ledger::{entry::{Entry}}};"),
        ("ledger", "use crate::tariff::Toll;"),
        ("ledger::entry", "use super::super::gate::Gate;"),
        ("proxy", "use super::telemetry::Metrics;"),
        ("scheme", "fn f(gate: &crate::gate::Gate) {}"),
        ("scheme", "fn f() { println!(\"{}\", [crate::gate::NAME]); }"),
        ("scheme", "macro_rules! m { () => { $crate::gate::NAME }; }"),
        ("scheme", "mod inner { use super::super::cli::Command; }"),
        ("scheme", "pub(in crate::gate) struct S;"),
        ("server", "use crate::testing::Wallet;"),
        ("server", "#[cfg(not(test))] mod m { use crate::testing::Wallet; }"),
        ("testing", "use crate::cli::run;"),
        ("gate", "use crate::ledger::memory::MemoryStore;"),
        ("server", "use crate::*;"),
        ("server", "use crate as all;"),
        ("server", "use crate::nowhere::Thing;"),
    ];
    for (module, text) in cases {
        let text = format!("//! Wrong on its third line.\n\n{text}\n");
        let found = Source::synthetic(module, &text).violations();
        assert_eq!(found.len(), 1, "{module}: {text}found {found:?}");
        assert_eq!(found[0].line, 3, "{module}: {text}");
    }
}

#[test]
fn a_right_import_is_left_alone() {
    let cases = [
        ("gate", "use crate::{payment::Offer, ledger::{self, Claim}, facilitator::Facilitator};"),
        ("ledger::entry", "use super::Claim; use crate::ledger::memory::Memory; use self::inner::X;"),
        ("scheme", "#[cfg(test)] mod tests { use super::*; use crate::testing::Wallet; }"),
        ("scheme", "#[cfg(test)] use crate::testing::Wallet;"),
        ("gate", "#[cfg(all(test, unix))] mod tests { use crate::ledger::memory::Memory; }"),
        ("testing", "use crate::server::Server;"),
        ("facilitator", "use std::fmt; use alloy::signers::local::PrivateKeySigner; use crate::scheme::exact::digest;"),
        ("scheme", "/// Not an import: `crate::gate::Gate`.\npub struct S;"),
    ];
    for (module, text) in cases {
        let found = Source::synthetic(module, text).violations();
        assert!(found.is_empty(), "{module}: {text}\nfound {found:?}");
    }
}

/// How the binary's own file is called here; it may use everything.
const MAIN: &str = "main";

fn row(module: &str) -> Option<usize> {
    ROWS.iter().position(|modules| modules.contains(&module))
}

/// Why `from` may not use the path `to`; `None` when it may.
fn objection(from: &[String], to: &[String], test_only: bool) -> Option<String> {
    let from = from.first().map(String::as_str)?;
    let Some((to, below)) = to.split_first() else {
        return Some("names the whole crate; name the module".to_owned());
    };
    if from == to || from == MAIN {
        return None;
    }
    if to == TESTING {
        return (!test_only).then(|| format!("`{from}` uses `{TESTING}`, which only tests may"));
    }
    let Some(target) = row(to) else { return Some(format!("`{to}` has no row")) };
    let own = if from == TESTING { row("server")? + 1 } else { row(from)? };
    if target >= own {
        let relation = if target == own { "its neighbour" } else { "below it" };
        return Some(format!("`{from}` (row {own}) uses `{to}` (row {target}), {relation}"));
    }
    let hidden = IMPLEMENTATIONS.iter().find(|(module, _)| module == to).map_or(&[][..], |(_, hidden)| hidden);
    let implementation = below.first().filter(|name| hidden.contains(&name.as_str()));
    implementation
        .filter(|_| from == "gate" && !test_only)
        .map(|name| format!("`gate` uses `{to}::{name}`, an implementation; it knows only traits"))
}

struct Violation {
    file: PathBuf,
    line: usize,
    why: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file.display(), self.line, self.why)
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Every file of the crate, found the way the compiler finds them.
struct Tree {
    sources: Vec<Source>,
}

struct Source {
    path: PathBuf,
    /// Its path below the crate root: `["ledger", "entry"]`.
    module: Vec<String>,
    test_only: bool,
    syntax: File,
}

impl Tree {
    fn walk() -> Self {
        let mut tree = Self { sources: Vec::new() };
        tree.add(PathBuf::from("src/lib.rs"), Vec::new(), false);
        tree.add(PathBuf::from("src/main.rs"), vec![MAIN.to_owned()], false);
        tree
    }

    fn add(&mut self, path: PathBuf, module: Vec<String>, test_only: bool) {
        let source = Source::parse(path, module, test_only, &read);
        let children: Vec<_> = source.children().collect();
        self.sources.push(source);
        for (path, module, test_only) in children {
            self.add(path, module, test_only);
        }
    }
}

impl Source {
    fn parse(path: PathBuf, module: Vec<String>, test_only: bool, read: &dyn Fn(&Path) -> String) -> Self {
        let syntax = syn::parse_file(&read(&path)).unwrap_or_else(|error| {
            panic!("{}:{}: {error}", path.display(), error.span().start().line);
        });
        Self { path, module, test_only, syntax }
    }

    fn synthetic(module: &str, text: &str) -> Self {
        let module = module.split("::").map(str::to_owned).collect();
        Self::parse(PathBuf::from("src/synthetic.rs"), module, false, &|_| text.to_owned())
    }

    /// The files that this one's `mod name;` lines declare.
    fn children(&self) -> impl Iterator<Item = (PathBuf, Vec<String>, bool)> {
        let stem = self.path.file_stem().expect("a source file has a name");
        let folder = self.path.parent().expect("a source file lies in a folder");
        let folder =
            if ["lib", "main", "mod"].iter().any(|root| stem == *root) { folder.into() } else { folder.join(stem) };
        self.syntax.items.iter().filter_map(move |item| {
            let Item::Mod(ItemMod { ident, content: None, attrs, .. }) = item else { return None };
            let name = ident.to_string();
            let flat = folder.join(format!("{name}.rs"));
            let path = if flat.exists() { flat } else { folder.join(&name).join("mod.rs") };
            let module = self.module.iter().cloned().chain([name]).collect();
            Some((path, module, self.test_only || only_for_tests(attrs)))
        })
    }

    fn violations(&self) -> Vec<Violation> {
        let mut reader = Reader { source: self, module: self.module.clone(), test_only: self.test_only, found: vec![] };
        reader.visit_file(&self.syntax);
        reader.found
    }
}

/// Walks one file, knowing at every point which module it is in and whether only tests see it.
struct Reader<'a> {
    source: &'a Source,
    module: Vec<String>,
    test_only: bool,
    found: Vec<Violation>,
}

impl Reader<'_> {
    /// Judges a path as written, if it leads through this crate: `crate::…`, `self::…`, `super::…`.
    fn judge(&mut self, written: &[String], span: Span) {
        let Some(to) = self.resolve(written) else { return };
        if let Some(why) = objection(&self.module, &to, self.test_only) {
            let line = span.start().line;
            self.found.push(Violation { file: self.source.path.clone(), line, why });
        }
    }

    fn resolve(&self, written: &[String]) -> Option<Vec<String>> {
        let mut to = match written.first()?.as_str() {
            "crate" | "tollhouse" => Vec::new(),
            "self" | "super" => self.module.clone(),
            _ => return None,
        };
        for (index, segment) in written.iter().enumerate() {
            match segment.as_str() {
                "crate" | "tollhouse" if index == 0 => {}
                "self" => {}
                "super" => drop(to.pop()),
                name => to.push(name.to_owned()),
            }
        }
        Some(to)
    }

    fn within(&mut self, attrs: &[Attribute], inner: Option<String>, visit: impl FnOnce(&mut Self)) {
        let (test_only, depth) = (self.test_only, self.module.len());
        self.test_only |= only_for_tests(attrs);
        self.module.extend(inner);
        visit(self);
        self.module.truncate(depth);
        self.test_only = test_only;
    }

    fn judge_use(&mut self, tree: &UseTree, prefix: &[String]) {
        let with = |name: String| [prefix, &[name]].concat();
        match tree {
            UseTree::Path(path) => self.judge_use(&path.tree, &with(path.ident.to_string())),
            UseTree::Group(group) => group.items.iter().for_each(|item| self.judge_use(item, prefix)),
            UseTree::Name(name) => self.judge(&with(name.ident.to_string()), name.span()),
            UseTree::Rename(rename) => self.judge(&with(rename.ident.to_string()), rename.span()),
            // What a star brings in is whatever lies below the prefix.
            UseTree::Glob(glob) => self.judge(prefix, glob.span()),
        }
    }

    /// Finds `crate::a::b` among tokens that are not syntax yet.
    fn judge_tokens(&mut self, tokens: TokenStream) {
        let tokens: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while at < tokens.len() {
            match &tokens[at] {
                TokenTree::Group(group) => self.judge_tokens(group.stream()),
                TokenTree::Ident(first) => {
                    let mut written = vec![first.to_string()];
                    while let Some(next) = segment_after(&tokens[at + 1..]) {
                        written.push(next);
                        at += 3;
                    }
                    self.judge_written(&written, first.span());
                }
                _ => {}
            }
            at += 1;
        }
    }

    /// A lone `self` or `crate` among tokens is a receiver or a visibility, not a path.
    fn judge_written(&mut self, written: &[String], span: Span) {
        if written.len() > 1 {
            self.judge(written, span);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        let (attrs, inner) = match item {
            Item::Mod(item) => (&item.attrs[..], Some(item.ident.to_string())),
            Item::Fn(item) => (&item.attrs[..], None),
            Item::Impl(item) => (&item.attrs[..], None),
            Item::Use(item) => (&item.attrs[..], None),
            _ => (&[][..], None),
        };
        self.within(attrs, inner, |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.within(&item.attrs, None, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.judge_use(&item.tree, &[]);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        let written: Vec<_> = path.segments.iter().map(|segment| segment.ident.to_string()).collect();
        self.judge_written(&written, path.span());
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.judge_tokens(call.tokens.clone());
    }
}

/// The name in `::name` at the head of `tokens`.
fn segment_after(tokens: &[TokenTree]) -> Option<String> {
    match tokens {
        [TokenTree::Punct(first), TokenTree::Punct(second), TokenTree::Ident(name), ..]
            if first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':' =>
        {
            Some(name.to_string())
        }
        _ => None,
    }
}

/// Whether attributes keep an item out of everything but tests: `test`, `cfg(test)`, `cfg(all(test, …))`.
fn only_for_tests(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| {
        if attr.path().is_ident("test") {
            return true;
        }
        let Ok(list) = attr.meta.require_list() else { return false };
        attr.path().is_ident("cfg") && requires_test(list.tokens.clone())
    })
}

fn requires_test(condition: TokenStream) -> bool {
    let tokens: Vec<_> = condition.into_iter().collect();
    match tokens.as_slice() {
        [TokenTree::Ident(only)] => only == "test",
        [TokenTree::Ident(all), TokenTree::Group(group)]
            if all == "all" && group.delimiter() == Delimiter::Parenthesis =>
        {
            let parts: Vec<_> = group.stream().into_iter().collect();
            parts
                .split(|token| matches!(token, TokenTree::Punct(comma) if comma.as_char() == ','))
                .any(|part| requires_test(part.iter().cloned().collect()))
        }
        _ => false,
    }
}

fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).expect("src is readable") {
        let path = entry.expect("src is readable").path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// Tests run in the crate's root, so paths are relative to it and findings can be clicked.
fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
