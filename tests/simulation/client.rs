//! Clients: some impatient, some forgetful, some dishonest. Each reads real offers and sends real payment headers.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use alloy::primitives::{Address, B256, Bytes, U256, keccak256};
use http::{HeaderMap, Method};
use tokio::task::JoinSet;
use tollhouse::ledger::State;
use tollhouse::payment::{Authorization, Dialect, Eip3009, Offer, PaymentKey, SignatureBytes};
use tollhouse::primitives::{AtomicAmount, Nonce};
use tollhouse::protocol::x402::client::{Challenge, Choice};
use tollhouse::testing::Wallet;

use crate::backend::PIECES;
use crate::chain::{How, spend};
use crate::passage::{Heard, Line, Request, pass};
use crate::plan::Fault;
use crate::stamp::stamp;
use crate::town::LINES;
use crate::world::{World, lock, short};

/// How often a client sends one payment before it gives up on it.
const ATTEMPTS: u64 = 6;

/// Somebody with money.
pub struct Buyer {
    world: Arc<World>,
    name: String,
    wallet: Option<Wallet>,
    address: Address,
}

/// What may be wrong with a payment, so that our own checks must refuse it.
#[derive(Debug, Clone, Copy)]
enum Junk {
    Signature,
    Amount,
    Payee,
    Lapsed,
    Early,
}

impl Buyer {
    pub fn new(world: &Arc<World>, number: usize) -> Self {
        let key = keccak256([b"buyer ".as_slice(), &[number as u8]].concat());
        let wallet = world.plan.real_signatures.then(|| Wallet::from_key(key));
        let address = wallet.as_ref().map_or_else(|| Address::from_word(key), Wallet::address);
        Self { world: Arc::clone(world), name: format!("buyer {number}"), wallet, address }
    }

    /// Makes its purchases, one after the other.
    pub async fn shop(self) {
        for purchase in 0..self.world.plan.purchases {
            tokio::time::sleep(self.world.between(0, 3_000)).await;
            self.purchase(purchase).await;
        }
    }

    async fn purchase(&self, number: u64) {
        let (method, path, _) = LINES[self.world.below(LINES.len() as u64) as usize];
        let bare = Request {
            posted: self.world.posted.load(Ordering::Relaxed),
            method: method.parse::<Method>().expect("the lines name methods"),
            path,
            query: Some(format!("n={number}&who={}", self.address)),
            fields: HeaderMap::new(),
            key: None,
            thief: false,
        };
        let dialect = if self.world.below(4) == 0 { Dialect::V1 } else { Dialect::V2 };
        // Whoever is told to pay again may do so, like the stock clients' callers.
        for _ in 0..1 + self.world.below(2) {
            let Some(challenge) = self.ask(&bare, dialect).await else { continue };
            let Some(choice) = challenge.choose(|_| true) else { continue };
            let signed = self.sign(&choice.offer, dialect);
            if self.world.below(6) == 0 {
                self.send_junk(&bare, &challenge, choice, signed).await;
                continue;
            }
            let order = self.order(&bare, &challenge, choice, &signed);
            lock(&self.world.orders).push(order.clone());
            self.meddle(&choice.offer, &signed);
            let satisfied = self.insist(&order).await;
            self.steal(&bare, &signed).await;
            if satisfied {
                break;
            }
        }
    }

    /// Asks without a payment, for the offers.
    async fn ask(&self, bare: &Request, dialect: Dialect) -> Option<Challenge> {
        for _ in 0..4 {
            if let Some(heard) = self.send(bare.clone(), false).await
                && heard.status == 402
            {
                let fields = if dialect == Dialect::V1 { HeaderMap::new() } else { heard.fields };
                return Challenge::read(&fields, &heard.body).ok();
            }
            tokio::time::sleep(self.world.between(500, 8_000)).await;
        }
        None
    }

    fn sign(&self, offer: &Offer, dialect: Dialect) -> Eip3009 {
        let now = self.world.now();
        let mut nonce = [0; 32];
        nonce[..8].copy_from_slice(&self.world.below(u64::MAX).to_be_bytes());
        let (after, before) = match dialect {
            Dialect::V1 => (now.as_secs() - 600, now.after(offer.max_timeout).as_secs()),
            Dialect::V2 => (0, now.after(offer.max_timeout).as_secs()),
        };
        let unsigned = Eip3009 {
            from: self.address,
            to: offer.pay_to.0,
            value: offer.amount,
            valid_after: U256::from(after),
            valid_before: U256::from(before),
            nonce: Nonce(B256::from(nonce)),
            signature: SignatureBytes(Bytes::new()),
        };
        self.seal(offer, unsigned)
    }

    fn seal(&self, offer: &Offer, unsigned: Eip3009) -> Eip3009 {
        let (after, before) = (unsigned.valid_after.saturating_to(), unsigned.valid_before.saturating_to());
        match &self.wallet {
            Some(wallet) if unsigned.value == offer.amount && unsigned.to == offer.pay_to.0 => {
                wallet.sign(offer, after, before, unsigned.nonce)
            }
            _ => Eip3009 { signature: stamp(offer, &unsigned), ..unsigned },
        }
    }

    fn order(&self, bare: &Request, challenge: &Challenge, choice: &Choice, signed: &Eip3009) -> Request {
        let authorization = Authorization::Eip3009(signed.clone());
        let key = PaymentKey::of(&choice.offer.network.id, choice.offer.asset.address, &authorization);
        self.world.tell(|| format!("{} will pay with {} for {} {}", self.name, short(&key), bare.method, bare.path));
        lock(&self.world.notes).of(key).signed = Some(signed.clone());
        let fields = HeaderMap::from_iter([challenge.payment(choice, signed)]);
        Request { fields, key: Some(key), ..bare.clone() }
    }

    /// A payment that must be refused before anybody is asked.
    async fn send_junk(&self, bare: &Request, challenge: &Challenge, choice: &Choice, mut signed: Eip3009) {
        let kinds = [Junk::Signature, Junk::Amount, Junk::Payee, Junk::Lapsed, Junk::Early];
        let kind = kinds[self.world.below(5) as usize];
        let now = self.world.now().as_secs();
        match kind {
            Junk::Signature => {}
            Junk::Amount => signed.value = AtomicAmount::new(signed.value.units() - U256::from(1)),
            Junk::Payee => signed.to = Address::repeat_byte(0x66),
            Junk::Lapsed => signed.valid_before = U256::from(now),
            // Good for its last second, which is too short to settle it: no gateway that stood still meets it in time.
            Junk::Early => signed.valid_after = signed.valid_before - U256::from(1),
        }
        let mut signed = self.seal(&choice.offer, signed);
        if let Junk::Signature = kind {
            let mut bytes = signed.signature.0.to_vec();
            bytes[7] ^= 1;
            signed.signature = SignatureBytes(bytes.into());
        }
        let order = self.order(bare, challenge, choice, &signed);
        if let Some(key) = order.key {
            lock(&self.world.notes).of(key).junk = true;
        }
        if let Some(heard) = self.send(order, false).await
            && heard.status == 200
        {
            lock(&self.world.notes).accuse([format!("I5: {kind:?} was taken for payment")]);
        }
    }

    /// What a payer can do behind everybody's back.
    fn meddle(&self, offer: &Offer, signed: &Eip3009) {
        if self.world.strikes(Fault::PayerDrained) {
            let (world, from) = (Arc::clone(&self.world), signed.from);
            tokio::spawn(async move {
                tokio::time::sleep(world.between(0, 10_000)).await;
                lock(&world.chain).drain(from);
            });
        }
        if self.world.strikes(Fault::PayerSpends) {
            let how = if self.world.below(2) == 0 { How::Paid } else { How::Cancelled };
            let (world, offer, signed) = (Arc::clone(&self.world), offer.clone(), signed.clone());
            tokio::spawn(async move {
                tokio::time::sleep(world.between(0, 6_000)).await;
                spend(&world, &offer, &signed, how);
            });
        }
    }

    /// Sends a payment until it is answered or hope is lost. Whether nothing is left to wait for.
    async fn insist(&self, order: &Request) -> bool {
        for _ in 0..1 + self.world.below(ATTEMPTS) {
            let mut copies = JoinSet::new();
            for copy in 0..1 + self.world.below(8) / 6 * 2 {
                let mut order = order.clone();
                // Somebody tries one payment at two tills.
                if copy > 0 && self.world.below(3) == 0 {
                    order.query = Some("elsewhere=1".to_owned());
                }
                let (world, name) = (Arc::clone(&self.world), self.name.clone());
                copies.spawn(async move { send(&world, &name, order, true).await });
            }
            let mut satisfied = false;
            while let Some(Ok(heard)) = copies.join_next().await {
                satisfied |= heard.is_some_and(|heard| match heard.status {
                    200 => heard.pieces == PIECES,
                    402 => self.world.below(2) == 0,
                    _ => false,
                });
            }
            if satisfied {
                return true;
            }
            tokio::time::sleep(self.world.between(100, 9_000)).await;
        }
        false
    }

    /// After settlement the authorization is public: an observer presents it with an offer of their own (S75).
    async fn steal(&self, bare: &Request, signed: &Eip3009) {
        let public = lock(&self.world.chain).use_of(signed).is_some_and(|spent| spent.how == How::Paid);
        if !public || self.world.below(3) > 0 {
            return;
        }
        let dialect = if self.world.below(2) == 0 { Dialect::V1 } else { Dialect::V2 };
        let Some(challenge) = self.ask(bare, dialect).await else { return };
        let Some(choice) = challenge.choose(|_| true) else { return };
        let sold =
            |key| self.world.on_disk(key).is_some_and(|found| matches!(found.entry.state, State::Settled { .. }));
        let theft = Request { thief: true, ..self.order(bare, &challenge, choice, signed) };
        if let Some(key) = theft.key.filter(|key| !sold(*key)) {
            lock(&self.world.notes).of(key).contested = true;
        }
        self.send(theft, false).await;
    }

    async fn send(&self, request: Request, fickle: bool) -> Option<Heard> {
        send(&self.world, &self.name, request, fickle).await
    }
}

/// Sends a request to some replica. `None` when nothing came back. The `fickle` may leave before it does.
pub async fn send(world: &Arc<World>, who: &str, request: Request, fickle: bool) -> Option<Heard> {
    let replica = world.below(world.plan.replicas as u64) as usize;
    world.step().await;
    let process = lock(&world.processes)[replica].clone()?;
    let (line, heard) = Line::open();
    let key = request.key.as_ref().map_or_else(|| "nothing".to_owned(), short);
    world.tell(|| format!("{who} presents {key} at {}: {} {}", process.pulse.name(), request.method, request.path));
    let passage = process.run(pass(Arc::clone(&process), request, Arc::clone(&line)));
    if fickle && world.strikes(Fault::ClientResets) {
        tokio::time::sleep(world.between(0, 4_000)).await;
        passage.abort();
    }
    if fickle && world.strikes(Fault::ClientLeaves) {
        tokio::time::sleep(world.between(0, 4_000)).await;
        line.gone.store(true, Ordering::Relaxed);
    }
    // A dead process closes its connections.
    let patience = world.between(5_000, 60_000);
    let heard = tokio::time::timeout(patience, heard).await.ok().and_then(Result::ok);
    if heard.is_none() {
        line.gone.store(true, Ordering::Relaxed);
    }
    let said = heard.as_ref().map_or_else(|| "nothing".to_owned(), |heard| heard.status.to_string());
    world.tell(|| format!("{who} hears {said} about {key}"));
    heard
}
