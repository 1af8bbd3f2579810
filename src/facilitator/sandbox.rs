//! Play money in this process: real signatures, pretended transfers, no chain.
//!
//! It speaks the terms of Base Sepolia and its USDC, so that a stock client signs for it without knowing. Nothing
//! is ever broadcast, and payments go to an account that nobody holds the key of, so a signature that leaks moves
//! nothing anybody could keep.
//!
//! The books live in memory. A restart gives everybody their play money back while the ledger still remembers what
//! was bought, so no answer is sold twice.

mod books;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use alloy::primitives::{Address, B256, U256, address, b256};
use async_trait::async_trait;
use ring::digest::{Context, SHA256};

use self::books::{Books, Posted, Transfer};
use super::{BoxError, Decline, Facilitator, Means, Outcome, Prepared, SettleError, Unresolved, VerifyError};
use crate::payment::{Authorization, Dialect, Offer, Payment, Receipt, TransactionHash};
use crate::primitives::{Asset, AtomicAmount, Clock, Network, Payee, Preset, TransferMethod, preset};

/// Who sandbox payments go to: the last 20 bytes of keccak256("tollhouse sandbox: nobody holds this key").
pub const PAYEE: Payee = Payee(address!("0xD6f94d349403a9d4F891542f98161CBB1Ae7Ec2C"));

/// A payer with a published key whose payments end in a way worth testing a client against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MagicPayer {
    /// What its payments do.
    pub name: &'static str,
    /// Its private key: keccak256("tollhouse sandbox payer: " ‖ name). Published, so never send it real money.
    pub key: B256,
    /// Its address.
    pub address: Address,
}

/// `declined` has no money, `slow` takes a while to settle, and of `unknown` nobody can tell for a while whether
/// it has settled. It has.
pub const MAGIC_PAYERS: [MagicPayer; 3] = [
    MagicPayer {
        name: "declined",
        key: b256!("0x73de33ae025f3296402d26b653fc1bc12c4288adb6604b4d411f3c62b6ecc5ff"),
        address: DECLINED,
    },
    MagicPayer {
        name: "slow",
        key: b256!("0xb21d864147c3db963f2e1fdf4a29e8dd182526d8bdc11b18deb492798b4092a7"),
        address: SLOW,
    },
    MagicPayer {
        name: "unknown",
        key: b256!("0x5e7b726d71664a54cff11a3564a213c09a1f64941969c42816f42b8d0c2926b4"),
        address: UNKNOWN,
    },
];

const DECLINED: Address = address!("0xB05ed336a29F31606bEb6527f919099dA6c832B4");
const SLOW: Address = address!("0x84769ffc208338362116693770907825f10961c6");
const UNKNOWN: Address = address!("0x744c4985d4b47A16E34A5065fBc30c27128C9331");

/// The network that sandbox offers name: Base Sepolia, the one every stock client can sign for.
pub fn network() -> Network {
    base_sepolia().network()
}

/// The token that sandbox offers name: the USDC of Base Sepolia.
pub fn asset() -> Asset {
    base_sepolia().assets[0].asset()
}

fn base_sepolia() -> &'static Preset {
    preset("base-sepolia").expect("the preset table has a row for base-sepolia, with USDC first")
}

/// How the sandbox behaves. The defaults are for people; tests shorten the waits.
#[derive(Debug, Clone)]
pub struct Behaviour {
    /// What every account holds when it is first seen, in smallest units.
    pub opening_balance: AtomicAmount,
    /// How many accounts it keeps; a payer beyond them is declined with `sandbox_full` (I7).
    pub max_accounts: usize,
    /// How many settled payments it remembers, the latest ones (I7).
    pub max_settled: usize,
    /// How long the payer `slow` takes to settle.
    pub slow: Duration,
    /// How long nobody can tell how a payment of `unknown` ended.
    pub unknown: Duration,
    /// How long `submit` may take.
    pub settle_timeout: Duration,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            opening_balance: AtomicAmount::new(alloy::primitives::uint!(1_000_000_000_U256)),
            max_accounts: 100_000,
            max_settled: 250_000,
            slow: Duration::from_secs(5),
            unknown: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(20),
        }
    }
}

/// A facilitator that moves play money.
pub struct Sandbox {
    name: Arc<str>,
    clock: Arc<dyn Clock>,
    behaviour: Behaviour,
    network: Network,
    asset: Address,
    books: Mutex<Books>,
}

impl Sandbox {
    /// A sandbox with full purses and empty books.
    pub fn new(name: Arc<str>, clock: Arc<dyn Clock>, behaviour: Behaviour) -> Self {
        let books = Mutex::new(Books::new(&behaviour));
        Self { name, clock, behaviour, network: network(), asset: asset().address, books }
    }

    /// What an account holds, in smallest units.
    pub fn balance(&self, account: Address) -> AtomicAmount {
        self.books().balance(account)
    }

    /// Every posting leaves the books balanced, so a panic elsewhere does not make them unusable.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Facilitator for Sandbox {
    fn name(&self) -> &str {
        &self.name
    }

    fn accepts(&self, offer: &Offer, _dialect: Dialect) -> bool {
        offer.sandbox && offer.network.id == self.network.id && offer.asset.address == self.asset
    }

    /// It is in this process.
    fn is_up(&self) -> bool {
        true
    }

    fn settle_timeout(&self) -> Duration {
        self.behaviour.settle_timeout
    }

    async fn verify(&self, payment: &Payment) -> Result<(), VerifyError> {
        Ok(self.books().would_post(&Transfer::from(&payment.authorization))?)
    }

    async fn prepare(&self, payment: &Payment) -> Result<Prepared, SettleError> {
        Ok(Prepared { transaction: Some(pseudo_hash(payment)), raw: None })
    }

    async fn submit(&self, payment: &Payment, prepared: Prepared) -> Result<Receipt, SettleError> {
        let moved = Transfer::from(&payment.authorization);
        if moved.payer() == SLOW {
            tokio::time::sleep(self.behaviour.slow).await;
        }
        let transaction = prepared.transaction.unwrap_or_else(|| pseudo_hash(payment));
        let now = self.clock.now();
        let told_at = if moved.payer() == UNKNOWN { now.after(self.behaviour.unknown) } else { now };
        match self.books().post(&moved, now, told_at)? {
            Posted::Now if told_at > now => {
                Err(SettleError::Unknown { transaction: Some(transaction), source: "the payer `unknown` paid".into() })
            }
            Posted::Now => Ok(Receipt::of(payment, transaction, now)),
            Posted::Before { at, .. } => Ok(Receipt::of(payment, transaction, at)),
        }
    }

    /// Nobody has to approve anything here.
    async fn means(&self, payment: &Payment) -> Result<Option<Means>, BoxError> {
        let books = self.books();
        let balance = books.balance(payment.payer().0).units();
        let used = books.find(&Transfer::from(&payment.authorization)).is_some();
        let asked = payment.authorization.method() == TransferMethod::Permit2;
        Ok(asked.then_some(Means { balance, allowance: U256::MAX, used }))
    }

    async fn outcome(&self, unresolved: &Unresolved) -> Outcome {
        let payment = &unresolved.payment;
        let moved = Transfer::from(&payment.authorization);
        let now = self.clock.now();
        let books = self.books();
        match books.find(&moved) {
            Some(Posted::Before { at, told_at }) if told_at <= now => {
                Outcome::Settled(Receipt::of(payment, pseudo_hash(payment), at))
            }
            None if moved.has_lapsed(now) && books.remembers(unresolved.reserved_at) => {
                Outcome::NotSettled(moved.lapsed())
            }
            _ => Outcome::Unknown {
                transaction: unresolved.transaction,
                source: "the sandbox has not told yet how this payment ended".into(),
            },
        }
    }
}

/// Stands where a transaction hash would: the same for the same payment, and on no chain.
fn pseudo_hash(payment: &Payment) -> TransactionHash {
    let mut digest = Context::new(&SHA256);
    match &payment.authorization {
        // There is one network and one token, so payer and nonce are what is unique (EIP-3009).
        Authorization::Eip3009(signed) => {
            digest.update(b"tollhouse sandbox");
            digest.update(signed.from.as_slice());
            digest.update(signed.nonce.0.as_slice());
        }
        Authorization::Permit2(_) => {
            digest.update(b"tollhouse sandbox permit2");
            digest.update(payment.key().as_bytes());
        }
    }
    TransactionHash::from_slice(digest.finish().as_ref())
}

#[cfg(test)]
mod tests {
    use alloy::primitives::keccak256;
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    #[test]
    fn nobody_can_hold_the_key_of_the_payee() {
        let digest = keccak256("tollhouse sandbox: nobody holds this key");
        assert_eq!(PAYEE.0, Address::from_slice(&digest[12..]));
    }

    #[test]
    fn the_magic_payers_are_what_their_names_hash_to() {
        for payer in MAGIC_PAYERS {
            let key = keccak256(format!("tollhouse sandbox payer: {}", payer.name));
            let signer = PrivateKeySigner::from_bytes(&key).expect("a digest is a valid key");
            assert_eq!((payer.key, payer.address), (key, signer.address()), "{}", payer.name);
        }
    }
}
