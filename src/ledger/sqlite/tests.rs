//! What must hold when the database fails.

use std::sync::Arc;

use tempfile::TempDir;

use super::*;
use crate::ledger::{Claimed, Entry, State};
use crate::testing::sales::{sale, write};

fn key(number: u64) -> PaymentKey {
    sale(number).payment.key()
}

fn released(number: u64) -> Entry {
    let now = Timestamp::from_secs(1_900_000_000);
    Entry {
        sale: Arc::new(sale(number)),
        state: State::Released,
        releases: 0,
        redemptions: 0,
        day: None,
        declined: None,
        created: now,
        updated: now,
    }
}

fn open(folder: &TempDir) -> Sqlite {
    Sqlite::open(&folder.path().join("ledger.db"), Purpose::Real).expect("the ledger opens")
}

#[tokio::test]
async fn s66_a_full_disk_is_an_error_and_leaves_nothing_half_written() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    store.swap(write(key(0), None, &released(0), &[])).await.unwrap();
    // To SQLite, a file at its greatest size is a full disk.
    let full = "PRAGMA max_page_count = 1";
    store.writer.ask(|db| db.query_row(full, [], |row| row.get::<_, i64>(0))).await.unwrap();

    let mut large = released(1);
    let mut sold = sale(1);
    sold.payment.resource.description = "x".repeat(100_000);
    large.sale = Arc::new(sold);
    let claims = [Claimed::alone(vec![1])];
    assert!(store.swap(write(key(1), None, &large, &claims)).await.is_err());
    assert_eq!(store.load(key(1)).await.unwrap(), None);

    let room = "PRAGMA max_page_count = 100000";
    store.writer.ask(|db| db.query_row(room, [], |row| row.get::<_, i64>(0))).await.unwrap();
    let swap = store.swap(write(key(2), None, &released(2), &claims)).await.unwrap();
    assert_eq!(swap, Swap::Applied(1), "a failed write left its claim behind");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_does_not_undo_its_group() {
    let folder = TempDir::new().unwrap();
    let store = Arc::new(open(&folder));
    // While this one holds the thread, the others pile up into one group.
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let holding = store.clone();
    let holder = tokio::spawn(async move { holding.writer.ask(move |_| Ok(wait.recv().is_ok())).await });
    let mut group = tokio::task::JoinSet::new();
    for number in 0..8 {
        let store = store.clone();
        group.spawn(async move {
            if number == 3 {
                let broken = "INSERT INTO claims (fact, key) VALUES (x'01', x'02'); INSERT INTO nowhere VALUES (1)";
                return store.writer.ask(move |db| db.execute_batch(broken)).await.is_ok();
            }
            store.swap(write(key(number), None, &released(number), &[])).await.is_ok()
        });
    }
    tokio::task::yield_now().await;
    go.send(()).unwrap();
    assert!(holder.await.unwrap().unwrap());
    assert_eq!(group.join_all().await.into_iter().filter(|written| *written).count(), 7);
    let claims = store.reader.ask(|db| db.query_row("SELECT count(*) FROM claims", [], |row| row.get::<_, i64>(0)));
    assert_eq!(claims.await.unwrap(), 0, "the failed job's first statement stayed");
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_hides_no_other_and_grants_nothing() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    for number in 0..3 {
        store.swap(write(key(number), None, &released(number), &[])).await.unwrap();
    }
    let broken = "UPDATE entries SET entry = '{' WHERE key = ?1";
    store.writer.ask(|db| db.execute(broken, [key(1).as_bytes()])).await.unwrap();
    let listed = store.list(&Filter { limit: 9, ..Filter::default() }).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(store.load(key(1)).await.is_err());
    assert!(store.swap(write(key(1), None, &released(1), &[])).await.is_err());
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_written() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder);
    let (go, wait) = std::sync::mpsc::channel::<()>();
    let holder = store.writer.ask(move |_| Ok(wait.recv().is_ok()));
    tokio::pin!(holder);
    let next = released(1);
    {
        let swap = store.swap(write(key(1), None, &next, &[]));
        tokio::pin!(swap);
        // Both are handed to the thread; then the second is dropped, as a request is whose client has gone.
        let both = std::future::poll_fn(|context| {
            use std::future::Future;
            let pending = holder.as_mut().poll(context).is_pending() && swap.as_mut().poll(context).is_pending();
            std::task::Poll::Ready(pending)
        });
        assert!(both.await);
    }
    go.send(()).unwrap();
    assert!(holder.await.unwrap());
    assert_eq!(store.load(key(1)).await.unwrap(), None);
}
