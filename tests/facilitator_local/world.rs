//! A chain, a facilitator on it, and payers who sign.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256, address};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolCall, SolStruct, eip712_domain};
use serde_json::{Value, json};
use tollhouse::facilitator::chain::{Chain, Confirmations};
use tollhouse::facilitator::local::{Desk, Held, Local, Notes, Setup, Signer};
use tollhouse::facilitator::{Facilitator, Outcome, SettleError, Unresolved, VerifyError};
use tollhouse::ledger::Memory;
use tollhouse::payment::{
    Authorization, Dialect, Eip3009, Offer, Payment, Receipt, Resource, SchemeName, SettleMode, SignatureBytes,
    TransactionHash,
};
use tollhouse::primitives::{
    Asset, AtomicAmount, Caip2, Clock, Nonce, Payee, Secret, SystemClock, Timestamp, TransferMethod, preset,
};
use tollhouse::scheme::exact::eip3009::calldata_vrs;
use tollhouse::scheme::exact::permit2;
use tollhouse::server::Cells;
use tollhouse::testing::ManualClock;
use tollhouse::testing::anvil::{Anvil, CHAIN_ID, RICH, USDC};

sol! {
    struct TransferWithAuthorization {
        address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
    }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }

    function cancelAuthorization(address authorizer, bytes32 nonce, uint8 v, bytes32 r, bytes32 s) external;
    function transfer(address to, uint256 value) external;
}

pub const PAYEE: Address = address!("0x209693Bc6afc0C5328bA36FaF03C514EF312287C");
/// A cent.
pub const PRICE: u64 = 10_000;
const GAS_KEY: [u8; 32] = [0x42; 32];

pub struct World {
    pub anvil: Anvil,
    pub chain: Arc<Chain>,
    pub setup: Setup,
    pub local: Arc<Local>,
    /// Stands still until a test moves it. The chain has a clock of its own.
    pub clock: ManualClock,
    /// What every process with the gas key shares.
    pub notes: Arc<dyn Notes>,
    payer: PrivateKeySigner,
}

impl World {
    pub async fn new() -> Self {
        Self::with(|_| ()).await
    }

    pub async fn with(change: impl FnOnce(&mut Setup)) -> Self {
        let anvil = Anvil::start().await;
        let url = anvil.rpc_url();
        Self::on(anvil, &[url], change).await
    }

    /// A facilitator that reaches the chain at these addresses.
    pub async fn on(anvil: Anvil, addresses: &[Secret<String>], change: impl FnOnce(&mut Setup)) -> Self {
        let clock = ManualClock::at(now());
        let notes = Cells::of(Arc::new(Memory::new()));
        let mut setup = setup(chain(addresses, &clock), &notes, &clock);
        change(&mut setup);
        let local = local(&setup, &clock);
        anvil.fund_gas(local.address()).await;
        Self { anvil, chain: setup.chain.clone(), setup, local, clock, notes, payer: payer() }
    }

    /// Another process with the same gas key and the same ledger.
    pub fn another(&self, addresses: &[Secret<String>], change: impl FnOnce(&mut Setup)) -> Arc<Local> {
        let mut setup = setup(chain(addresses, &self.clock), &self.notes, &self.clock);
        change(&mut setup);
        local(&setup, &self.clock)
    }

    /// A facilitator that waits this long for a block, and whose transfers have to lie this deep.
    pub async fn confirming(confirmations: Confirmations, settle_timeout: Duration) -> Self {
        let world = Self::new().await;
        let chain = unconfirmed(&[world.anvil.rpc_url()], &world.clock).confirming(confirmations);
        let setup = Setup { chain: Arc::new(chain), settle_timeout, ..world.setup };
        Self { local: local(&setup, &world.clock), chain: setup.chain.clone(), setup, ..world }
    }

    /// What of the gas key waits to be mined: nonce, the most it pays for gas, and what it calls.
    pub async fn waiting(&self) -> Vec<(u64, u128, Address)> {
        let pool: Value = self.anvil.rpc("txpool_content", json!([])).await;
        let mut waiting = Vec::new();
        for list in ["pending", "queued"] {
            for (account, transactions) in pool[list].as_object().expect("a pool lists accounts") {
                if account.parse() != Ok(self.local.address()) {
                    continue;
                }
                for transaction in transactions.as_object().expect("by nonce").values() {
                    let number = |key: &str| -> U256 {
                        serde_json::from_value(transaction[key].clone()).expect("a transaction has it")
                    };
                    let to = serde_json::from_value(transaction["to"].clone()).expect("it calls something");
                    waiting.push((number("nonce").to(), number("maxFeePerGas").to(), to));
                }
            }
        }
        waiting.sort();
        waiting
    }

    /// From here on blocks are made only when a test asks for one.
    pub async fn stop_mining(&self) {
        self.anvil.rpc::<Value>("evm_setAutomine", json!([false])).await;
    }

    pub async fn mine(&self) {
        self.anvil.rpc::<Value>("anvil_mine", json!(["0x1"])).await;
    }

    /// A signed payment of the payer, who can afford it.
    pub async fn payment(&self, nonce: u8) -> Payment {
        self.anvil.fund_usdc(self.payer.address(), PRICE).await;
        payment_of(&self.payer, nonce)
    }

    /// A signed payment of somebody who has nothing.
    pub fn unfunded_payment(&self, nonce: u8) -> Payment {
        payment_of(&PrivateKeySigner::from_slice(&[0x44; 32]).expect("it is a key"), nonce)
    }

    /// The same nonce, signed over to somebody else.
    pub fn redirected(&self, payment: &Payment, to: Address) -> Payment {
        self.resigned(payment, |signed| signed.to = to)
    }

    /// The same nonce, signed over less.
    pub fn cheaper(&self, payment: &Payment) -> Payment {
        self.resigned(payment, |signed| signed.value = AtomicAmount::new(U256::from(PRICE - 1)))
    }

    /// The same nonce, signed to be good until another time.
    pub fn lasting(&self, payment: &Payment, until: Timestamp) -> Payment {
        self.resigned(payment, |signed| signed.valid_before = U256::from(until.as_secs()))
    }

    fn resigned(&self, payment: &Payment, change: impl FnOnce(&mut Eip3009)) -> Payment {
        let mut signed = eip3009(payment).clone();
        change(&mut signed);
        let authorization = Authorization::Eip3009(sign(&self.payer, signed));
        Payment { authorization, ..payment.clone() }
    }

    pub async fn settle(&self, payment: &Payment) -> Result<Receipt, SettleError> {
        settle_at(&self.local, payment).await
    }

    pub async fn outcome(
        &self,
        payment: &Payment,
        transaction: Option<TransactionHash>,
        reserved_at: Timestamp,
    ) -> Outcome {
        self.local.outcome(&unresolved(payment, transaction, reserved_at)).await
    }

    /// Whether the chain has heard of a transaction.
    pub async fn knows(&self, hash: TransactionHash) -> bool {
        !self.anvil.rpc::<Value>("eth_getTransactionByHash", json!([hash])).await.is_null()
    }

    /// The time by the chain's clock.
    pub async fn chain_time(&self) -> Timestamp {
        let head: Value = self.anvil.rpc("eth_getBlockByNumber", json!(["latest", false])).await;
        let seconds: U64 = serde_json::from_value(head["timestamp"].clone()).expect("a block has a time");
        Timestamp::from_secs(seconds.to())
    }

    /// What the payee got from the payer so far.
    pub async fn transfers(&self) -> Vec<(TransactionHash, u64)> {
        self.anvil.transfers(self.payer.address(), PAYEE).await
    }

    /// Somebody who saw the signature submits it.
    pub async fn submit_as_stranger(&self, payment: &Payment) -> TransactionHash {
        let signed = eip3009(payment);
        let call = calldata_vrs(signed).expect("a wallet has signed it");
        self.send(RICH, call.into()).await
    }

    /// The payer cancels the authorization.
    pub async fn cancel(&self, payment: &Payment) -> TransactionHash {
        let signed = eip3009(payment);
        let message = CancelAuthorization { authorizer: signed.from, nonce: signed.nonce.0 };
        let signature = self.payer.sign_hash_sync(&message.eip712_signing_hash(&domain())).expect("the payer signs");
        let (v, r, s) = split(&signature.as_bytes());
        let call = cancelAuthorizationCall { authorizer: signed.from, nonce: signed.nonce.0, v, r, s };
        self.send(RICH, call.abi_encode()).await
    }

    /// The payer moves everything elsewhere.
    pub async fn drain(&self, payment: &Payment) {
        let from = payment.payer().0;
        let value = U256::from(self.anvil.usdc_balance(from).await);
        self.anvil.fund_gas(from).await;
        self.send(from, transferCall { to: Address::repeat_byte(0xdd), value }.abi_encode()).await;
    }

    async fn send(&self, from: Address, input: Vec<u8>) -> TransactionHash {
        let hash = self.anvil.send(from, USDC, input).await;
        assert_eq!(self.anvil.receipt(hash).await["status"], "0x1", "the token refused what the test set up");
        hash
    }
}

fn chain(addresses: &[Secret<String>], clock: &ManualClock) -> Arc<Chain> {
    Arc::new(unconfirmed(addresses, clock))
}

fn unconfirmed(addresses: &[Secret<String>], clock: &ManualClock) -> Chain {
    let chain = Chain::connect(Caip2::evm(CHAIN_ID), addresses, Arc::new(clock.clone()));
    chain.expect("the addresses are fine")
}

fn setup(chain: Arc<Chain>, notes: &Arc<dyn Notes>, clock: &ManualClock) -> Setup {
    Setup {
        name: "own".into(),
        desk: desk(notes, clock),
        chain,
        max_gas_price: None,
        alarm_below: None,
        coin_price: None,
        verify_timeout: Duration::from_secs(10),
        settle_timeout: Duration::from_secs(20),
    }
}

/// The desk of the gas key in a process of its own.
pub fn desk(notes: &Arc<dyn Notes>, clock: &ManualClock) -> Arc<Desk> {
    let key: Arc<dyn Signer> = Arc::new(Held::new(&Secret::new(GAS_KEY)).expect("it is a key"));
    Arc::new(Desk::new(&Caip2::evm(CHAIN_ID), key, notes.clone(), Arc::new(clock.clone())))
}

fn local(setup: &Setup, clock: &ManualClock) -> Arc<Local> {
    Arc::new(Local::new(setup.clone(), &[Payee(PAYEE)], Arc::new(clock.clone())).expect("the key is fine"))
}

pub fn payer() -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&[0x43; 32]).expect("it is a key")
}

pub async fn settle_at(local: &Local, payment: &Payment) -> Result<Receipt, SettleError> {
    let prepared = local.prepare(payment).await?;
    local.submit(payment, prepared).await
}

pub fn usdc() -> Asset {
    preset("base-sepolia").expect("it is a preset").assets[0].asset()
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

pub fn unresolved(payment: &Payment, transaction: Option<TransactionHash>, reserved_at: Timestamp) -> Unresolved {
    Unresolved { payment: payment.clone(), transaction, reserved_at, since: reserved_at }
}

/// The code of a decline.
pub fn code(verdict: Result<(), VerifyError>) -> String {
    match verdict {
        Err(VerifyError::Declined(decline)) => decline.code,
        other => panic!("not declined: {other:?}"),
    }
}

/// A payment of the price to the payee, good for ten minutes.
pub fn payment_of(payer: &PrivateKeySigner, nonce: u8) -> Payment {
    let preset = preset("base-sepolia").expect("it is a preset");
    let offer = Offer {
        scheme: SchemeName::Exact,
        network: Arc::new(preset.network()),
        asset: Arc::new(usdc()),
        amount: AtomicAmount::new(U256::from(PRICE)),
        pay_to: Payee(PAYEE),
        max_timeout: Duration::from_secs(600),
        settle: SettleMode::OnResponse,
        sandbox: false,
    };
    let unsigned = Eip3009 {
        from: payer.address(),
        to: PAYEE,
        value: offer.amount,
        valid_after: U256::ZERO,
        valid_before: U256::from(now().as_secs() + 600),
        nonce: Nonce(B256::repeat_byte(nonce)),
        signature: SignatureBytes(Bytes::new()),
    };
    let authorization = Authorization::Eip3009(sign(payer, unsigned));
    let resource =
        Resource { url: "https://api.example/".into(), description: String::new(), mime_type: String::new() };
    Payment { offer, authorization, dialect: Dialect::V2, resource }
}

/// The same through Permit2, good until this moment.
pub fn permit2_payment_of(payer: &PrivateKeySigner, nonce: u64, until: Timestamp) -> Payment {
    let mut payment = payment_of(payer, 0);
    payment.offer.asset = Arc::new(Asset { method: TransferMethod::Permit2, ..usdc() });
    let signed = permit2::sign(payer, &payment.offer, 0, until.as_secs(), U256::from(nonce));
    payment.authorization = Authorization::Permit2(Box::new(signed.expect("it is an EVM chain")));
    payment
}

fn sign(payer: &PrivateKeySigner, mut signed: Eip3009) -> Eip3009 {
    let message = TransferWithAuthorization {
        from: signed.from,
        to: signed.to,
        value: signed.value.units(),
        validAfter: signed.valid_after,
        validBefore: signed.valid_before,
        nonce: signed.nonce.0,
    };
    let signature = payer.sign_hash_sync(&message.eip712_signing_hash(&domain())).expect("the payer signs");
    signed.signature = SignatureBytes(signature.as_bytes().to_vec().into());
    signed
}

fn domain() -> alloy::sol_types::Eip712Domain {
    eip712_domain! { name: "USDC", version: "2", chain_id: CHAIN_ID, verifying_contract: USDC, }
}

fn eip3009(payment: &Payment) -> &Eip3009 {
    payment.authorization.eip3009().expect("it is an EIP-3009 payment")
}

fn split(signature: &[u8]) -> (u8, B256, B256) {
    (signature[64], B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]))
}
