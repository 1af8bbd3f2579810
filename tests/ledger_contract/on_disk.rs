//! What the file promises besides.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollhouse::ledger::{Archive, CellSwap, Claim, Day, Ledger, Limits, OpenError, Purpose, Sqlite, Store, Versioned};
use tollhouse::payment::Replay;
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{sale, write};

use super::spending::{claim_all, frugal, granted};
use super::{HOLD, House, NOW, key, open, reserved};

#[tokio::test]
async fn s21_a_restarted_process_finds_what_the_last_one_left() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    let clock = ManualClock::at(NOW);
    let check_at = NOW.after(Duration::from_secs(30));
    let secret = {
        let ledger = Ledger::new(open(&path), Arc::new(clock.clone()), Limits::default());
        let Claim::Granted(lease) = ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.unwrap() else {
            panic!("a new payment was refused")
        };
        drop(lease.begin("cdp", None, check_at).await.unwrap());
        *ledger.store().secret("quotes").await.unwrap().expose()
    };
    let ledger = Ledger::new(open(&path), Arc::new(clock.clone()), Limits::default());
    assert_eq!(*ledger.store().secret("quotes").await.unwrap().expose(), secret);
    assert!(ledger.overdue_settlements(9).await.unwrap().is_empty(), "its facilitator may still answer");
    clock.set(check_at);
    let unsettled = ledger.overdue_settlements(9).await.unwrap();
    assert_eq!(unsettled.iter().map(|unsettled| unsettled.key).collect::<Vec<_>>(), [key(1)]);
    let claim = ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.unwrap();
    assert!(matches!(claim, Claim::Unresolved { .. }), "{claim:?}");
}

#[test]
fn a_file_that_is_not_a_ledger_is_refused_and_left_alone() {
    let folder = TempDir::new().unwrap();
    for (name, content) in [("short.txt", b"listen: :8402\n".to_vec()), ("long.txt", vec![b'x'; 10_000])] {
        let path = folder.path().join(name);
        std::fs::write(&path, &content).unwrap();
        let error = Sqlite::open(&path, Purpose::Real).expect_err("it is a text");
        assert!(matches!(error, OpenError::Foreign(_)), "{error:?}");
        assert!(error.to_string().contains(name), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), content);
    }
    let path = folder.path().join("app.db");
    rusqlite::Connection::open(&path).unwrap().execute_batch("CREATE TABLE users (name TEXT)").unwrap();
    let before = std::fs::read(&path).unwrap();
    assert!(matches!(Sqlite::open(&path, Purpose::Real), Err(OpenError::Foreign(_))));
    assert_eq!(std::fs::read(&path).unwrap(), before, "somebody's database was touched");
}

#[test]
fn a_ledger_of_a_later_version_is_refused() {
    let (_folder, path) = ledger_file();
    rusqlite::Connection::open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = Sqlite::open(&path, Purpose::Real).expect_err("we cannot read it");
    assert!(matches!(error, OpenError::Newer { found: 99, .. }), "{error:?}");
    assert!(error.to_string().contains("ledger.db"), "{error}");
}

#[tokio::test]
async fn a_ledger_of_an_earlier_version_is_brought_up_to_date() {
    let (_folder, path) = ledger_file();
    open(&path).swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    let number = |pragma| rusqlite::Connection::open(&path)?.pragma_query_value(None, pragma, |row| row.get(0));
    let current: i64 = number("user_version").unwrap();
    // As the first version left it.
    let file = rusqlite::Connection::open(&path).unwrap();
    let back = "DROP TABLE spent; DROP INDEX entries_left_open; DROP TABLE cells; DROP TABLE chain; DROP TABLE evidence; ALTER TABLE entries DROP COLUMN evidence";
    file.execute_batch(back).unwrap();
    file.pragma_update(None, "user_version", 1).unwrap();
    std::fs::remove_file(path.with_file_name("ledger.db-head")).unwrap();
    drop(file);

    let seen = Sqlite::inspect(&path).expect("an older ledger can be looked at");
    assert!(seen.load(key(1)).await.unwrap().is_some());
    assert!(seen.chains().await.is_err(), "it has no evidence yet");
    drop(seen);
    let error = Sqlite::open(&path, Purpose::Sandbox).expect_err("it holds real payments");
    assert!(matches!(error, OpenError::WrongPurpose { .. }), "{error:?}");
    assert_eq!(number("user_version").unwrap(), 1, "a file that is not for us was changed");

    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| open(&path));
        }
    });
    let store = open(&path);
    assert_eq!(number("user_version").unwrap(), current);
    assert_eq!(store.load(key(1)).await.unwrap(), Some(Versioned { entry: reserved(1), version: 1 }));
    assert_eq!(store.swap_cell("nonce", None, b"7").await.unwrap(), CellSwap::Applied(1));
    let ledgers = frugal(&House { one: store.clone(), other: store, _folder: None }, &ManualClock::at(NOW));
    assert_eq!(granted(&claim_all(&ledgers, 2..14).await, Day::of(NOW).end()), 10);
}

#[test]
fn play_money_and_money_never_meet_in_one_file() {
    let (_folder, path) = ledger_file();
    let error = Sqlite::open(&path, Purpose::Sandbox).expect_err("it holds real payments");
    assert!(matches!(error, OpenError::WrongPurpose { .. }), "{error:?}");
    assert!(
        error.to_string().ends_with("ledger.db: this ledger is for real payments, not for sandbox ones"),
        "{error}"
    );
    assert!(Sqlite::open(&path, Purpose::Real).is_ok());
}

#[tokio::test]
async fn a_ledger_can_be_inspected_while_it_is_used_and_is_left_as_it_is() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    assert!(Sqlite::inspect(&path).is_err() && !path.exists(), "looking made a ledger");
    let store = Sqlite::open(&path, Purpose::Sandbox).unwrap();
    store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    let seen = Sqlite::inspect(&path).unwrap();
    assert_eq!(seen.load(key(1)).await.unwrap(), store.load(key(1)).await.unwrap());
    assert!(seen.swap(write(key(2), None, &reserved(2), &[])).await.is_err());
    for (name, content) in [("gateway.yaml", "listen: :8402\n"), ("empty.db", "")] {
        let other = folder.path().join(name);
        std::fs::write(&other, content).unwrap();
        assert!(matches!(Sqlite::inspect(&other), Err(OpenError::Foreign(_))), "{name}");
    }
}

#[test]
fn a_missing_folder_is_named() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("missing/ledger.db");
    let error = Sqlite::open(&path, Purpose::Real).expect_err("there is no folder");
    assert!(matches!(&error, OpenError::NoFolder { folder, .. } if folder.ends_with("missing")), "{error:?}");
}

#[tokio::test]
async fn s60_the_file_is_for_its_owner_only() {
    use std::os::unix::fs::PermissionsExt;
    let folder = TempDir::new().unwrap();
    let store = open(&folder.path().join("ledger.db"));
    store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{}", file.path().display());
    }
}

#[test]
fn s68_many_processes_may_open_a_new_ledger_at_once() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("ledger.db");
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| Sqlite::open(&path, Purpose::Real).expect("the ledger opens"));
        }
    });
}

fn ledger_file() -> (TempDir, PathBuf) {
    let folder = TempDir::new().expect("a temporary folder");
    let path = folder.path().join("ledger.db");
    drop(open(&path));
    (folder, path)
}
