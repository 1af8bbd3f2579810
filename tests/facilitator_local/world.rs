//! A chain, a facilitator on it, and payers who sign.

use std::sync::Arc;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256, address};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::{SolCall, SolStruct, eip712_domain};
use serde_json::{Value, json};
use tollhouse::facilitator::chain::Chain;
use tollhouse::facilitator::local::{Local, Setup};
use tollhouse::facilitator::{Facilitator, Outcome, SettleError, Unresolved, VerifyError};
use tollhouse::payment::{
    Authorization, Dialect, Eip3009, Offer, Payment, Receipt, Resource, SchemeName, SettleMode, SignatureBytes,
    TransactionHash,
};
use tollhouse::primitives::{Asset, AtomicAmount, Caip2, Clock, Nonce, Payee, Secret, SystemClock, Timestamp, preset};
use tollhouse::testing::anvil::{Anvil, CHAIN_ID, RICH, USDC};

sol! {
    struct TransferWithAuthorization {
        address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
    }
    struct CancelAuthorization { address authorizer; bytes32 nonce; }

    function transferWithAuthorization(
        address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
        uint8 v, bytes32 r, bytes32 s
    ) external;
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
    pub local: Local,
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
        let clock = Arc::new(SystemClock);
        let chain = Chain::connect(Caip2::evm(CHAIN_ID), addresses, clock.clone()).expect("the addresses are fine");
        let chain = Arc::new(chain);
        let mut setup = Setup {
            name: "own".into(),
            chain: chain.clone(),
            signer: Secret::new(GAS_KEY),
            max_gas_price: None,
            verify_timeout: Duration::from_secs(10),
            settle_timeout: Duration::from_secs(20),
        };
        change(&mut setup);
        let local = Local::new(setup.clone(), &[Payee(PAYEE)], clock).expect("the key is fine");
        anvil.fund_gas(local.address()).await;
        Self { anvil, chain, setup, local, payer: payer() }
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
        let prepared = self.local.prepare(payment).await?;
        self.local.submit(payment, prepared).await
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
        let (v, r, s) = split(&signed.signature.0);
        let call = transferWithAuthorizationCall {
            from: signed.from,
            to: signed.to,
            value: signed.value.units(),
            validAfter: signed.valid_after,
            validBefore: signed.valid_before,
            nonce: signed.nonce.0,
            v,
            r,
            s,
        };
        self.send(RICH, call.abi_encode()).await
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

pub fn payer() -> PrivateKeySigner {
    PrivateKeySigner::from_slice(&[0x43; 32]).expect("it is a key")
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
    match &payment.authorization {
        Authorization::Eip3009(signed) => signed,
    }
}

fn split(signature: &[u8]) -> (u8, B256, B256) {
    (signature[64], B256::from_slice(&signature[..32]), B256::from_slice(&signature[32..64]))
}
