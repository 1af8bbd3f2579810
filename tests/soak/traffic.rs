//! Who comes: those who pay and those who do not, those who leave in the middle, and those who take their time.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use http::{HeaderName, HeaderValue};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tollhouse::payment::TransactionHash;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::Wallet;
use tollhouse::testing::client::{Connection, Reply, Request};

use crate::backend::PRICED;
use crate::world::World;

/// Between two requests of one client.
const PAUSE: Duration = Duration::from_millis(25);
/// How often a payment is presented again while its buyer is told to wait.
const TRIES: u32 = 60;
/// Connections that say next to nothing.
const SLOW: usize = 50;
const UPLOAD: usize = 1 << 20;

/// Served, refused, broken off.
type Counts = (u64, u64, u64);

/// What came of all the requests.
#[derive(Debug, Default)]
pub struct Tally {
    kinds: BTreeMap<&'static str, Counts>,
    /// Answers with what has a price and without a receipt.
    pub unpaid_bodies: u64,
    /// The transactions that receipts named.
    pub receipts: HashSet<TransactionHash>,
}

impl Tally {
    pub fn by_kind(&self) -> impl Iterator<Item = (&'static str, Counts)> {
        self.kinds.iter().map(|(kind, counts)| (*kind, *counts))
    }

    pub fn every_kind_was_served(&self) -> bool {
        self.kinds.values().all(|(served, ..)| *served > 0)
    }
}

/// How a request ended.
enum End {
    Served,
    Refused,
    Broken,
}

/// Everybody who comes.
pub struct Traffic {
    clients: JoinSet<()>,
    tally: Arc<Mutex<Tally>>,
}

impl Traffic {
    /// Waits for everybody to go.
    pub async fn end(mut self) -> Tally {
        while let Some(gone) = self.clients.join_next().await {
            gone.expect("no client is stuck");
        }
        std::mem::take(&mut *self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A client, and where it counts what becomes of its requests.
#[derive(Clone)]
struct Client {
    gateway: SocketAddr,
    wallet: Arc<Wallet>,
    tally: Arc<Mutex<Tally>>,
}

/// Lets them all come until then.
pub fn start(world: &World, until: Instant) -> Traffic {
    let mut traffic = Traffic { clients: JoinSet::new(), tally: Arc::default() };
    let gateway = world.process.address();
    let client = || Client { gateway, wallet: Arc::new(Wallet::random()), tally: Arc::clone(&traffic.tally) };
    let many: Vec<(&'static str, usize)> = vec![
        ("free", 2),
        ("large", 1),
        ("unpaid", 2),
        ("junk", 1),
        ("paid", 4),
        ("upfront", 2),
        ("upload", 1),
        ("events", 1),
        ("socket", 1),
        ("aborted", 2),
        ("slow", SLOW),
    ];
    let clients: Vec<_> = many.into_iter().flat_map(|(kind, number)| (0..number).map(move |_| kind)).collect();
    let clients: Vec<_> = clients.into_iter().map(|kind| (kind, client())).collect();
    for (kind, client) in clients {
        traffic.clients.spawn(async move {
            for turn in 0_u32.. {
                if Instant::now() >= until {
                    break;
                }
                let end = client.turn(kind, turn).await;
                client.count(kind, end);
                tokio::time::sleep(PAUSE).await;
            }
        });
    }
    traffic
}

impl Client {
    async fn turn(&self, kind: &str, turn: u32) -> End {
        match kind {
            "free" => self.free(&Request::get("/free")).await,
            "large" => self.free(&Request::get("/large")).await,
            "unpaid" => self.unpaid(&Request::get("/paid")).await,
            "junk" => self.unpaid(&Request::get("/paid").with("payment-signature", "e30=")).await,
            "paid" => self.buy(&Request::get("/paid")).await,
            "upfront" => self.buy(&Request::get("/paid/upfront")).await,
            "upload" if turn.is_multiple_of(2) => self.buy(&Request::post("/paid", &".".repeat(UPLOAD))).await,
            "upload" => self.free(&Request::post("/free", &".".repeat(UPLOAD))).await,
            "events" => self.buy(&Request::get("/paid/events")).await,
            "socket" => self.socket().await,
            "aborted" => self.leave(turn).await,
            "slow" => self.dawdle().await,
            other => panic!("nobody is {other}"),
        }
    }

    /// What is free is answered, but while the backend is broken.
    async fn free(&self, request: &Request) -> End {
        match self.ask(request).await {
            Some(reply) if reply.status == 200 && reply.whole => End::Served,
            Some(_) => End::Refused,
            None => End::Broken,
        }
    }

    async fn unpaid(&self, request: &Request) -> End {
        match self.ask(request).await {
            Some(reply) if reply.status == 402 => End::Served,
            Some(_) => End::Refused,
            None => End::Broken,
        }
    }

    /// Pays, and presents the payment again for as long as it is told to wait.
    async fn buy(&self, request: &Request) -> End {
        let Some(payment) = self.payment(request).await else { return End::Refused };
        for _ in 0..TRIES {
            let Some(reply) = self.ask(&request.clone().paying(&payment)).await else { continue };
            match reply.status {
                200 if reply.whole => return End::Served,
                402 => return End::Refused,
                409 | 502 | 503 | 504 => tokio::time::sleep(PAUSE * 10).await,
                _ => return End::Broken,
            }
        }
        End::Broken
    }

    async fn socket(&self) -> End {
        let Some((name, value)) = self.payment(&Request::get("/feed")).await else { return End::Refused };
        let mut request = format!("ws://{}/feed", self.gateway).into_client_request().expect("an address makes a URL");
        request.headers_mut().insert(name, value);
        let Ok((mut socket, _)) = tokio_tungstenite::connect_async(request).await else { return End::Refused };
        for _ in 0..5 {
            if socket.send(Message::text("hello")).await.is_err() || !matches!(socket.next().await, Some(Ok(_))) {
                return End::Broken;
            }
        }
        End::Served
    }

    /// Pays and is gone before the answer, at one moment or another.
    async fn leave(&self, turn: u32) -> End {
        let request = Request::get("/paid");
        let Some(payment) = self.payment(&request).await else { return End::Refused };
        let Some(mut connection) = Connection::try_open(self.gateway).await else { return End::Broken };
        connection.send(&request.paying(&payment)).await;
        tokio::time::sleep(Duration::from_millis(u64::from(turn % 12))).await;
        if turn.is_multiple_of(2) {
            connection.abort();
        } else {
            connection.leave().await;
        }
        End::Served
    }

    /// One byte of a head at a time, and gone before it is whole.
    async fn dawdle(&self) -> End {
        let Ok(mut stream) = TcpStream::connect(self.gateway).await else { return End::Broken };
        for byte in b"GET /free HTTP" {
            if stream.write_all(&[*byte]).await.is_err() {
                return End::Refused;
            }
            tokio::time::sleep(PAUSE * 4).await;
        }
        End::Served
    }

    async fn payment(&self, request: &Request) -> Option<(HeaderName, HeaderValue)> {
        let challenge = self.ask(request).await.filter(|reply| reply.status == 402)?;
        self.wallet.pay(&challenge.fields, &challenge.body, SystemClock.now())
    }

    /// Sends one request; `None` when the connection ends without an answer. Whatever comes is looked at.
    async fn ask(&self, request: &Request) -> Option<Reply> {
        let mut connection = Connection::try_open(self.gateway).await?;
        connection.send(request).await;
        let reply = connection.try_reply().await?;
        let receipt = reply.settlement().filter(|settlement| settlement.success);
        let mut tally = self.tally();
        tally.unpaid_bodies += u64::from(reply.text().contains(PRICED) && receipt.is_none());
        tally.receipts.extend(receipt.and_then(|receipt| receipt.transaction));
        drop(tally);
        Some(reply)
    }

    fn count(&self, kind: &'static str, end: End) {
        let mut tally = self.tally();
        let (served, refused, broken) = tally.kinds.entry(kind).or_default();
        *match end {
            End::Served => served,
            End::Refused => refused,
            End::Broken => broken,
        } += 1;
    }

    fn tally(&self) -> std::sync::MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
