//! Every file under `fixtures/config/valid` loads; every one under `invalid` says why it does not, in exactly the words
//! beside it. Run with `BLESS=1` to write those words anew, and read what changed.

mod meaning;
mod validator;

use std::collections::HashMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tollhouse::config::{self, Config, Format, Loaded};
use tollhouse::tariff::Charge;

/// The directory that the files' relative paths start at, with secrets of every kind.
struct Directory(tempfile::TempDir);

impl Directory {
    fn new() -> Self {
        let directory = Self(tempfile::tempdir().expect("a directory for the test"));
        directory.secret("good", "s3cret\n", 0o600);
        directory.secret("group", "s3cret\n", 0o440);
        directory.secret("admin-token", &"0f".repeat(16), 0o600);
        directory.secret("open", "s3cret\n", 0o644);
        directory.secret("empty", "\n", 0o600);
        directory.secret("long", &"x".repeat(70_000), 0o600);
        directory.secret("gas-key", &format!("0x{}\n", "01".repeat(32)), 0o600);
        directory.secret("two-lines", "s3cret\ns3cret\n", 0o600);
        directory.secret("keystore.json", include_str!("../fixtures/keystore.json"), 0o600);
        directory.secret("short-key", "0x0101\n", 0o600);
        directory.secret("tls.crt", include_str!("../fixtures/tls/own.crt"), 0o644);
        directory.secret("tls.key", include_str!("../fixtures/tls/own.key"), 0o600);
        directory.secret("other.key", include_str!("../fixtures/tls/other.key"), 0o600);
        let listed = "# who\n0x7F367cC41522cE07553e823bf3be79A889DEbe1B\n";
        directory.secret("list.txt", listed, 0o644);
        directory.secret("list-old.txt", listed, 0o644);
        directory.secret("list-empty.txt", "# nobody\n", 0o644);
        directory.secret("list-broken.txt", "# who\n0x7F367cC41522cE07553e823bf3be79A889DEbe1\n", 0o644);
        let old = fs::File::options().append(true).open(directory.0.path().join("list-old.txt"));
        old.and_then(|old| old.set_modified(std::time::SystemTime::UNIX_EPOCH)).expect("the file is ours");
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

/// What a valid file means.
fn meaning_of(text: &str) -> Config {
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

fn gateway_yaml() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("gateway.yaml");
    fs::read_to_string(path).expect("the file is part of the repository")
}

#[test]
fn gateway_yaml_runs_as_it_is() {
    let config = meaning_of(&gateway_yaml());
    assert!(config.live.sandbox);
    assert_eq!(config.live.tariff.priced(), 3);
}

/// A key of the file, or a line that belongs to one, in a comment.
fn is_commented_out(line: &str) -> bool {
    let Some(rest) = line.strip_prefix("# ") else { return false };
    rest.starts_with("  ")
        || rest.split_once(':').is_some_and(|(key, _)| key.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'))
}

#[test]
fn what_gateway_yaml_shows_in_comments_loads_too() {
    let text = gateway_yaml();
    let body = text.find("\nversion:").expect("the file has a version");
    let mut text: String = text[body..].lines().fold(String::new(), |mut text, line| {
        let line = if is_commented_out(line) { &line[2..] } else { line };
        let _ = writeln!(text, "{line}");
        text
    });
    for (from, to) in [
        ("pay_to: sandbox\n", ""),
        ("public_url: http://localhost:8402", "public_url: https://localhost:8402"),
        ("ledger: memory", "ledger: {sqlite: tollhouse.db, single_instance: true}"),
        ("/run/secrets/gas-key", "gas-key"),
        ("/run/secrets/cdp", "good"),
        ("/run/secrets/facilitator", "good"),
    ] {
        assert!(text.contains(from), "{from:?} is gone from gateway.yaml");
        text = text.replace(from, to);
    }
    text += "# env: BASE_RPC_URL=https://node.example\n# env: CDP_KEY_ID=id\n";
    let config = meaning_of(&text);
    assert_eq!(config.live.facilitators.len(), 3);
    assert_eq!(config.live.live_networks, ["base".into(), "celo".into()]);
}

#[test]
fn every_valid_file_fits_the_schema() {
    let schema = config::schema::schema();
    let valid = fixtures("valid").into_iter().map(|path| fs::read_to_string(path).expect("a fixture"));
    for text in valid.chain([gateway_yaml()]) {
        let value: serde_json::Value = serde_yaml::from_str(&text).expect("valid files are YAML");
        assert_eq!(validator::misfit(&schema, &schema, &value, ""), None, "{text}");
    }
}

#[test]
fn s60_no_report_shows_a_secret_in_any_format() {
    let directory = Directory::new();
    for path in fixtures("invalid") {
        let text = fs::read_to_string(&path).expect("a fixture");
        let loaded = directory.read(&text, name_of(&path));
        for format in [Format::Human, Format::Short, Format::Json, Format::Github] {
            let report = loaded.report.render(format, true);
            let leaks = ["hunter2", "s3cret", &"ab".repeat(32)].iter().any(|secret| report.contains(*secret));
            assert!(!leaks, "{} shows a secret: {report}", path.display());
        }
        assert!(!format!("{loaded:?}").contains("hunter2"), "{} prints a secret", path.display());
    }
}

#[test]
fn machines_get_one_object_a_line() {
    let text = include_str!("../fixtures/config/invalid/shape-wrong.yaml");
    let report = Directory::new().read(text, "gateway.yaml").report;
    let lines = report.render(Format::Json, false);
    assert_eq!(lines.lines().count(), report.errors());
    for line in lines.lines() {
        let object: serde_json::Value = serde_json::from_str(line).expect("a line is an object");
        for key in ["code", "severity", "message", "file", "line", "column", "path", "help", "url"] {
            assert!(object.get(key).is_some(), "{key} is missing from {line}");
        }
    }
}

#[test]
fn every_format_tells_the_same_mistake() {
    let text = fs::read_to_string(
        fixtures("invalid").into_iter().find(|path| path.ends_with("several-at-once.yaml")).unwrap(),
    );
    let report = Directory::new().read(&text.expect("a fixture"), "gateway.yaml").report;
    assert_eq!(
        report.render(Format::Short, false),
        "gateway.yaml:9:25: error[TH1003]: a price needs a unit (write $0.01 or 0.01 USDC)\n\
         gateway.yaml:14:5: error[TH1010]: unknown field `prise` in a route (did you mean `price`?)\n\
         gateway.yaml: 2 errors.  LIVE: real money on base.\n"
    );
    assert_eq!(
        report.render(Format::Github, false).lines().next(),
        Some("::error file=gateway.yaml,line=9,col=25,title=TH1003::a price needs a unit%0Awrite $0.01 or 0.01 USDC")
    );
    let json = report.render(Format::Json, false);
    let second: serde_json::Value = serde_json::from_str(json.lines().nth(1).expect("two mistakes")).expect("JSON");
    assert_eq!(second["path"], "routes[GET /v1/weather/{city}/history].prise");
    assert_eq!((&second["line"], &second["column"]), (&14.into(), &5.into()));
}

#[test]
fn a_file_that_cannot_be_read_is_a_mistake_like_any_other() {
    let directory = Directory::new();
    let loaded = config::load(&directory.0.path().join("nothing.yaml"));
    assert!(loaded.config.is_none());
    assert_eq!(loaded.report.mistakes()[0].code.id, "TH3006");
    directory.secret("binary.yaml", "version: 1\n", 0o600);
    fs::write(directory.0.path().join("binary.yaml"), [0xff, 0xfe]).expect("the directory is ours");
    assert_eq!(config::load(&directory.0.path().join("binary.yaml")).report.mistakes()[0].code.id, "TH1001");
}

#[test]
fn a_loaded_file_finds_its_neighbours() {
    let directory = Directory::new();
    let path = directory.0.path().join("gateway.yaml");
    let text = include_str!("../fixtures/config/valid/secret-for-the-group.yaml");
    fs::write(&path, text).expect("the directory is ours");
    let loaded = config::load(&path);
    assert!(loaded.config.is_some(), "{}", loaded.report.render(Format::Human, false));
    assert_eq!(loaded.hash, config::parse(text, "other", Path::new("."), &|_| None).hash);
}

#[tokio::test]
async fn a_hangup_is_a_change_even_if_the_file_is_the_same() {
    let directory = Directory::new();
    let path = directory.0.path().join("gateway.yaml");
    fs::write(&path, "version: 1\n").expect("the directory is ours");
    let never = std::time::Duration::from_secs(3600);
    let mut watcher = config::Watcher::polling_every(&path, &config::load(&path).hash, never);
    let this_process = std::process::id().to_string();
    let sent = std::process::Command::new("kill").args(["-HUP", &this_process]).status();
    assert!(sent.expect("every system has kill").success());
    let long = std::time::Duration::from_secs(20);
    assert!(tokio::time::timeout(long, watcher.changed()).await.is_ok());
}

fn large_table(routes: usize) -> String {
    let mut text = String::from(
        "version: 1\npublic_url: http://localhost\nupstream: http://127.0.0.1:3000\npay_to: sandbox\nroutes:\n",
    );
    for number in 0..routes {
        let _ = writeln!(
            text,
            "  GET /v1/group{}/item{number}/{{id}}: ${}.{:02}",
            number % 100,
            number % 7,
            number % 99 + 1
        );
    }
    text
}

const PAYEE: &str = "0x1111111111111111111111111111111111111111";

/// Prices the SDKs take and we refuse, each for the reason the report gives: no unit, a unit twice, finer than the
/// asset, spaces around it. The SDKs guess, or round to nothing.
const STRICTER: [&str; 5] = ["0.01", "$0.01 USD", "$0.0000001", "0.0000019", " $0.01 "];

/// Vector group `price-parsing`: where both take a price it is the same money, and we take none that the SDKs refuse.
#[test]
fn s10_a_price_means_what_it_means_to_the_sdks_or_is_refused() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../fixtures/x402-vectors.json")).unwrap();
    let groups = vectors["vectors"].as_array().unwrap();
    let group = groups.iter().find(|group| group["id"] == "price-parsing").expect("the group is there");
    let mut taken = 0;
    for case in group["cases"].as_array().unwrap() {
        let (Some(price), Some(network)) = (case["price"].as_str(), case["network"].as_str()) else { continue };
        let pay_to = match network {
            "eip155:8453" => format!("{{base: \"{PAYEE}\"}}"),
            "eip155:42220" => format!("{{celo: {{address: \"{PAYEE}\", assets: [USDC, USDT, USAT]}}}}"),
            _ => continue,
        };
        let file = format!(
            "version: 1\npublic_url: https://a.example\nupstream: http://127.0.0.1:9\npay_to: {pay_to}\n\
             facilitators: [{{name: f, url: https://f.example}}]\nroutes:\n  GET /x: {price:?}\n"
        );
        let ours = Directory::new().read(&file, "gateway.yaml").config.map(|config| {
            let route = config.live.tariff.routes().next().expect("one route").clone();
            let Charge::Toll(toll) = &route.charge else { panic!("{price:?} is no price") };
            toll.offers[0].amount.to_string()
        });
        match (ours, case["result"]["amount"].as_str()) {
            (Some(ours), sdk) => {
                assert_eq!(Some(ours.as_str()), sdk, "{price:?}");
                taken += 1;
            }
            (None, Some(_)) => assert!(STRICTER.contains(&price), "{price:?} is refused, and the SDKs take it"),
            (None, None) => {}
        }
    }
    assert!(taken >= 4, "only {taken} prices were compared");
}

#[test]
fn a_large_table_loads() {
    assert_eq!(meaning_of(&large_table(5_000)).live.tariff.priced(), 5_000);
}

#[test]
fn a_table_of_nothing_but_mistakes_is_reported_in_bounds() {
    let text = large_table(5_000).replace('$', "");
    let loaded = Directory::new().read(&text, "gateway.yaml");
    assert_eq!(loaded.report.errors(), 5_000);
    assert_eq!(loaded.report.mistakes().len(), 1_000);
    assert!(loaded.report.summary().contains("The first 1000 are shown."));
}

proptest! {
    #[test]
    fn no_text_stops_the_reader(text in "(version: 1\n|pay_to: |routes:\n|  GET /a: |\\$1\n|[{\\[&*!|>'\"%@,:}\\] \n-]|sandbox\n|\\PC){0,60}") {
        let report = Directory::new().read(&text, "gateway.yaml").report;
        let _ = report.render(Format::Human, true);
        let _ = report.render(Format::Json, false);
    }

    #[test]
    fn no_valid_file_with_a_stretch_cut_out_stops_the_reader(from in 0_usize..2500, length in 0_usize..40) {
        let text = include_str!("../fixtures/config/valid/everything.yaml");
        // The comments in front name the environment of the test, which is no part of the file.
        let text = &text[text.find("version:").expect("it begins with its version")..];
        let (from, to) = (from.min(text.len()), (from + length).min(text.len()));
        let cut = format!("{}{}", &text[..from], &text[to..]);
        let report = Directory::new().read(&cut, "gateway.yaml").report;
        let shown = report.render(Format::Human, true);
        prop_assert!(!shown.contains("s3cret") || report.errors() == 0, "{shown}");
    }
}
