//! Whether a contract wallet accepts a signature, asked as the token would ask (ERC-1271, ERC-6492).
//!
//! The wallet is a stranger's code: it may loop, answer with a megabyte or with nothing. So the node is not sent a call
//! to the wallet but a small program that makes the call, with a limit of gas, reads no more than one word of the answer
//! and returns yes or no. Whatever the wallet does, the node's answer is one word; an error is the node's own. For a
//! wallet that does not exist yet the program calls its factory first. Nothing of it outlives the question.

use alloy::primitives::{Address, B256, Bytes, U64};
use alloy::sol_types::SolCall;
use serde_json::json;

use super::Chain;
use super::node::{Node, RpcError};
use super::program::{Code, op};
use crate::scheme::WalletSignature;

/// The gas that a wallet gets to judge a signature. A passkey without the chain's help takes about 330,000.
const JUDGEMENT_GAS: u32 = 400_000;
/// The gas that a factory gets to create a wallet.
const CREATION_GAS: u32 = 900_000;
/// The gas of the whole question: both, and some 4 KiB of bytes at their dearest.
const QUESTION_GAS: u64 = 2_000_000;
/// What the program returns when the wallet accepts the signature.
const YES: B256 = B256::with_last_byte(1);

alloy::sol! {
    function isValidSignature(bytes32 hash, bytes signature) external view returns (bytes4);
}

impl Chain {
    /// Whether the wallet accepts the signature at the latest block. A wallet with no code accepts nothing.
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub(in crate::facilitator) async fn vouches(&self, presented: &WalletSignature) -> Result<bool, RpcError> {
        let program = program(presented);
        self.on_some_node(|node| run(node, &program)).await
    }

    /// Whether there is code at an address.
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub(in crate::facilitator) async fn has_code(&self, account: Address) -> Result<bool, RpcError> {
        Ok(!self.read::<Bytes>("eth_getCode", json!([account, "latest"])).await?.is_empty())
    }
}

async fn run(node: &Node, program: &Bytes) -> Result<bool, RpcError> {
    let question = json!([{ "data": program, "gas": U64::from(QUESTION_GAS) }, "latest"]);
    let answer: Bytes = node.call("eth_call", question).await?;
    match B256::try_from(answer.as_ref()) {
        Ok(YES) => Ok(true),
        Ok(B256::ZERO) => Ok(false),
        Ok(_) | Err(_) => Err(RpcError::Unusable("the node does not run programs as it should".into())),
    }
}

/// The code that asks. It runs as the code that creates a contract does, and what it returns is the node's answer.
fn program(presented: &WalletSignature) -> Bytes {
    let question =
        isValidSignatureCall { hash: presented.digest, signature: presented.signature.0.clone() }.abi_encode();
    let creation = presented.creation.as_ref();
    let calldata = creation.map(|creation| creation.calldata.as_ref()).unwrap_or_default();
    let assemble = |data_at: usize| {
        let mut code = Code::default();
        if let Some(creation) = creation {
            code.create(creation.factory, data_at, calldata.len());
        }
        code.judge(presented.wallet, data_at + calldata.len(), question.len());
        code.0
    };
    // Every number takes the same room whatever it is, so the first try tells how long the code is.
    let data_at = assemble(0).len();
    [assemble(data_at).as_slice(), calldata, &question].concat().into()
}

impl Code {
    /// Calls the factory. Whether that succeeds does not matter: what counts is whether there is a wallet then.
    fn create(&mut self, factory: Address, data_at: usize, length: usize) {
        self.lay_out(data_at, length);
        self.byte(0).byte(0).number(length).byte(32).byte(0).address(factory).number(CREATION_GAS as usize);
        self.op(op::CALL).op(op::POP);
    }

    /// Asks the wallet, and returns one if all of this holds: it did not fail, it answered at least a word, and the word
    /// is the selector of the question. That is what FiatToken 2.2 asks, too, with a call that can change nothing.
    fn judge(&mut self, wallet: Address, data_at: usize, length: usize) {
        self.lay_out(data_at, length);
        self.byte(32).byte(0).number(length).byte(32).address(wallet).number(JUDGEMENT_GAS as usize);
        self.op(op::STATICCALL);
        self.op(op::RETURNDATASIZE).byte(31).op(op::LT).op(op::AND);
        self.push(&isValidSignatureCall::SELECTOR).byte(224).op(op::SHL).byte(0).op(op::MLOAD).op(op::EQ).op(op::AND);
        self.byte(0).op(op::MSTORE).byte(32).byte(0).op(op::RETURN);
    }
}
