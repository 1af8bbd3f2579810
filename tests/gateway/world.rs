//! A gateway between a wallet and an API, a facilitator that follows a script, and a clock that stands still.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use tollhouse::ledger::Entry;
use tollhouse::payment::{Authorization, Dialect, Eip3009, Offer};
use tollhouse::primitives::{Clock, Nonce, Timestamp};
use tollhouse::protocol::x402::{PAYMENT_REQUIRED, client};
use tollhouse::testing::client::{Connection, Reply, Request};
use tollhouse::testing::{Backend, Gateway, ManualClock, ScriptedFacilitator, Wallet};

pub const PAYEE: &str = "0x1111111111111111111111111111111111111111";
/// What is said instead of a payment.
pub type Payment = (HeaderName, HeaderValue);

const START: Timestamp = Timestamp::from_secs(1_767_225_600);
/// Nothing that is waited for takes longer.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct World {
    pub gateway: Gateway,
    pub facilitator: ScriptedFacilitator,
    pub backend: Backend,
    pub clock: ManualClock,
    pub wallet: Wallet,
    file: File,
}

/// The parts of a `gateway.yaml` that tests change.
#[derive(Debug, Clone)]
pub struct File {
    pub listen: String,
    pub pay_to: String,
    pub ledger: String,
    /// Of the one upstream.
    pub timeouts: String,
    /// More keys of it, each with a comma in front.
    pub upstream: String,
    /// Of the facilitator.
    pub settle_timeout: String,
    /// Whole lines of the file.
    pub more: String,
    pub routes: String,
}

impl File {
    /// A file with these routes, one a line.
    pub fn selling(routes: &str) -> Self {
        Self {
            listen: "127.0.0.1:0".into(),
            pay_to: format!("{{base-sepolia: \"{PAYEE}\"}}"),
            ledger: "memory".into(),
            timeouts: "{connect: 1s, idle: 10s}".into(),
            upstream: String::new(),
            settle_timeout: "5s".into(),
            more: String::new(),
            routes: routes.lines().map(|line| format!("  {}\n", line.trim())).collect(),
        }
    }

    /// The file for this facilitator and a backend at this URL.
    pub fn text(&self, facilitator: &ScriptedFacilitator, backend: &str) -> String {
        let Self { listen, pay_to, ledger, timeouts, upstream, settle_timeout, more, routes } = self;
        let url = facilitator.url();
        let facilitators = match pay_to.as_str() {
            "sandbox" => String::new(),
            _ => format!(
                "facilitators: [{{name: scripted, url: \"{url}\", timeout: {{verify: 5s, settle: {settle_timeout}}}}}]"
            ),
        };
        format!(
            "version: 1\npublic_url: http://api.test\nlisten: {listen}\nstatus: none\nupstream: app\n\
             upstreams:\n  app: {{targets: [\"{backend}\"], timeouts: {timeouts}{upstream}}}\n\
             pay_to: {pay_to}\n{facilitators}\nledger: {ledger}\n{more}\nroutes:\n{routes}\n"
        )
    }
}

impl World {
    /// A world that sells by these lines of the price table.
    pub async fn selling(routes: &str) -> Self {
        Self::of(File::selling(routes)).await
    }

    pub async fn of(file: File) -> Self {
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let clock = ManualClock::at(START);
        let text = file.text(&facilitator, &backend.url());
        let gateway = Gateway::start(&text, Arc::new(clock.clone())).await;
        Self { gateway, facilitator, backend, clock, wallet: Wallet::random(), file }
    }

    /// Changes the file and has it read again.
    pub async fn reload(&mut self, change: impl FnOnce(&mut File)) -> Result<(), String> {
        change(&mut self.file);
        let text = self.file.text(&self.facilitator, &self.backend.url());
        self.gateway.reload(&text).await.map(drop)
    }

    /// Changes only the price table.
    pub async fn reprice(&mut self, routes: &str) {
        let routes = File::selling(routes).routes;
        self.reload(|file| file.routes = routes).await.expect("the changed file is right");
    }

    /// Lets time pass.
    pub fn wait(&self, span: Duration) {
        self.clock.advance(span);
    }

    pub async fn ask(&self, request: &Request) -> Reply {
        self.gateway.ask(request).await
    }

    pub async fn get(&self, target: &str) -> Reply {
        self.ask(&Request::get(target)).await
    }

    /// GETs it with this payment.
    pub async fn pay(&self, target: &str, payment: &Payment) -> Reply {
        self.ask(&Request::get(target).paying(payment)).await
    }

    /// A connection on which this request has been sent.
    pub async fn send(&self, request: &Request) -> Connection {
        let mut connection = self.gateway.connect().await;
        connection.send(request).await;
        connection
    }

    /// Asks for a price and signs it, as a v2 client does.
    pub async fn payment(&self, target: &str) -> Payment {
        self.payment_for(&Request::get(target), Dialect::V2).await
    }

    pub async fn payment_for(&self, request: &Request, dialect: Dialect) -> Payment {
        let challenge = self.ask(request).await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        let fields = match dialect {
            // Who does not know the header of v2 reads the body.
            Dialect::V1 => without(&challenge.fields, &PAYMENT_REQUIRED),
            Dialect::V2 => challenge.fields,
        };
        self.wallet.pay(&fields, &challenge.body, self.clock.now()).expect("the offer can be paid")
    }

    /// The first offer of a route, and the quote that keeps it.
    pub async fn offer(&self, target: &str) -> (Offer, String) {
        let challenge = self.get(target).await;
        let quote =
            decoded(&challenge.fields[PAYMENT_REQUIRED])["accepts"][0]["extra"]["quote"].as_str().map(str::to_owned);
        let offer = challenge.challenge().expect("a 402").choices[0].offer.clone();
        (offer, quote.expect("an offer has a quote"))
    }

    /// A payment for this offer whose signature covers whatever was changed in the authorization's terms.
    pub fn signed(&self, offer: &Offer, quote: Option<&str>, change: impl FnOnce(&mut Terms)) -> Payment {
        let now = self.clock.now().as_secs();
        let mut terms = Terms {
            offer: offer.clone(),
            valid_after: 0,
            valid_before: now + offer.max_timeout.as_secs(),
            nonce: Nonce(Wallet::random().address().into_word()),
        };
        change(&mut terms);
        let signed = self.wallet.sign(&terms.offer, terms.valid_after, terms.valid_before, terms.nonce);
        self.presented(Dialect::V2, offer, quote, &signed)
    }

    pub fn presented(&self, dialect: Dialect, offer: &Offer, quote: Option<&str>, signed: &Eip3009) -> Payment {
        let resource = tollhouse::payment::Resource {
            url: "http://api.test/".into(),
            description: String::new(),
            mime_type: String::new(),
        };
        client::payment_for(dialect, offer, quote, &resource, signed)
    }

    /// The one payment that the ledger remembers.
    pub async fn entry(&self) -> Entry {
        let mut entries = self.gateway.entries().await;
        assert_eq!(entries.len(), 1, "the ledger remembers one payment");
        entries.remove(0)
    }

    /// Waits until the one payment of the ledger is in this state.
    pub async fn until(&self, state: &str) -> Entry {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let entry = self.entry().await;
            if entry.state.name() == state {
                return entry;
            }
            assert!(tokio::time::Instant::now() < deadline, "still {} and not {state}", entry.state.name());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Has reconciliation look at whatever is due.
    pub async fn reconcile(&self) {
        self.gateway.gate().reconcile_once().await.expect("the ledger answers");
    }

    /// I1 and I2 as the outside sees them: nobody paid for more than was sold, nobody was charged twice.
    pub fn assert_counts(&self, settlements: usize, hits: usize) {
        assert_eq!(self.facilitator.settlements(), settlements, "payments that moved money");
        assert_eq!(self.backend.hits(), hits, "requests that reached the backend");
    }

    /// I5: nobody outside has heard of it.
    pub fn assert_untouched(&self) {
        assert_eq!(
            self.facilitator.count("/verify") + self.facilitator.count("/settle"),
            0,
            "calls to the facilitator"
        );
        self.assert_counts(0, 0);
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> Option<u64> {
        let metrics = self.gateway.metrics();
        metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok())
    }
}

/// What a signature covers besides the payer.
pub struct Terms {
    pub offer: Offer,
    pub valid_after: u64,
    pub valid_before: u64,
    pub nonce: Nonce,
}

/// Waits for something that happens in its own time.
pub async fn eventually(what: &str, mut happened: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !happened() {
        assert!(tokio::time::Instant::now() < deadline, "it never happened that {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A 402 that invites to pay, in both dialects, and that no cache keeps.
#[track_caller]
pub fn assert_invites(reply: &Reply) {
    assert_eq!(reply.status, 402, "{}", reply.text());
    let challenge = decoded(&reply.fields[PAYMENT_REQUIRED]);
    assert_eq!((&challenge["x402Version"], challenge["accepts"].as_array().map(Vec::len)), (&2.into(), Some(1)));
    let body = reply.json();
    assert_eq!((&body["x402Version"], body["accepts"].as_array().map(Vec::len)), (&1.into(), Some(1)));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.field("retry-after"), None, "paying needs no waiting");
}

/// An answer that must not be mistaken for an invitation to pay (I4).
#[track_caller]
pub fn assert_no_invitation(reply: &Reply, status: u16) {
    assert_eq!(reply.status, status, "{}", reply.text());
    assert!(!reply.fields.contains_key(PAYMENT_REQUIRED), "no offers in the header");
    assert!(!reply.text().contains("accepts"), "no offers in the body: {}", reply.text());
    assert_eq!(reply.field("content-type"), Some("application/problem+json"));
    assert_eq!(reply.field("cache-control"), Some("no-store"));
    assert_eq!(reply.json()["status"], status);
}

/// A paid answer with its receipt; returns the transaction.
#[track_caller]
pub fn assert_paid(reply: &Reply) -> String {
    assert!(reply.status < 400, "{} {}", reply.status, reply.text());
    let settlement = reply.settlement().expect("a receipt");
    assert!(settlement.success);
    settlement.transaction.expect("a receipt names its transaction").to_string()
}

/// Nobody knows yet how it ended.
#[track_caller]
pub fn assert_pending(reply: &Reply) {
    assert_no_invitation(reply, 503);
    assert!(reply.field("retry-after").is_some_and(|wait| wait.parse::<u64>().is_ok_and(|wait| wait > 0)));
    let settlement = reply.settlement().expect("what is known of the money");
    assert_eq!((settlement.success, settlement.error_reason.as_deref()), (false, Some("settlement_pending")));
}

pub fn decoded(value: &HeaderValue) -> Value {
    serde_json::from_slice(&STANDARD.decode(value.as_bytes()).expect("base64")).expect("JSON")
}

/// The payment with its JSON changed, its signature kept.
pub fn edited(payment: &Payment, change: impl FnOnce(&mut Value)) -> Payment {
    let mut json = decoded(&payment.1);
    change(&mut json);
    (payment.0.clone(), encoded(&json.to_string()))
}

pub fn encoded(text: &str) -> HeaderValue {
    HeaderValue::try_from(STANDARD.encode(text)).expect("base64 is a header value")
}

pub fn nonce_of(payment: &Payment) -> Nonce {
    let nonce = decoded(&payment.1)["payload"]["authorization"]["nonce"].as_str().map(str::parse);
    Nonce(nonce.expect("a nonce").expect("32 bytes"))
}

pub fn authorization_of(entry: &Entry) -> &Eip3009 {
    let Authorization::Eip3009(signed) = &entry.sale.payment.authorization else { panic!("it is an EIP-3009 payment") };
    signed
}

fn without(fields: &HeaderMap, name: &HeaderName) -> HeaderMap {
    let mut fields = fields.clone();
    fields.remove(name);
    fields
}
