//! What a ledger in a database promises besides the contract: how it is made, found, encrypted, lost and found again.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tempfile::TempDir;
use tokio::task::JoinSet;
use tollhouse::ledger::evidence::{Fault, verify};
use tollhouse::ledger::{
    Archive, CellSwap, Claimed, Entry, Postgres, PostgresError, PostgresUrl, Purpose, State, Store, Swap,
};
use tollhouse::payment::PaymentKey;
use tollhouse::primitives::{Secret, Timestamp};
use tollhouse::testing;
use tollhouse::testing::postgres::Schema;
use tollhouse::testing::sales::{sale, write};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s68_many_replicas_may_make_a_new_ledger_at_once() {
    let url = parse(schema().await.url.expose());
    let mut opening = JoinSet::new();
    for _ in 0..16 {
        let url = url.clone();
        opening.spawn(async move { Postgres::open(&url, Purpose::Real).await.expect("the ledger opens") });
    }
    let replicas = opening.join_all().await;
    assert_eq!(replicas[0].swap(write(key(1), None, &reserved(1), &[])).await.unwrap(), Swap::Applied(1));
    for replica in &replicas {
        assert_eq!(replica.load(key(1)).await.unwrap().map(|found| found.entry), Some(reserved(1)));
    }
}

#[tokio::test]
async fn play_money_and_money_never_meet_in_one_database() {
    let url = parse(schema().await.url.expose());
    open(&url).await;
    let error = Postgres::open(&url, Purpose::Sandbox).await.expect_err("it holds real payments");
    assert!(matches!(error, PostgresError::WrongPurpose { .. }), "{error:?}");
    assert!(error.to_string().ends_with("this ledger is for real payments, not for sandbox ones"), "{error}");
    open(&url).await;
}

#[tokio::test]
async fn a_ledger_of_a_later_version_is_refused() {
    let schema = schema().await;
    let url = parse(schema.url.expose());
    open(&url).await;
    schema.run("UPDATE tollhouse_meta SET value = '99' WHERE name = 'schema'").await;
    for opened in [Postgres::open(&url, Purpose::Real).await, Postgres::inspect(&url).await] {
        let error = opened.expect_err("we cannot read it");
        assert!(matches!(error, PostgresError::Newer { found: 99, .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_table_of_somebody_else_is_left_alone() {
    let schema = schema().await;
    schema.run("CREATE TABLE tollhouse_meta (name TEXT, value TEXT)").await;
    let error = Postgres::open(&parse(schema.url.expose()), Purpose::Real).await.expect_err("it is not ours");
    assert!(matches!(error, PostgresError::Unavailable { .. }), "{error:?}");
    schema.run("INSERT INTO tollhouse_meta VALUES ('theirs', 'still')").await;
}

#[tokio::test]
async fn a_ledger_can_be_inspected_while_it_is_used_and_is_left_as_it_is() {
    let url = parse(schema().await.url.expose());
    let error = Postgres::inspect(&url).await.expect_err("there is none");
    assert!(matches!(error, PostgresError::Empty(_)), "{error:?}");
    let store = open(&url).await;
    store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap();
    let seen = Postgres::inspect(&url).await.expect("there is one");
    assert_eq!(seen.load(key(1)).await.unwrap(), store.load(key(1)).await.unwrap());
    assert!(seen.swap(write(key(2), None, &reserved(2), &[])).await.is_err());
    assert_eq!(store.load(key(2)).await.unwrap(), None);
}

#[tokio::test]
async fn s65_a_database_that_crashes_is_an_error_and_is_found_again() {
    let server = testing::Postgres::start();
    let store = open(&parse(server.schema().await.url.expose())).await;
    assert_eq!(store.swap(write(key(1), None, &reserved(1), &[])).await.unwrap(), Swap::Applied(1));
    server.crash();
    assert!(store.load(key(1)).await.is_err());
    assert!(store.swap(write(key(2), None, &reserved(2), &[])).await.is_err());
    server.restart();
    eventually(async || store.load(key(1)).await.is_ok()).await;
    assert_eq!(store.load(key(1)).await.unwrap().map(|found| found.entry), Some(reserved(1)), "it was durable");
    assert_eq!(store.load(key(2)).await.unwrap(), None);
}

/// What broke while it was written was written or was not; either way the next one to ask is told one thing.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s21_a_crash_under_load_takes_back_nothing_that_was_acknowledged() {
    let server = testing::Postgres::start();
    let store = Arc::new(open(&parse(server.schema().await.url.expose())).await);
    let mut writing = JoinSet::new();
    for writer in 0..8_u64 {
        let store = store.clone();
        writing.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in writer * 10_000.. {
                match store.swap(write(key(number), None, &reserved(number), &[])).await {
                    Ok(swap) => acknowledged.push((number, swap)),
                    Err(_) => break,
                }
            }
            acknowledged
        });
    }
    eventually(async || store.census(NOW).await.is_ok_and(|census| census.entries.get("reserved") > Some(&100))).await;
    server.crash();
    let acknowledged = writing.join_all().await.concat();
    server.restart();
    eventually(async || store.load(key(0)).await.is_ok()).await;
    assert!(acknowledged.len() > 100);
    for (number, swap) in acknowledged {
        assert_eq!(swap, Swap::Applied(1));
        assert!(store.load(key(number)).await.unwrap().is_some(), "{number} was acknowledged and is gone");
    }
}

#[tokio::test]
async fn i7_a_database_that_does_not_answer_is_not_waited_for_for_ever() {
    let schema = schema().await;
    let store = open(&parse(schema.url.expose())).await;
    let somebody = schema.begin("BEGIN; LOCK TABLE tollhouse_entries").await;
    let swap = tokio::time::timeout(PATIENCE, store.swap(write(key(1), None, &reserved(1), &[]))).await;
    assert!(swap.expect("it gave up").is_err(), "somebody holds the table");
    drop(somebody);
    eventually(async || {
        store.swap(write(key(1), None, &reserved(1), &[])).await.is_ok_and(|swap| swap == Swap::Applied(1))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s72_what_replicas_put_on_record_together_holds_and_what_is_altered_is_found() {
    let schema = schema().await;
    let url = parse(schema.url.expose());
    let replicas = [Arc::new(open(&url).await), Arc::new(open(&url).await)];
    let mut writing = JoinSet::new();
    for number in 0..32 {
        let replicas = replicas.clone();
        writing.spawn(async move {
            for version in 0..4 {
                let entry = reserved(number);
                let write = write(key(number), (version > 0).then_some(version), &entry, &[]);
                let swap = replicas[version as usize % 2].swap(write).await.unwrap();
                assert_eq!(swap, Swap::Applied(version + 1));
            }
        });
    }
    writing.join_all().await;
    let found = verify(&Postgres::inspect(&url).await.unwrap(), &[]).await.unwrap();
    assert_eq!((found.records, found.entries, &found.faults[..]), (128, 32, &[][..]));
    let story = replicas[0].story(key(7)).await.unwrap();
    let versions: Vec<_> = story.iter().map(|record| record.content.body().unwrap().unwrap().version).collect();
    assert_eq!(versions, [1, 2, 3, 4]);

    let noted: Vec<_> = found.chains.iter().map(|extent| (extent.chain, extent.head)).collect();

    let seven = key(7).to_string();
    let seven = seven.trim_start_matches("0x");
    schema.run(&format!("UPDATE tollhouse_entries SET entry = entry || ' ' WHERE key = '\\x{seven}'")).await;
    let altered = verify(&Postgres::inspect(&url).await.unwrap(), &noted).await.unwrap();
    assert_eq!(altered.faults, [Fault::EntryAltered(key(7), 4)]);
    // One that has a record behind the first; without, its end is missing and nothing within.
    let cut = *found.chains.iter().find(|extent| extent.head.number > 1).expect("128 records and 32 chains");
    let id = cut.chain.to_string();
    schema.run(&format!("DELETE FROM tollhouse_evidence WHERE chain = '\\x{id}' AND number = 1")).await;
    let altered = verify(&Postgres::inspect(&url).await.unwrap(), &noted).await.unwrap();
    assert!(altered.faults.contains(&Fault::Missing(cut.chain, 1)), "{:?}", altered.faults);
}

#[tokio::test]
async fn s67_the_record_of_what_is_forgotten_is_forgotten_and_the_chains_hold() {
    let url = parse(schema().await.url.expose());
    let store = open(&url).await;
    for number in 0..8 {
        let entry = Entry { state: State::Released, ..reserved(number) };
        store.swap(write(key(number), None, &entry, &[])).await.unwrap();
    }
    let open_still = Entry { state: settling(), ..reserved(8) };
    store.swap(write(key(8), None, &open_still, &[])).await.unwrap();
    assert_eq!(store.prune(Timestamp::from_millis(u64::MAX)).await.unwrap(), 8);
    let found = verify(&Postgres::inspect(&url).await.unwrap(), &[]).await.unwrap();
    assert_eq!((found.records - found.forgotten, found.entries, &found.faults[..]), (1, 1, &[][..]));
    assert!(store.story(key(1)).await.unwrap().is_empty());
    assert_eq!(store.story(key(8)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn s67_s72_columns_and_claims_are_held_against_what_is_on_record() {
    let schema = schema().await;
    let url = parse(schema.url.expose());
    let store = open(&url).await;
    let claims = [Claimed::alone(vec![7])];
    for number in 1..=3 {
        let entry = Entry { state: State::Released, ..reserved(number) };
        let claims = if number == 1 { &claims[..] } else { &[] };
        store.swap(write(key(number), None, &entry, claims)).await.unwrap();
    }
    let faults = async || verify(&Postgres::inspect(&url).await.unwrap(), &[]).await.unwrap().faults;
    assert_eq!(faults().await, []);
    let row = |number| key(number).to_string();
    for (column, value) in [("state", "'delivered'"), ("due", "1"), ("forget_after", "1"), ("amount", "'1'")] {
        let kept = format!("UPDATE tollhouse_entries SET {column} = {value} WHERE key = '\\x{}'", row(1));
        schema.run(&format!("CREATE TABLE kept AS SELECT * FROM tollhouse_entries; {kept}")).await;
        assert_eq!(faults().await, [Fault::ColumnAltered(key(1), column)]);
        if column == "forget_after" {
            assert_eq!(store.prune(NOW).await.unwrap(), 0, "it does not say so itself");
        }
        schema
            .run(&format!(
                "UPDATE tollhouse_entries AS entries SET {column} = kept.{column} FROM kept WHERE kept.key = entries.key;
                 DROP TABLE kept"
            ))
            .await;
    }
    schema.run(&format!("UPDATE tollhouse_entries SET entry = entry || ' ' WHERE key = '\\x{}'", row(2))).await;
    let lapsed = Timestamp::from_secs(2_000_000_000).after(Duration::from_secs(3601));
    assert_eq!(store.prune(lapsed).await.unwrap(), 2, "the entry that was altered stays, and nothing else");
    assert_eq!(faults().await, [Fault::EntryAltered(key(2), 1)]);

    let entry = Entry { state: State::Released, ..reserved(4) };
    store.swap(write(key(4), None, &entry, &claims)).await.unwrap();
    schema.run(&format!("UPDATE tollhouse_claims SET key = '\\x{}'", "00".repeat(32))).await;
    let nobody = Fault::ClaimOfNobody(PaymentKey::from_bytes([0; 32]));
    assert_eq!(faults().await, [Fault::EntryAltered(key(2), 1), nobody, Fault::ClaimGone(key(4))]);
}

fn settling() -> State {
    State::Settling { since: NOW, facilitator: "cdp".into(), transaction: None, check_at: NOW, checks: 0, left: false }
}

#[tokio::test]
async fn i8_what_the_database_says_about_a_row_is_not_repeated() {
    let schema = schema().await;
    let store = open(&parse(schema.url.expose())).await;
    schema.run("ALTER TABLE tollhouse_entries ADD CONSTRAINT refused CHECK (state <> 'reserved')").await;
    let error = store.swap(write(key(1), None, &reserved(1), &[])).await.expect_err("the row is refused");
    let said = format!("{error} {error:?} {}", error.0);
    assert!(said.contains("refused") && said.contains("23514"), "{said}");
    for private in ["Failing row", "0x0000000000", "valid_before"] {
        assert!(!said.contains(private), "{private} in {said}");
    }
}

#[tokio::test]
async fn s60_the_password_is_in_no_error() {
    for unreachable in ["postgres://toll:hunter2@127.0.0.1:1/ledger", "postgres://toll:hunter2@no.such.host.invalid/x"]
    {
        let error = Postgres::open(&parse(unreachable), Purpose::Real).await.expect_err("nobody is there");
        let said = format!("{error:?} {}", chain(&error));
        assert!(said.contains("ledger") && !said.contains("hunter2"), "{said}");
    }
}

#[tokio::test]
async fn only_a_server_that_proves_its_name_is_spoken_to() {
    // The server's name is not the address: only `localhost` fits.
    let (folder, authorities) = certificates(&["localhost"]);
    let server = testing::Postgres::encrypted(folder.path());
    let at = |host: &str, options: &str| {
        let place = server.place().replace("127.0.0.1", host);
        parse(&format!("postgres://tollhouse@{place}/postgres?{options}"))
    };
    let ours = format!("sslmode=verify-full&sslrootcert={}", authorities.display());
    let store = open(&at("localhost", &ours)).await;
    assert_eq!(store.swap_cell("nonce", None, b"7").await.unwrap(), CellSwap::Applied(1));

    let (_other, strangers) = certificates(&["localhost"]);
    let refused = [
        (at("127.0.0.1", &ours), "not valid for name"),
        (at("localhost", &format!("sslrootcert={}", strangers.display())), "invalid peer certificate"),
        // No authority of this machine has ever heard of it.
        (at("localhost", "sslmode=require"), "invalid peer certificate"),
        (at("localhost", "sslmode=disable"), "no encryption"),
        (at("localhost", "sslrootcert=/nowhere/ca.pem"), "cannot be read"),
    ];
    for (url, why) in refused {
        let error = Postgres::open(&url, Purpose::Real).await.expect_err(why);
        assert!(chain(&error).contains(why), "{why}: {}", chain(&error));
    }
}

/// A folder with `server.crt` and `server.key` for these names, and the file of the authority that vouches for them.
fn certificates(names: &[&str]) -> (TempDir, std::path::PathBuf) {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder for the test");
    // The server's user copies them.
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o755)).expect("the folder is ours");
    let mut authority = CertificateParams::default();
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let server = CertificateParams::new(names).unwrap().signed_by(&key, &authority).unwrap();
    for (name, text) in [("server.crt", server.pem()), ("server.key", key.serialize_pem()), ("ca.crt", authority.pem())]
    {
        std::fs::write(folder.path().join(name), text).expect("the folder is ours");
    }
    let authorities = folder.path().join("ca.crt");
    (folder, authorities)
}

/// An error and all its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

async fn schema() -> Schema {
    testing::Postgres::shared().schema().await
}

fn parse(text: &str) -> PostgresUrl {
    PostgresUrl::parse(&Secret::new(text.to_owned()), Path::new(".")).expect("the URL is right")
}

async fn open(url: &PostgresUrl) -> Postgres {
    Postgres::open(url, Purpose::Real).await.expect("the ledger opens")
}

async fn eventually(mut happened: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !happened().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn key(number: u64) -> PaymentKey {
    sale(number).payment.key()
}

fn reserved(number: u64) -> Entry {
    let state = State::Reserved { until: NOW };
    Entry {
        sale: Arc::new(sale(number)),
        state,
        releases: 0,
        redemptions: 0,
        day: None,
        declined: None,
        created: NOW,
        updated: NOW,
    }
}
