//! What becomes of a command when nobody takes what it writes.

use std::ffi::OsStr;
use std::process::Stdio;

use tollhouse::testing::sales::sale;

use crate::book::{Book, key};
use crate::support::{ended, file, tollhouse};

/// Every command that writes to standard output and needs no network, on a ledger and a file that are sound.
fn commands(book: &Book, gateway_yaml: &OsStr) -> Vec<Vec<String>> {
    let ledger = book.path.display().to_string();
    let payment = key(&sale(1)).to_string();
    let file = gateway_yaml.to_str().expect("the path is text");
    let mut commands: Vec<Vec<String>> =
        [&["version"][..], &["schema"], &["check", file], &["quote", "GET", "/v1/weather", "--why", "-c", file]]
            .iter()
            .map(|words| words.iter().map(ToString::to_string).collect())
            .collect();
    for words in [
        &["list"][..],
        &["list", "--format", "json"],
        &["stats"],
        &["refunds"],
        &["show", &payment],
        &["verify"],
        &["export"],
    ] {
        let place = ["--ledger", &ledger, "-c", "/nowhere/gateway.yaml"];
        commands.push(["ledger"].iter().chain(words).chain(&place).map(ToString::to_string).collect());
    }
    commands
}

fn gateway_yaml() -> (tempfile::TempDir, std::path::PathBuf) {
    file(
        "gateway.yaml",
        "version: 1\npublic_url: http://localhost:8402\nupstream: http://127.0.0.1:3000\npay_to: sandbox\n\
         routes:\n  GET /v1/weather: $0.01\n",
    )
}

#[tokio::test]
async fn a_reader_that_hangs_up_changes_no_exit_code() {
    let book = Book::of_three().await;
    let (_directory, path) = gateway_yaml();
    for arguments in commands(&book, path.as_os_str()) {
        let mut command = tollhouse(&arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary runs");
        drop(child.stdout.take());
        let ended = ended(child.wait_with_output().expect("it ends"));
        assert!(!ended.stderr.contains("panicked"), "{arguments:?}: {}", ended.stderr);
        ended.exits(0);
    }
    // Nor does one who hears no talk.
    let mut command = tollhouse(["ledger", "verify", "--ledger", &book.path.display().to_string()]);
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    drop(child.stderr.take());
    ended(child.wait_with_output().expect("it ends")).exits(0);
}

#[tokio::test]
async fn an_answer_that_could_not_be_written_is_no_answer() {
    let book = Book::of_three().await;
    let (_directory, path) = gateway_yaml();
    for arguments in commands(&book, path.as_os_str()) {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").expect("Linux has one");
        let mut command = tollhouse(&arguments);
        let ended = ended(command.stdout(full).stderr(Stdio::piped()).output().expect("the binary runs")).exits(3);
        assert!(ended.stderr.contains("could not be written: No space left"), "{arguments:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_hand_without_a_name_is_told_how_to_give_one() {
    for arguments in [
        &["pause", "all", "--why", "x"][..],
        &["resume", "all", "--why", "x"],
        &["ledger", "restore", "/nowhere/copy.db", "--why", "x"],
        &["ledger", "resolve", "00000000", "--not-settled", "--why", "x"],
        &["ledger", "refund", "00000000", "--tx", &format!("0x{}", "11".repeat(32)), "--why", "x"],
    ] {
        for user in [None, Some("")] {
            let mut command = tollhouse(arguments);
            command.env_remove("USER");
            command.envs(user.map(|user| ("USER", user)));
            let ended = ended(command.output().expect("the binary runs")).exits(2);
            assert!(ended.stderr.contains("--by NAME") && ended.stderr.contains("$USER"), "{}", ended.stderr);
        }
    }
}
