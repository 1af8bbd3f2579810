//! What must hold when the store fails, or does it and cannot say so.

use async_trait::async_trait;
use tokio::sync::watch;

use super::*;
use crate::primitives::{Payer, Secret};

/// How the store behaves when it is asked to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Good,
    Refuses,
    /// Refuses what is about this payment.
    Spites(PaymentKey),
    /// Writes, and then says that it failed.
    Lies,
    /// Does not answer until its mood changes.
    Stalls,
}

struct Moody {
    memory: Memory,
    mood: watch::Sender<Mood>,
}

impl Moody {
    fn new() -> Arc<Self> {
        Arc::new(Self { memory: Memory::new(), mood: watch::Sender::new(Mood::Good) })
    }

    fn turns(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }
}

#[async_trait]
impl Store for Moody {
    async fn load(&self, key: PaymentKey) -> Result<Option<Versioned>, StoreError> {
        self.memory.load(key).await
    }

    async fn swap(&self, write: Write<'_>) -> Result<Swap, StoreError> {
        let mut mood = self.mood.subscribe();
        let mood = *mood.wait_for(|mood| *mood != Mood::Stalls).await.expect("the sender is ours");
        match mood {
            Mood::Spites(key) if key == write.key => Err(StoreError("the row is damaged".into())),
            Mood::Good | Mood::Spites(_) | Mood::Stalls => self.memory.swap(write).await,
            Mood::Refuses => Err(StoreError("the disk is full".into())),
            Mood::Lies => {
                self.memory.swap(write).await?;
                Err(StoreError("the connection broke".into()))
            }
        }
    }

    async fn left_open(&self, payer: Payer, request: B256) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.left_open(payer, request).await
    }

    async fn overdue(
        &self,
        chore: Chore,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.overdue(chore, now, limit).await
    }

    async fn prune(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.memory.prune(before).await
    }

    async fn list(&self, filter: &Filter) -> Result<Vec<(PaymentKey, Versioned)>, StoreError> {
        self.memory.list(filter).await
    }

    async fn census(&self, now: Timestamp) -> Result<Census, StoreError> {
        self.memory.census(now).await
    }

    async fn secret(&self, name: &str) -> Result<Secret<[u8; 32]>, StoreError> {
        self.memory.secret(name).await
    }

    async fn cell(&self, name: &str) -> Result<Option<(Version, Vec<u8>)>, StoreError> {
        self.memory.cell(name).await
    }

    async fn swap_cell(&self, name: &str, expected: Option<Version>, value: &[u8]) -> Result<CellSwap, StoreError> {
        self.memory.swap_cell(name, expected, value).await
    }
}

fn moody() -> (Arc<Moody>, Desk) {
    let store = Moody::new();
    let desk = Desk::over(store.clone(), ManualClock::at(START));
    (store, desk)
}

#[tokio::test]
async fn s65_a_store_that_fails_grants_nothing() {
    let (store, desk) = moody();
    store.turns(Mood::Refuses);
    assert!(desk.ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await.is_err());
}

#[tokio::test]
async fn s2_a_claim_that_took_longer_to_write_than_it_holds_is_not_granted() {
    let (store, desk) = moody();
    store.turns(Mood::Stalls);
    let (ledger, clock) = (desk.ledger.clone(), desk.clock.clone());
    let late = tokio::spawn(async move { ledger.claim(Arc::new(sale(1)), HOLD, Replay::Redeliver).await });
    tokio::task::yield_now().await;
    clock.advance(HOLD);
    store.turns(Mood::Good);
    assert!(matches!(late.await.unwrap(), Ok(Claim::InFlight { .. })), "another request may hold it by now");
    assert_eq!(desk.state(&sale(1)).await, "released");
    let Claim::Granted(lease) = desk.claim(&sale(1)).await else { panic!("nobody holds it") };
    assert!(lease.begin("cdp", None, desk.clock.now()).await.is_ok(), "what came late does not disturb it");
}

#[tokio::test]
async fn s74_a_turn_at_collecting_that_lapsed_while_it_was_written_is_not_granted() {
    let (store, desk) = moody();
    desk.in_settlement(&sale(1)).await.settled(receipt(&sale(1), START), &[], false).await.expect("memory writes");
    store.turns(Mood::Stalls);
    let (ledger, clock) = (desk.ledger.clone(), desk.clock.clone());
    let late = tokio::spawn(async move {
        let fresh = Arc::new(sale(2)).into();
        ledger.claim_earlier(&fresh, Replay::Redeliver).await
    });
    tokio::task::yield_now().await;
    clock.advance(LEASE);
    store.turns(Mood::Good);
    assert!(matches!(late.await.unwrap(), Ok(Some(Claim::InFlight { .. }))), "another request may collect it by now");
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
    assert!(matches!(desk.claim(&sale(1)).await, Claim::Redeem(_)));
}

#[tokio::test]
async fn s66_a_settlement_that_cannot_be_written_does_not_begin() {
    for mood in [Mood::Refuses, Mood::Lies] {
        let (store, desk) = moody();
        let mut lease = desk.lease(&sale(1)).await;
        lease.mark_forwarded().expect("it is held");
        store.turns(mood);
        let begun = lease.begin("cdp", None, desk.clock.now()).await;
        assert!(matches!(begun, Err(BeginError::Store(_))));
        store.turns(Mood::Good);
        assert_eq!(desk.state(&sale(1)).await, "released", "{mood:?}: nothing was asked for, so nothing is unknown");
    }
}

#[tokio::test]
async fn s13_a_no_that_is_written_late_is_not_written_over_a_newer_question() {
    let (store, desk) = moody();
    let settling = desk.in_settlement(&sale(1)).await;
    store.turns(Mood::Refuses);
    assert!(settling.declined("refused", None).await.is_err(), "it is queued");
    store.turns(Mood::Good);
    desk.clock.advance(Duration::from_secs(30));
    let unsettled = desk.ledger.overdue_settlements(9).await.unwrap().remove(0);
    desk.ledger.look(unsettled, desk.clock.now().after(HOLD)).await.unwrap().expect("nobody was faster");
    assert_eq!(desk.state(&sale(1)).await, "settling");
}

#[tokio::test]
async fn i3_a_receipt_that_cannot_be_written_is_kept_until_it_can() {
    for mood in [Mood::Refuses, Mood::Lies] {
        let (store, desk) = moody();
        let settling = desk.in_settlement(&sale(1)).await;
        store.turns(mood);
        let filed = settling.settled(receipt(&sale(1), START), &[], true).await;
        assert!(matches!(filed, Err(FileError::Store(_))));
        store.turns(Mood::Good);
        desk.ledger.flush().await;
        desk.clock.advance(LEASE);
        desk.ledger.round().await.unwrap();
        assert_eq!(desk.state(&sale(1)).await, "undelivered", "{mood:?}");
        assert!(
            matches!(desk.claim(&sale(1)).await, Claim::Redeem(again) if *again.receipt() == receipt(&sale(1), START))
        );
    }
}

#[tokio::test]
async fn s22_a_receipt_outlives_the_request_that_waited_for_it() {
    let (store, desk) = moody();
    let settling = desk.in_settlement(&sale(1)).await;
    store.turns(Mood::Stalls);
    let filing = tokio::spawn(async move { settling.settled(receipt(&sale(1), START), &[], true).await.is_ok() });
    tokio::task::yield_now().await;
    filing.abort();
    assert!(filing.await.is_err(), "it was to be cut short");
    store.turns(Mood::Good);
    assert_eq!(desk.state(&sale(1)).await, "undelivered");
}

#[tokio::test]
async fn what_could_not_be_written_about_a_settlement_is_written_later() {
    let (store, desk) = moody();
    let (declined, unknown) = (desk.in_settlement(&sale(1)).await, desk.in_settlement(&sale(2)).await);
    store.turns(Mood::Refuses);
    assert!(declined.declined("refused", None).await.is_err());
    assert!(unknown.unknown(Some(B256::repeat_byte(7)), START.after(HOLD)).await.is_err());
    store.turns(Mood::Good);
    assert_eq!(desk.state(&sale(1)).await, "released");
    let Claim::Unresolved { entry } = desk.claim(&sale(2)).await else { panic!("money may have moved") };
    assert_eq!(entry.transaction(), Some(B256::repeat_byte(7)));
}

#[tokio::test]
async fn an_errand_that_was_cut_short_is_done_again() {
    let (store, desk) = moody();
    let lease = desk.lease(&sale(1)).await;
    store.turns(Mood::Stalls);
    drop(lease);
    let tending = tokio::spawn(desk.ledger.clone().tend());
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
    tending.abort();
    assert!(tending.await.is_err(), "tending never ends by itself");
    store.turns(Mood::Good);
    assert_eq!(desk.state(&sale(1)).await, "released");
    assert_eq!(desk.ledger.queued(), 0);
}

#[tokio::test]
async fn a_delivery_whose_end_cannot_be_written_is_not_collected_meanwhile() {
    let (store, desk) = moody();
    let mut delivering = desk.delivering(&sale(1)).await;
    delivering.touch();
    store.turns(Mood::Refuses);
    delivering.end(Delivered::Done(None));
    desk.clock.advance(LEASE * 2);
    store.turns(Mood::Good);
    assert!(matches!(desk.claim(&sale(1)).await, Claim::InFlight { .. }), "it was delivered");
    assert_eq!(desk.state(&sale(1)).await, "delivered");
}

#[tokio::test]
async fn s21_a_renewal_that_fails_keeps_nobody_from_ending_what_a_dead_process_left() {
    let (store, desk) = moody();
    std::mem::forget(desk.restarted().delivering(&sale(2)).await);
    let _delivering = desk.delivering(&sale(1)).await;
    desk.clock.advance(LEASE * 2);
    store.turns(Mood::Spites(sale(1).payment.key()));
    assert!(desk.ledger.round().await.is_err(), "the failed renewal is told");
    assert_ne!(desk.state(&sale(2)).await, "delivering", "it waits for the renewal of another payment");
}
