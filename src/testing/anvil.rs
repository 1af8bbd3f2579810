//! A chain of our own: Base Sepolia's id, and Circle's own token contract where USDC stands on Base Sepolia.

mod permit2;
mod usdc;
pub mod wallets;

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U64, U256, address};
use alloy::sol_types::{SolCall, SolEvent};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::primitives::Secret;
use usdc::FiatToken;

/// Where USDC stands on Base Sepolia, and here.
pub const USDC: Address = address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e");
/// The chain id of Base Sepolia.
pub const CHAIN_ID: u64 = 84532;
/// An account with plenty of the chain's coin, unlocked by anvil: the first of its well-known mnemonic.
pub const RICH: Address = address!("0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266");

const LISTENING: &str = "Listening on ";

/// A running anvil; stopped when dropped.
pub struct Anvil {
    process: Child,
    url: String,
    client: reqwest::Client,
    /// Held while a transaction is sent: anvil gives two of one sender that meet the same number.
    sending: Mutex<()>,
}

impl Anvil {
    /// Starts a chain on a free port and puts USDC on it. Every transaction is mined at once.
    ///
    /// # Panics
    /// When anvil or the token's artifacts are not installed, with words on how to install them.
    pub async fn start() -> Self {
        Self::serving(CHAIN_ID).await
    }

    /// As [`Anvil::start`], with the id of another chain. USDC stands where it stands on Base Sepolia all the same.
    ///
    /// # Panics
    /// As there.
    pub async fn serving(chain_id: u64) -> Self {
        let program = program();
        // One slot to an epoch: the block below the head is the safe one, so proofs of absence need no long wait.
        let mut process = Command::new(&program)
            .args(["--port", "0", "--chain-id", &chain_id.to_string(), "--slots-in-an-epoch", "1"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}; {INSTALL}", program.display()));
        let output = process.stdout.take().expect("its output is piped");
        let (port, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut port = Some(port);
            // Reads on to the end, since anvil would stop at a full pipe.
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if let Some(address) = line.strip_prefix(LISTENING)
                    && let Some(port) = port.take()
                {
                    let _ = port.send(address.to_owned());
                }
            }
        });
        let address = told.await.expect("anvil says where it listens");
        // The same provider the rest of the crate uses; installed twice is as good as once.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client can be built");
        let anvil = Self { process, url: format!("http://{address}"), client, sending: Mutex::default() };
        usdc::deploy(&anvil).await;
        anvil
    }

    /// Where it listens.
    pub fn rpc_url(&self) -> Secret<String> {
        Secret::new(self.url.clone())
    }

    /// Mints USDC to an account, in smallest units.
    pub async fn fund_usdc(&self, account: Address, amount: u64) {
        let mint = FiatToken::mintCall { _to: account, _amount: U256::from(amount) };
        self.send(RICH, USDC, mint.abi_encode()).await;
    }

    /// Has USDC refuse everything to or from an account.
    pub async fn block_usdc(&self, account: Address) {
        let block = FiatToken::blacklistCall { _account: account };
        self.rpc::<Value>("anvil_setBalance", json!([usdc::NOBODY, U256::from(10).pow(U256::from(18))])).await;
        self.send(usdc::NOBODY, USDC, block.abi_encode()).await;
    }

    /// Gives an account some of the chain's coin, to pay gas with: one whole unit.
    pub async fn fund_gas(&self, account: Address) {
        self.rpc::<Value>("anvil_setBalance", json!([account, U256::from(10).pow(U256::from(18))])).await;
    }

    /// What an account holds of USDC, in smallest units.
    pub async fn usdc_balance(&self, account: Address) -> u64 {
        let call = FiatToken::balanceOfCall { account };
        let answer: Bytes = self.rpc("eth_call", json!([usdc::call(USDC, call.abi_encode()), "latest"])).await;
        FiatToken::balanceOfCall::abi_decode_returns(&answer).expect("USDC knows its balances").to()
    }

    /// Every transfer of USDC from one account to another so far: transaction and amount.
    pub async fn transfers(&self, from: Address, to: Address) -> Vec<(B256, u64)> {
        let topics = json!([FiatToken::Transfer::SIGNATURE_HASH, from.into_word(), to.into_word()]);
        let filter = json!([{ "address": USDC, "fromBlock": "0x0", "topics": topics }]);
        let logs: Vec<Value> = self.rpc("eth_getLogs", filter).await;
        let transfer = |log: &Value| {
            let hash = serde_json::from_value(log["transactionHash"].clone()).expect("a log has a transaction");
            let amount: U256 = serde_json::from_value(log["data"].clone()).expect("a transfer has an amount");
            (hash, amount.to())
        };
        logs.iter().map(transfer).collect()
    }

    /// Sends a transaction from any account, its own or not, and waits until it is mined. It may have reverted.
    pub async fn send(&self, from: Address, to: Address, input: Vec<u8>) -> B256 {
        self.send_with(from, to, input, 1_000_000).await
    }

    async fn send_with(&self, from: Address, to: Address, input: Vec<u8>, gas: u64) -> B256 {
        self.rpc::<Value>("anvil_impersonateAccount", json!([from])).await;
        let mut transaction = usdc::call(to, input);
        transaction["from"] = json!(from);
        transaction["gas"] = json!(U64::from(gas));
        let _sending = self.sending.lock().await;
        let hash = self.rpc("eth_sendTransaction", json!([transaction])).await;
        self.receipt(hash).await;
        hash
    }

    /// The receipt of a transaction, once it is in a block.
    ///
    /// # Panics
    /// When that takes ten seconds.
    pub async fn receipt(&self, hash: B256) -> Value {
        for _ in 0..1000 {
            match self.rpc("eth_getTransactionReceipt", json!([hash])).await {
                Value::Null => tokio::time::sleep(Duration::from_millis(10)).await,
                receipt => return receipt,
            }
        }
        panic!("transaction {hash} is not mined");
    }

    /// Moves the chain's clock forward and mines enough blocks for the last but one to be safe.
    pub async fn pass(&self, seconds: u64) {
        self.rpc::<Value>("evm_increaseTime", json!([U64::from(seconds)])).await;
        self.rpc::<Value>("anvil_mine", json!(["0x4"])).await;
    }

    /// Asks anvil anything.
    ///
    /// # Panics
    /// When anvil does not answer, or with an error.
    pub async fn rpc<T: DeserializeOwned>(&self, method: &str, params: Value) -> T {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.client.post(&self.url).json(&question).send().await.expect("anvil listens");
        let mut answer: Value = response.json().await.expect("anvil speaks JSON");
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        serde_json::from_value(answer["result"].take()).unwrap_or_else(|error| panic!("{method}: {error}"))
    }
}

impl Drop for Anvil {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

const INSTALL: &str = "run `make test` once, or `npm ci` in tests/e2e, or set TOLLHOUSE_ANVIL to an anvil";

/// Where the packages of `tests/e2e` are installed.
fn packages() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/e2e/node_modules"))
}

/// The anvil to run. Not npm's wrapper around it: killing that would leave anvil behind.
fn program() -> PathBuf {
    if let Some(path) = std::env::var_os("TOLLHOUSE_ANVIL") {
        return path.into();
    }
    let system = match std::env::consts::OS {
        "macos" => "darwin",
        other => other,
    };
    let machine = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        _ => "amd64",
    };
    let path = packages().join(format!("@foundry-rs/anvil-{system}-{machine}/bin/anvil"));
    assert!(path.exists(), "no anvil at {}; {INSTALL}", path.display());
    path
}
