//! A contract wallet that signs for real: one of its owners does.

use alloy::primitives::{Address, Bytes, U256};
use alloy::sol_types::SolValue;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Wallet;
use crate::payment::{Eip3009, Offer, SignatureBytes};
use crate::primitives::Timestamp;
use crate::protocol::x402::client::Challenge;
use crate::scheme::erc6492::{self, Creation};
use crate::scheme::exact::eip3009;

/// A contract wallet whose first owner is a key. `Wallet` of tests/fixtures/wallets.
#[derive(Debug, Clone)]
pub struct SmartWallet {
    /// Where it stands, or will stand.
    pub address: Address,
    /// How it comes to be.
    pub creation: Creation,
    /// Who signs for it.
    pub owner: Wallet,
}

/// How a wallet's signature is presented.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// The owner's 65 bytes.
    Plain,
    /// The owner's number and 65 bytes.
    Long,
    /// The same in the wrapper for wallets that do not exist yet.
    Wrapped,
}

impl SmartWallet {
    /// Signs the acceptance of an offer in the wallet's name.
    ///
    /// # Panics
    /// When the offer is not on an EVM chain.
    pub fn accept(&self, form: Form, offer: &Offer, now: Timestamp) -> Eip3009 {
        let unsigned = Eip3009 {
            from: self.address,
            signature: SignatureBytes(Bytes::new()),
            ..self.owner.accept(crate::payment::Dialect::V2, offer, now)
        };
        let digest = eip3009::digest(offer, &unsigned).expect("test offers are on EVM chains");
        let own = self.owner.sign_hash(digest);
        let long = || Bytes::from((U256::ZERO, own.clone()).abi_encode_params());
        let signature = match form {
            Form::Plain => own,
            Form::Long => long(),
            Form::Wrapped => erc6492::wrap(&self.creation, &long()),
        };
        Eip3009 { signature: SignatureBytes(signature), ..unsigned }
    }

    /// Reads a 402, takes the first offer and pays it: the request field to send.
    ///
    /// # Panics
    /// When there is nothing in it that can be paid.
    pub fn pay(&self, form: Form, fields: &HeaderMap, body: &[u8], now: Timestamp) -> (HeaderName, HeaderValue) {
        self.pay_with(fields, body, |offer| self.accept(form, offer, now))
    }

    /// The same, with whatever is signed for the offer.
    ///
    /// # Panics
    /// When there is nothing in it that can be paid.
    pub fn pay_with(
        &self,
        fields: &HeaderMap,
        body: &[u8],
        sign: impl FnOnce(&Offer) -> Eip3009,
    ) -> (HeaderName, HeaderValue) {
        let challenge = Challenge::read(fields, body).expect("it is a 402");
        let choice = challenge.choose(|_| true).expect("the offer can be paid");
        challenge.payment(choice, &sign(&choice.offer))
    }
}
