//! What a durable ledger costs: transitions a second, one alone beside a raw append, a start with a million rows, and
//! the memory of what is under way. `cargo bench --bench ledger`.
//!
//! It writes to the directory in `TOLLHOUSE_BENCH_DIR`, else to `target`: a disk, not a tmpfs. The goals are printed
//! beside the numbers and checked by whoever reads them; a shared machine is no judge.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::task::JoinSet;
use tollhouse::ledger::{
    Author, Chore, Claim, Delivered, Entry, Ledger, Limits, Postgres, PostgresUrl, Purpose, Response, Sqlite, State,
    Store,
};
use tollhouse::payment::Replay;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing;
use tollhouse::testing::sales::{receipt, sale, write};

/// How many payments are under way at once.
const IN_FLIGHT: u64 = 64;
/// How many payments are sold in the throughput part; each is four transitions.
const SALES: u64 = 10_000;
/// How many single transitions are timed.
const SINGLES: usize = 1_000;
/// How many rows a start finds.
const ROWS: u64 = 1_000_000;
/// How long a payment is held.
const HOLD: Duration = Duration::from_secs(60);

fn main() {
    // `cargo test --benches` runs this too, and wants no measurement.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("threads can be started");
    let place = std::env::var_os("TOLLHOUSE_BENCH_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from);
    let folder = TempDir::new_in(place).expect("a folder for the ledgers");
    runtime.block_on(async {
        throughput("SQLite", Arc::new(open(&folder.path().join("throughput.db"))), "goal >= 5000 /s").await;
        single(folder.path()).await;
        postgres().await;
        memory(folder.path()).await;
        restart(folder.path()).await;
    });
}

fn open(path: &Path) -> Sqlite {
    Sqlite::open(path, Purpose::Real).expect("the ledger opens")
}

fn ledger(store: Arc<dyn Store>) -> Arc<Ledger> {
    Ledger::of(store, Arc::new(SystemClock), Limits::default(), Author::process("bench"))
}

/// One payment, as the gateway sells it: reserved, settling, settled, delivered.
async fn sell(ledger: &Arc<Ledger>, number: u64) {
    let sold = sale(number);
    let now = SystemClock.now();
    let claim = ledger.claim(Arc::new(sold.clone()), HOLD, Replay::Redeliver).await.expect("the disk works");
    let Claim::Granted(lease) = claim else { panic!("a new payment was refused: {claim:?}") };
    let begun = lease.begin("bench", None, now.after(HOLD)).await.expect("the disk works");
    let settled = begun.settled(receipt(&sold, now), &[], true).await.expect("the disk works");
    let mut delivering = settled.expect("a request waits for it");
    delivering.wrote(Response { status: 200, bytes: 64 });
    delivering.end(Delivered::Done(None));
}

async fn throughput(name: &str, store: Arc<dyn Store>, goal: &str) {
    let ledger = ledger(store);
    let writing = tokio::spawn(ledger.clone().tend());
    let started = Instant::now();
    let mut buyers = JoinSet::new();
    for buyer in 0..IN_FLIGHT {
        let ledger = ledger.clone();
        buyers.spawn(async move {
            for number in (buyer..SALES).step_by(IN_FLIGHT as usize) {
                sell(&ledger, number).await;
            }
        });
    }
    buyers.join_all().await;
    ledger.flush().await;
    let took = started.elapsed();
    writing.abort();
    let each = (SALES * 4) as f64 / took.as_secs_f64();
    println!("{name}: durable transitions at {IN_FLIGHT} in flight   {each:>10.0} /s      {goal}");
}

/// The same in a PostgreSQL server on this machine, which waits for its disk.
async fn postgres() {
    let server = testing::Postgres::durable();
    let schema = server.schema().await;
    let url = PostgresUrl::parse(&schema.url, Path::new("/")).expect("a URL");
    let store = Postgres::open(&url, Purpose::Real).await.expect("the ledger opens");
    let mut took = Vec::with_capacity(SINGLES);
    for number in SALES..SALES + SINGLES as u64 {
        let entry = entry(number);
        let started = Instant::now();
        store.swap(write(entry.sale.payment.key(), None, &entry, &[])).await.expect("the server is up");
        took.push(started.elapsed());
    }
    println!("PostgreSQL: a single transition, p50     {:>10.1} us      no goal", micros(median(took)));
    throughput("PostgreSQL", Arc::new(store), "no goal").await;
}

/// A lone transition beside appending as many bytes to a file and waiting for the disk, in turns.
async fn single(folder: &Path) {
    let store = open(&folder.join("single.db"));
    let mut raw = OpenOptions::new().create_new(true).append(true).open(folder.join("raw")).expect("a file");
    let (mut ours, mut theirs) = (Vec::with_capacity(SINGLES), Vec::with_capacity(SINGLES));
    for number in 0..SINGLES as u64 {
        let entry = entry(number);
        let key = entry.sale.payment.key();
        let bytes = serde_json::to_vec(&entry).expect("an entry is JSON");
        let started = Instant::now();
        store.swap(write(key, None, &entry, &[])).await.expect("the disk works");
        ours.push(started.elapsed());
        theirs.push(append(&mut raw, &bytes));
    }
    let (ours, theirs) = (median(ours), median(theirs));
    println!(
        "a single transition, p50                 {:>10.1} us      append and fdatasync {:.1} us, {:.2} times; goal <= 2",
        micros(ours),
        micros(theirs),
        ours.as_secs_f64() / theirs.as_secs_f64()
    );
}

fn append(file: &mut File, bytes: &[u8]) -> Duration {
    let started = Instant::now();
    file.write_all(bytes).expect("the disk works");
    file.sync_data().expect("the disk works");
    started.elapsed()
}

/// What one payment that a request holds keeps in memory. A remembered one keeps almost nothing, see `restart`.
async fn memory(folder: &Path) {
    const LIVE: u64 = 20_000;
    let ledger = ledger(Arc::new(open(&folder.join("memory.db"))));
    let mut held = Vec::with_capacity(LIVE as usize);
    let mut claims = JoinSet::new();
    let before = resident();
    let shared = Arc::new(sale(0));
    for number in 0..LIVE {
        let mut sold = (*shared).clone();
        let tollhouse::payment::Authorization::Eip3009(signed) = &mut sold.payment.authorization else {
            panic!("it is an EIP-3009 payment")
        };
        signed.nonce = tollhouse::primitives::Nonce(alloy::primitives::U256::from(number).into());
        let ledger = ledger.clone();
        claims.spawn(async move { ledger.claim(Arc::new(sold), HOLD, Replay::Redeliver).await });
        if claims.len() >= IN_FLIGHT as usize {
            held.extend(claims.join_next().await);
        }
    }
    while let Some(claim) = claims.join_next().await {
        held.push(claim);
    }
    let each = resident().saturating_sub(before) as f64 / LIVE as f64;
    println!("memory for each payment in flight        {each:>10.0} bytes   its sale, its handle and its task");
    drop(held);
}

/// How much of this process is in memory, in bytes.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").expect("this is Linux");
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("it has a second number") * 4096
}

async fn restart(folder: &Path) {
    let path = folder.join("restart.db");
    {
        let store = Arc::new(open(&path));
        let mut writes = JoinSet::new();
        for number in 0..ROWS {
            let store = store.clone();
            writes.spawn(async move {
                let entry = entry(number);
                store.swap(write(entry.sale.payment.key(), None, &entry, &[])).await.expect("the disk works");
            });
            if writes.len() >= 1024 {
                writes.join_next().await;
            }
        }
        writes.join_all().await;
    }
    // As a start does: the file is opened, its secrets are read, and the first looks are taken.
    let before = resident();
    let started = Instant::now();
    let ledger = ledger(Arc::new(open(&path)));
    ledger.store().secret("quotes").await.expect("the disk works");
    let opened = started.elapsed();
    let now = SystemClock.now();
    for chore in [Chore::Settlements, Chore::Deliveries] {
        ledger.store().overdue(chore, now, 64).await.expect("the disk works");
    }
    ledger.store().load(sale(ROWS / 2).payment.key()).await.expect("the disk works").expect("it is remembered");
    let ready = started.elapsed();
    println!(
        "a start with {ROWS} rows               {:>10.0} ms      open after {:.0} ms; goal <= 2000 ms",
        millis(ready),
        millis(opened)
    );
    let each = resident().saturating_sub(before) as f64 / ROWS as f64;
    println!(
        "memory for each live entry               {each:>10.1} bytes   goal <= 300 bytes; of a spent one, see front.rs"
    );
}

fn entry(number: u64) -> Entry {
    let now = SystemClock.now();
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

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort_unstable();
    times[times.len() / 2]
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
