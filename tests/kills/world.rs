//! What outlives a gateway: its ledger, its backend, whoever moves the money, and a buyer.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Arc;

use alloy::primitives::{Address, hex};
use http::{HeaderName, HeaderValue};
use serde_json::Value;
use tempfile::TempDir;
use tollhouse::primitives::{Clock, SystemClock};
use tollhouse::testing::anvil::Anvil;
use tollhouse::testing::client::Request;
use tollhouse::testing::{Backend, Postgres, Process, ScriptedFacilitator, Wallet};

const BINARY: &str = env!("CARGO_BIN_EXE_tollhouse");
const PAYEE: Address = Address::repeat_byte(0x11);
const PRICE: u64 = 10_000;

/// Where the ledger is.
#[derive(Debug, Clone, Copy)]
pub enum Store {
    Sqlite,
    Postgres,
}

/// Who moves the money.
pub enum Mover {
    Facilitator(ScriptedFacilitator),
    /// The gateway itself.
    Chain(Arc<Anvil>),
}

pub struct World {
    pub backend: Backend,
    pub mover: Mover,
    wallet: Wallet,
    file: PathBuf,
    _folder: TempDir,
}

impl World {
    /// Where `/weather` costs a cent and is settled like this, and nobody can spend two cents a day.
    pub async fn new(store: Store, settle: &str, chain: Option<Arc<Anvil>>) -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let (wallet, backend) = (Wallet::random(), Backend::start().await);
        let ledger = match store {
            Store::Sqlite => "sqlite:ledger.db".to_owned(),
            Store::Postgres => {
                let schema = Postgres::shared().schema().await;
                let secret = secret(folder.path(), "ledger-url", schema.url.expose());
                format!("{{postgres: {{url: {{file: {}}}}}}}", secret.display())
            }
        };
        let (mover, lines) = match chain {
            Some(anvil) => {
                let lines = local(&anvil, &wallet, folder.path()).await;
                (Mover::Chain(anvil), lines)
            }
            None => {
                let facilitator = ScriptedFacilitator::start().await;
                let url = facilitator.url();
                let timeout = "timeout: {verify: 5s, settle: 1s}";
                (
                    Mover::Facilitator(facilitator),
                    format!("facilitators: [{{name: scripted, url: \"{url}\", {timeout}}}]"),
                )
            }
        };
        let text = format!(
            "version: 1\npublic_url: http://api.test\nlisten: 127.0.0.1:0\nstatus: none\nupstream: {}\n\
             pay_to: {{base-sepolia: \"{PAYEE}\"}}\n{lines}\nledger: {ledger}\n\
             caps: {{per_payer_per_day: $0.015}}\n\
             routes:\n  GET /weather: {{price: $0.01, settle: {settle}, limits: {{timeout: 3s}}}}\n",
            backend.url()
        );
        let file = folder.path().join("gateway.yaml");
        std::fs::write(&file, text).expect("the folder is ours");
        Self { backend, mover, wallet, file, _folder: folder }
    }

    /// A gateway on what the last one left.
    pub async fn process(&self) -> Process {
        Process::start(BINARY, &self.file).await
    }

    /// The same, to die at this place; `None` when it came there before it served.
    pub async fn doomed(&self, place: &str) -> Option<Process> {
        Process::doomed(BINARY, &self.file, place).await
    }

    /// Asks for the price and signs it.
    pub async fn payment(&self, process: &Process) -> (HeaderName, HeaderValue) {
        let challenge = process.send(&Request::get("/weather")).await.reply().await;
        assert_eq!(challenge.status, 402, "{}", challenge.text());
        let now = SystemClock.now();
        self.wallet.pay(&challenge.fields, &challenge.body, now).expect("the offer can be paid")
    }

    /// The transactions in which the buyer's money has moved, as whoever moves it knows them.
    pub async fn transfers(&self) -> Vec<String> {
        match &self.mover {
            Mover::Chain(anvil) => {
                let transfers = anvil.transfers(self.wallet.address(), PAYEE).await;
                transfers.iter().map(|(transaction, _)| transaction.to_string()).collect()
            }
            Mover::Facilitator(facilitator) => facilitator.transactions().iter().map(hex::encode_prefixed).collect(),
        }
    }

    /// What the ledger says of the one payment, with or without a gateway; `None` when it knows of none.
    pub async fn entry(&self) -> Option<Value> {
        let listed = self.ledger("list", &["--format", "json"]).await;
        let text = String::from_utf8(listed.stdout).expect("it writes UTF-8");
        assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
        let mut entries = text.lines().map(|line| serde_json::from_str(line).expect("one object a line"));
        let entry = entries.next();
        assert!(entries.next().is_none(), "one payment was made: {text}");
        entry
    }

    /// What `tollhouse ledger verify` finds wrong.
    pub async fn faults(&self) -> Option<String> {
        let Output { status, stdout, stderr } = self.ledger("verify", &[]).await;
        let text = [stdout, stderr].map(|said| String::from_utf8_lossy(&said).into_owned()).concat();
        (!status.success()).then_some(text)
    }

    async fn ledger(&self, command: &str, arguments: &[&str]) -> Output {
        let mut run = Command::new(BINARY);
        run.args(["ledger", command]).args(arguments).arg("-c").arg(&self.file).stdin(Stdio::null());
        let ran = tokio::task::spawn_blocking(move || run.output());
        ran.await.expect("it ends").expect("the binary runs")
    }
}

/// A gas key of its own and a buyer with money, as lines of the file.
async fn local(anvil: &Anvil, wallet: &Wallet, folder: &Path) -> String {
    // Any number below the order of the curve is a key.
    let (key, rpc) = (Wallet::random().address().into_word(), anvil.rpc_url());
    anvil.fund_gas(Wallet::from_key(key).address()).await;
    // Twice the price: a second charge would succeed.
    anvil.fund_usdc(wallet.address(), 2 * PRICE).await;
    let key = secret(folder, "gas-key", &hex::encode(key));
    format!(
        "facilitators: [{{name: own, networks: [base-sepolia], timeout: {{verify: 5s, settle: 5s}}, \
         local: {{rpc: [\"{}\"], signer: {{file: {}}}}}}}]",
        rpc.expose(),
        key.display()
    )
}

fn secret(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("the folder is ours");
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o600)).expect("the file is ours");
    path
}
