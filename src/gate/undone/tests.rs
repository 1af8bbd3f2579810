//! What the chain took back: who is held for it, who is asked again, and how it ends.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::facilitator::{Decline, Pool, Prepared, SettleError, VerifyError};
use crate::gate::{Observer, Parts};
use crate::ledger::{Claim, Delivered, Ledger, Limits, Memory, Store};
use crate::payment::{Dialect, Offer, Payment, QuoteKey, Replay};
use crate::primitives::{Clock as _, Timestamp};
use crate::protocol::x402::X402;
use crate::scheme::exact::Exact;
use crate::tariff::{Board, Tariff};
use crate::testing::{ManualClock, sales};

/// A block that shows a transfer.
const BLOCK: u64 = 7;

/// A facilitator elsewhere, beside a node of ours that shows what a test says.
#[derive(Default)]
struct Elsewhere {
    name: &'static str,
    /// Who was asked to settle, in order; shared by all of a test.
    asked: Arc<Mutex<Vec<&'static str>>>,
    /// The transaction that it says it settled in; none where it does not answer.
    says: Mutex<Option<TransactionHash>>,
    shows: Mutex<Option<Shown>>,
}

#[derive(Clone, Copy)]
enum Shown {
    Transfer(TransactionHash),
    Never,
}

#[async_trait]
impl Facilitator for Elsewhere {
    fn name(&self) -> &str {
        self.name
    }

    fn accepts(&self, _: &Offer, _: Dialect) -> bool {
        true
    }

    fn is_up(&self) -> bool {
        true
    }

    fn settle_timeout(&self) -> Duration {
        Duration::from_secs(20)
    }

    async fn verify(&self, _: &Payment) -> Result<(), VerifyError> {
        Ok(())
    }

    async fn prepare(&self, _: &Payment) -> Result<Prepared, SettleError> {
        Ok(Prepared { transaction: None, raw: None })
    }

    async fn submit(&self, payment: &Payment, _: Prepared) -> Result<Receipt, SettleError> {
        self.asked.lock().expect("nobody panics here").push(self.name);
        match *self.says.lock().expect("nobody panics here") {
            Some(transaction) => Ok(Receipt::of(payment, transaction, Timestamp::EPOCH)),
            None => Err(SettleError::Unknown { transaction: None, source: "it does not answer".into() }),
        }
    }

    async fn outcome(&self, _: &Unresolved) -> Outcome {
        panic!("one elsewhere is asked again only as often as is written down")
    }

    async fn look(&self, unresolved: &Unresolved) -> Option<Outcome> {
        let shown = *self.shows.lock().expect("nobody panics here");
        shown.map(|shown| match shown {
            Shown::Transfer(transaction) => {
                let receipt = Receipt::of(&unresolved.payment, transaction, Timestamp::EPOCH);
                Outcome::Settled(receipt.in_block(BLOCK))
            }
            Shown::Never => Outcome::NotSettled(Decline { code: "lapsed".into() }),
        })
    }
}

#[derive(Default)]
struct Heard(Mutex<Vec<String>>);

impl Observer for Heard {
    fn observe(&self, event: &Event) {
        let word = match event {
            Event::Reorganised { turn, .. } => turn.word().to_owned(),
            Event::Alarm { what, .. } => format!("alarm: {what}"),
            _ => return,
        };
        self.0.lock().expect("nobody panics here").push(word);
    }
}

/// A gateway whose ledger says that a payment has settled and was delivered.
struct World {
    gate: Arc<Gate>,
    clock: ManualClock,
    heard: Arc<Heard>,
    store: Arc<dyn Store>,
    first: Arc<Elsewhere>,
    second: Arc<Elsewhere>,
    key: PaymentKey,
    transaction: TransactionHash,
}

fn gate(store: &Arc<dyn Store>, clock: &ManualClock, pool: Vec<Arc<dyn Facilitator>>, heard: &Arc<Heard>) -> Arc<Gate> {
    let tariff = Tariff::new(Vec::new()).expect("no route collides with another");
    Gate::new(Parts {
        protocol: Arc::new(X402),
        scheme: Arc::new(Exact),
        ledger: Ledger::new(Arc::clone(store), Arc::new(clock.clone()), Limits::default()),
        pool: Arc::new(Pool::new(pool)),
        board: Arc::new(Board::new(Arc::new(tariff))),
        quotes: QuoteKey::new(&[7; 32]),
        clock: Arc::new(clock.clone()),
        observer: Arc::clone(heard) as _,
    })
}

impl World {
    async fn with_a_settled_payment() -> Self {
        let (clock, heard) = (ManualClock::at(Timestamp::from_secs(1_900_000_000)), Arc::<Heard>::default());
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let asked = Arc::<Mutex<Vec<&'static str>>>::default();
        let [first, second] = ["first", "second"]
            .map(|name| Arc::new(Elsewhere { name, asked: Arc::clone(&asked), ..Elsewhere::default() }));
        let gate = gate(&store, &clock, vec![first.clone(), second.clone()], &heard);
        let sale = Arc::new(sales::sale(1));
        let receipt = sales::receipt(&sale, clock.now());
        let (key, transaction) = (sale.payment.key(), receipt.transaction);
        let Ok(Claim::Granted(lease)) = gate.ledger.claim(sale, Duration::from_secs(60), Replay::Redeliver).await
        else {
            panic!("the ledger is empty");
        };
        let begun = lease.begin("second", None, clock.now()).await.expect("the lease is fresh");
        let delivering = begun.settled(receipt, &[], true).await.expect("it can be filed").expect("somebody waits");
        delivering.end(Delivered::Done(None));
        gate.ledger.flush().await;
        Self { gate, clock, heard, store, first, second, key, transaction }
    }

    async fn undo(&self) {
        self.gate.undo(self.key, self.transaction).await.expect("memory does not fail");
    }

    /// Reconciliation looks as often as it does in this time.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            self.gate.reconcile_once().await.expect("memory does not fail");
        }
        self.gate.look_at_rails().await.expect("memory does not fail");
    }

    async fn state(&self) -> &'static str {
        self.entry().await.state.name()
    }

    async fn entry(&self) -> Entry {
        self.store.load(self.key).await.expect("memory does not fail").expect("it was reserved").entry
    }

    fn heard(&self) -> Vec<String> {
        self.heard.0.lock().expect("nobody panics here").clone()
    }

    fn asked(&self) -> Vec<&'static str> {
        self.first.asked.lock().expect("nobody panics here").clone()
    }
}

/// Whether a gateway would turn away another payment of the same payer, on this network.
fn holds(gate: &Gate, network: &str) -> bool {
    let mut payment = sales::sale(2).payment;
    let mut elsewhere = (*payment.offer.network).clone();
    elsewhere.id = network.parse().expect("it is a network");
    payment.offer.network = Arc::new(elsewhere);
    gate.rails.is_on_hold(&payment)
}

#[tokio::test]
async fn s26_who_is_on_hold_follows_from_the_ledger_for_every_replica_and_after_a_restart() {
    let world = World::with_a_settled_payment().await;
    let other = gate(&world.store, &world.clock, Vec::new(), &Arc::default());
    world.undo().await;
    assert_eq!(world.state().await, "undone");
    assert!(holds(&world.gate, "eip155:84532"), "whoever saw it holds at once");
    assert!(!holds(&world.gate, "eip155:8453"), "elsewhere it may be another's address");
    other.look_at_rails().await.expect("memory does not fail");
    assert!(holds(&other, "eip155:84532"), "a replica reads it");

    world.gate.found_again(world.key, world.transaction, BLOCK).await.expect("memory does not fail");
    other.look_at_rails().await.expect("memory does not fail");
    assert_eq!(world.state().await, "delivered", "its answer had arrived, and it is paid for again");
    assert!(!holds(&world.gate, "eip155:84532") && !holds(&other, "eip155:84532"));
    let heard = world.heard();
    assert!(
        matches!(&heard[..], [undone, alarm, restored]
        if undone == "undone" && alarm.starts_with("alarm: REORGED") && restored == "restored"),
        "{heard:?}"
    );
}

#[tokio::test]
async fn s26_what_the_watch_says_twice_or_of_another_transaction_changes_nothing() {
    let world = World::with_a_settled_payment().await;
    world.gate.undo(world.key, TransactionHash::repeat_byte(9)).await.expect("memory does not fail");
    assert_eq!(world.state().await, "delivered");
    world.undo().await;
    world.undo().await;
    assert_eq!(world.heard().len(), 2, "told once, with one alarm");
}

#[tokio::test]
async fn s26_what_is_undone_is_sent_again_once_to_whoever_settled_it_and_to_nobody_else() {
    let world = World::with_a_settled_payment().await;
    world.undo().await;
    world.pass(4).await;
    assert!(world.asked().is_empty(), "it may come back by itself");
    world.pass(600).await;
    assert_eq!(world.asked(), ["second"]);
    assert_eq!(world.state().await, "undone", "nobody has shown it");
    assert!(holds(&world.gate, "eip155:84532"));

    let again = TransactionHash::repeat_byte(3);
    *world.second.shows.lock().expect("nobody panics here") = Some(Shown::Transfer(again));
    world.pass(120).await;
    assert_eq!((world.state().await, world.entry().await.transaction()), ("delivered", Some(again)));
    assert!(!holds(&world.gate, "eip155:84532"));
    assert_eq!(world.asked(), ["second"]);
}

#[tokio::test]
async fn s26_a_word_about_the_transaction_that_vanished_is_nothing_new_and_one_about_another_is() {
    for (says, state) in [(None, "undone"), (Some(TransactionHash::repeat_byte(3)), "delivered")] {
        let world = World::with_a_settled_payment().await;
        *world.second.says.lock().expect("nobody panics here") = Some(says.unwrap_or(world.transaction));
        world.undo().await;
        world.pass(600).await;
        assert_eq!((world.state().await, world.asked()), (state, vec!["second"]));
    }
}

#[tokio::test]
async fn s26_what_can_never_settle_is_lost_and_frees_its_payer() {
    let world = World::with_a_settled_payment().await;
    world.undo().await;
    *world.second.shows.lock().expect("nobody panics here") = Some(Shown::Never);
    world.pass(10).await;
    assert_eq!(world.state().await, "lost");
    assert!(!holds(&world.gate, "eip155:84532"));
    let heard = world.heard();
    assert!(heard.last().is_some_and(|last| last.starts_with("alarm: ") && last.contains("lapsed")), "{heard:?}");
    assert!(world.asked().is_empty(), "nobody was asked for what cannot be");
}

#[tokio::test]
async fn s26_what_has_no_time_left_is_not_sent_again() {
    let world = World::with_a_settled_payment().await;
    world.undo().await;
    let lapses = Timestamp::from_secs(world.entry().await.sale.payment.authorization.valid_before());
    world.clock.advance(lapses.since(world.clock.now()).saturating_sub(Duration::from_secs(20)));
    world.pass(100).await;
    assert!(world.asked().is_empty());
    assert_eq!(world.state().await, "undone", "that nobody can send it is no proof");
}
