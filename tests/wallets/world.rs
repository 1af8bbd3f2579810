//! A chain with contract wallets on it, and a gateway that accepts them.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use alloy::primitives::{Address, address, hex};
use tempfile::TempDir;
use tollhouse::payment::{Eip3009, Offer};
use tollhouse::primitives::{Clock, SystemClock, Timestamp};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::anvil::wallets::Factory;
use tollhouse::testing::client::{Reply, Request};
use tollhouse::testing::smart_wallet::Form;
use tollhouse::testing::{Backend, Gateway, Relay, ScriptedFacilitator, SmartWallet, Wallet};

pub const PAYEE: Address = address!("0x209693Bc6afc0C5328bA36FaF03C514EF312287C");
/// A cent.
pub const PRICE: u64 = 10_000;
const GAS_KEY: [u8; 32] = [0x42; 32];

/// What is sent instead of a payment.
pub type Payment = (http::HeaderName, http::HeaderValue);

pub struct World {
    pub anvil: Anvil,
    pub node: Relay,
    pub gateway: Gateway,
    /// Asked only where there is no node.
    pub facilitator: ScriptedFacilitator,
    pub backend: Backend,
    pub factory: Factory,
    file: String,
    _home: TempDir,
}

/// Who tells what a wallet accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// A node; our own key settles.
    Node,
    /// A facilitator elsewhere.
    Facilitator,
}

impl World {
    pub async fn new() -> Self {
        Self::of(Asked::Node, "wallets: accept, factories: [FACTORY]", "on_response").await
    }

    /// A gateway whose network has these keys and that charges at this moment.
    pub async fn of(asked: Asked, keys: &str, settle: &str) -> Self {
        let anvil = Anvil::start().await;
        let (node, factory) = (Relay::before(&anvil).await, anvil.deploy_factory().await);
        let (facilitator, backend) = (ScriptedFacilitator::start().await, Backend::start().await);
        let home = tempfile::tempdir().expect("a directory can be made");
        let key = home.path().join("gas-key");
        std::fs::write(&key, hex::encode(GAS_KEY)).expect("the key can be written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("the key can be hidden");
        anvil.fund_gas(Wallet::from_key(GAS_KEY.into()).address()).await;

        let (rpc, facilitators) = match asked {
            Asked::Node => {
                let rpc = format!("rpc: [\"{}\"]", node.url().expose());
                let local = format!("{{{rpc}, signer: {{file: {}}}}}", key.display());
                (format!("{rpc}, "), format!("{{name: own, networks: [base-sepolia], local: {local}}}"))
            }
            Asked::Facilitator => (String::new(), format!("{{name: scripted, url: \"{}\"}}", facilitator.url())),
        };
        let keys = keys.replace("FACTORY", &format!("\"{}\"", factory.0));
        let file = format!(
            "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nledger: memory\n\
             upstream: {}\npay_to: {{base-sepolia: \"{PAYEE}\"}}\nnetworks: {{base-sepolia: {{{rpc}{keys}}}}}\n\
             facilitators: [{facilitators}]\nroutes:\n  GET /weather: {{price: $0.01, settle: {settle}}}\n",
            backend.url()
        );
        let gateway = Gateway::start(&file, Arc::new(SystemClock)).await;
        node.asked();
        Self { anvil, node, gateway, facilitator, backend, factory, file, _home: home }
    }

    /// From here on somebody else is paid.
    pub async fn pay_somebody_else(&mut self) {
        let file = self.file.replace(&PAYEE.to_string(), &Address::repeat_byte(0x70).to_checksum(None));
        self.gateway.reload(&file).await.expect("a good file");
    }

    /// A wallet that has the price and does not exist yet.
    pub async fn coming_wallet(&self) -> SmartWallet {
        let wallet = self.anvil.wallet_of(self.factory, Wallet::random()).await;
        self.anvil.fund_usdc(wallet.address, PRICE).await;
        wallet
    }

    /// A wallet that has the price.
    pub async fn wallet(&self) -> SmartWallet {
        let wallet = self.coming_wallet().await;
        self.anvil.create_wallet(&wallet).await;
        wallet
    }

    /// A wallet that has the price and judges signatures as it likes.
    pub async fn moody(&self, mood: u64) -> SmartWallet {
        let address = self.anvil.deploy("Moody").await;
        self.anvil.set_mood(address, mood).await;
        self.anvil.fund_usdc(address, PRICE).await;
        SmartWallet { address, ..self.anvil.wallet_of(self.factory, Wallet::random()).await }
    }

    /// How many wallets the node was asked about since the last time somebody wanted to know what it was asked: programs
    /// that ask a wallet, and no calls to a token.
    pub fn judgements(&self) -> usize {
        let asked = self.node.asked();
        asked.iter().filter(|(method, params)| method == "eth_call" && params[0].get("to").is_none()).count()
    }

    pub async fn ask(&self) -> Reply {
        self.gateway.ask(&Request::get("/weather")).await
    }

    /// A payment by this wallet, signed in this form.
    pub async fn payment(&self, wallet: &SmartWallet, form: Form) -> Payment {
        let challenge = self.ask().await;
        wallet.pay(form, &challenge.fields, &challenge.body, now())
    }

    /// A payment with whatever is signed for the offer.
    pub async fn signed(&self, sign: impl FnOnce(&Offer) -> Eip3009) -> Payment {
        let challenge = self.ask().await;
        let anybody = self.anvil.wallet_of(self.factory, Wallet::random()).await;
        anybody.pay_with(&challenge.fields, &challenge.body, sign)
    }

    /// GETs it with this payment.
    pub async fn pay(&self, payment: &Payment) -> Reply {
        self.gateway.ask(&Request::get("/weather").paying(payment)).await
    }

    /// What the payee got from a payer so far.
    pub async fn paid_by(&self, payer: Address) -> Vec<u64> {
        self.anvil.transfers(payer, PAYEE).await.into_iter().map(|(_, amount)| amount).collect()
    }

    /// The value of one line of the metrics.
    pub fn metric(&self, line: &str) -> u64 {
        let metrics = self.gateway.metrics();
        metrics.lines().find_map(|found| found.strip_prefix(line)?.trim().parse().ok()).unwrap_or_default()
    }

    /// How often a signature was judged with this outcome.
    pub fn judged(&self, outcome: &str) -> u64 {
        let label = format!("tollhouse_wallet_signatures_total{{network=\"eip155:84532\",outcome=\"{outcome}\"}}");
        self.metric(&label)
    }
}

pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Paid, with a receipt.
#[track_caller]
pub fn assert_paid(reply: &Reply) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    assert!(reply.settlement().expect("a receipt").success);
}

/// A 402 that says why.
#[track_caller]
pub fn assert_refused(reply: &Reply, why: &str) {
    assert_eq!(reply.status, 402, "{}", reply.text());
    assert!(reply.text().contains(why), "{}", reply.text());
}
