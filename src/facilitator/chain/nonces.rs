//! Whether payments are used up yet: many of them in one question.
//!
//! A payment whose settlement was declined is looked at until it can do nothing any more (S16). Nearly all of them stay
//! unused, so that is what is asked, and of all at once. The node runs a program that asks each token, or Permit2, and
//! returns one word for each. A nonce that is used says nothing about the money (S18, S19): such a payment has to be
//! looked for by its transfer.

use alloy::primitives::{Address, Bytes, U64, U256};
use alloy::sol_types::SolCall;
use serde_json::json;

use super::Chain;
use super::node::{Node, RpcError};
use super::program::{Code, op};
use super::search::{block, safe_block};
use super::token::{self, Token};
use crate::payment::{Authorization, Payment};
use crate::primitives::PERMIT2;
use crate::scheme::exact::permit2::place;

/// How many payments one question is about.
const AT_ONCE: usize = 64;
/// The gas that a token gets to answer. A proxy in front of a mapping takes about a tenth.
const ANSWER_GAS: u32 = 100_000;
/// The gas of the program itself, for each payment: its bytes at their dearest, and what keeping its answer costs.
const OWN_GAS: u64 = 50_000;
/// Where the first answer is put. In front of it stands a word of zeros: what such a program returns must not begin with
/// certain bytes, and a token could see to it that it does (EIP-3541).
const ANSWERS: usize = WORD * 5;
const WORD: usize = 32;

/// What a node says about the nonce of a payment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unused {
    /// It is unused, and may be used yet.
    Yet,
    /// It is unused, and the time in which it could be used is over (S28).
    ForGood,
    /// It may be used. By whom, and whether that paid anybody, only a log can tell.
    Perhaps,
}

impl Chain {
    /// What the nonces of these payments are, in their order, in the view of one node; for large sums, of two (S27).
    ///
    /// # Errors
    /// When no node gives a usable answer.
    pub async fn unused(&self, payments: &[&Payment]) -> Result<Vec<Unused>, RpcError> {
        let now = self.now().as_secs();
        let over = payments.iter().any(|payment| payment.authorization.valid_before() <= now);
        let look = |node| unused(node, payments, over);
        let (first, mut all) = self.on_a_node_but(None, look).await?;
        let large: Vec<usize> =
            (0..payments.len()).filter(|at| self.confirmations.wants_two(&payments[*at].offer)).collect();
        if large.is_empty() {
            return Ok(all);
        }
        let asked: Vec<&Payment> = large.iter().map(|at| payments[*at]).collect();
        let second = self.on_a_node_but(Some(first), |node| unused(node, &asked, over)).await;
        // What two nodes see differently, or only one sees, has to be looked into. Small sums do not wait for that.
        let second = second.map(|(_, second)| second).unwrap_or_else(|_| vec![Unused::Perhaps; large.len()]);
        for (at, other) in large.into_iter().zip(second) {
            if all[at] != other {
                all[at] = Unused::Perhaps;
            }
        }
        Ok(all)
    }
}

/// The safe block is asked for first: what is unused after it was safe is unused above it.
async fn unused(node: &Node, payments: &[&Payment], over: bool) -> Result<Vec<Unused>, RpcError> {
    let safe = match over {
        true => safe_block(node, &block(node, "latest".into()).await?).await?.seconds(),
        false => 0,
    };
    let mut all = Vec::with_capacity(payments.len());
    for page in payments.chunks(AT_ONCE) {
        let questions: Vec<Question> = page.iter().map(|payment| Question::about(payment)).collect();
        let words = run(node, &questions).await?;
        all.extend(page.iter().zip(&questions).zip(words).map(|((payment, question), word)| {
            match (word & question.bit).is_zero() {
                true if payment.authorization.valid_before() < safe => Unused::ForGood,
                true => Unused::Yet,
                false => Unused::Perhaps,
            }
        }));
    }
    Ok(all)
}

/// A call whose answer has none of these bits set while the nonce is unused.
struct Question {
    whom: Address,
    call: Vec<u8>,
    bit: U256,
}

impl Question {
    fn about(payment: &Payment) -> Self {
        match &payment.authorization {
            Authorization::Eip3009(signed) => Self {
                whom: payment.offer.asset.address,
                call: Token::authorizationStateCall { authorizer: signed.from, nonce: signed.nonce.0 }.abi_encode(),
                bit: U256::MAX,
            },
            Authorization::Permit2(signed) => {
                let (word, bit) = place(signed.nonce);
                let call = token::Permit2::nonceBitmapCall { owner: signed.from, word }.abi_encode();
                Self { whom: PERMIT2, call, bit }
            }
        }
    }
}

async fn run(node: &Node, questions: &[Question]) -> Result<Vec<U256>, RpcError> {
    let gas = (u64::from(ANSWER_GAS) + OWN_GAS) * (questions.len() as u64 + 1);
    let question = json!([{ "data": program(questions), "gas": U64::from(gas) }, "latest"]);
    let answer: Bytes = node.call("eth_call", question).await?;
    let words: Vec<U256> = answer.chunks_exact(WORD).map(U256::from_be_slice).collect();
    match words.split_first() {
        Some((&U256::ZERO, words)) if answer.len() == WORD * (questions.len() + 1) => Ok(words.to_vec()),
        _ => Err(RpcError::Unusable("the node does not run programs as it should".into())),
    }
}

/// The code that asks all of it. Whoever does not answer, or answers less than a word, has all bits set.
fn program(questions: &[Question]) -> Bytes {
    let assemble = |mut data_at: usize| {
        let mut code = Code::default();
        for (number, question) in questions.iter().enumerate() {
            let (length, answer_at) = (question.call.len(), ANSWERS + number * WORD);
            code.byte(1);
            code.lay_out(data_at, length);
            code.byte(32).number(answer_at).number(length).byte(32).address(question.whom).number(ANSWER_GAS as usize);
            code.op(op::STATICCALL);
            // One if it answered: less one, that is no bit or all of them.
            code.op(op::RETURNDATASIZE).byte(31).op(op::LT).op(op::AND).op(op::SUB);
            code.number(answer_at).op(op::MLOAD).op(op::OR).number(answer_at).op(op::MSTORE);
            data_at += length;
        }
        code.number((questions.len() + 1) * WORD).number(ANSWERS - WORD).op(op::RETURN);
        code.0
    };
    // Every number takes the same room whatever it is, so the first try tells how long the code is.
    let mut program = assemble(assemble(0).len());
    questions.iter().for_each(|question| program.extend_from_slice(&question.call));
    program.into()
}
