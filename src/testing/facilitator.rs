//! A facilitator over real HTTP that follows a script, honest where the script says nothing.

mod http;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ::http::HeaderMap;
use alloy::primitives::{Keccak256, hex};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

use crate::facilitator::{Auth, Config, Kind, Trust};
use crate::payment::TransactionHash;
use crate::primitives::{Caip2, Nonce, preset};
use crate::testing::Latch;

/// What the facilitator does with one call.
#[derive(Debug, Clone)]
pub enum Behaviour {
    /// Verifies nothing, settles everything: one transaction for each payer and nonce, the same on repetition.
    Honest,
    /// The same, after a while.
    HonestAfter(Duration),
    /// The same, once the latch is open.
    HonestWhen(Latch),
    /// Does what was asked, then resets the connection instead of answering: the money has moved.
    HonestThenReset,
    /// Does what was asked and answers one byte at a time, with this pause after each.
    Drip(Duration),
    /// Does what was asked, announces the whole answer and sends half of it.
    Truncated,
    /// Refuses with this code; nothing moves.
    Decline(&'static str),
    /// The same, once the latch is open.
    DeclineWhen(Latch, &'static str),
    /// Answers 200 with this JSON; nothing moves.
    Answer(Value),
    /// The same, after a while.
    AnswerAfter(Duration, Value),
    /// Answers with this status, content type and body; nothing moves.
    Status(u16, &'static str, String),
    /// Answers 307 to this place.
    Redirect(String),
    /// Does what was asked and answers with six megabytes of JSON.
    Huge,
    /// Makes the bytes of its answer, from the first of the status line, out of the honest answer, and ends as told.
    /// Settles only if the money is to move.
    Raw {
        /// Whether the money moves.
        moves: bool,
        /// From the honest answer to what is sent instead.
        bytes: Twist,
        /// What comes after it.
        ending: Ending,
    },
    /// Resets the connection when it has seen the head of the request.
    ResetBeforeReading,
    /// Reads the whole request, then resets the connection; nothing moves.
    ResetAfterReading,
    /// Reads the whole request and never answers; nothing moves.
    Hang,
}

/// Makes bytes out of an honest answer.
#[derive(Clone)]
pub struct Twist(Arc<Bytes>);

type Bytes = dyn Fn(&Value) -> Vec<u8> + Send + Sync;

impl Twist {
    /// Made by this.
    pub fn new(twist: impl Fn(&Value) -> Vec<u8> + Send + Sync + 'static) -> Self {
        Self(Arc::new(twist))
    }

    fn of(&self, honest: &Value) -> Vec<u8> {
        (self.0)(honest)
    }
}

impl std::fmt::Debug for Twist {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Twist")
    }
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// It is closed.
    Close,
    /// It is reset.
    Reset,
    /// It stays open, and nothing more comes.
    Silence,
}

/// One call as it arrived.
#[derive(Debug, Clone)]
pub struct Call {
    /// `POST`.
    pub method: String,
    /// `/settle`.
    pub path: String,
    /// Its fields.
    pub headers: HeaderMap,
    /// Its body; `null` when there was none or it was not JSON.
    pub body: Value,
}

/// A facilitator on a port of its own. Gone, with its connections, when dropped.
///
/// ```
/// use tollhouse::testing::ScriptedFacilitator;
/// use tollhouse::testing::facilitator::Behaviour;
/// # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
/// let facilitator = ScriptedFacilitator::start().await;
/// facilitator.on_settle([Behaviour::HonestThenReset]); // the first settlement; later ones are honest
/// assert!(facilitator.calls().is_empty());
/// # });
/// ```
pub struct ScriptedFacilitator {
    address: SocketAddr,
    stage: Arc<Stage>,
    server: JoinHandle<()>,
}

/// What the connections share.
#[derive(Default)]
struct Stage {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    scripts: HashMap<&'static str, VecDeque<Behaviour>>,
    defaults: HashMap<&'static str, Behaviour>,
    calls: Vec<Call>,
    settled: HashMap<String, TransactionHash>,
}

impl ScriptedFacilitator {
    /// Listens on a free port of 127.0.0.1.
    pub async fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("loopback has a free port");
        let address = listener.local_addr().expect("a bound listener has an address");
        let stage = Arc::new(Stage::default());
        let server = tokio::spawn(serve(listener, stage.clone()));
        Self { address, stage, server }
    }

    /// Its base URL.
    pub fn url(&self) -> url::Url {
        format!("http://{}/", self.address).parse().expect("an address makes a URL")
    }

    /// A configuration that leads here: Base and Base Sepolia, no credentials, ten seconds for everything.
    pub fn config(&self, name: &str) -> Config {
        Config {
            name: name.into(),
            networks: NETWORKS.iter().map(|name| network(name)).collect(),
            verify_timeout: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(10),
            kind: Kind::Remote { url: self.url(), auth: Auth::None, trust: Trust::Facilitator },
        }
    }

    /// What to do with the next calls to `/verify`, one each, after those already scripted.
    pub fn on_verify(&self, script: impl IntoIterator<Item = Behaviour>) -> &Self {
        self.script("/verify", script)
    }

    /// What to do with the next calls to `/settle`, one each, after those already scripted.
    pub fn on_settle(&self, script: impl IntoIterator<Item = Behaviour>) -> &Self {
        self.script("/settle", script)
    }

    /// What to do with the next calls to `/supported`, one each, after those already scripted.
    pub fn on_supported(&self, script: impl IntoIterator<Item = Behaviour>) -> &Self {
        self.script("/supported", script)
    }

    /// What to do with calls to this path (`/settle`) for which there is no script: honest unless said here.
    pub fn always(&self, path: &'static str, behaviour: Behaviour) -> &Self {
        self.stage.lock().defaults.insert(path, behaviour);
        self
    }

    /// Every call so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.stage.lock().calls.clone()
    }

    /// How many calls to this path there have been.
    pub fn count(&self, path: &str) -> usize {
        self.stage.lock().calls.iter().filter(|call| call.path == path).count()
    }

    /// The transaction that moved the money of this nonce, if any did.
    pub fn settled(&self, nonce: Nonce) -> Option<TransactionHash> {
        self.stage.lock().settled.get(&hex::encode_prefixed(nonce.0)).copied()
    }

    /// How many payments have moved money.
    pub fn settlements(&self) -> usize {
        self.stage.lock().settled.len()
    }

    /// The transactions in which money has moved.
    pub fn transactions(&self) -> Vec<TransactionHash> {
        self.stage.lock().settled.values().copied().collect()
    }

    /// Stops listening; when this returns, connections are refused.
    pub async fn stop(mut self) {
        self.server.abort();
        // An aborted task ends in an error by design.
        let _ = (&mut self.server).await;
    }

    fn script(&self, path: &'static str, script: impl IntoIterator<Item = Behaviour>) -> &Self {
        self.stage.lock().scripts.entry(path).or_default().extend(script);
        self
    }
}

impl Drop for ScriptedFacilitator {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, stage: Arc<Stage>) {
    // Dropped with this task, and every connection with it.
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => { connections.spawn(http::converse(stream, stage.clone())); }
                Err(_) => return,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

impl Stage {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics while holding it")
    }

    /// Chooses what to do with a call to this path; called once for each.
    fn cue(&self, path: &str) -> Behaviour {
        let mut state = self.lock();
        let scripted = state.scripts.get_mut(path).and_then(VecDeque::pop_front);
        scripted.or_else(|| state.defaults.get(path).cloned()).unwrap_or(Behaviour::Honest)
    }

    fn record(&self, call: Call) {
        self.lock().calls.push(call);
    }

    /// Does what was asked.
    fn honest(&self, call: &Call) -> Value {
        if call.path == "/settle" {
            self.settle(call);
        }
        Self::says(call)
    }

    /// What an honest facilitator says that has done what was asked.
    fn says(call: &Call) -> Value {
        let payer = &signed(call)["from"];
        match call.path.as_str() {
            "/verify" => json!({ "isValid": true, "payer": payer }),
            "/settle" => json!({
                "success": true,
                "transaction": hex::encode_prefixed(Self::transaction(call)),
                "network": call.body["paymentRequirements"]["network"],
                "payer": payer,
            }),
            _ => supported(),
        }
    }

    /// Moves the money of this payment, unless that has been done.
    fn settle(&self, call: &Call) {
        let nonce = text(call, "nonce");
        self.lock().settled.entry(nonce).or_insert_with(|| Self::transaction(call));
    }

    /// The transaction in which this payment moves, whenever it does.
    fn transaction(call: &Call) -> TransactionHash {
        let mut digest = Keccak256::new();
        digest.update("scripted settlement");
        digest.update(text(call, "from"));
        digest.update(text(call, "nonce"));
        digest.finalize()
    }

    /// Refuses what was asked.
    fn decline(&self, call: &Call, code: &str) -> Value {
        let payer = &signed(call)["from"];
        match call.path.as_str() {
            "/verify" => json!({ "isValid": false, "invalidReason": code, "payer": payer }),
            _ => json!({
                "success": false,
                "errorReason": code,
                "transaction": "",
                "network": call.body["paymentRequirements"]["network"],
                "payer": payer,
            }),
        }
    }
}

/// A field of the authorization, as it is compared.
fn text(call: &Call, field: &str) -> String {
    signed(call)[field].as_str().unwrap_or_default().to_ascii_lowercase()
}

/// The authorization, of either kind.
fn signed(call: &Call) -> &Value {
    let payload = &call.body["paymentPayload"]["payload"];
    payload.get("authorization").unwrap_or(&payload["permit2Authorization"])
}

/// The networks an honest one supports, in both dialects.
const NETWORKS: [&str; 2] = ["base", "base-sepolia"];
/// The one it supports besides, of which v1 has never heard; its token is paid through Permit2.
const WITH_PERMIT2: &str = "radius-testnet";

fn network(name: &str) -> Caip2 {
    preset(name).expect("all are presets").network().id
}

fn supported() -> Value {
    let kinds: Vec<Value> = NETWORKS
        .iter()
        .flat_map(|name| {
            [
                json!({ "x402Version": 1, "scheme": "exact", "network": name }),
                json!({ "x402Version": 2, "scheme": "exact", "network": network(name).as_str() }),
            ]
        })
        .chain([json!({ "x402Version": 2, "scheme": "exact", "network": network(WITH_PERMIT2).as_str() })])
        .collect();
    json!({ "kinds": kinds, "extensions": [], "signers": {} })
}
