//! What holds whatever happens, in whatever order.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use tollhouse::ledger::{
    Answer, Claim, Claimed, Delivered, Delivering, Delivery, Entry, Event, FileError, InSettlement, LEASE, Lease,
    Ledger, Limits, Memory, Postgres, PostgresUrl, Purpose, Sale, State, Store,
};
use tollhouse::payment::{Receipt, Replay, SettleMode};
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::testing::sales::{receipt, sale};
use tollhouse::testing::{self, ManualClock};

const START: Timestamp = Timestamp::from_secs(1_900_000_000);
const HOLD: Duration = Duration::from_secs(60);
const MAX_RELEASES: u32 = 3;
const MAX_REDEMPTIONS: u32 = 3;

fn seconds() -> impl Strategy<Value = Timestamp> {
    (0_u64..200).prop_map(|seconds| START.after(Duration::from_secs(seconds)))
}

/// A sale of each kind: redeemable or not, quoted or not, settled before or after.
fn sales() -> impl Strategy<Value = Sale> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(quoted, redeemable, before)| {
        let mut sold = sale(1);
        sold.quote = sold.quote.filter(|_| quoted);
        sold.redeemable = redeemable;
        sold.payment.offer.settle = if before { SettleMode::BeforeForward } else { SettleMode::OnResponse };
        sold
    })
}

fn answers(until: Timestamp) -> Answer {
    let body = bytes::Bytes::from_static(b"sunny");
    Answer { status: 200, fields: vec![], body, request_body: Default::default(), until }
}

fn endings() -> impl Strategy<Value = Delivered> {
    prop_oneof![
        any::<bool>().prop_map(|untouched| Delivered::Nothing { untouched }),
        Just(Delivered::Partial),
        Just(Delivered::CutShort),
        Just(Delivered::Done(None)),
        seconds().prop_map(|until| Delivered::Done(Some(answers(until).into()))),
    ]
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        (sales(), seconds(), any::<bool>()).prop_map(|(sold, until, counts)| Event::Reserve {
            sale: Arc::new(sold),
            until,
            counts
        }),
        any::<bool>().prop_map(|counted| Event::Release { counted, max_releases: MAX_RELEASES }),
        seconds().prop_map(|check_at| Event::Begin { facilitator: "cdp".into(), transaction: None, check_at }),
        Just(Event::Leave),
        seconds().prop_map(|until| Event::Look { until }),
        seconds().prop_map(|check_at| Event::StillUnknown { transaction: None, check_at }),
        (proptest::option::of(seconds()), seconds()).prop_map(|(delivering, collect_by)| Event::Settle {
            receipt: receipt(&sale(1), collect_by).into(),
            delivering,
            collect_by
        }),
        Just(Event::Decline { why: "refused".into(), max_releases: MAX_RELEASES, watch_from: None }),
        Just(Event::Decline { why: "refused".into(), max_releases: MAX_RELEASES, watch_from: Some(Timestamp::EPOCH) }),
        Just(Event::Recheck { check_at: Timestamp::EPOCH }),
        Just(Event::EndWatch { why: "it lapsed".into() }),
        seconds().prop_map(|until| Event::Redeem { until, max_redemptions: MAX_REDEMPTIONS }),
        (0_u32..4, seconds()).prop_map(|(turn, until)| Event::Renew { turn, until }),
        (0_u32..4, endings()).prop_map(|(turn, delivered)| Event::Deliver { turn, delivered, response: None }),
        Just(Event::GiveUp),
        Just(Event::DropAnswer),
    ]
}

fn settled(entry: &Entry) -> Option<(&Receipt, &Delivery)> {
    match &entry.state {
        State::Settled { receipt, delivery, .. } => Some((receipt, delivery)),
        _ => None,
    }
}

/// What one step may change, whatever the step was.
fn check_step(before: Option<&Entry>, event: &Event, after: &Entry, now: Timestamp) {
    let Some(before) = before else {
        assert!(matches!(event, Event::Reserve { .. }), "an entry was born of {event:?}");
        return;
    };
    assert_eq!(before.created, after.created);
    assert!(before.releases <= after.releases && before.redemptions <= after.redemptions, "a count went back");
    let watched =
        matches!(after.state, State::Reserved { .. } | State::Released | State::Exhausted | State::Settling { .. });
    if before.declined.is_some() && !matches!(event, Event::EndWatch { .. }) {
        assert_eq!(after.declined.is_some(), watched, "{event:?} forgot that it was declined, or kept on looking");
    }
    if !matches!(event, Event::Reserve { .. }) {
        assert_eq!(before.sale, after.sale, "{event:?} changed what was sold");
    }
    let idle = match &before.state {
        State::Reserved { until } => *until <= now,
        state => matches!(state, State::Released | State::Exhausted),
    };
    match (&before.state, &after.state) {
        (_, State::Settled { facilitator, .. }) if idle => {
            assert!(matches!(event, Event::Settle { delivering: None, .. }), "{event:?} settled what nobody was at");
            let declined = before.declined.as_ref().expect("nobody had declined to settle it");
            assert_eq!(&declined.facilitator, facilitator, "somebody else is said to have settled it");
        }
        (State::Settled { .. }, State::Settled { .. }) => check_delivery(before, event, after, now),
        (State::Settled { .. }, _) => panic!("{event:?} forgot a payment"),
        (State::Settling { .. }, State::Settling { .. }) => {
            assert!(matches!(event, Event::Leave | Event::Look { .. } | Event::StillUnknown { .. }));
            if matches!(event, Event::Leave) {
                assert_eq!(before.due(), after.due(), "a client that leaves changes nobody's turn");
            }
        }
        (State::Settling { .. }, State::Settled { .. }) => assert!(matches!(event, Event::Settle { .. })),
        (State::Settling { .. }, _) => assert!(matches!(event, Event::Decline { .. }), "{event:?} ended a settlement"),
        (State::Exhausted, State::Exhausted) => {
            assert!(matches!(event, Event::Recheck { .. } | Event::EndWatch { .. }), "{event:?} is nothing to it");
        }
        (State::Exhausted, _) => panic!("{event:?} revived an exhausted payment"),
        (_, State::Settled { .. }) => panic!("{event:?} settled what nobody had asked to settle"),
        (State::Reserved { until }, State::Reserved { .. }) => assert!(*until <= now, "a hold was broken"),
        _ => {}
    }
}

fn check_delivery(before: &Entry, event: &Event, after: &Entry, now: Timestamp) {
    let ((receipt, was), (kept, is)) = (settled(before).unwrap(), settled(after).unwrap());
    assert_eq!(receipt, kept, "{event:?} changed a receipt");
    let final_before = matches!(was, Delivery::Partial | Delivery::Done { .. } | Delivery::RefundDue);
    if final_before {
        assert!(matches!((was, is), (Delivery::Done { .. }, Delivery::Done { answer: None })), "{was:?} became {is:?}");
    }
    if after.redemptions > before.redemptions {
        let lapsed = matches!(was, Delivery::Leased { until } if *until <= now);
        assert!(matches!(was, Delivery::Pending) || lapsed, "two hold one answer");
        assert!(after.sale.deliverable(true), "an answer was redelivered that may not be");
        assert!(after.redemptions <= MAX_REDEMPTIONS);
    }
    if matches!(is, Delivery::Pending) {
        assert!(after.sale.deliverable(true), "an answer waits that may not be had again");
    }
}

proptest! {
    #[test]
    fn i1_i3_no_order_of_events_breaks_a_rule(steps in proptest::collection::vec((events(), 0_u64..40), 1..60)) {
        let (mut entry, mut now) = (None::<Entry>, START);
        for (event, wait) in steps {
            now = now.after(Duration::from_secs(wait));
            if let Ok(next) = Entry::apply(entry.clone(), event.clone(), now) {
                check_step(entry.as_ref(), &event, &next, now);
                let json = serde_json::to_string(&next).unwrap();
                prop_assert_eq!(&serde_json::from_str::<Entry>(&json).unwrap(), &next);
                entry = Some(next);
            }
        }
    }

    #[test]
    fn s67_no_entry_is_forgotten_while_it_could_be_presented(
        steps in proptest::collection::vec(events(), 1..20),
        valid_before in any::<u64>(),
    ) {
        let mut entry = None::<Entry>;
        for event in steps {
            entry = Entry::apply(entry.clone(), event, START).ok().or(entry);
        }
        let Some(mut entry) = entry else { return Ok(()) };
        let mut sold = (*entry.sale).clone();
        let tollhouse::payment::Authorization::Eip3009(signed) = &mut sold.payment.authorization else { panic!("it is an EIP-3009 payment") };
        signed.valid_before = alloy::primitives::U256::from(valid_before);
        entry.sale = Arc::new(sold);
        if let Some(moment) = entry.forget_after() {
            prop_assert!(moment >= Timestamp::from_secs(valid_before));
            prop_assert!(entry.due().is_none_or(|due| due <= moment));
        }
    }

    #[test]
    fn i1_i3_no_order_of_requests_pays_twice_or_serves_twice(
        sold in sales(),
        steps in proptest::collection::vec(steps(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(live(House::over(Arc::new(Memory::new()), sold), steps));
    }
}

proptest! {
    // Each step is a few round trips.
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn i1_i3_no_order_of_requests_pays_twice_or_serves_twice_with_a_database(
        sold in sales(),
        steps in proptest::collection::vec(steps(), 1..80),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let schema = testing::Postgres::shared().schema().await;
            let url = PostgresUrl::parse(&schema.url, Path::new(".")).expect("the URL is right");
            let store = Postgres::open(&url, Purpose::Real).await.expect("the ledger opens");
            live(House::over(Arc::new(store), sold), steps).await;
        });
    }
}

async fn live(mut house: House, steps: Vec<Step>) {
    for step in steps {
        house.take(step).await;
        house.check().await;
    }
}

/// What clients, facilitators and the machine may do next. Numbers choose among the handles there are.
#[derive(Debug, Clone)]
enum Step {
    Present { stranger: bool, replay: Replay },
    Forward(usize),
    Release(usize),
    Begin(usize),
    Settled { which: usize, waits: bool },
    Declined(usize),
    Unknown { which: usize, moved: bool },
    Abandon { which: usize, moved: bool },
    Touch(usize),
    End(usize, Delivered),
    Leave(usize),
    Wait(u64),
    Round,
    Flush,
    Reconcile,
    Crash,
}

fn steps() -> impl Strategy<Value = Step> {
    let which = 0_usize..4;
    let replays = prop_oneof![Just(Replay::Refuse), Just(Replay::Redeliver), Just(Replay::SameAnswer)];
    prop_oneof![
        6 => (any::<bool>(), replays).prop_map(|(stranger, replay)| Step::Present { stranger, replay }),
        2 => which.clone().prop_map(Step::Forward),
        1 => which.clone().prop_map(Step::Release),
        3 => which.clone().prop_map(Step::Begin),
        3 => (which.clone(), any::<bool>()).prop_map(|(which, waits)| Step::Settled { which, waits }),
        1 => which.clone().prop_map(Step::Declined),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, moved)| Step::Unknown { which, moved }),
        1 => (which.clone(), any::<bool>()).prop_map(|(which, moved)| Step::Abandon { which, moved }),
        2 => which.clone().prop_map(Step::Touch),
        2 => (which.clone(), endings()).prop_map(|(which, delivered)| Step::End(which, delivered)),
        2 => which.prop_map(Step::Leave),
        2 => (1_u64..50).prop_map(Step::Wait),
        2 => Just(Step::Round),
        2 => Just(Step::Flush),
        1 => Just(Step::Reconcile),
        1 => Just(Step::Crash),
    ]
}

/// One payment, everyone who holds a piece of it, and what truly happened to the money and the answer.
struct House {
    store: Arc<dyn Store>,
    clock: ManualClock,
    ledger: Arc<Ledger>,
    /// How the buyer presents it; a stranger presents it with another quote.
    buyer: Sale,
    /// As it was reserved last.
    sold: Sale,
    leases: VecDeque<Lease>,
    settling: VecDeque<InSettlement>,
    delivering: VecDeque<(Delivering, bool)>,
    /// Whether the money moved, once that is decided.
    moved: Option<bool>,
    /// Answers of which a byte went out.
    served: u32,
    crashes: u32,
    receipt: Option<Receipt>,
}

impl House {
    fn over(store: Arc<dyn Store>, sold: Sale) -> Self {
        let clock = ManualClock::at(START);
        Self {
            ledger: ledger(&store, &clock),
            store,
            clock,
            buyer: sold.clone(),
            sold,
            leases: VecDeque::new(),
            settling: VecDeque::new(),
            delivering: VecDeque::new(),
            moved: None,
            served: 0,
            crashes: 0,
            receipt: None,
        }
    }

    async fn take(&mut self, step: Step) {
        let proof = receipt(&self.sold, START);
        let claims = [Claimed::alone(proof.transaction.to_vec())];
        match step {
            Step::Present { stranger, replay } => self.present(stranger, replay).await,
            Step::Forward(which) => {
                if let Some(lease) = self.leases.get_mut(which) {
                    // Whoever comes too late does not forward, and ends its request in one of the steps below.
                    lease.mark_forwarded().ok();
                } else if let Some((delivering, _)) = self.delivering.get_mut(which) {
                    delivering.mark_forwarded();
                }
            }
            Step::Release(which) => {
                if let Some(lease) = self.leases.remove(which) {
                    lease.release().await;
                }
            }
            Step::Begin(which) => {
                let Some(lease) = self.leases.remove(which) else { return };
                if let Ok(settling) = lease.begin("cdp", None, self.clock.now().after(LEASE)).await {
                    assert_eq!(self.moved, None, "settlement was asked for twice");
                    assert!(self.settling.is_empty(), "two ask for one settlement");
                    self.settling.push_back(settling);
                }
            }
            Step::Settled { which, waits } => {
                let Some(settling) = self.settling.remove(which) else { return };
                self.moved = Some(true);
                if let Ok(Some(delivering)) = settling.settled(proof, &claims, waits).await {
                    self.delivering.push_back((delivering, false));
                }
            }
            Step::Declined(which) => {
                let Some(settling) = self.settling.remove(which) else { return };
                match settling.declined("refused", None).await {
                    Ok(()) => {}
                    // Somebody has looked meanwhile, so it is theirs to say.
                    Err(FileError::Overtaken) => self.moved = Some(false),
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Unknown { which, moved } => {
                let Some(settling) = self.settling.remove(which) else { return };
                self.moved = Some(moved);
                settling.unknown(None, self.clock.now().after(LEASE)).await.unwrap();
            }
            Step::Abandon { which, moved } => {
                if self.settling.remove(which).is_some() {
                    self.moved = Some(moved);
                }
            }
            Step::Touch(which) => {
                if let Some((delivering, touched)) = self.delivering.get_mut(which) {
                    delivering.touch();
                    self.served += u32::from(!*touched);
                    *touched = true;
                }
            }
            Step::End(which, delivered) => {
                let Some((delivering, touched)) = self.delivering.remove(which) else { return };
                let says_so = !matches!(delivered, Delivered::Nothing { .. });
                self.served += u32::from(says_so && !touched);
                delivering.end(delivered);
            }
            Step::Leave(which) => {
                // Dropped in any state; the handles record what they know.
                drop(self.leases.remove(which));
                drop(self.delivering.remove(which));
            }
            Step::Wait(seconds) => self.clock.advance(Duration::from_secs(seconds)),
            Step::Round => self.ledger.round().await.unwrap(),
            Step::Flush => self.ledger.flush().await,
            Step::Reconcile => self.reconcile(proof, &claims).await,
            Step::Crash => self.crash(),
        }
    }

    async fn present(&mut self, stranger: bool, replay: Replay) {
        let mut presented = self.buyer.clone();
        if stranger {
            presented.quote = sale(2).quote;
            presented.redeemable = false;
        }
        let known = self.state().await;
        if self.ledger.spent(&presented.payment.key()).is_some() {
            let over = matches!(
                known.as_ref().map(|entry| entry.state.name()),
                Some("partial" | "delivered" | "refund_due" | "exhausted")
            );
            assert!(over, "the front remembers what is not final: {known:?}");
        }
        match self.ledger.claim(Arc::new(presented), HOLD, replay).await.unwrap() {
            Claim::Granted(lease) => {
                assert_ne!(self.moved, Some(true), "a paid payment was sold again");
                assert!(self.receipt.is_none());
                self.leases.push_back(lease);
            }
            Claim::Redeem(again) => {
                assert!(self.receipt.is_some() && replay != Replay::Refuse);
                assert_eq!(stranger, self.sold_to_stranger(), "somebody else collected the answer");
                self.delivering.push_back((again, false));
            }
            Claim::Repeat { .. } => {
                assert!(replay == Replay::SameAnswer && self.served > 0);
                assert_eq!(stranger, self.sold_to_stranger(), "somebody else got the kept answer");
            }
            Claim::Spent { receipt } => assert_eq!(receipt, self.receipt),
            Claim::InFlight { .. } | Claim::Unresolved { .. } | Claim::Exhausted => {}
            Claim::Overspent { .. } => panic!("nothing is counted here"),
        }
        // Whoever reserved it is the buyer from then on.
        if let Some(entry) = self.state().await {
            self.sold = (*entry.sale).clone();
        }
    }

    fn sold_to_stranger(&self) -> bool {
        self.sold.quote == sale(2).quote
    }

    async fn reconcile(&mut self, proof: Receipt, claims: &[Claimed]) {
        for unsettled in self.ledger.overdue_settlements(9).await.unwrap() {
            match self.moved {
                Some(true) => drop(self.ledger.file(unsettled, proof.clone(), claims).await.unwrap()),
                Some(false) => {
                    if self.ledger.decline(unsettled, "refused").await.unwrap().is_some() {
                        self.moved = None;
                    }
                }
                None => {
                    let check_at = self.clock.now().after(LEASE);
                    self.ledger.still_unknown(unsettled, None, check_at).await.unwrap();
                }
            }
        }
    }

    /// The process is killed: no handle gets to say anything. What the facilitator was asked, it did.
    fn crash(&mut self) {
        self.crashes += 1;
        self.moved = self.moved.or((!self.settling.is_empty()).then_some(true));
        self.leases.drain(..).for_each(std::mem::forget);
        self.settling.drain(..).for_each(std::mem::forget);
        self.delivering.drain(..).for_each(|(delivering, _)| std::mem::forget(delivering));
        self.ledger = ledger(&self.store, &self.clock);
    }

    async fn state(&self) -> Option<Entry> {
        self.store.load(sale(1).payment.key()).await.unwrap().map(|found| found.entry)
    }

    async fn check(&mut self) {
        assert!(self.delivering.len() <= 1, "two deliver one answer");
        assert!(self.served <= 1 + self.crashes, "{} answers for one payment", self.served);
        let Some(entry) = self.state().await else { return };
        match settled(&entry) {
            Some((receipt, _)) => {
                assert_eq!(self.moved, Some(true), "settled without money");
                let first = self.receipt.get_or_insert_with(|| receipt.clone());
                assert_eq!(first, receipt);
            }
            None => assert!(self.receipt.is_none(), "a receipt was lost"),
        }
        if self.moved == Some(true) {
            assert!(matches!(entry.state, State::Settling { .. } | State::Settled { .. }), "paid and forgotten");
        }
    }
}

fn ledger(store: &Arc<dyn Store>, clock: &ManualClock) -> Arc<Ledger> {
    let limits =
        Limits { max_releases: MAX_RELEASES, max_redemptions: MAX_REDEMPTIONS, redeem_for: Duration::from_secs(300) };
    Ledger::new(store.clone(), Arc::new(clock.clone()), limits)
}
