//! The evidence: what was written is on record, and whoever changes it is found out (S66, S67, S72).

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::U256;
use rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;
use tollhouse::ledger::entry::RECORD;
use tollhouse::ledger::evidence::{Body, ChainId, Fault, Findings, Head, verify};
use tollhouse::ledger::{
    Archive, Author, Claim, Claimed, CopyError, Delivered, Ledger, Limits, OpenError, Purpose, Response, Sale, Sqlite,
    Store as _,
};
use tollhouse::payment::{Authorization, PaymentKey, Replay};
use tollhouse::primitives::Timestamp;
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{receipt, sale};

const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOLD: Duration = Duration::from_secs(60);
/// After which even the record of a paid request may go.
const ENTRIES_AGE: Duration = RECORD.saturating_add(HOLD);

/// A ledger in a file of its own.
struct House {
    ledger: Arc<Ledger>,
    clock: ManualClock,
    path: PathBuf,
    folder: TempDir,
}

impl House {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let path = folder.path().join("ledger.db");
        let clock = ManualClock::at(NOW);
        Self { ledger: ledger(&path, &clock), clock, path, folder }
    }

    /// One payment from the offer to the last byte of the answer.
    async fn sell(&self, number: u64) {
        let sold = sale(number);
        let Claim::Granted(lease) = self.ledger.claim(Arc::new(sold.clone()), HOLD, Replay::Redeliver).await.unwrap()
        else {
            panic!("a new payment was refused")
        };
        let begun = lease.begin("cdp", None, NOW.after(HOLD)).await.unwrap();
        let receipt = receipt(&sold, NOW).in_block(77);
        let claims = [Claimed::alone(number.to_be_bytes().to_vec()), Claimed::if_free(b"shared".to_vec())];
        let mut delivering = begun.settled(receipt, &claims, true).await.unwrap().expect("a request waits");
        delivering.touch();
        delivering.wrote(Response { status: 206, bytes: 1234 });
        delivering.end(Delivered::Done(None));
        self.ledger.flush().await;
    }

    /// Three payments, and then nobody who has the file open.
    async fn sold_and_closed(self) -> (PathBuf, TempDir) {
        for number in 1..=3 {
            self.sell(number).await;
        }
        let Self { path, folder, .. } = self;
        (path, folder)
    }
}

/// A payment whose authorization lapses in a minute.
fn brief(number: u64) -> Sale {
    let mut brief = sale(number);
    let Authorization::Eip3009(signed) = &mut brief.payment.authorization else { panic!("it is an EIP-3009 payment") };
    signed.valid_before = U256::from(NOW.after(HOLD).as_secs());
    brief
}

fn ledger(path: &Path, clock: &ManualClock) -> Arc<Ledger> {
    let store = Sqlite::open(path, Purpose::Real).expect("the ledger opens");
    Ledger::of(Arc::new(store), Arc::new(clock.clone()), Limits::default(), Author::process("gateway a"))
}

async fn verified(path: &Path) -> Findings {
    verify(&Sqlite::inspect(path).expect("it is a ledger"), &[]).await.expect("it can be read")
}

/// Changes a closed file behind the ledger's back.
fn tamper(path: &Path, sql: &str) {
    let db = Connection::open(path).expect("it is a database");
    db.execute_batch(sql).expect("it can be changed");
}

async fn story(path: &Path, sold: &Sale) -> Vec<Body> {
    let archive = Sqlite::inspect(path).expect("it is a ledger");
    let story = archive.story(sold.payment.key()).await.expect("it can be read");
    story.iter().map(|record| record.content.body().expect("it is a body").expect("it is kept")).collect()
}

#[tokio::test]
async fn s72_every_step_of_a_payment_is_on_record() {
    let house = House::new();
    house.sell(1).await;
    let steps = story(&house.path, &sale(1)).await;
    let names: Vec<&str> = steps.iter().map(|body| body.step.as_str()).collect();
    assert_eq!(names, ["reserved", "settling", "settled", "delivered"]);
    assert_eq!(steps.iter().map(|body| body.version).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(steps.iter().all(|body| body.at == NOW && body.by == "gateway a"));

    let [offered, asked, settled, delivered] = [0, 1, 2, 3].map(|step| &steps[step].details);
    assert_eq!((&offered["amount"], &offered["route"]), (&"10000".into(), &"GET /v1/weather".into()));
    assert_eq!(offered["authorization"]["eip3009"]["nonce"], serde_json::to_value(nonce(&sale(1))).unwrap());
    assert_eq!(asked["facilitator"], "cdp");
    let transaction = receipt(&sale(1), NOW).transaction;
    assert_eq!((&settled["transaction"], &settled["block"]), (&transaction.to_string().into(), &77.into()));
    assert_eq!((&delivered["status"], &delivered["bytes"]), (&206.into(), &1234.into()));
}

#[tokio::test]
async fn i8_no_signature_is_on_record() {
    let house = House::new();
    house.sell(1).await;
    let text = serde_json::to_string(&story(&house.path, &sale(1)).await).unwrap();
    assert!(!text.contains("signature") && !text.contains(&"00".repeat(65)), "{text}");
}

#[tokio::test]
async fn s72_a_used_ledger_is_sound_while_it_is_written_and_after() {
    let house = House::new();
    house.sell(9).await;
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.records, findings.entries), (4, 1));
    let (path, _folder) = house.sold_and_closed().await;
    let findings = verified(&path).await;
    assert!(findings.is_sound(), "{findings:?}");
}

/// What somebody does, how, and what is found.
type Kind = (&'static str, &'static str, fn(ChainId) -> Fault);

#[tokio::test]
async fn s72_each_kind_of_tampering_is_found() {
    let chain = |path: &Path| -> ChainId {
        let db = Connection::open(path).unwrap();
        let bytes: [u8; 16] = db.query_row("SELECT id FROM chain", [], |row| row.get(0)).unwrap();
        ChainId(bytes)
    };
    // One payment has four records, so the second one's are 5 to 8.
    let kinds: [Kind; 9] = [
        ("an edited field", "UPDATE evidence SET body = replace(body, '10000', '20000') WHERE number = 5", |chain| {
            Fault::Altered(chain, 5)
        }),
        ("a deleted record", "DELETE FROM evidence WHERE number = 6", |chain| Fault::Missing(chain, 6)),
        (
            "two records in each other's place",
            "UPDATE evidence SET number = -1 WHERE number = 5; UPDATE evidence SET number = 5 WHERE number = 6;
             UPDATE evidence SET number = 6 WHERE number = -1",
            |chain| Fault::Altered(chain, 5),
        ),
        ("a truncated tail", "DELETE FROM evidence WHERE number > 10", |chain| Fault::CutOff(chain, 10, 12)),
        (
            "a record that is said to be forgotten",
            "UPDATE evidence SET body = NULL, digest = zeroblob(32) WHERE number = 7",
            |chain| Fault::Altered(chain, 7),
        ),
        (
            "a truncated tail with its head",
            "DELETE FROM evidence WHERE number > 11;
             UPDATE chain SET number = 11, hash = (SELECT hash FROM evidence WHERE number = 11)",
            |_| Fault::NotOnRecord(sale(3).payment.key(), 4),
        ),
        ("an edited entry", "UPDATE entries SET entry = replace(entry, '10000', '20000') WHERE evidence = 8", |_| {
            Fault::EntryAltered(sale(2).payment.key(), 4)
        }),
        ("an entry of an earlier version", "UPDATE entries SET version = 3 WHERE evidence = 8", |_| {
            Fault::EntryAltered(sale(2).payment.key(), 4)
        }),
        ("a deleted entry", "DELETE FROM entries WHERE evidence = 8", |_| Fault::EntryGone(sale(2).payment.key())),
    ];
    for (what, sql, fault) in kinds {
        let (path, _folder) = House::new().sold_and_closed().await;
        tamper(&path, sql);
        let findings = verified(&path).await;
        assert_eq!(findings.faults.first(), Some(&fault(chain(&path))), "{what}: {findings:?}");
    }
}

#[tokio::test]
async fn s72_a_column_that_contradicts_its_entry_is_found() {
    let kinds = [
        ("state", "'released'"),
        ("route", "'GET /v1/free'"),
        ("payer", "'0x01'"),
        ("network", "'eip155:1'"),
        ("asset", "'0x01'"),
        ("amount", "'1'"),
        ("transaction_hash", "NULL"),
        ("created", "created + 1"),
        ("updated", "updated + 1"),
        ("due", "1"),
        ("forget_after", "NULL"),
    ];
    let (path, _folder) = House::new().sold_and_closed().await;
    let sound = std::fs::read(&path).unwrap();
    for (column, value) in kinds {
        std::fs::write(&path, &sound).unwrap();
        tamper(&path, &format!("UPDATE entries SET {column} = {value} WHERE evidence = 8"));
        let findings = verified(&path).await;
        assert_eq!(findings.faults, [Fault::ColumnAltered(sale(2).payment.key(), column)]);
    }
    // To SQLite, bytes that are no text can be one.
    std::fs::write(&path, &sound).unwrap();
    tamper(&path, "UPDATE entries SET payer = CAST(x'ff' AS TEXT) WHERE evidence = 8");
    assert_eq!(verified(&path).await.faults, [Fault::EntryUnreadable(sale(2).payment.key())]);
}

#[tokio::test]
async fn s5_s72_a_claim_that_is_gone_or_is_somebody_elses_is_found() {
    let two = sale(2).payment.key();
    let kinds: [(&str, &[Fault]); 3] = [
        ("DELETE FROM claims WHERE key = (SELECT key FROM entries WHERE evidence = 8)", &[Fault::ClaimGone(two)]),
        (
            "UPDATE claims SET key = (SELECT key FROM entries WHERE evidence = 4) WHERE fact = x'0000000000000002'",
            &[Fault::ClaimGone(two)],
        ),
        ("INSERT INTO claims VALUES (x'01', zeroblob(32))", &[Fault::ClaimOfNobody(PaymentKey::from_bytes([0; 32]))]),
    ];
    let (path, _folder) = House::new().sold_and_closed().await;
    let sound = std::fs::read(&path).unwrap();
    for (sql, faults) in kinds {
        std::fs::write(&path, &sound).unwrap();
        tamper(&path, sql);
        assert_eq!(verified(&path).await.faults, faults, "{sql}");
    }
}

#[tokio::test]
async fn s67_nothing_is_forgotten_because_somebody_has_written_that_it_may_be() {
    let long_ago = "UPDATE entries SET forget_after = 1";
    let kinds = [
        ("a column", long_ago),
        // What the entry says is believed only if it is what was put on record.
        ("an entry", "UPDATE entries SET forget_after = 1, entry = replace(entry, '2000000000', '1000000000')"),
        ("an entry that is no text", "UPDATE entries SET forget_after = 1, entry = CAST(x'ff' AS TEXT)"),
        ("a record that is gone", "UPDATE entries SET forget_after = 1, evidence = NULL"),
    ];
    for (what, sql) in kinds {
        let (path, _folder) = House::new().sold_and_closed().await;
        tamper(&path, sql);
        let store = Sqlite::open(&path, Purpose::Real).unwrap();
        assert_eq!(store.prune(NOW.after(HOLD)).await.unwrap(), 0, "{what}");
        let findings = verified(&path).await;
        assert_eq!((findings.records, findings.forgotten, findings.entries), (12, 0, 3), "{what}");
        assert!(!findings.is_sound(), "{what}");
    }

    let (path, _folder) = House::new().sold_and_closed().await;
    tamper(&path, &format!("{long_ago} WHERE evidence = 8"));
    let store = Sqlite::open(&path, Purpose::Real).unwrap();
    let aged = Timestamp::from_secs(2_000_000_000).after(ENTRIES_AGE);
    assert_eq!(store.prune(aged).await.unwrap(), 3, "one that may go by then goes, whatever its column says");
}

#[tokio::test]
async fn s67_what_stays_does_not_keep_others_from_being_forgotten() {
    let house = House::new();
    for number in 1..=1100 {
        let Claim::Granted(lease) = house.ledger.claim(Arc::new(sale(number)), HOLD, Replay::Redeliver).await.unwrap()
        else {
            panic!("a new payment was refused")
        };
        lease.release().await;
    }
    tamper(&house.path, "UPDATE entries SET forget_after = 1, entry = entry || ' ' WHERE evidence <= 2100");
    let aged = Timestamp::from_secs(2_000_000_000).after(ENTRIES_AGE);
    assert_eq!(house.ledger.store().prune(aged).await.unwrap(), 50, "a full step of others comes before them");
}

#[tokio::test]
async fn s67_a_way_that_was_bent_forgets_nobody_elses_records() {
    let house = House::new();
    house.sell(1).await;
    let Claim::Granted(lease) = house.ledger.claim(Arc::new(brief(2)), HOLD, Replay::Redeliver).await.unwrap() else {
        panic!("a new payment was refused")
    };
    lease.release().await;
    tamper(&house.path, "UPDATE evidence SET prior = 4 WHERE number = 5");
    assert_eq!(house.ledger.store().prune(NOW.after(HOLD * 90)).await.unwrap(), 1);
    assert_eq!(story(&house.path, &sale(1)).await.len(), 4);
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
}

#[tokio::test]
async fn s72_a_head_that_the_chain_can_no_longer_be_held_to_is_no_yes() {
    let house = House::new();
    house.sell(1).await;
    let early = verified(&house.path).await.chains[0];
    house.sell(2).await;
    let late = verified(&house.path).await.chains[0];
    assert_eq!(house.ledger.store().prune(Timestamp::from_secs(9_000_000_000)).await.unwrap(), 2);
    house.sell(3).await;
    let archive = Sqlite::inspect(&house.path).unwrap();
    let against = async |head| verify(&archive, &[(late.chain, head)]).await.unwrap().faults;
    assert_eq!(against(early.head).await, [Fault::Outlived(early.chain, 4, 8)]);
    assert_eq!(against(late.head).await, [], "where the chain begins now is known");
    let other = Head { hash: early.head.hash, ..late.head };
    assert_eq!(against(other).await, [Fault::NotAsNoted(late.chain, 8)]);
    assert_eq!(against(Head::START).await, [], "what was noted of an empty chain holds for every one");
}

#[tokio::test]
async fn s72_a_chain_that_was_made_anew_is_not_the_one_that_was_noted() {
    let house = House::new();
    house.sell(1).await;
    let noted = verified(&house.path).await.chains[0];
    let other = House::new();
    other.sell(2).await;
    // The best forgery there is: a ledger that is sound in itself, under the chain's own name.
    let id = noted.chain;
    drop(other.ledger);
    let forged = verified(&other.path).await.chains[0];
    let archive = Sqlite::inspect(&other.path).unwrap();
    let findings = verify(&archive, &[(forged.chain, Head { hash: noted.head.hash, ..forged.head })]).await.unwrap();
    assert_eq!(findings.faults, [Fault::NotAsNoted(forged.chain, forged.head.number)]);
    let findings = verify(&archive, &[(id, noted.head)]).await.unwrap();
    assert_eq!(findings.faults, [Fault::CutOff(id, 0, 4)], "a whole chain is gone");
}

#[tokio::test]
async fn s67_forgotten_payments_leave_a_chain_that_holds() {
    let house = House::new();
    for number in 1..=2 {
        house.sell(number).await;
    }
    // This one opens nothing and is forgotten first, out of the middle of the chain.
    let Claim::Granted(lease) = house.ledger.claim(Arc::new(brief(9)), HOLD, Replay::Redeliver).await.unwrap() else {
        panic!("a new payment was refused")
    };
    lease.release().await;
    house.sell(3).await;
    let store = house.ledger.store();

    assert_eq!(store.prune(NOW.after(HOLD * 90)).await.unwrap(), 1);
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.records, findings.forgotten), (14, 2), "the released one's records stay as hashes");
    assert_eq!(story(&house.path, &sale(9)).await, []);
    let text: i64 = Connection::open(&house.path)
        .unwrap()
        .query_row("SELECT count(*) FROM evidence WHERE body LIKE '%released%'", [], |row| row.get(0))
        .unwrap();
    assert_eq!(text, 0, "what was forgotten can still be read");

    assert_eq!(store.prune(Timestamp::from_secs(9_000_000_000)).await.unwrap(), 3);
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.records, findings.chains[0].base.number), (0, 14), "nothing is left to keep");
    house.sell(4).await;
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!(findings.chains[0].head.number, 18, "the chain goes on where it was");
}

#[tokio::test]
async fn s66_a_backup_is_taken_while_payments_go_on() {
    let house = Arc::new(House::new());
    let copies = TempDir::new().unwrap();
    let selling = tokio::spawn({
        let house = house.clone();
        async move {
            for number in 0..100 {
                house.sell(number).await;
            }
        }
    });
    let mut taken = 0;
    while !selling.is_finished() {
        let (from, to) = (house.path.clone(), copies.path().join(format!("{taken}.db")));
        let made = to.clone();
        let extent = tokio::task::spawn_blocking(move || Sqlite::back_up(&from, &made)).await.unwrap().unwrap();
        let findings = verified(&to).await;
        assert!(findings.is_sound(), "{findings:?}");
        assert_eq!(findings.chains, [extent]);
        taken += 1;
    }
    selling.await.unwrap();
    assert!(taken > 0);
    let again = Sqlite::back_up(&house.path, &copies.path().join("0.db"));
    assert!(matches!(again, Err(CopyError::Exists(_))), "{again:?}");
}

#[tokio::test]
async fn s66_an_older_copy_in_the_ledgers_place_is_refused_until_it_is_taken_over_knowingly() {
    let house = House::new();
    house.sell(1).await;
    let copy = house.folder.path().join("copy.db");
    Sqlite::back_up(&house.path, &copy).unwrap();
    house.sell(2).await;
    // As `tend` does once a minute.
    house.ledger.store().prune(NOW).await.unwrap();
    let in_use = Sqlite::restore(&copy, &house.path, Author::person("alice", "the disk died"), NOW);
    assert!(matches!(in_use, Err(CopyError::InUse(_))), "{in_use:?}");
    let House { ledger: open, clock, path, folder } = house;
    drop(open);

    let kept = std::fs::read(&path).unwrap();
    std::fs::copy(&copy, &path).unwrap();
    let error = Sqlite::open(&path, Purpose::Real).expect_err("it has forgotten a payment");
    assert!(matches!(error, OpenError::OlderCopy { reaches: 4, noted: 8, .. }), "{error:?}");
    assert!(error.to_string().contains("tollhouse ledger restore"), "{error}");

    std::fs::write(&path, kept).unwrap();
    let restored = Sqlite::restore(&copy, &path, Author::person("alice", "the disk died"), NOW).unwrap();
    let replaced = restored.replaced.expect("a ledger stood there");
    assert!(verified(&replaced).await.is_sound(), "what was replaced is kept whole");
    let ledger = ledger(&path, &clock);
    assert!(ledger.store().load(sale(2).payment.key()).await.unwrap().is_none());
    let findings = verified(&path).await;
    assert!(findings.is_sound(), "{findings:?}");
    let archive = Sqlite::inspect(&path).unwrap();
    let last = archive.records(restored.extent.chain, 4, 9).await.unwrap();
    let body = last[0].content.body().unwrap().unwrap();
    assert_eq!((&*body.step, &*body.by, body.why.as_deref()), ("restored", "person alice", Some("the disk died")));
    drop(folder);
}

#[tokio::test]
async fn s66_a_ledger_that_was_lost_and_begun_anew_is_noticed() {
    let (path, _folder) = House::new().sold_and_closed().await;
    std::fs::remove_file(&path).unwrap();
    let error = Sqlite::open(&path, Purpose::Real).expect_err("it has forgotten every payment");
    assert!(matches!(error, OpenError::Another { .. }), "{error:?}");
    assert!(error.to_string().contains("remove"), "{error}");
}

#[tokio::test]
async fn s66_a_damaged_copy_is_not_restored() {
    let (path, folder) = House::new().sold_and_closed().await;
    let copy = folder.path().join("copy.db");
    Sqlite::back_up(&path, &copy).unwrap();
    let mut bytes = std::fs::read(&copy).unwrap();
    let half = bytes.len() / 2;
    bytes.truncate(half);
    std::fs::write(&copy, bytes).unwrap();
    assert!(Sqlite::restore(&copy, &path, Author::person("alice", "a try"), NOW).is_err());
    assert!(verified(&path).await.is_sound(), "the ledger itself was touched");
    assert!(Sqlite::open(&path, Purpose::Real).is_ok());
}

#[tokio::test]
async fn s66_a_file_whose_end_is_damaged_grants_nothing() {
    let house = House::new();
    for number in 1..=50 {
        house.sell(number).await;
    }
    let House { ledger: open, clock, path, folder } = house;
    drop(open);
    let mut bytes = std::fs::read(&path).unwrap();
    let most = bytes.len() * 3 / 4;
    bytes[4096 * 2..].iter_mut().skip(most).for_each(|byte| *byte = 0xff);
    bytes.truncate(most + 100);
    std::fs::write(&path, bytes).unwrap();
    let Ok(store) = Sqlite::open(&path, Purpose::Real) else { return };
    let ledger = Ledger::new(Arc::new(store), Arc::new(clock), Limits::default());
    for number in 1..=50 {
        let claim = ledger.claim(Arc::new(sale(number)), HOLD, Replay::Refuse).await;
        assert!(!matches!(claim, Ok(Claim::Granted(_))), "payment {number} was spent and is granted again");
    }
    drop(folder);
}

#[tokio::test]
async fn a_file_from_before_there_were_records_is_taken_over_whole() {
    let (path, _folder) = House::new().sold_and_closed().await;
    let back = "DROP TABLE spent; DROP INDEX entries_left_open; DROP TABLE chain; DROP TABLE evidence; ALTER TABLE entries DROP COLUMN evidence; DROP TABLE cells;
                PRAGMA user_version = 1";
    tamper(&path, back);
    std::fs::remove_file(path.with_file_name("ledger.db-head")).unwrap();

    let clock = ManualClock::at(NOW);
    drop(ledger(&path, &clock));
    let findings = verified(&path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!((findings.records, findings.entries), (3, 3));
    let steps = story(&path, &sale(2)).await;
    assert_eq!(steps.iter().map(|body| (&*body.step, body.version)).collect::<Vec<_>>(), [("adopted", 4)]);
    tamper(&path, "UPDATE entries SET state = 'delivered', entry = replace(entry, '10000', '1') WHERE evidence = 2");
    assert!(!verified(&path).await.is_sound());
}

fn nonce(sold: &Sale) -> Value {
    let Authorization::Eip3009(signed) = &sold.payment.authorization else { panic!("it is an EIP-3009 payment") };
    serde_json::to_value(signed.nonce).unwrap()
}

/// A small disk of its own; gone when dropped.
struct Disk(TempDir);

impl Disk {
    /// `None`, with the reason on standard error, where disks cannot be mounted.
    fn of_one_mebibyte() -> Option<Self> {
        let folder = TempDir::new().expect("a temporary folder");
        let disk = Self(folder);
        let mounted = disk.mount(&["-t", "tmpfs", "-o", "size=1m,mode=700", "tmpfs"]);
        match mounted {
            Ok(output) if output.status.success() => Some(disk),
            Ok(output) => {
                eprintln!("skipped, no disk can be mounted here: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                eprintln!("skipped, mount cannot be run: {error}");
                None
            }
        }
    }

    fn mount(&self, arguments: &[&str]) -> std::io::Result<std::process::Output> {
        Command::new("mount").args(arguments).arg(self.0.path()).output()
    }

    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.path().join("filler")).expect("there is room for a name");
        while file.write_all(&[0; 512]).is_ok() {}
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily: the folder must be free to go even when a test has failed with files open.
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn s66_on_a_full_disk_nothing_is_granted_and_nothing_is_lost() {
    let Some(disk) = Disk::of_one_mebibyte() else { return };
    let clock = ManualClock::at(NOW);
    let path = disk.0.path().join("ledger.db");
    let house = House { ledger: ledger(&path, &clock), clock, path, folder: TempDir::new().unwrap() };
    house.sell(1).await;
    // This one is being settled when the disk fills up.
    let sold = sale(2);
    let Claim::Granted(lease) = house.ledger.claim(Arc::new(sold.clone()), HOLD, Replay::Redeliver).await.unwrap()
    else {
        panic!("a new payment was refused")
    };
    let begun = lease.begin("cdp", None, NOW).await.unwrap();

    disk.fill();
    let filed = begun.settled(receipt(&sold, NOW), &[], true).await;
    assert!(filed.is_err(), "an answer may leave without a record");
    for number in 3..20 {
        let claim = house.ledger.claim(Arc::new(sale(number)), HOLD, Replay::Redeliver).await;
        assert!(claim.is_err(), "{claim:?}");
    }

    std::fs::remove_file(disk.0.path().join("filler")).unwrap();
    house.ledger.flush().await;
    let stands = house.ledger.store().load(sold.payment.key()).await.unwrap().expect("it was begun");
    assert_eq!(stands.entry.state.name(), "undelivered", "the receipt was lost");
    house.sell(3).await;
    let findings = verified(&house.path).await;
    assert!(findings.is_sound(), "{findings:?}");
    assert_eq!(findings.entries, 3, "what was refused left something behind");
}

#[tokio::test]
async fn s66_a_ledger_that_can_only_be_read_is_refused_at_the_start() {
    let Some(disk) = Disk::of_one_mebibyte() else { return };
    let path = disk.0.path().join("ledger.db");
    drop(ledger(&path, &ManualClock::at(NOW)));
    let locked = disk.mount(&["-o", "remount,ro"]).expect("mount has run before");
    assert!(locked.status.success(), "{}", String::from_utf8_lossy(&locked.stderr));
    let error = Sqlite::open(&path, Purpose::Real).expect_err("nothing can be written");
    assert!(matches!(&error, OpenError::Unavailable { path: told, .. } if *told == path), "{error:?}");
}
