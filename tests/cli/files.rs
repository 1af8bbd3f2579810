//! Commands that only read a file.

use crate::support::{file, run};

const VALID: &str = "\
version: 1
public_url: http://localhost:8402
upstream: http://127.0.0.1:3000
pay_to: sandbox
routes:
  GET /v1/**: $1
  GET /v1/weather: $0.01
  GET /v1/health: free
";

#[test]
fn check_says_yes_and_what_kind_of_money_it_is() {
    let (_directory, path) = file("gateway.yaml", VALID);
    let ended = run([std::ffi::OsStr::new("check"), path.as_os_str()]).exits(0);
    assert!(
        ended.stdout.contains("is valid: 3 routes, 2 priced.") && ended.stdout.contains("SANDBOX"),
        "{}",
        ended.stdout
    );
}

#[test]
fn check_says_no_with_every_place() {
    let (_directory, path) = file("gateway.yaml", &VALID.replace("$0.01", "0.01").replace("free", "gratis"));
    let path = path.display().to_string();
    let ended = run(["check", &path, "--format", "short"]).exits(1);
    for place in [":7:", ":8:"] {
        assert!(ended.stdout.contains(&format!("{path}{place}")), "{place} is missing from {}", ended.stdout);
    }
    assert!(ended.stderr.is_empty(), "the report is what was asked for: {}", ended.stderr);
}

#[test]
fn check_of_the_file_in_the_repository_says_yes() {
    run(["check", concat!(env!("CARGO_MANIFEST_DIR"), "/gateway.yaml")]).exits(0);
}

#[test]
fn quote_names_the_line_that_decides_and_the_lines_it_beats() {
    let (_directory, path) = file("gateway.yaml", VALID);
    let path = path.display().to_string();
    let ended = run(["quote", "GET", "/v1/weather", "--why", "-c", &path]).exits(0);
    assert!(ended.stdout.starts_with("402  $0.01 on base-sepolia"), "{}", ended.stdout);
    assert!(
        ended.stdout.contains(&format!("{path}:7")) && ended.stdout.contains(&format!("{path}:6")),
        "{}",
        ended.stdout
    );

    let json = run(["quote", "get", "http://localhost/v1/health", "--format", "json", "-c", &path]).exits(0).json();
    assert_eq!((&json["status"], &json["route"]), (&200.into(), &"GET /v1/health".into()));
}

#[test]
fn quote_reads_a_path_as_a_request_is_read_and_says_what_the_backend_is_asked_for() {
    let routes =
        "routes:\n  GET /api/{name}: {price: free, encoded_slash: keep, strip_prefix: /api}\n  GET /b/{name}: free\n";
    let head = VALID.split("routes:").next().expect("a head");
    let (_directory, path) = file("gateway.yaml", &format!("{head}{routes}"));
    let path = path.display().to_string();
    let ended = run(["quote", "GET", "/api/%61%2fb?x", "--why", "-c", &path]).exits(0);
    assert!(ended.stdout.ends_with("as        /a%2Fb?x\n"), "{}", ended.stdout);
    for (target, why) in [("/b/a%2Fb", "escaped `/`"), ("/api/..%2Fb", "escaped `/`"), ("/api/%2e%2e", "`..` segment")]
    {
        let ended = run(["quote", "GET", target, "-c", &path]).exits(1);
        assert!(ended.stderr.contains("400") && ended.stderr.contains(why), "{target}: {}", ended.stderr);
    }
}

#[test]
fn version_and_schema_are_data() {
    assert_eq!(run(["version"]).exits(0).stdout, concat!("tollhouse ", env!("CARGO_PKG_VERSION"), "\n"));
    let schema = run(["schema"]).exits(0).json();
    assert!(schema["properties"]["routes"].is_object(), "{schema}");
}

#[test]
fn of_a_file_that_cannot_be_opened_nothing_is_known() {
    let (directory, path) = file("gateway.yaml", VALID);
    let checked = run(["check", "/nowhere/gateway.yaml", "--format", "short"]).exits(3).stdout;
    assert!(checked.contains("TH3006") && checked.contains("(name the file that is there"), "{checked}");
    let started = run(["run", "-c", "/nowhere/gateway.yaml"]).exits(3).stderr;
    assert!(started.contains("TH3006") && started.contains("help: name the file"), "{started}");
    run(["quote", "GET", "/", "-c", "/nowhere/gateway.yaml"]).exits(3);
    let checked = run([std::ffi::OsStr::new("check"), directory.path().as_os_str()]).exits(3).stdout;
    assert!(checked.contains("help: name a file in it"), "{checked}");

    // One that can be opened and is no text is wrong, and where.
    std::fs::write(&path, [VALID.as_bytes(), b"  # caf\xe9\n"].concat()).expect("the directory is ours");
    let path = path.display().to_string();
    let checked = run(["check", &path, "--format", "short"]).exits(1).stdout;
    assert!(checked.contains(&format!("{path}:9:8: error[TH1001]: the file is not UTF-8 text")), "{checked}");
    assert!(checked.contains("(save the file as UTF-8)"), "{checked}");
}

#[test]
fn why_a_ledger_cannot_be_opened_is_said_once() {
    let (directory, path) =
        file("gateway.yaml", &VALID.replace("pay_to", "status: none\nledger: sqlite:ledger.db\npay_to"));
    let path = path.display().to_string();
    let ledger = directory.path().join("ledger.db");
    let say = |why: &str| {
        for command in [&["run", "-c", &path][..], &["ledger", "list", "-c", &path]] {
            let told = run(command).exits(3).stderr;
            assert_eq!(told.matches("cannot be opened").count(), 1, "{command:?}: {told}");
            assert!(told.contains(why), "{command:?}: {told}");
        }
    };
    std::fs::create_dir(&ledger).expect("the directory is ours");
    say("it is a directory");
    std::fs::remove_dir(&ledger).expect("it is empty");
    // A ledger whose first page is there and whose tables are not.
    let db = rusqlite::Connection::open(&ledger).expect("the directory is ours");
    db.execute_batch("CREATE TABLE t (x); PRAGMA application_id = 0x746f6c6c").expect("it is ours");
    drop(db);
    let mut bytes = std::fs::read(&ledger).expect("it is there");
    bytes[100..].fill(0xff);
    std::fs::write(&ledger, bytes).expect("the directory is ours");
    say("malformed");
}

#[test]
fn wrong_usage_is_not_an_answer() {
    let cases: [&[&str]; 9] = [
        &[],
        &["sell"],
        &["quote", "GET"],
        &["check", "--format", "xml"],
        &["pay", "http://127.0.0.1:1/"],
        &["pay", "ftp://127.0.0.1/", "--max", "$1"],
        &["pay", "http://127.0.0.1:1/", "--max", "1"],
        &["pay", "http://127.0.0.1:1/", "--max", "$1", "--payer", "generous"],
        &["pay", "http://127.0.0.1:1/", "--max", "$1", "-H", "X-Payment: e30="],
    ];
    for arguments in cases {
        let ended = run(arguments).exits(2);
        assert!(ended.stdout.is_empty() && !ended.stderr.is_empty(), "{arguments:?}");
    }
}

#[test]
fn help_opens_with_examples() {
    let help = run(["--help"]).exits(0).stdout;
    assert!(help.starts_with("Examples:"), "{help}");
}
