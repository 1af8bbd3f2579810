//! What a chain says about a payment, read from nodes of our own choosing.
//!
//! Everything read here is a stranger's word: an answer that is missing, odd or late is no answer (S14), and a
//! transfer counts only as the exact log the token wrote (S17).

mod agree;
mod confirm;
mod node;
mod nonces;
mod permit2;
mod program;
mod proof;
mod search;
mod survey;
mod token;
mod transfers;
mod wallet;
mod watch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use alloy::primitives::{Address, B256, Bytes, U64, U128, U256};
use alloy::sol_types::SolCall;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{BoxError, Means};
use crate::payment::{Authorization, Eip3009, Payment, TransactionHash};
use crate::primitives::{Asset, Caip2, Clock, Eip712Name, PERMIT2, Secret, Timestamp, TransferMethod};
use crate::scheme::exact::eip3009;
use crate::scheme::exact::permit2::{PROXY, place};
pub use agree::Disagreement;
pub use confirm::Confirmations;
pub use node::{InvalidAddress, RpcError};
pub use nonces::Unused;
pub use proof::{Found, NotThere};
pub use search::{Never, Verdict};
pub use survey::Health;
pub use transfers::{Moved, Spent, Transfer};
pub use watch::{Sighting, Watch, Watched};

use node::Node;
use token::Token;

/// A chain, through one or several nodes.
pub struct Chain {
    network: Caip2,
    nodes: Vec<Node>,
    clock: Arc<dyn Clock>,
    confirmations: Confirmations,
    /// The time of the latest block that was seen, in milliseconds since the epoch.
    head_seen: AtomicU64,
    /// By how many milliseconds the chain's clock and ours disagree.
    skew: AtomicU64,
    /// Whether x402's exact proxy was seen on it.
    proxy_seen: AtomicBool,
}

/// Why a chain cannot be spoken to at all.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no EVM chain of that name.
    #[error("{0} is not an EVM chain")]
    NotEvm(Caip2),
    /// No node was named.
    #[error("no node of {0} is configured")]
    NoNode(Caip2),
    /// An address is unusable.
    #[error(transparent)]
    Address(#[from] InvalidAddress),
    /// No HTTP client could be built: for example, the system has no root certificates.
    #[error("no HTTP client could be built")]
    Client(#[source] BoxError),
}

/// Why a chain is not what the configuration says (S9).
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No node answered, so nothing is known.
    #[error("no node of {network} answered")]
    NoAnswer {
        /// The chain.
        network: Caip2,
        /// The last node's failure.
        #[source]
        source: RpcError,
    },
    /// A node serves another chain.
    #[error("a node configured for {expected} serves {actual}")]
    WrongChain {
        /// The configured chain.
        expected: Caip2,
        /// The chain the node serves.
        actual: Caip2,
    },
    /// There is no token with a domain separator at the address, so it takes no EIP-3009 authorization.
    #[error("{token} is not an EIP-3009 token on {network}")]
    NotAToken {
        /// The chain.
        network: Caip2,
        /// The configured address.
        token: Address,
    },
    /// Something that payments through Permit2 need is not on this chain.
    #[error("{what} is not on {network}: there is no contract at {address}")]
    NoContract {
        /// The chain.
        network: Caip2,
        /// What is missing.
        what: &'static str,
        /// Where it would stand.
        address: Address,
    },
    /// Authorizations for the token are signed under another name or version, so every signature would fail.
    #[error(
        "token {token} has DOMAIN_SEPARATOR {actual}; name `{}` and version `{}` on {network} give {expected}{}",
        configured.name,
        configured.version,
        own_words(says.as_ref())
    )]
    WrongDomain {
        /// The chain.
        network: Caip2,
        /// The token.
        token: Address,
        /// The configured name and version.
        configured: Eip712Name,
        /// What they give.
        expected: B256,
        /// What the token has.
        actual: B256,
        /// What the token calls itself, when it does.
        says: Option<Eip712Name>,
    },
}

fn own_words(says: Option<&Eip712Name>) -> String {
    says.map(|own| format!("; it calls itself `{}`, version `{}`", own.name, own.version)).unwrap_or_default()
}

/// A block's header, as far as it matters here.
#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Block {
    number: U64,
    timestamp: U64,
    #[serde(default)]
    pub(super) base_fee_per_gas: Option<U128>,
}

impl Block {
    fn number(&self) -> u64 {
        self.number.to()
    }

    pub(super) fn seconds(&self) -> u64 {
        self.timestamp.to()
    }

    fn time(&self) -> Timestamp {
        Timestamp::from_secs(self.seconds())
    }
}

impl Chain {
    /// The chain with these nodes, the first one preferred. Does not connect.
    ///
    /// # Errors
    /// When it is no EVM chain, or an address is unusable, or there is none.
    pub fn connect(network: Caip2, addresses: &[Secret<String>], clock: Arc<dyn Clock>) -> Result<Self, ConnectError> {
        let Some(chain_id) = network.chain_id() else { return Err(ConnectError::NotEvm(network)) };
        if addresses.is_empty() {
            return Err(ConnectError::NoNode(network));
        }
        let client = node::client().map_err(ConnectError::Client)?;
        let node = |address| Node::new(address, client.clone(), chain_id, clock.clone());
        let nodes = addresses.iter().map(node).collect::<Result<_, _>>()?;
        Ok(Self {
            network,
            nodes,
            clock,
            confirmations: Confirmations::default(),
            head_seen: AtomicU64::new(0),
            skew: AtomicU64::new(0),
            proxy_seen: AtomicBool::new(false),
        })
    }

    /// Which chain it is.
    pub fn network(&self) -> &Caip2 {
        &self.network
    }

    /// Whether every node that answers serves this chain, and the token takes what is signed for the asset (S9).
    ///
    /// # Errors
    /// When one does not, or none answers.
    pub async fn check(&self, asset: &Asset) -> Result<(), CheckError> {
        let mut failure = None;
        let mut answered = false;
        for node in &self.nodes {
            match self.check_on(node, asset).await {
                Ok(()) => answered = true,
                Err(CheckError::NoAnswer { source, .. }) => failure = Some(source),
                Err(wrong) => return Err(wrong),
            }
        }
        match failure {
            Some(source) if !answered => Err(CheckError::NoAnswer { network: self.network.clone(), source }),
            _ => Ok(()),
        }
    }

    async fn check_on(&self, node: &Node, asset: &Asset) -> Result<(), CheckError> {
        match asset.method {
            TransferMethod::Eip3009 => self.check_domain(node, asset).await,
            TransferMethod::Permit2 => self.check_contracts(node, asset).await,
        }
    }

    /// Whether everything is there that a payment through Permit2 calls.
    async fn check_contracts(&self, node: &Node, asset: &Asset) -> Result<(), CheckError> {
        let network = || self.network.clone();
        for (what, address) in [("the token", asset.address), ("Permit2", PERMIT2), ("x402's exact proxy", PROXY)] {
            match code_at(node, address).await {
                Ok(true) => {}
                Ok(false) => return Err(CheckError::NoContract { network: network(), what, address }),
                Err(RpcError::WrongChain { actual, .. }) => {
                    return Err(CheckError::WrongChain { expected: network(), actual: Caip2::evm(actual) });
                }
                Err(source) => return Err(CheckError::NoAnswer { network: network(), source }),
            }
        }
        Ok(())
    }

    async fn check_domain(&self, node: &Node, asset: &Asset) -> Result<(), CheckError> {
        let network = self.network.clone();
        let token = asset.address;
        let actual = match ask_token(node, token, &Token::DOMAIN_SEPARATORCall {}, "latest".into()).await {
            Ok(Some(separator)) => separator,
            Ok(None) => return Err(CheckError::NotAToken { network, token }),
            Err(revert) if revert.is_revert() => return Err(CheckError::NotAToken { network, token }),
            Err(RpcError::WrongChain { actual, .. }) => {
                return Err(CheckError::WrongChain { expected: network, actual: Caip2::evm(actual) });
            }
            Err(source) => return Err(CheckError::NoAnswer { network, source }),
        };
        let expected = eip3009::domain_separator(self.chain_id(), asset);
        if actual == expected {
            return Ok(());
        }
        let name = ask_token(node, token, &Token::nameCall {}, "latest".into()).await.ok().flatten();
        let version = ask_token(node, token, &Token::versionCall {}, "latest".into()).await.ok().flatten();
        let says = name.zip(version).map(|(name, version)| Eip712Name { name, version });
        Err(CheckError::WrongDomain { network, token, configured: asset.eip712.clone(), expected, actual, says })
    }

    pub(super) fn chain_id(&self) -> u64 {
        self.network.chain_id().expect("`connect` takes EVM chains only")
    }

    /// The latest block.
    pub(super) async fn head(&self) -> Result<Block, RpcError> {
        self.read("eth_getBlockByNumber", json!(["latest", false])).await
    }

    /// Whether the authorization's nonce is used up. That it is says nothing about who got the money (S19).
    pub(super) async fn is_used(&self, payment: &Payment) -> Result<bool, RpcError> {
        match &payment.authorization {
            Authorization::Eip3009(Eip3009 { from, nonce, .. }) => {
                let state = Token::authorizationStateCall { authorizer: *from, nonce: nonce.0 };
                self.ask(payment.offer.asset.address, &state).await
            }
            Authorization::Permit2(signed) => {
                let (word, bit) = place(signed.nonce);
                let bits: U256 =
                    self.ask(PERMIT2, &token::Permit2::nonceBitmapCall { owner: signed.from, word }).await?;
                Ok(!(bits & bit).is_zero())
            }
        }
    }

    /// What the payer could pay with through Permit2 (S36). The nonce is looked at last: while it is unused, nothing of
    /// what was seen before can be this payment's own doing.
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub async fn means(&self, token: Address, owner: Address, nonce: U256) -> Result<Means, RpcError> {
        self.on_some_node(|node| async move {
            let odd = || RpcError::Unusable("the contract returned something else".into());
            let (word, bit) = place(nonce);
            let balance = Token::balanceOfCall { account: owner };
            let allowance = Token::allowanceCall { owner, spender: PERMIT2 };
            let bits = token::Permit2::nonceBitmapCall { owner, word };
            let (balance, allowance) = tokio::try_join!(
                ask_token(node, token, &balance, "latest".into()),
                ask_token(node, token, &allowance, "latest".into())
            )?;
            let bits = ask_token(node, PERMIT2, &bits, "latest".into()).await?.ok_or_else(odd)?;
            let (balance, allowance) = (balance.ok_or_else(odd)?, allowance.ok_or_else(odd)?);
            Ok(Means { balance, allowance, used: !(bits & bit).is_zero() })
        })
        .await
    }

    /// Whether x402's exact proxy is on this chain. Where it was seen once, it stays: it cannot remove itself.
    pub(super) async fn has_proxy(&self) -> Result<bool, RpcError> {
        if self.proxy_seen.load(Ordering::Relaxed) {
            return Ok(true);
        }
        let found = self.on_some_node(|node| code_at(node, PROXY)).await?;
        self.proxy_seen.store(found, Ordering::Relaxed);
        Ok(found)
    }

    /// What an account holds of a token.
    pub(super) async fn balance(&self, token: Address, account: Address) -> Result<U256, RpcError> {
        self.ask(token, &Token::balanceOfCall { account }).await
    }

    /// How many transactions an account has sent: those in blocks (`latest`), or all that the node has (`pending`).
    pub(super) async fn count(&self, account: Address, of: &str) -> Result<u64, RpcError> {
        Ok(self.read::<U64>("eth_getTransactionCount", json!([account, of])).await?.to())
    }

    /// What an account holds of the chain's own coin, in wei.
    pub(super) async fn coin_balance(&self, account: Address) -> Result<U256, RpcError> {
        self.read("eth_getBalance", json!([account, "latest"])).await
    }

    /// Whether a node has heard of a transaction.
    pub(super) async fn knows(&self, transaction: TransactionHash) -> Result<bool, RpcError> {
        Ok(self.read::<Option<Value>>("eth_getTransactionByHash", json!([transaction])).await?.is_some())
    }

    /// Whether a transaction is in a block, whatever it did there.
    pub(super) async fn is_mined(&self, transaction: TransactionHash) -> Result<bool, RpcError> {
        let receipt = self.read::<Option<Value>>("eth_getTransactionReceipt", json!([transaction])).await?;
        Ok(receipt.is_some_and(|receipt| receipt.get("blockHash").is_some_and(|block| !block.is_null())))
    }

    async fn ask<C: SolCall>(&self, token: Address, call: &C) -> Result<C::Return, RpcError> {
        let answer = self.on_some_node(|node| ask_token(node, token, call, "latest".into())).await?;
        answer.ok_or_else(|| RpcError::Unusable("the token returned something else".into()))
    }

    /// Asks the nodes in turn until one answers. A revert is an answer: the contract's.
    pub(super) async fn read<T: DeserializeOwned>(&self, method: &str, params: Value) -> Result<T, RpcError> {
        self.on_some_node(|node| node.call(method, params.clone())).await
    }

    /// Puts a whole question to one node at a time, so that its parts are answered from one view of the chain (S27).
    async fn on_some_node<'a, T, F>(&'a self, question: impl Fn(&'a Node) -> F) -> Result<T, RpcError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        self.on_a_node_but(None, question).await.map(|(_, answer)| answer)
    }

    /// As above, by any other node than this one. Says which it was.
    async fn on_a_node_but<'a, T, F>(
        &'a self,
        but: Option<&Node>,
        question: impl Fn(&'a Node) -> F,
    ) -> Result<(&'a Node, T), RpcError>
    where
        F: Future<Output = Result<T, RpcError>>,
    {
        let mut failure = RpcError::Unusable("no node is configured".into());
        for node in self.nodes() {
            if but.is_some_and(|but| std::ptr::eq(but, node)) {
                continue;
            }
            match question(node).await {
                Err(error) if !error.is_revert() => failure = error,
                answer => return answer.map(|answer| (node, answer)),
            }
        }
        Err(failure)
    }

    /// Whether a node is left that answered when it was last asked.
    pub(super) fn answers(&self) -> bool {
        self.nodes.iter().any(Node::is_up)
    }

    /// The nodes in the order of preference; those that are behind, and then those that gave no answer, come last.
    pub(super) fn nodes(&self) -> Vec<&Node> {
        let mut nodes: Vec<&Node> = self.nodes.iter().collect();
        nodes.sort_by_key(|node| Self::rank(node));
        nodes
    }
}

async fn code_at(node: &Node, account: Address) -> Result<bool, RpcError> {
    Ok(!node.call::<Bytes>("eth_getCode", json!([account, "latest"])).await?.is_empty())
}

/// Asks a token on one node, at one block; `None` when what comes back is not what such a token returns.
async fn ask_token<C: SolCall>(
    node: &Node,
    token: Address,
    call: &C,
    block: Value,
) -> Result<Option<C::Return>, RpcError> {
    let call = json!({ "to": token, "data": Bytes::from(call.abi_encode()) });
    let answer: Bytes = node.call("eth_call", json!([call, block])).await?;
    Ok(C::abi_decode_returns_validate(&answer).ok())
}
