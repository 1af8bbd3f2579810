//! Refusals to settle, beside a chain that shows what happened (S16).

use std::sync::Arc;
use std::time::Duration;

use tempfile::TempDir;
use tollhouse::gate::Gate;
use tollhouse::ledger::{Delivery, Entry, State};
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::scheme::exact::eip3009::calldata;
use tollhouse::testing::anvil::{Anvil, RICH, USDC};
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::facilitator::Behaviour;
use tollhouse::testing::{Backend, Gateway, Latch, ManualClock, ScriptedFacilitator, Wallet};

use crate::stage::{Payment, assert_invited, assert_pending, assert_served, eventually, eventually_async};

const CODE: &str = "insufficient_funds";
const PRICE: u64 = 10_000;

/// A gateway with a node of its own, and a facilitator that says what it likes.
struct House {
    anvil: Anvil,
    facilitator: ScriptedFacilitator,
    gateway: Gateway,
    backend: Backend,
    clock: ManualClock,
    wallet: Wallet,
    file: String,
    _home: TempDir,
}

impl House {
    async fn charging(settle: &str) -> Self {
        Self::with_network(settle, |own| format!("rpc: [\"{own}\"]")).await
    }

    /// As above, with these words about the network, of which a node listens there.
    async fn with_network(settle: &str, network: impl FnOnce(&str) -> String) -> Self {
        let (anvil, facilitator, backend) =
            (Anvil::start().await, ScriptedFacilitator::start().await, Backend::start().await);
        let home = tempfile::tempdir().expect("a directory can be made");
        let (wallet, clock) = (Wallet::random(), ManualClock::at(SystemClock.now()));
        anvil.fund_usdc(wallet.address(), PRICE).await;
        let network = network(anvil.rpc_url().expose());
        let file = format!(
            "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\n\
             ledger: sqlite:{}\nupstream: {}\n\
             pay_to: {{base-sepolia: \"0x1111111111111111111111111111111111111111\"}}\n\
             networks: {{base-sepolia: {{{network}}}}}\n\
             facilitators: [{{name: scripted, url: \"{}\", timeout: {{verify: 5s, settle: 5s}}}}]\n\
             routes:\n  GET /weather: {{price: $0.01, settle: {settle}}}\n",
            home.path().join("ledger.db").display(),
            backend.url(),
            facilitator.url(),
        );
        let gateway = Gateway::start(&file, Arc::new(clock.clone())).await;
        Self { anvil, facilitator, gateway, backend, clock, wallet, file, _home: home }
    }

    /// The process ends and another one takes the ledger over.
    async fn restart(mut self) -> Self {
        assert!(self.gateway.stop().await, "it stops in good order");
        self.gateway = Gateway::start(&self.file, Arc::new(self.clock.clone())).await;
        self
    }

    fn gate(&self) -> &Arc<Gate> {
        self.gateway.gate()
    }

    async fn payment(&self) -> Payment {
        let challenge = self.gateway.ask(&Request::get("/weather")).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        self.wallet.pay(&challenge.fields, &challenge.body, self.clock.now()).expect("the offer can be paid")
    }

    async fn pay(&self, payment: &Payment) -> Reply {
        self.gateway.ask(&Request::get("/weather").paying(payment)).await
    }

    async fn entry(&self) -> Entry {
        self.gateway.entries().await.into_iter().next().expect("the ledger remembers a payment")
    }

    /// Whoever has what was signed sends it.
    async fn broadcast(&self) {
        let entry = self.entry().await;
        let signed = entry.sale.payment.authorization.eip3009().expect("it is EIP-3009");
        self.anvil.send(RICH, USDC, calldata(signed).to_vec()).await;
    }

    /// Lets time pass until somebody has looked, and something is so.
    async fn watched_until(&self, what: &str, is_so: impl Fn(&Entry) -> bool) {
        eventually_async(what, async || {
            self.clock.advance(Duration::from_secs(9));
            self.gate().recheck_once().await.expect("the ledger answers");
            is_so(&self.entry().await)
        })
        .await;
    }

    async fn transfers(&self) -> usize {
        self.anvil.transfers(self.wallet.address(), alloy::primitives::Address::repeat_byte(0x11)).await.len()
    }

    fn alarms(&self) -> u64 {
        let metrics = self.gateway.metrics();
        metrics.lines().find_map(|line| line.strip_prefix("tollhouse_alarms_total ")?.parse().ok()).unwrap_or_default()
    }
}

#[tokio::test]
async fn s16_who_settles_and_says_no_is_found_out_and_the_buyer_is_served() {
    for settle in ["on_response", "before_forward"] {
        let house = House::charging(settle).await;
        let said = Latch::closed();
        house.facilitator.on_settle([Behaviour::DeclineWhen(said.clone(), CODE)]);
        let payment = house.payment().await;
        let mut connection = house.gateway.connect().await;
        connection.send(&Request::get("/weather").paying(&payment)).await;
        eventually("it is asked to settle", || house.facilitator.count("/settle") == 1).await;
        house.broadcast().await;
        said.open();

        let reply = connection.reply().await;

        let transaction = assert_served(settle, &reply);
        let State::Settled { receipt, facilitator, .. } = house.entry().await.state else { panic!("it is settled") };
        assert_eq!((receipt.transaction.to_string(), &*facilitator), (transaction, "scripted"), "{settle}");
        assert!(receipt.block.is_some(), "{settle}: by our own proof (S5)");
        assert_eq!((house.transfers().await, house.backend.hits(), house.alarms()), (1, 1, 1), "{settle}");
    }
}

#[tokio::test]
async fn s16_who_says_no_and_sends_it_later_leaves_a_debt_that_is_found_also_after_a_restart() {
    let house = House::charging("on_response").await;
    house.facilitator.on_settle([Behaviour::Decline(CODE)]);
    let payment = house.payment().await;
    assert_invited("declined", &house.pay(&payment).await, CODE);
    house
        .watched_until("somebody has looked", |entry| {
            entry.declined.as_ref().is_some_and(|declined| declined.checks > 0)
        })
        .await;
    assert!(matches!(house.entry().await.state, State::Released), "there is nothing to see");
    assert_eq!(house.alarms(), 0);

    let house = house.restart().await;
    house.broadcast().await;
    house.watched_until("the transfer is found", |entry| matches!(entry.state, State::Settled { .. })).await;

    let entry = house.entry().await;
    assert!(matches!(&entry.state, State::Settled { delivery: Delivery::Pending, .. }), "{:?}", entry.state);
    assert_eq!((entry.declined, house.alarms()), (None, 1));
    assert_served("it can be collected", &house.pay(&payment).await);
    assert_eq!((house.transfers().await, house.facilitator.count("/settle")), (1, 1), "nobody asked again");
}

#[tokio::test]
async fn s16_a_post_that_was_declined_and_paid_all_the_same_is_owed() {
    let house = House::charging("on_response").await;
    let file = house.file.replace("GET /weather", "POST /weather");
    let mut house = house;
    house.gateway.reload(&file).await.expect("a good file");
    house.facilitator.on_settle([Behaviour::Decline(CODE)]);
    let request = || Request::post("/weather", "");
    let challenge = house.gateway.ask(&request()).await;
    let payment = house.wallet.pay(&challenge.fields, &challenge.body, house.clock.now()).expect("it can be paid");
    assert_invited("declined", &house.gateway.ask(&request().paying(&payment)).await, CODE);

    house.broadcast().await;

    let owed = |entry: &Entry| matches!(entry.state, State::Settled { delivery: Delivery::RefundDue, .. });
    house.watched_until("a refund is due", owed).await;
    assert_eq!(house.alarms(), 1);
}

#[tokio::test]
async fn s16_a_declined_payment_may_be_presented_again_and_is_watched_until_it_lapses() {
    let house = House::charging("on_response").await;
    house.facilitator.on_settle([Behaviour::Decline(CODE), Behaviour::Decline(CODE)]);
    let payment = house.payment().await;
    assert_invited("first", &house.pay(&payment).await, CODE);
    assert_invited("again", &house.pay(&payment).await, CODE);
    let declined = house.entry().await.declined.expect("it is watched");
    assert_eq!((&*declined.facilitator, house.entry().await.forget_after()), ("scripted", None));

    house.anvil.pass(3600).await;
    house.watched_until("nobody watches it any more", |entry| entry.declined.is_none()).await;

    let entry = house.entry().await;
    assert!(matches!(entry.state, State::Released) && entry.due().is_none() && entry.forget_after().is_some());
    assert_eq!((house.transfers().await, house.alarms()), (0, 0));
}

#[tokio::test]
async fn s16_a_refusal_that_nobody_can_look_into_is_no_refusal() {
    // Nobody listens there any more.
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a free port").local_addr().expect("it is bound");
    let house = House::with_network("on_response", |_| format!("rpc: [\"http://{gone}\"]")).await;
    house.facilitator.on_settle([Behaviour::Decline(CODE)]);

    let reply = house.pay(&house.payment().await).await;

    assert_pending("declined", &reply);
    let entry = house.entry().await;
    assert!(matches!(entry.state, State::Settling { .. }) && entry.declined.is_none(), "{:?}", entry.state);
}

#[tokio::test]
async fn s27_nodes_that_contradict_each_other_about_a_large_payment_leave_it_open_and_raise_the_alarm() {
    // On a branch of its own, which has come further.
    let branch = Anvil::start().await;
    branch.rpc::<serde_json::Value>("anvil_mine", serde_json::json!(["0x40"])).await;
    let other = branch.rpc_url().expose().clone();
    let house = House::with_network("on_response", |own| {
        format!("rpc: [\"{own}\", \"{other}\"], confirmations: {{two_nodes_from: $0.01}}")
    })
    .await;
    let said = Latch::closed();
    house.facilitator.on_settle([Behaviour::DeclineWhen(said.clone(), CODE)]);
    let payment = house.payment().await;
    let mut connection = house.gateway.connect().await;
    connection.send(&Request::get("/weather").paying(&payment)).await;
    eventually("it is asked to settle", || house.facilitator.count("/settle") == 1).await;
    house.broadcast().await;
    said.open();

    assert_pending("nobody knows which of them is right", &connection.reply().await);

    assert!(matches!(house.entry().await.state, State::Settling { .. }));
    assert!(house.alarms() > 0);
    house.clock.advance(Duration::from_secs(60));
    house.gate().reconcile_once().await.expect("the ledger answers");
    assert!(matches!(house.entry().await.state, State::Settling { .. }), "it is asked about again");
    assert_eq!(house.facilitator.count("/settle"), 1, "the facilitator could not tell which of them is right");
}
