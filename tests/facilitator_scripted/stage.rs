//! A gateway, the facilitators of its file in their order, an API, and a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use tollhouse::ledger::{Entry, State};
use tollhouse::primitives::{Clock, Timestamp};
use tollhouse::protocol::x402::PAYMENT_REQUIRED;
use tollhouse::testing::client::{Connection, Reply, Request};
use tollhouse::testing::{Backend, Gateway, ManualClock, ScriptedFacilitator, Wallet};

/// What is said instead of a payment.
pub type Payment = (HeaderName, HeaderValue);

const START: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// What tests choose about a stage.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// How many facilitators; they are called `first`, `second` and so on.
    pub facilitators: usize,
    /// When clients are charged.
    pub settle: &'static str,
    /// How long each facilitator may take over `verify`.
    pub verify_timeout: &'static str,
    /// How long each facilitator may take over `settle`.
    pub settle_timeout: &'static str,
    /// When breakers open.
    pub breaker: &'static str,
}

/// How long nobody is asked about an account that was called empty (S32).
pub const EMPTY: Duration = Duration::from_secs(5);

pub const PLAN: Plan = Plan {
    facilitators: 1,
    settle: "on_response",
    verify_timeout: "10s",
    settle_timeout: "10s",
    breaker: "{open_after: 5, half_open_after: 30s}",
};

pub struct Stage {
    pub gateway: Gateway,
    pub facilitators: Vec<ScriptedFacilitator>,
    pub backend: Backend,
    pub clock: ManualClock,
    plan: Plan,
}

impl Stage {
    pub async fn set(plan: Plan) -> Self {
        let mut facilitators = Vec::new();
        for _ in 0..plan.facilitators {
            facilitators.push(ScriptedFacilitator::start().await);
        }
        Self::with(plan, facilitators).await
    }

    /// The same with facilitators that have been told something before the gateway meets them.
    pub async fn with(plan: Plan, facilitators: Vec<ScriptedFacilitator>) -> Self {
        let backend = Backend::start().await;
        let clock = ManualClock::at(START);
        let text = text(plan, &facilitators, &backend);
        let gateway = Gateway::start(&text, Arc::new(clock.clone())).await;
        Self { gateway, facilitators, backend, clock, plan }
    }

    /// Changes the plan and has the file read again.
    pub async fn reload(&mut self, change: impl FnOnce(&mut Plan)) {
        change(&mut self.plan);
        let text = text(self.plan, &self.facilitators, &self.backend);
        self.gateway.reload(&text).await.expect("the changed file is right");
    }

    pub fn first(&self) -> &ScriptedFacilitator {
        &self.facilitators[0]
    }

    pub fn second(&self) -> &ScriptedFacilitator {
        &self.facilitators[1]
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.gateway.ask(&Request::get(target)).await
    }

    /// Asks for the price and signs it.
    pub async fn payment(&self) -> Payment {
        self.payment_of(&Wallet::random()).await
    }

    /// The same from another wallet.
    pub async fn payment_of(&self, wallet: &Wallet) -> Payment {
        let challenge = self.get("/weather").await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        wallet.pay(&challenge.fields, &challenge.body, self.clock.now()).expect("the offer can be paid")
    }

    pub async fn pay(&self, payment: &Payment) -> Reply {
        self.gateway.ask(&Request::get("/weather").paying(payment)).await
    }

    /// A connection on which this payment has been presented.
    pub async fn send(&self, payment: &Payment) -> Connection {
        let mut connection = self.gateway.connect().await;
        connection.send(&Request::get("/weather").paying(payment)).await;
        connection
    }

    /// A fresh payment, presented at once.
    pub async fn buy(&self) -> Reply {
        let payment = self.payment().await;
        self.pay(&payment).await
    }

    pub fn wait(&self, span: Duration) {
        self.clock.advance(span);
    }

    /// Lets reconciliation look at what is due.
    pub async fn reconcile(&self) {
        self.gateway.gate().reconcile_once().await.expect("the ledger answers");
    }

    /// The state of the latest payment.
    pub async fn state(&self) -> &'static str {
        self.entry().await.state.name()
    }

    pub async fn entry(&self) -> Entry {
        self.gateway.entries().await.into_iter().next().expect("the ledger remembers a payment")
    }

    /// Waits until the latest payment is in this state.
    pub async fn until(&self, state: &str) {
        eventually_async(&format!("the payment is {state}"), async || self.state().await == state).await;
    }

    /// Lets time pass, and reconciliation look, until it has found out how the latest payment ended.
    pub async fn until_found(&self) {
        eventually_async("the settlement is found", async || {
            self.wait(Duration::from_secs(61));
            self.reconcile().await;
            self.state().await == "undelivered"
        })
        .await;
    }

    /// How many payments moved money, at whichever facilitator.
    pub fn settlements(&self) -> usize {
        self.facilitators.iter().map(ScriptedFacilitator::settlements).sum()
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> Option<u64> {
        let metrics = self.gateway.metrics();
        metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }

    /// The state of a facilitator's breaker, as Prometheus sees it once it has turned.
    pub fn breaker(&self, name: &str) -> Option<u64> {
        let labels = format!(r#"{{facilitator="{name}",network="eip155:84532"}}"#);
        self.metric(&format!("tollhouse_breaker_state{labels}"))
    }
}

/// Who was asked to settle it.
pub fn asked(entry: &Entry) -> &str {
    match &entry.state {
        State::Settling { facilitator, .. } | State::Settled { facilitator, .. } => facilitator,
        other => panic!("nobody was asked to settle what is {}", other.name()),
    }
}

pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    eventually_async(what, async || happened()).await;
}

pub async fn eventually_async(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !happened().await {
        assert!(tokio::time::Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Plays every row, a few at a time. What fails is told once all have been played.
pub async fn play<R, F>(rows: impl IntoIterator<Item = R>, scene: impl Fn(R) -> F)
where
    F: Future<Output = ()> + 'static,
{
    const AT_ONCE: usize = 8;
    let here = tokio::task::LocalSet::new();
    let all = here.run_until(async {
        let mut playing = tokio::task::JoinSet::new();
        let mut failed = 0;
        for row in rows {
            if playing.len() == AT_ONCE {
                failed += playing.join_next().await.map_or(0, |ended| usize::from(ended.is_err()));
            }
            playing.spawn_local(scene(row));
        }
        while let Some(ended) = playing.join_next().await {
            failed += usize::from(ended.is_err());
        }
        failed
    });
    assert_eq!(all.await, 0, "rows failed; what they say stands above");
}

/// Paid for, with the receipt.
#[track_caller]
pub fn assert_served(row: &str, reply: &Reply) -> String {
    assert_eq!(reply.status, 200, "{row}: {}", reply.text());
    let settlement = reply.settlement().unwrap_or_else(|| panic!("{row}: a receipt"));
    assert!(settlement.success, "{row}");
    settlement.transaction.unwrap_or_else(|| panic!("{row}: its transaction")).to_string()
}

/// No offers, in neither dialect, and when to come back (I4).
#[track_caller]
pub fn assert_come_back(row: &str, reply: &Reply) {
    assert_eq!(reply.status, 503, "{row}: {}", reply.text());
    assert!(!reply.fields.contains_key(PAYMENT_REQUIRED), "{row}: no offers in the header");
    assert!(!reply.text().contains("accepts"), "{row}: no offers in the body: {}", reply.text());
    assert_eq!(reply.field("cache-control"), Some("no-store"), "{row}");
    let wait = reply.field("retry-after").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| wait > 0), "{row}: when to come back");
}

/// Nothing is known of the money, or only its transaction. Returns whether that is told.
#[track_caller]
pub fn assert_pending(row: &str, reply: &Reply) -> bool {
    assert_come_back(row, reply);
    let settlement = reply.settlement().unwrap_or_else(|| panic!("{row}: what is known of the money"));
    assert_eq!((settlement.success, settlement.error_reason.as_deref()), (false, Some("settlement_pending")), "{row}");
    settlement.transaction.is_some()
}

/// Nothing moved and nothing can be done about it right now.
#[track_caller]
pub fn assert_unavailable(row: &str, reply: &Reply) {
    assert_come_back(row, reply);
    assert_eq!(reply.json()["advice"], "try later", "{row}");
    assert_eq!(reply.settlement(), None, "{row}: there is nothing to say about money");
}

/// Asked to pay, for this reason.
#[track_caller]
pub fn assert_invited(row: &str, reply: &Reply, code: &str) {
    assert_eq!(reply.status, 402, "{row}: {}", reply.text());
    assert!(reply.fields.contains_key(PAYMENT_REQUIRED), "{row}: offers");
    assert_eq!(reply.json()["error"], code, "{row}");
}

fn text(plan: Plan, facilitators: &[ScriptedFacilitator], backend: &Backend) -> String {
    const NAMES: [&str; 3] = ["first", "second", "third"];
    let Plan { settle, verify_timeout, settle_timeout, breaker, .. } = plan;
    let entry = |(name, one): (&&str, &ScriptedFacilitator)| {
        let timeout = format!("{{verify: {verify_timeout}, settle: {settle_timeout}}}");
        format!("  - {{name: {name}, url: \"{}\", timeout: {timeout}}}\n", one.url())
    };
    let listed: String = NAMES.iter().zip(facilitators).map(entry).collect();
    format!(
        "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: 127.0.0.1:0\nupstream: {}\n\
         pay_to: {{base-sepolia: \"0x1111111111111111111111111111111111111111\"}}\n\
         facilitators:\n{listed}breaker: {breaker}\nledger: memory\nroutes:\n  \
         GET /weather: {{price: $0.01, settle: {settle}}}\n  GET /free: free\n",
        backend.url()
    )
}
