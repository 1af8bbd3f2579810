//! The chain: what moved, in which transaction, and when. A nonce is used once; that is all the token enforces.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, keccak256};
use tollhouse::payment::{Authorization, Eip3009, Offer, Payment, PaymentKey, TransactionHash};
use tollhouse::primitives::Timestamp;

use crate::plan::Fault;
use crate::world::{World, lock, short};

/// How a nonce was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It paid the payee what was signed.
    Paid,
    Cancelled,
}

/// The use of a nonce.
#[derive(Debug, Clone, Copy)]
pub struct Use {
    pub how: How,
    pub transaction: TransactionHash,
    pub at: Timestamp,
    /// When whoever submitted it was asked to; `None` when no gateway asked.
    pub asked: Option<Timestamp>,
}

/// Who submits a transaction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// A facilitator, because a gateway asked it at this moment.
    Facilitator(Timestamp),
    /// The payer or an observer of the mempool.
    Somebody,
}

#[derive(Debug, Default)]
pub struct Chain {
    uses: BTreeMap<(Address, B256), Use>,
    transactions: BTreeMap<TransactionHash, (Address, B256)>,
    /// Payers without money.
    drained: BTreeSet<Address>,
    sent: u64,
}

impl Chain {
    pub fn use_of(&self, signed: &Eip3009) -> Option<Use> {
        self.uses.get(&(signed.from, signed.nonce.0)).copied()
    }

    /// As a node shows it whose head is this old.
    pub fn seen(&self, signed: &Eip3009, until: Timestamp) -> Option<Use> {
        self.use_of(signed).filter(|spent| spent.at <= until)
    }

    /// Whether this transaction paid this payment, as far as a node has seen.
    pub fn pays(&self, transaction: TransactionHash, signed: &Eip3009, until: Timestamp) -> Option<bool> {
        let (from, nonce) = self.transactions.get(&transaction)?;
        let spent = self.uses.get(&(*from, *nonce)).filter(|spent| spent.at <= until)?;
        Some(spent.how == How::Paid && (*from, *nonce) == (signed.from, signed.nonce.0))
    }

    /// Some transaction that paid for something else.
    pub fn another(&self, signed: &Eip3009) -> Option<TransactionHash> {
        let other =
            |(hash, of): (&TransactionHash, &(Address, B256))| (*of != (signed.from, signed.nonce.0)).then_some(*hash);
        self.transactions.iter().find_map(other)
    }

    pub fn can_pay(&self, payer: Address) -> bool {
        !self.drained.contains(&payer)
    }

    pub fn drain(&mut self, payer: Address) {
        self.drained.insert(payer);
    }

    /// The hash of a transaction nobody has sent before.
    pub fn next_hash(&mut self, key: PaymentKey) -> TransactionHash {
        self.sent += 1;
        keccak256([key.as_bytes().as_slice(), &self.sent.to_be_bytes()].concat())
    }
}

/// What was signed.
pub fn signed(payment: &Payment) -> &Eip3009 {
    let Authorization::Eip3009(signed) = &payment.authorization else { panic!("it is an EIP-3009 payment") };
    signed
}

/// Sends the transaction of a payment on its way. It is mined later, or never, whoever is still interested.
pub fn broadcast(world: &Arc<World>, payment: &Payment, transaction: TransactionHash, by: By) {
    send(world, payment.key(), signed(payment), How::Paid, transaction, by);
}

/// The payer does something with a nonce, in a transaction of their own.
pub fn spend(world: &Arc<World>, offer: &Offer, signed: &Eip3009, how: How) {
    let authorization = Authorization::Eip3009(signed.clone());
    let key = PaymentKey::of(&offer.network.id, offer.asset.address, &authorization);
    let transaction = lock(&world.chain).next_hash(key);
    send(world, key, signed, how, transaction, By::Somebody);
}

fn send(world: &Arc<World>, key: PaymentKey, signed: &Eip3009, how: How, transaction: TransactionHash, by: By) {
    let (signed, world) = (signed.clone(), Arc::clone(world));
    if world.strikes(Fault::TransactionDropped) {
        return;
    }
    let late = world.strikes(Fault::TransactionStuck);
    let wait = if late { world.between(15_000, 100_000) } else { world.between(50, 3_000) };
    tokio::spawn(async move {
        tokio::time::sleep(wait).await;
        mine(&world, key, &signed, how, transaction, by);
    });
}

fn mine(world: &World, key: PaymentKey, signed: &Eip3009, how: How, transaction: TransactionHash, by: By) {
    let (chain, now) = (&mut *lock(&world.chain), world.now());
    let in_time = signed.valid_before.saturating_to::<u64>() > now.as_secs();
    let of = (signed.from, signed.nonce.0);
    let good = !chain.uses.contains_key(&of) && (how == How::Cancelled || (in_time && chain.can_pay(signed.from)));
    if !good {
        world.tell(|| format!("chain: a transaction for {} reverts", short(&key)));
        return;
    }
    let asked = match by {
        By::Facilitator(asked) => Some(asked),
        By::Somebody => None,
    };
    chain.uses.insert(of, Use { how, transaction, at: now, asked });
    chain.transactions.insert(transaction, of);
    world.tell(|| format!("chain: {how:?} {} by {by:?}", short(&key)));
}

/// How long a node may be behind.
pub const LONGEST_LAG: Duration = Duration::from_secs(20);
