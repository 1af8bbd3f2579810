//! What must hold of every session.

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::ledger::{Claimed, Entry, State};
use crate::testing;
use crate::testing::sales::{sale, write};

async fn open(options: &str) -> Postgres {
    let schema = testing::Postgres::shared().schema().await;
    let url = Secret::new(format!("{}{options}", schema.url.expose()));
    let url = PostgresUrl::parse(&url, Path::new(".")).expect("the URL is right");
    Postgres::open(&url, Purpose::Real).await.expect("the ledger opens")
}

fn released() -> Entry {
    let now = Timestamp::from_secs(1_900_000_000);
    let state = State::Released;
    Entry {
        sale: Arc::new(sale(1)),
        state,
        releases: 0,
        redemptions: 0,
        day: None,
        declined: None,
        created: now,
        updated: now,
    }
}

async fn setting(store: &Postgres, name: &str) -> String {
    let rows = store.0.query("SELECT current_setting($1)", &[&name]).await.expect("the server answers");
    rows[0].get(0)
}

#[tokio::test]
async fn s21_a_commit_is_on_disk_when_it_is_acknowledged_whatever_the_server_was_told() {
    for (told, is) in [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")] {
        let store = open(&format!("%20-c%20synchronous_commit%3D{told}")).await;
        assert_eq!(setting(&store, "synchronous_commit").await, is);
    }
}

#[tokio::test]
async fn the_level_of_isolation_is_the_one_the_statements_are_written_for() {
    let store = open("%20-c%20default_transaction_isolation%3Dserializable").await;
    assert_eq!(setting(&store, "transaction_isolation").await, "read committed");
}

#[tokio::test]
async fn i7_no_statement_and_no_transaction_holds_a_row_for_long() {
    let store = open("").await;
    assert_eq!(setting(&store, "statement_timeout").await, "5s");
    assert_eq!(setting(&store, "idle_in_transaction_session_timeout").await, "10s");
}

#[tokio::test]
async fn what_nobody_waits_for_any_more_holds_no_connection_and_no_row() {
    let store = open("").await;
    let entry = released();
    let key = entry.sale.payment.key();
    for _ in 0..50 {
        // Dropped at its first wait, in the middle of a transaction or before it.
        let claims = [Claimed::alone(vec![1])];
        let swap = store.swap(write(key, None, &entry, &claims));
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), swap).await;
    }
    let standing = store.load(key).await.expect("a connection is free").map(|found| found.version);
    let next = store.swap(write(key, standing, &entry, &[])).await.expect("the row is free");
    assert_eq!(next, Swap::Applied(standing.unwrap_or_default() + 1));
}

#[tokio::test]
async fn an_entry_that_cannot_be_read_hides_no_other_and_grants_nothing() {
    let store = open("").await;
    let entry = released();
    let key = entry.sale.payment.key();
    store.swap(write(key, None, &entry, &[])).await.unwrap();
    store.0.execute("UPDATE tollhouse_entries SET entry = '{'", &[]).await.unwrap();
    assert!(store.list(&Filter { limit: 9, ..Filter::default() }).await.unwrap().is_empty());
    assert!(store.load(key).await.is_err());
    assert!(store.swap(write(key, None, &entry, &[])).await.is_err());
}
