//! One node, spoken to over JSON-RPC.
//!
//! The addresses of nodes hold API keys, and every answer is a stranger's. So the client is our own: an answer has a
//! size and a deadline, proxies and redirects are not followed, and an address never reaches a log or an error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use alloy::primitives::hex;
use alloy::sol_types::decode_revert_reason;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::agree::Disagreement;
use crate::facilitator::BoxError;
use crate::primitives::{Clock, Secret, Timestamp};

/// The longest answer that is read (I7). A page of logs of one authorization is far below it.
const MAX_ANSWER: usize = 1 << 20;
/// How much of a node's complaint is kept.
const MAX_MESSAGE: usize = 200;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
const CALL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node's word about which chain it serves is believed (S27).
const CHAIN_ID_TTL: Duration = Duration::from_secs(60);

/// Why a node gave no answer to a question.
#[derive(Debug, thiserror::Error)]
pub enum RpcError {
    /// There was no connection: the question was certainly not received.
    #[error("the node could not be reached")]
    Unreachable(#[source] BoxError),
    /// The question may have been received, but what came back is no answer (S14).
    #[error("the node gave no usable answer")]
    Unusable(#[source] BoxError),
    /// The node understood the question and answered with an error.
    #[error("the node refused: {message} ({code})")]
    Refused {
        /// JSON-RPC code.
        code: i64,
        /// In the node's words, shortened.
        message: String,
    },
    /// The node serves another chain (S9).
    #[error("the node serves chain {actual}, not {expected}")]
    WrongChain {
        /// What the configuration says.
        expected: u64,
        /// What the node says.
        actual: u64,
    },
    /// One node shows it, and there is no other that could be asked or that has come so far (S27).
    #[error("no second node shows it")]
    Alone(#[source] BoxError),
    /// One node shows it, and another one shows that it is not so (S27).
    #[error("our own nodes contradict each other")]
    Disagreement(#[source] Disagreement),
}

impl RpcError {
    /// Whether this is a contract's own refusal to execute. Nodes disagree on the code, so the caller confirms what
    /// it concludes from it by reading state.
    pub(in crate::facilitator) fn is_revert(&self) -> bool {
        const EXECUTION_REVERTED: i64 = 3;
        const VM_EXECUTION_ERROR: i64 = -32015;
        match self {
            Self::Refused { code, message } => {
                matches!(*code, EXECUTION_REVERTED | VM_EXECUTION_ERROR) || message.contains("revert")
            }
            Self::Unreachable(_) | Self::Unusable(_) | Self::WrongChain { .. } => false,
            Self::Alone(_) | Self::Disagreement(_) => false,
        }
    }

    fn unusable(why: impl Into<BoxError>) -> Self {
        Self::Unusable(why.into())
    }
}

/// A text that is no address of a node. It does not say which, since it may hold a key.
#[derive(Debug, thiserror::Error)]
#[error("the address of a node must be an http or https URL")]
pub struct InvalidAddress;

/// One node.
pub(in crate::facilitator) struct Node {
    address: Secret<String>,
    /// What of the address may be shown: host and port.
    host: String,
    client: reqwest::Client,
    chain_id: u64,
    clock: Arc<dyn Clock>,
    /// When it last named the right chain, in milliseconds since the epoch; zero for never.
    chain_checked: AtomicU64,
    /// Whether it gave no answer when it was last asked.
    down: AtomicBool,
    /// How many milliseconds its head was behind the best one's.
    pub(super) behind: AtomicU64,
}

impl Node {
    /// A node at an address. Does not connect.
    pub(super) fn new(
        address: &Secret<String>,
        client: reqwest::Client,
        chain_id: u64,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, InvalidAddress> {
        let url: url::Url = address.expose().parse().map_err(|_| InvalidAddress)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(InvalidAddress);
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self {
            address: address.clone(),
            host: format!("{}{port}", url.host_str().unwrap_or_default()),
            client,
            chain_id,
            clock,
            chain_checked: AtomicU64::new(0),
            down: AtomicBool::new(false),
            behind: AtomicU64::new(0),
        })
    }

    /// Asks a question of the right chain: whether it is the right one is asked first, once a minute.
    pub(in crate::facilitator) async fn call<T: DeserializeOwned>(
        &self,
        method: &str,
        params: Value,
    ) -> Result<T, RpcError> {
        let answer = match self.check_chain_id().await {
            Ok(()) => self.ask(method, params).await,
            Err(error) => Err(error),
        };
        let is_down = matches!(&answer, Err(error) if !matches!(error, RpcError::Refused { .. }));
        self.down.store(is_down, Ordering::Relaxed);
        answer
    }

    /// What people may call it by: its address holds a key perhaps, its host does not.
    pub(super) fn host(&self) -> &str {
        &self.host
    }

    /// Whether it gave an answer when it was last asked; true before it ever was.
    pub(super) fn is_up(&self) -> bool {
        !self.down.load(Ordering::Relaxed)
    }

    fn within(&self, span: Duration, moment: &AtomicU64) -> bool {
        match moment.load(Ordering::Relaxed) {
            0 => false,
            moment => self.clock.now().since(Timestamp::from_millis(moment)) < span,
        }
    }

    async fn check_chain_id(&self) -> Result<(), RpcError> {
        if self.within(CHAIN_ID_TTL, &self.chain_checked) {
            return Ok(());
        }
        let actual: alloy::primitives::U64 = self.ask("eth_chainId", json!([])).await?;
        let actual = actual.to::<u64>();
        if actual != self.chain_id {
            self.chain_checked.store(0, Ordering::Relaxed);
            return Err(RpcError::WrongChain { expected: self.chain_id, actual });
        }
        self.chain_checked.store(self.clock.now().as_millis(), Ordering::Relaxed);
        Ok(())
    }

    async fn ask<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        let question = json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let response = self.client.post(self.address.expose().as_str()).json(&question).send().await;
        let response = response.map_err(|error| match error.is_connect() {
            true => RpcError::Unreachable(error.without_url().into()),
            false => RpcError::unusable(error.without_url()),
        })?;
        if !response.status().is_success() {
            return Err(RpcError::unusable(format!("HTTP status {}", response.status())));
        }
        let answer: Value = serde_json::from_slice(&read(response).await?).map_err(RpcError::unusable)?;
        result(answer)
    }
}

/// A client for nodes: no proxy of the environment, no redirects, and nothing waits for ever.
pub(super) fn client() -> Result<reqwest::Client, BoxError> {
    // The one provider this crate is built with. It may have been installed before, which is just as well.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(CALL_TIMEOUT)
        .build()?;
    Ok(client)
}

/// The body, if it is not too long.
async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, RpcError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| RpcError::unusable(error.without_url()))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(RpcError::unusable(format!("the answer is longer than {MAX_ANSWER} bytes")));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The result of a JSON-RPC answer. An answer with neither result nor error is not taken for an empty result (S14).
fn result<T: DeserializeOwned>(mut answer: Value) -> Result<T, RpcError> {
    if let Some(error) = answer.get("error").filter(|error| !error.is_null()) {
        let Some(code) = error.get("code").and_then(Value::as_i64) else {
            return Err(RpcError::unusable("the error has no code"));
        };
        return Err(RpcError::Refused { code, message: complaint(error).chars().take(MAX_MESSAGE).collect() });
    }
    match answer.get_mut("result") {
        Some(result) => serde_json::from_value(result.take()).map_err(RpcError::unusable),
        None => Err(RpcError::unusable("neither a result nor an error")),
    }
}

/// A node's words, and a contract's own where it gave some: nodes differ in whether they repeat them.
fn complaint(error: &Value) -> String {
    let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
    let data = error.get("data").and_then(|data| data.as_str().or_else(|| data.get("data")?.as_str()));
    let reason = data.and_then(|data| hex::decode(data).ok()).and_then(|data| decode_revert_reason(&data));
    match reason.as_deref().map(|reason| reason.trim_start_matches("revert: ")) {
        Some(reason) if !reason.is_empty() && !message.contains(reason) => format!("{message}: {reason}"),
        _ => message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use alloy::primitives::U64;
    use alloy::sol_types::{Revert, SolError as _};

    use super::*;

    #[test]
    fn s14_only_a_whole_answer_is_an_answer() {
        assert_eq!(result::<U64>(json!({ "result": "0x2a" })).ok(), Some(U64::from(42)));
        assert!(matches!(result::<Option<U64>>(json!({ "result": null })), Ok(None)));
        for broken in
            [json!({}), json!([]), json!("ok"), json!({ "result": null }), json!({ "error": { "message": 7 } })]
        {
            assert!(matches!(result::<U64>(broken.clone()), Err(RpcError::Unusable(_))), "{broken} was an answer");
        }
    }

    #[test]
    fn a_refusal_is_told_from_a_revert() {
        let refusal = |code, message: &str| result::<U64>(json!({ "error": { "code": code, "message": message } }));
        assert!(refusal(3, "execution reverted: used").is_err_and(|error| error.is_revert()));
        assert!(refusal(-32000, "execution reverted").is_err_and(|error| error.is_revert()));
        assert!(refusal(-32005, "rate limit exceeded").is_err_and(|error| !error.is_revert()));
    }

    #[test]
    fn s30_a_contract_is_heard_in_its_own_words() {
        let own = "FiatTokenV2: authorization is used or canceled";
        let data = hex::encode_prefixed(Revert::from(own).abi_encode());
        for error in [
            json!({ "code": 3, "message": "execution reverted", "data": data }),
            json!({ "code": -32000, "message": "execution reverted", "data": { "data": data } }),
            json!({ "code": 3, "message": format!("execution reverted: {own}"), "data": data }),
        ] {
            let Err(RpcError::Refused { message, .. }) = result::<U64>(json!({ "error": error })) else {
                panic!("it was refused");
            };
            assert_eq!(message.matches(own).count(), 1, "{message}");
        }
        let odd = result::<U64>(json!({ "error": { "code": 3, "message": "reverted", "data": "0x1234zz" } }));
        assert!(matches!(odd, Err(RpcError::Refused { message, .. }) if message == "reverted"));
    }

    #[test]
    fn an_address_is_checked_and_never_told() {
        let client = client().expect("a client can be built");
        for address in ["wss://node.example/key", "node.example", "file:///key", ""] {
            let address = Secret::new(address.to_owned());
            let clock = Arc::new(crate::primitives::SystemClock);
            let error = Node::new(&address, client.clone(), 1, clock).err().expect("it is no address");
            assert!(!error.to_string().contains("key"));
        }
    }

    #[tokio::test]
    async fn an_https_address_is_spoken_to_in_tls() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = format!("https://{}/key", listener.local_addr().expect("it is bound"));
        let clock = Arc::new(crate::primitives::SystemClock);
        let node = Node::new(&Secret::new(address), client().expect("a client can be built"), 1, clock);
        let node = node.expect("it is an address");

        let hello = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.expect("the node is called");
            let mut first = [0; 2];
            tokio::io::AsyncReadExt::read_exact(&mut socket, &mut first).await.expect("it says hello");
            first
        });
        let error = node.call::<U64>("eth_blockNumber", json!([])).await.expect_err("nobody answers in TLS");

        assert_eq!(hello.await.expect("it was read"), [0x16, 0x03], "a TLS handshake record");
        assert!(!format!("{error:?}").contains("key"), "{error:?}");
    }
}
