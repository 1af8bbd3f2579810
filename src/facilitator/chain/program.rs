//! Small programs that a node runs to ask contracts on its own, so that their answers come back in a form of our choosing.

use alloy::primitives::Address;

/// EVM code. The first word of memory is for answers; what is sent to others is laid out from the second on.
#[derive(Default)]
pub(super) struct Code(pub(super) Vec<u8>);

impl Code {
    /// Copies what follows the code into memory.
    pub(super) fn lay_out(&mut self, data_at: usize, length: usize) {
        self.number(length).number(data_at).byte(32).op(op::CODECOPY);
    }

    pub(super) fn op(&mut self, op: u8) -> &mut Self {
        self.0.push(op);
        self
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> &mut Self {
        let length = u8::try_from(bytes.len()).expect("an operand has 32 bytes at most");
        self.0.push(op::PUSH1 + length - 1);
        self.0.extend_from_slice(bytes);
        self
    }

    pub(super) fn byte(&mut self, byte: u8) -> &mut Self {
        self.push(&[byte])
    }

    /// In three bytes: payment headers are far shorter than that.
    pub(super) fn number(&mut self, number: usize) -> &mut Self {
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        self.push(&number.to_be_bytes()[1..])
    }

    pub(super) fn address(&mut self, address: Address) -> &mut Self {
        self.push(address.as_slice())
    }
}

/// The instructions that are used.
pub(super) mod op {
    pub(in super::super) const SUB: u8 = 0x03;
    pub(in super::super) const LT: u8 = 0x10;
    pub(in super::super) const EQ: u8 = 0x14;
    pub(in super::super) const AND: u8 = 0x16;
    pub(in super::super) const OR: u8 = 0x17;
    pub(in super::super) const SHL: u8 = 0x1b;
    pub(in super::super) const CODECOPY: u8 = 0x39;
    pub(in super::super) const RETURNDATASIZE: u8 = 0x3d;
    pub(in super::super) const POP: u8 = 0x50;
    pub(in super::super) const MLOAD: u8 = 0x51;
    pub(in super::super) const MSTORE: u8 = 0x52;
    pub(in super::super) const PUSH1: u8 = 0x60;
    pub(in super::super) const CALL: u8 = 0xf1;
    pub(in super::super) const RETURN: u8 = 0xf3;
    pub(in super::super) const STATICCALL: u8 = 0xfa;
}
