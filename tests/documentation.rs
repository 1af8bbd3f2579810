//! What the documents say is so: their YAML is valid, their links lead somewhere, and the tests, failures, error codes,
//! keys and metrics they name exist. And the other way round: none of these is left out.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tollhouse::config::{self, Format, codes, schema};

/// Where documents stand. Not below: packages that tests install bring documents of their own.
const FOLDERS: [&str; 5] = [".", "docs", "deploy", "tests/e2e", "tests/fixtures"];
const SAFETY: &str = "docs/SAFETY.md";
const CONFIGURATION: &str = "docs/CONFIGURATION.md";
/// The part of `SAFETY` whose rows name their tests in the last column.
const COVERED: &str = "## Failures that are covered";

#[test]
fn every_whole_yaml_file_is_valid() {
    let mut found = 0;
    for document in documents() {
        for block in document.blocks.iter().filter(|block| block.language == "yaml") {
            let name = format!("{}:{}", document.path.display(), block.line);
            let loaded = config::parse(&block.text, &name, Path::new("."), &|_| None);
            assert!(loaded.config.is_some(), "{}", loaded.report.render(Format::Human, false));
            assert_eq!(loaded.report.warnings(), 0, "{}", loaded.report.render(Format::Human, false));
            found += 1;
        }
    }
    assert!(found >= 3, "only {found} blocks were found; are they marked ```yaml?");
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut wrong = Vec::new();
    for document in documents() {
        for target in links(&document.prose) {
            if let Some(why) = broken(&document, target) {
                wrong.push(format!("{}: {target}: {why}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_test_that_is_named_exists() {
    let source = source();
    let mut keys = BTreeSet::new();
    properties(&schema::schema(), &mut keys);
    let mut wrong = Vec::new();
    for document in documents() {
        for name in quoted(&document.prose).filter(|name| looks_like_a_test(name) && !keys.contains(*name)) {
            let is_defined = ["(", "<"].iter().any(|next| source.contains(&format!("fn {name}{next}")));
            if !is_defined {
                wrong.push(format!("{}: there is no test {name}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_failure_has_a_row_and_a_row_names_its_own_tests() {
    let safety = read(Path::new(SAFETY));
    let rows: BTreeSet<u32> = safety.lines().filter_map(row_number).collect();
    let documents = documents().into_iter().map(|document| document.prose);
    let named: BTreeSet<u32> = documents.chain([source()]).flat_map(|text| failures(&text)).collect();
    let missing: Vec<_> = named.difference(&rows).collect();
    assert!(missing.is_empty(), "{SAFETY} has no row for {missing:?}");

    let (_, covered) = safety.split_once(COVERED).expect("the part has its heading");
    let covered = covered.split("\n## ").next().unwrap_or_default();
    for line in covered.lines() {
        let Some(number) = row_number(line) else { continue };
        let tests = line.trim_end_matches('|').rsplit(" | ").next().unwrap_or_default().trim();
        assert!(!tests.is_empty(), "S{number} says nothing about its tests");
        for name in quoted(tests).filter(|name| name.starts_with('s') && looks_like_a_test(name)) {
            assert!(name.contains(&format!("s{number}_")), "{name} stands in the row of S{number}");
        }
    }
}

#[test]
fn every_error_code_is_explained() {
    let text = read(Path::new(CONFIGURATION));
    for code in codes::ALL {
        assert!(text.contains(&format!("| {} |", code.id)), "{CONFIGURATION} has no line for {}", code.id);
    }
    for document in documents() {
        for (at, _) in document.prose.match_indices("TH") {
            let id: String = document.prose[at..].chars().take(6).collect();
            let is_code = id.len() == 6 && id[2..].bytes().all(|byte| byte.is_ascii_digit());
            assert!(!is_code || codes::Code::find(&id).is_some(), "{}: there is no {id}", document.path.display());
        }
    }
}

#[test]
fn every_key_of_the_file_is_in_the_reference() {
    let text = read(Path::new(CONFIGURATION));
    let words: BTreeSet<&str> = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').collect();
    let mut keys = BTreeSet::new();
    properties(&schema::schema(), &mut keys);
    assert!(keys.contains("public_url"), "the schema has no properties");
    let missing: Vec<_> = keys.iter().filter(|key| !words.contains(key.as_str())).collect();
    assert!(missing.is_empty(), "{CONFIGURATION} says nothing about {missing:?}");
}

#[test]
fn the_metrics_of_the_reference_are_those_of_the_process() {
    let code = read(Path::new("src/telemetry/metrics.rs"));
    let registered: BTreeSet<String> = code
        .split("to.register")
        .skip(1)
        .map(|call| call.split('"').nth(1).expect("a metric has a name").to_owned())
        .collect();
    let reference = metrics(&read(Path::new(CONFIGURATION)));
    assert_eq!(reference, registered, "{CONFIGURATION} (left) and src/telemetry/metrics.rs (right)");
    for document in documents() {
        let unknown: Vec<_> = metrics(&document.prose).difference(&registered).cloned().collect();
        assert!(unknown.is_empty(), "{}: there is no metric {unknown:?}", document.path.display());
    }
}

struct Document {
    path: PathBuf,
    blocks: Vec<Block>,
    /// Everything outside of code blocks.
    prose: String,
}

/// A fenced block of code.
struct Block {
    /// What stands behind the fence: `yaml` for a whole file, `yaml fragment` for a part of one.
    language: String,
    line: usize,
    text: String,
}

fn documents() -> Vec<Document> {
    let mut documents = Vec::new();
    for folder in FOLDERS {
        for entry in std::fs::read_dir(folder).expect("the folder is there") {
            let path = entry.expect("the folder can be read").path();
            if path.extension().is_some_and(|extension| extension == "md") {
                documents.push(Document::read(path));
            }
        }
    }
    documents
}

impl Document {
    fn read(path: PathBuf) -> Self {
        let (mut blocks, mut prose) = (Vec::new(), String::new());
        let mut open: Option<Block> = None;
        for (index, line) in read(&path).lines().enumerate() {
            match (line.strip_prefix("```"), &mut open) {
                (Some(_), Some(_)) => blocks.extend(open.take()),
                (Some(language), None) => {
                    open = Some(Block { language: language.to_owned(), line: index + 1, text: String::new() });
                }
                (None, Some(block)) => block.text += &format!("{line}\n"),
                (None, None) => prose += &format!("{line}\n"),
            }
        }
        assert!(open.is_none(), "{}: a block of code does not end", path.display());
        Self { path, blocks, prose }
    }
}

/// The targets of all links.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose.match_indices("](").filter_map(|(at, _)| prose[at + 2..].split(')').next())
}

/// Why a link leads nowhere. Other sites are not asked.
fn broken(document: &Document, target: &str) -> Option<String> {
    if target.contains("://") {
        return None;
    }
    let (file, heading) = target.split_once('#').map_or((target, None), |(file, heading)| (file, Some(heading)));
    let folder = document.path.parent().unwrap_or(Path::new("."));
    let path = if file.is_empty() { document.path.clone() } else { folder.join(file) };
    if !path.exists() {
        return Some(format!("{} does not exist", path.display()));
    }
    let heading = heading?;
    let found = read(&path).lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == heading);
    (!found).then(|| format!("{} has no such heading", path.display()))
}

/// A heading as GitHub links to it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// What stands between single backticks.
fn quoted(prose: &str) -> impl Iterator<Item = &str> {
    prose.lines().flat_map(|line| line.split('`').skip(1).step_by(2))
}

/// Tests are sentences; nothing else that documents quote has so many words.
fn looks_like_a_test(name: &str) -> bool {
    let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    name.split('_').count() >= 4 && name.split('_').all(word) && !name.starts_with("tollhouse_")
}

/// `S13` in a text, as a word of its own.
fn failures(text: &str) -> BTreeSet<u32> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter_map(|word| word.strip_prefix('S')?.parse().ok()).filter(|number| *number < 100).collect()
}

/// The number of a row about a failure: `| S13 | …`.
fn row_number(line: &str) -> Option<u32> {
    line.strip_prefix("| S")?.split(' ').next()?.parse().ok()
}

/// The names of metrics in a text, as they are registered.
fn metrics(text: &str) -> BTreeSet<String> {
    let names = text.split(|c: char| !c.is_ascii_lowercase() && c != '_');
    let bare = names.filter_map(|name| name.strip_prefix("tollhouse_"));
    bare.map(|name| name.trim_end_matches("_total").trim_end_matches("_seconds").to_owned()).collect()
}

/// The names of all properties of a JSON Schema.
fn properties(schema: &serde_json::Value, found: &mut BTreeSet<String>) {
    match schema {
        serde_json::Value::Object(entries) => {
            if let Some(serde_json::Value::Object(names)) = entries.get("properties") {
                found.extend(names.keys().cloned());
            }
            entries.values().for_each(|value| properties(value, found));
        }
        serde_json::Value::Array(items) => items.iter().for_each(|item| properties(item, found)),
        _ => {}
    }
}

/// All Rust code of the crate and its tests, but this file.
fn source() -> String {
    let mut text = String::new();
    for folder in ["src", "tests", "benches"] {
        collect(Path::new(folder), &mut text);
    }
    text
}

fn collect(folder: &Path, text: &mut String) {
    for entry in std::fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        let name = path.file_name().unwrap_or_default();
        if path.is_dir() && name != "node_modules" && name != ".venv" {
            collect(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") && name != "documentation.rs" {
            text.push_str(&read(&path));
        }
    }
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
