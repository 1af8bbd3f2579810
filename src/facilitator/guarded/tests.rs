//! Deadlines, calls that nobody waits for, and networks that fail one by one.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::facilitator::Kind;
use crate::primitives::{Network, Timestamp, preset};
use crate::testing::ManualClock;
use crate::testing::vectors::{eip3009_base_sepolia, unsigned};

const CONFIG: BreakerConfig = BreakerConfig { open_after: 1, half_open_after: Duration::from_secs(30) };

/// Never answers a call, or fails each at once. It knows the chain, where told so.
#[derive(Default)]
struct Dead {
    at_once: AtomicBool,
    sees: AtomicBool,
    asked: Mutex<Vec<&'static str>>,
}

impl Dead {
    async fn answer(&self, call: &'static str) -> BoxError {
        self.asked.lock().expect("nobody panics while holding it").push(call);
        if !self.at_once.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
        "down".into()
    }

    fn asked(&self) -> Vec<&'static str> {
        self.asked.lock().expect("nobody panics while holding it").clone()
    }
}

#[async_trait]
impl Facilitator for Dead {
    fn name(&self) -> &str {
        "dead"
    }

    fn accepts(&self, _offer: &Offer, _dialect: Dialect) -> bool {
        true
    }

    fn settle_timeout(&self) -> Duration {
        Duration::ZERO
    }

    async fn verify(&self, _payment: &Payment) -> Result<(), VerifyError> {
        Err(VerifyError::Unavailable(self.answer("verify").await))
    }

    async fn prepare(&self, _payment: &Payment) -> Result<Prepared, SettleError> {
        Ok(Prepared { transaction: None, raw: None })
    }

    async fn submit(&self, _payment: &Payment, _prepared: Prepared) -> Result<Receipt, SettleError> {
        Err(SettleError::Unknown { transaction: None, source: self.answer("settle").await })
    }

    async fn outcome(&self, _unresolved: &Unresolved) -> Outcome {
        Outcome::Unknown { transaction: None, source: self.answer("outcome").await }
    }

    async fn look(&self, unresolved: &Unresolved) -> Option<Outcome> {
        let receipt = Receipt::of(&unresolved.payment, Default::default(), unresolved.since);
        self.sees.load(Ordering::Relaxed).then_some(Outcome::Settled(receipt))
    }

    fn is_up(&self) -> bool {
        false
    }
}

struct Stand {
    dead: Arc<Dead>,
    guarded: Guarded,
    clock: ManualClock,
    heard: Arc<Mutex<Vec<String>>>,
}

impl Stand {
    fn with(dead: Dead) -> Self {
        let networks = ["base", "base-sepolia"].map(|name| preset(name).expect("a preset").network().id);
        let config = Config {
            name: "dead".into(),
            networks: networks.to_vec(),
            verify_timeout: Duration::ZERO,
            settle_timeout: Duration::ZERO,
            kind: Kind::Sandbox,
        };
        let (dead, clock) = (Arc::new(dead), ManualClock::at(Timestamp::from_secs(1_767_225_600)));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hears = Arc::clone(&heard);
        let tell = move |notice: Notice| {
            hears.lock().expect("nobody panics while holding it").push(match notice {
                Notice::Asked { call, outcome, .. } => format!("{call} {outcome}"),
                Notice::Breaker { network, state, .. } => format!("{network} {state:?}"),
            });
        };
        let guarded = Guarded::new(Arc::clone(&dead) as _, &config, CONFIG, Arc::new(clock.clone()), Arc::new(tell));
        Self { dead, guarded, clock, heard }
    }

    fn failing() -> Self {
        Self::with(Dead { at_once: true.into(), ..Dead::default() })
    }

    fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.heard.lock().expect("nobody panics while holding it"))
    }

    fn offers(&self, payment: &Payment) -> bool {
        self.guarded.accepts(&payment.offer, payment.dialect)
    }
}

fn on_base(payment: &Payment) -> Payment {
    let mut payment = payment.clone();
    let network: Network = preset("base").expect("a preset").network();
    payment.offer.network = Arc::new(network);
    payment
}

fn unresolved(payment: Payment, at: Timestamp) -> Unresolved {
    Unresolved { payment, transaction: None, reserved_at: at, since: at }
}

#[tokio::test]
async fn i7_a_facilitator_that_keeps_no_deadline_is_not_waited_for() {
    let stand = Stand::with(Dead::default());
    let verdict = stand.guarded.verify(&eip3009_base_sepolia()).await;
    assert!(matches!(verdict, Err(VerifyError::Unavailable(_))), "{verdict:?}");
    assert_eq!(stand.heard(), ["verify unavailable", "eip155:84532 Open"]);
}

#[tokio::test]
async fn the_trouble_of_one_network_does_not_stop_another() {
    let stand = Stand::failing();
    let sepolia = eip3009_base_sepolia();
    let base = on_base(&sepolia);
    assert!(stand.guarded.verify(&sepolia).await.is_err());
    assert!(!stand.offers(&sepolia) && stand.offers(&base));
    let standing: Vec<_> = stand.guarded.breakers().into_iter().map(|(_, state)| state).collect();
    assert_eq!(standing, [BreakerState::Closed, BreakerState::Open]);
}

#[tokio::test]
async fn an_open_breaker_asks_nobody_and_sends_nothing() {
    let stand = Stand::failing();
    let payment = eip3009_base_sepolia();
    assert!(stand.guarded.verify(&payment).await.is_err());
    stand.heard();
    assert!(matches!(stand.guarded.verify(&payment).await, Err(VerifyError::Unavailable(_))));
    assert!(matches!(stand.guarded.prepare(&payment).await, Err(SettleError::NotSent(_))));
    let prepared = Prepared { transaction: None, raw: None };
    assert!(matches!(stand.guarded.submit(&payment, prepared).await, Err(SettleError::NotSent(_))));
    assert_eq!((stand.dead.asked(), stand.heard().len()), (vec!["verify"], 0), "what was not asked is not counted");
}

#[tokio::test]
async fn a_client_that_leaves_proves_nothing_and_a_settlement_that_is_dropped_is_unknown() {
    let stand = Stand::with(Dead::default());
    let payment = eip3009_base_sepolia();
    let soon = Duration::from_millis(20);
    assert!(timeout(soon, stand.guarded.verify(&payment)).await.is_err(), "it hangs");
    assert_eq!(stand.heard(), ["verify abandoned"]);
    assert!(stand.offers(&payment));
    let prepared = stand.guarded.prepare(&payment).await.expect("nothing to prepare");
    assert!(timeout(soon, stand.guarded.submit(&payment, prepared)).await.is_err(), "it hangs");
    assert_eq!(stand.heard(), ["settle unknown", "eip155:84532 Open"]);

    // Whoever leaves while trying leaves room for the next.
    stand.clock.advance(CONFIG.half_open_after);
    assert!(timeout(soon, stand.guarded.verify(&payment)).await.is_err(), "it hangs");
    assert!(timeout(soon, stand.guarded.verify(&unsigned(1))).await.is_err(), "it is asked again, and hangs");
    assert_eq!(stand.dead.asked(), ["verify", "settle", "verify", "verify"]);
}

#[tokio::test]
async fn s13_an_open_breaker_lets_one_question_through_and_our_own_look_at_the_chain_always() {
    let stand = Stand::failing();
    let payment = eip3009_base_sepolia();
    assert!(stand.guarded.verify(&payment).await.is_err());
    let open = unresolved(payment, stand.clock.now());
    for _ in 0..5 {
        assert!(matches!(stand.guarded.outcome(&open).await, Outcome::Unknown { .. }));
    }
    assert_eq!(stand.dead.asked(), ["verify", "outcome"]);
    stand.dead.sees.store(true, Ordering::Relaxed);
    for _ in 0..5 {
        assert!(matches!(stand.guarded.outcome(&open).await, Outcome::Settled(_)));
    }
    assert_eq!(stand.dead.asked(), ["verify", "outcome"], "the chain has told, so nobody else was asked");
    assert_eq!(stand.guarded.breakers()[1].1, BreakerState::Open, "and that says nothing about the facilitator");
}

#[test]
fn s32_what_a_limit_of_our_own_turned_away_opens_no_breaker() {
    let shed = || BoxError::from(Shed("too many strangers".into()));
    assert!(matches!(silent_or_in_doubt(&shed()), End::Abandoned));
    assert!(matches!(failed(&SettleError::NotSent(shed())), (End::Abandoned, "shed")));
    assert!(matches!(failed(&SettleError::NotSent("no route to host".into())), (End::Silent, "not_sent")));
}
