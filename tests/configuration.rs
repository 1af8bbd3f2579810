//! Every file under `fixtures/config/valid` loads; every one under `invalid` says why it does not, in exactly the words
//! beside it. Run with `BLESS=1` to write those words anew, and read what changed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tollhouse::config::{self, Format, Loaded, Severity};
use tollhouse::payment::SettleMode;
use tollhouse::tariff::{Charge, Replay, Route, Toll};
use tollhouse::{facilitator, ledger};

/// The directory that the files' relative paths start at, with secrets of every kind.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().expect("a directory for the test"));
        directory.secret("good", "s3cret\n", 0o600);
        directory.secret("group", "s3cret\n", 0o440);
        directory.secret("open", "s3cret\n", 0o644);
        directory.secret("empty", "\n", 0o600);
        directory.secret("long", &"x".repeat(70_000), 0o600);
        directory.secret("gas-key", &format!("0x{}\n", "01".repeat(32)), 0o600);
        directory.secret("short-key", "0x0101\n", 0o600);
        directory
    }

    fn secret(&self, name: &str, content: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt;
        let path = self.0.path().join(name);
        fs::write(&path, content).expect("the directory is ours");
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("the file is ours");
    }

    /// Reads a file. Its lines `# env: NAME=VALUE` are the environment.
    fn read(&self, text: &str, name: &str) -> Loaded {
        let variables = text.lines().filter_map(|line| line.strip_prefix("# env: ")?.split_once('='));
        let variables: HashMap<_, _> = variables.collect();
        config::parse(text, name, self.0.path(), &|name| variables.get(name).map(|value| (*value).to_owned()))
    }
}

fn read(text: &str) -> config::Config {
    let loaded = Directory::new().read(text, "gateway.yaml");
    let report = loaded.report.render(Format::Human, false);
    loaded.config.unwrap_or_else(|| panic!("{report}"))
}

fn fixtures(kind: &str) -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/config").join(kind);
    let entries = fs::read_dir(&directory).expect("the fixtures are part of the repository");
    let mut files: Vec<_> = entries.map(|entry| entry.expect("a readable directory").path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty(), "no files in {}", directory.display());
    files
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).expect("fixtures have plain names")
}

/// Compares with the file `NAME.stderr`, or writes it.
fn matches_snapshot(path: &Path, rendered: &str) -> bool {
    let beside = path.with_extension("stderr");
    if std::env::var_os("BLESS").is_some() {
        fs::write(&beside, rendered).expect("the repository is ours");
    }
    let expected = fs::read_to_string(&beside).unwrap_or_default();
    if expected != rendered {
        eprintln!("---- {} says\n{rendered}\n---- and should say\n{expected}", path.display());
    }
    expected == rendered
}

#[test]
fn every_invalid_file_says_what_where_and_what_to_write_instead() {
    let directory = Directory::new();
    let mut wrong = Vec::new();
    for path in fixtures("invalid") {
        let text = fs::read_to_string(&path).expect("a fixture");
        let loaded = directory.read(&text, name_of(&path));
        let report = &loaded.report;
        assert!(loaded.config.is_none() && report.errors() > 0, "{} was accepted", path.display());
        for mistake in report.mistakes() {
            let remedy = mistake.help.is_some() || mistake.label.is_some();
            if !remedy {
                eprintln!("{}: `{}` has no remedy", path.display(), mistake.message);
                wrong.push(path.clone());
            }
        }
        if !matches_snapshot(&path, &report.render(Format::Human, false)) {
            wrong.push(path);
        }
    }
    assert!(wrong.is_empty(), "{} reports differ", wrong.len());
}

#[test]
fn every_valid_file_loads_and_warns_only_where_it_should() {
    let directory = Directory::new();
    for path in fixtures("valid") {
        let text = fs::read_to_string(&path).expect("a fixture");
        let loaded = directory.read(&text, name_of(&path));
        let rendered = loaded.report.render(Format::Human, false);
        assert!(loaded.config.is_some(), "{rendered}");
        if loaded.report.warnings() > 0 {
            assert!(matches_snapshot(&path, &rendered), "{} warns differently", path.display());
        }
    }
}
