//! `tollhouse ledger` on a file: what is told, what is found, and what a person may change.

use std::fs;
use std::sync::Arc;

use serde_json::Value;
use tollhouse::payment::PaymentKey;
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{receipt, sale, write};

use crate::book::{Book, NOW, begin, key, owed, unknown};

/// Compares with a file of the repository; `UPDATE_FIXTURES=1` writes it.
#[track_caller]
fn is_as_recorded(name: &str, text: &str) {
    let path = format!("{}/tests/fixtures/ledger/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        fs::write(&path, text).expect("the fixtures can be written");
    }
    assert_eq!(text, fs::read_to_string(&path).expect("the fixture is there"), "{path}");
}

#[tokio::test]
async fn s72_an_export_for_accounting_stays_as_it_is() {
    let book = Book::of_three().await;
    let csv = book.run(&["export"]).exits(0).stdout;
    is_as_recorded("export.csv", &csv);
    let lines = book.run(&["export", "--format", "jsonl"]).exits(0).stdout;
    is_as_recorded("export.jsonl", &lines);
    for told in [csv, lines] {
        assert!(!told.contains("signature") && !told.contains(&"00".repeat(65)), "i8: {told}");
    }
    let asked = book.run(&["export", "--signatures", "--state", "delivered"]).exits(0).stdout;
    assert!(asked.lines().all(|line| line.ends_with("signature") || line.ends_with(&"00".repeat(65))), "{asked}");
}

#[tokio::test]
async fn s72_a_payments_life_is_a_timeline() {
    let book = Book::of_three().await;
    let shown = book.run(&["show", &key(&sale(1)).to_string()]).exits(0);
    is_as_recorded("show.txt", &shown.stdout);
    let shown = book.run(&["show", &key(&sale(1)).to_string(), "--format", "json"]).exits(0).json();
    let steps: Vec<&Value> = shown["timeline"].as_array().expect("a list").iter().map(|line| &line["step"]).collect();
    assert_eq!(steps, ["reserved", "settling", "settled", "delivered"]);
}

#[tokio::test]
async fn a_list_is_filtered_by_state_route_payer_and_time() {
    let book = Book::of_three().await;
    let listed = |rest: &[&str]| {
        let ended = book.run(&[&["list", "--format", "json"], rest].concat()).exits(0);
        ended.stdout.lines().count()
    };
    assert_eq!(listed(&[]), 3);
    assert_eq!(listed(&["--state", "settling"]), 1);
    assert_eq!(listed(&["--route", "GET /v1/weather"]), 2);
    assert_eq!(listed(&["--payer", "0xaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"]), 3);
    assert_eq!(listed(&["--payer", "0x0000000000000000000000000000000000000001"]), 0);
    assert_eq!(listed(&["--from", "2030-03-17T17:46:41Z"]), 2);
    assert_eq!(listed(&["--from", "2030-03-17T17:46:41Z", "--to", "2030-03-17T17:46:42Z"]), 1);
    assert_eq!(listed(&["--limit", "2"]), 2);
    book.run(&["list", "--state", "gone"]).exits(2);
    book.run(&["list", "--from", "yesterday"]).exits(2);
}

#[tokio::test]
async fn stats_count_and_add_up() {
    let book = Book::of_three().await;
    let told = book.run(&["stats"]).exits(0).stdout;
    for line in [
        "settling             1           $0.01  eip155:84532 USDC",
        "delivered            1",
        "refund_due           1",
    ] {
        assert!(told.contains(line), "{line} is missing from\n{told}");
    }
    let lines = book.run(&["stats", "--format", "json", "--state", "refund_due"]).exits(0).json();
    assert_eq!((&lines["count"], &lines["amount"]), (&1.into(), &"10000".into()));
}

#[tokio::test]
async fn s24_what_is_owed_has_a_view_of_its_own() {
    let book = Book::of_three().await;
    let told = book.run(&["refunds"]).exits(0);
    assert_eq!(told.stdout.lines().count(), 1);
    assert!(told.stdout.contains(&key(&owed()).to_string()) && told.stdout.contains("10000 units"), "{}", told.stdout);
    let told = book.run(&["refunds", "--format", "json"]).exits(0).json();
    assert_eq!(told["state"], "refund_due");
}

#[tokio::test]
async fn s72_verify_passes_on_a_used_ledger_and_fails_on_a_tampered_copy() {
    let book = Book::of_three().await;
    let sound = book.run(&["verify"]).exits(0);
    let head = sound.stdout.trim().strip_prefix("head ").expect("the head is printed").to_owned();
    book.run(&["verify", "--head", &head]).exits(0);

    let copy = book.folder.path().join("copy.db");
    book.run(&["backup", &copy.display().to_string()]).exits(0);
    let tampered = Book { path: copy, folder: tempfile::tempdir().expect("a directory for the test") };
    let edit = "UPDATE evidence SET body = replace(body, '10000', '1') WHERE number = 5";
    rusqlite::Connection::open(&tampered.path).unwrap().execute(edit, []).unwrap();
    let found = tampered.run(&["verify"]).exits(1);
    assert!(found.stdout.starts_with("record 5 of chain "), "{}", found.stdout);
    let found = tampered.run(&["verify", "--format", "json"]).exits(1).json();
    assert_eq!((&found["sound"], found["faults"].as_array().map(Vec::len)), (&false.into(), Some(1)));

    // A forger who makes every hash anew is still held to a head that lies elsewhere.
    let other = Book::of_three().await;
    other.run(&["verify", "--head", &head]).exits(1);
    let last = if head.ends_with('0') { '1' } else { '0' };
    let foreign = format!("{}{last}", &head[..head.len() - 1]);
    let found = book.run(&["verify", "--head", &foreign]).exits(1);
    assert!(found.stdout.contains("is not the one that was noted"), "{}", found.stdout);
    book.run(&["verify", "--head", "nonsense"]).exits(2);
}

#[tokio::test]
async fn s72_what_no_query_finds_any_more_is_found_by_verify() {
    let book = Book::of_three().await;
    let owed = || book.run(&["refunds"]).exits(0).stdout.lines().count();
    assert_eq!(owed(), 1);
    let hide = "UPDATE entries SET state = 'released', due = NULL WHERE state IN ('refund_due', 'settling')";
    rusqlite::Connection::open(&book.path).unwrap().execute(hide, []).unwrap();
    assert_eq!(owed(), 0, "queries go by the columns");
    let found = book.run(&["verify"]).exits(1).stdout;
    assert_eq!(found.lines().filter(|line| line.starts_with("the column state of payment ")).count(), 2, "{found}");
}

#[tokio::test]
async fn a_payment_is_named_by_as_many_digits_as_tell_it_from_others() {
    let book = Book::of_three().await;
    let (open, debt) = (key(&unknown()).to_string(), key(&owed()).to_string());
    let whole = book.run(&["show", &open]).exits(0).stdout;
    for named in [&open[..8], &open[..16], &open.to_uppercase()[..8], &format!("{}…", &open[..16])] {
        assert_eq!(book.run(&["show", named]).exits(0).stdout, whole, "{named}");
    }
    book.run(&["show", &open[..7]]).exits(2);
    let (first, last) = open.split_at(8);
    let nobody = format!("{first}{}", last.replace(|_: char| true, "f"));
    book.run(&["show", &nobody[..20]]).exits(1);
    let hand = ["--why", "x", "--by", "alice"];
    book.run(&[&["resolve", &open[..8], "--not-settled", "--unchecked"], &hand[..]].concat()).exits(0);
    let tx = format!("0x{}", "11".repeat(32));
    let refused = book.run(&[&["refund", &debt[..8], "--tx", &tx], &hand[..]].concat()).exits(3);
    assert!(refused.stderr.contains("no node of base-sepolia is configured"), "{}", refused.stderr);

    // Two that begin alike.
    let ledger = book.open(Arc::new(ManualClock::at(NOW)));
    let found = ledger.store().load(key(&owed())).await.unwrap().expect("it is owed");
    let mut twin = *key(&owed()).as_bytes();
    twin[31] ^= 1;
    let twin = PaymentKey::from_bytes(twin);
    ledger.store().swap(write(twin, None, &found.entry, &[])).await.unwrap();
    drop(ledger);
    let refused = book.run(&["show", &debt[..60]]).exits(1);
    assert!(refused.stderr.contains("begins 2 payments"), "{}", refused.stderr);
    book.run(&["show", &debt]).exits(0);
}

#[tokio::test]
async fn play_money_is_not_looked_for_on_a_chain() {
    let book = Book::new();
    let clock = ManualClock::at(NOW);
    let ledger = book.open(Arc::new(clock.clone()));
    let mut sold = sale(1);
    sold.payment.offer.sandbox = true;
    let proof = receipt(&sold, NOW);
    begin(&ledger, sold).await.settled(proof, &[], false).await.expect("the disk works");
    drop(ledger);
    let shown = book.run(&["show", &key(&sale(1)).to_string()[..8]]).exits(0).stdout;
    assert!(shown.contains("play money: on no chain") && !shown.contains("https://"), "{shown}");
}

#[tokio::test]
async fn s66_a_backup_is_restored_on_record_and_never_by_accident() {
    let book = Book::of_three().await;
    let copy = book.folder.path().join("copy.db").display().to_string();
    book.run(&["backup", &copy]).exits(0);
    book.run(&["backup", &copy]).exits(1);
    book.run(&["resolve", &key(&unknown()).to_string(), "--not-settled", "--unchecked", "--why", "x", "--by", "alice"])
        .exits(0);

    // Put back by hand, it is noticed.
    fs::copy(&copy, &book.path).unwrap();
    let refused = book.run(&["verify"]).exits(1);
    assert!(refused.stdout.contains("is cut off behind record"), "{}", refused.stdout);
    let refused = book
        .run(&["resolve", &key(&unknown()).to_string(), "--not-settled", "--unchecked", "--why", "x", "--by", "alice"])
        .exits(3);
    assert!(refused.stderr.contains("it is an older copy"), "{}", refused.stderr);

    let restored = book.run(&["restore", &copy, "--why", "the disk died", "--by", "alice"]).exits(0);
    assert!(restored.stderr.contains("reconcile --from"), "{}", restored.stderr);
    book.run(&["verify"]).exits(0);
    book.run(&["list", "--state", "settling"]).exits(0);
}

#[tokio::test]
async fn s14_what_nobody_can_look_up_is_recorded_only_on_a_persons_word() {
    let book = Book::of_three().await;
    let (open, closed) = (key(&unknown()).to_string(), key(&sale(1)).to_string());
    let hand = ["--why", "the issuer says so", "--by", "alice"];
    let settled = ["--settled", "0x1111111111111111111111111111111111111111111111111111111111111111"];
    let resolve = |key: &str, rest: &[&str]| book.run(&[&["resolve", key], rest, &hand[..]].concat());

    resolve(&closed, &["--not-settled"]).exits(1);
    resolve(&"0".repeat(64), &["--not-settled"]).exits(1);
    resolve(&open, &[]).exits(2);
    let nobody = resolve(&open, &settled).exits(4);
    assert!(nobody.stderr.contains("no node of base-sepolia is configured"), "{}", nobody.stderr);
    resolve(&open, &[&settled[..], &["--unchecked"]].concat()).exits(0);

    let shown = book.run(&["show", &open]).exits(0).stdout;
    assert!(shown.contains("[person alice: the issuer says so]"), "{shown}");
    resolve(&open, &["--not-settled", "--unchecked"]).exits(1);
    book.run(&["verify"]).exits(0);
}

#[tokio::test]
async fn s26_what_the_chain_took_back_is_named_and_ended_on_a_persons_word() {
    let book = Book::of_three().await;
    let (payment, settled) = (key(&sale(1)), receipt(&sale(1), NOW));
    let ledger = book.open(Arc::new(ManualClock::at(NOW)));
    let undone = ledger.undo(payment, settled.transaction, NOW).await.expect("the disk works");
    assert!(undone.is_some(), "it had settled in this transaction");

    let listed = book.run(&["list", "--state", "undone"]).exits(0).stdout;
    assert_eq!(listed.lines().filter(|line| line.contains(" undone ")).count(), 1, "{listed}");
    let payment = payment.to_string();
    let shown = book.run(&["show", &payment]).exits(0).stdout;
    assert!(shown.contains("its payer is on hold") && shown.contains("sent again"), "{shown}");
    let hand = ["--unchecked", "--why", "the issuer says so", "--by", "alice"];
    book.run(&[&["resolve", &payment, "--not-settled"], &hand[..]].concat()).exits(0);
    let shown = book.run(&["show", &payment]).exits(0).stdout;
    assert!(shown.contains("state        lost") && shown.contains("[person alice: the issuer says so]"), "{shown}");
    book.run(&["verify"]).exits(0);
}
