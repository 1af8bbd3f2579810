//! Clients that never stop asking, and keep book of what they hear.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use http::{HeaderName, HeaderValue};
use tokio::task::JoinSet;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::Wallet;
use tollhouse::testing::client::{Connection, Reply, Request};

/// What clients do who hear that their connection closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhenTold {
    /// They go elsewhere.
    Leave,
    /// They connect anew.
    ComeBack,
}

#[derive(Debug, Clone, Copy)]
enum Habit {
    /// Asks for what is free, on one connection.
    Regular,
    /// The same, on a new one each time.
    Passer,
    /// Buys, on one connection.
    Buyer,
}

pub struct Crowd {
    enough: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    clients: JoinSet<Heard>,
}

/// What a client has heard.
#[derive(Debug, Default)]
pub struct Heard {
    /// The transactions of what it has paid for and received.
    pub bought: Vec<String>,
    /// The last payment that it made.
    pub last: Option<(HeaderName, HeaderValue)>,
    /// Requests that were not answered, or not as they had to be.
    pub failed: Vec<String>,
}

impl Crowd {
    /// Two of each habit.
    pub fn at(address: SocketAddr, when_told: WhenTold) -> Self {
        let (enough, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut clients = JoinSet::new();
        for habit in [Habit::Regular, Habit::Passer, Habit::Buyer].repeat(2) {
            let client = Client { address, habit, connection: None, told: false, answered: Arc::clone(&answered) };
            clients.spawn(client.come(when_told, Arc::clone(&enough)));
        }
        Self { enough, answered, clients }
    }

    /// How many answers have come by now.
    pub fn answered(&self) -> usize {
        self.answered.load(Ordering::SeqCst)
    }

    /// What they have heard, once each has left.
    pub async fn leaves(mut self) -> Heard {
        let mut all = Heard::default();
        while let Some(heard) = self.clients.join_next().await {
            let heard = heard.expect("a client does not panic");
            all.bought.extend(heard.bought);
            all.failed.extend(heard.failed);
            all.last = heard.last.or(all.last);
        }
        all.bought.sort();
        all
    }

    /// The same, once each has finished what it is about.
    pub async fn goes_home(self) -> Heard {
        self.enough.store(true, Ordering::SeqCst);
        self.leaves().await
    }
}

struct Client {
    address: SocketAddr,
    habit: Habit,
    connection: Option<Connection>,
    /// Whether it has heard that a connection of its closes.
    told: bool,
    answered: Arc<AtomicUsize>,
}

impl Client {
    async fn come(mut self, when_told: WhenTold, enough: Arc<AtomicBool>) -> Heard {
        let mut heard = Heard::default();
        let wallet = Wallet::random();
        let leaves = |client: &Self| client.told && when_told == WhenTold::Leave;
        while !enough.load(Ordering::SeqCst) && !leaves(&self) {
            let asked = match self.habit {
                Habit::Regular | Habit::Passer => self.ask(&Request::get("/v1/health"), 200).await.map(drop),
                Habit::Buyer => match self.ask(&Request::get("/v1/weather"), 402).await {
                    Ok(_) if leaves(&self) => Ok(()),
                    Ok(challenge) => self.buy(&wallet, &challenge, &mut heard).await,
                    Err(why) => Err(why),
                },
            };
            if let Err(why) = asked {
                heard.failed.push(format!("{:?}: {why}", self.habit));
                break;
            }
        }
        heard
    }

    async fn buy(&mut self, wallet: &Wallet, challenge: &Reply, heard: &mut Heard) -> Result<(), String> {
        let payment = wallet.pay(&challenge.fields, &challenge.body, SystemClock.now());
        let payment = payment.ok_or("the offer cannot be paid")?;
        let reply = self.ask(&Request::get("/v1/weather").paying(&payment), 200).await?;
        let settlement = reply.settlement().filter(|settlement| settlement.success).ok_or("no receipt")?;
        heard.bought.push(settlement.transaction.ok_or("no transaction")?.to_string());
        heard.last = Some(payment);
        Ok(())
    }

    async fn ask(&mut self, request: &Request, status: u16) -> Result<Reply, String> {
        let kept = self.connection.take();
        let reused = kept.is_some();
        let connection = match kept {
            Some(connection) => Some(connection),
            None => Connection::try_open(self.address).await,
        };
        let mut connection = connection.ok_or("nobody listens")?;
        connection.send(request).await;
        let reply = connection.try_reply().await.ok_or_else(|| format!("no answer (reused connection: {reused})"))?;
        if reply.status != status || !reply.whole {
            return Err(format!("{} (whole: {}): {}", reply.status, reply.whole, reply.text()));
        }
        self.answered.fetch_add(1, Ordering::SeqCst);
        let closes = reply.field("connection") == Some("close");
        self.told |= closes;
        if !closes && !matches!(self.habit, Habit::Passer) {
            self.connection = Some(connection);
        }
        Ok(reply)
    }
}
