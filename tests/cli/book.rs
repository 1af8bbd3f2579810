//! A ledger with a little of everything in it, for the commands that read and mend ledgers.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollhouse::ledger::{Author, Claim, Delivered, InSettlement, Ledger, Limits, Purpose, Response, Sale, Sqlite};
use tollhouse::payment::{PaymentKey, Replay};
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::testing::ManualClock;
use tollhouse::testing::sales::{receipt, sale};

use crate::support::{Ended, run};

pub const NOW: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOLD: Duration = Duration::from_secs(60);

/// A ledger in a file that a gateway has written and closed.
pub struct Book {
    pub path: PathBuf,
    pub folder: TempDir,
}

impl Book {
    /// An empty one.
    pub fn new() -> Self {
        let folder = TempDir::new().expect("a directory for the test");
        Self { path: folder.path().join("ledger.db"), folder }
    }

    /// One payment that was delivered, one that nobody knows the end of, one that is owed.
    pub async fn of_three() -> Self {
        let book = Self::new();
        let clock = ManualClock::at(NOW);
        let ledger = book.open(Arc::new(clock.clone()));
        deliver(&ledger, &clock, sale(1)).await;
        clock.set(NOW.after(Duration::from_millis(1500)));
        drop(begin(&ledger, unknown()).await);
        clock.set(NOW.after(Duration::from_secs(3)));
        let begun = begin(&ledger, owed()).await;
        let proof = receipt(&owed(), clock.now());
        begun.settled(proof, &[], false).await.expect("the disk works");
        book
    }

    /// The ledger, as a gateway opens it.
    pub fn open(&self, clock: Arc<dyn Clock>) -> Arc<Ledger> {
        let store = Sqlite::open(&self.path, Purpose::Real).expect("the ledger opens");
        Ledger::of(Arc::new(store), clock, Limits::default(), Author::process("gateway a"))
    }

    /// `tollhouse ledger …` on it.
    pub fn run(&self, arguments: &[&str]) -> Ended {
        let path = self.path.display().to_string();
        let place = ["--ledger", &path, "-c", "/nowhere/gateway.yaml"];
        run(["ledger"].iter().chain(arguments).chain(&place))
    }
}

/// The payment of `of_three` that nobody knows the end of.
pub fn unknown() -> Sale {
    sale(2)
}

/// The payment of `of_three` that is owed: its answer may not be asked for again.
pub fn owed() -> Sale {
    Sale { quote: None, redeemable: false, route: "GET /v1/a,\"b\"".into(), ..sale(3) }
}

/// A payment under way: money may be moving.
pub async fn begin(ledger: &Arc<Ledger>, sold: Sale) -> InSettlement {
    let claim = ledger.claim(Arc::new(sold), HOLD, Replay::Redeliver).await.expect("the disk works");
    let Claim::Granted(lease) = claim else { panic!("a new payment was refused: {claim:?}") };
    lease.begin("cdp", None, NOW).await.expect("the disk works")
}

async fn deliver(ledger: &Arc<Ledger>, clock: &ManualClock, sold: Sale) {
    let proof = receipt(&sold, clock.now()).in_block(77);
    let begun = begin(ledger, sold).await;
    let mut delivering = begun.settled(proof, &[], true).await.expect("the disk works").expect("a request waits");
    clock.set(clock.now().after(Duration::from_millis(250)));
    delivering.wrote(Response { status: 200, bytes: 15 });
    delivering.end(Delivered::Done(None));
    ledger.flush().await;
}

pub fn key(sold: &Sale) -> PaymentKey {
    sold.payment.key()
}
