//! `transferWithAuthorization` on the token itself (EIP-3009).
//!
//! The payer signs an EIP-712 message under the token's domain; whoever holds the signature may submit it, once.
//! Everything that can be known about such a promise without asking the chain is decided here.

use std::time::Duration;

use alloy::primitives::{B256, Bytes, Signature, U256, b256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use ring::rand::{SecureRandom, SystemRandom};

use crate::payment::{Authorization, Eip3009, Offer, SignatureBytes};
use crate::primitives::{Asset, Nonce, Timestamp};
use crate::scheme::{Checked, Mismatch, Scheme};

/// How much longer than `maxTimeoutSeconds` an authorization may stay valid. A client adds the timeout to its own
/// clock, which may run ahead, and some round up; an authorization for days would be a bearer instrument (S28).
pub const WINDOW_SLACK: Duration = Duration::from_secs(3600);

/// `exact` with EIP-3009 authorizations signed by plain accounts.
///
/// Contract wallets (EIP-1271, ERC-6492) can only be proven by asking the chain; their signatures are refused here
/// like any other that is not 65 bytes from the payer's own key.
#[derive(Debug, Clone, Copy, Default)]
pub struct Eip3009Exact;

impl Scheme for Eip3009Exact {
    fn terms(
        &self,
        offer: &Offer,
        authorization: &Authorization,
        now: Timestamp,
        margin: Duration,
    ) -> Result<(), Mismatch> {
        let Authorization::Eip3009(signed) = authorization;
        if signed.value != offer.amount {
            return Err(Mismatch::Amount);
        }
        if signed.to != offer.pay_to.0 {
            return Err(Mismatch::Payee);
        }
        // Seconds beyond 64 bits lie after the end of time either way, so saturating keeps every comparison true.
        let valid_before = Timestamp::from_secs(signed.valid_before.saturating_to());
        let left = valid_before.since(now);
        if left < margin || left.is_zero() {
            return Err(Mismatch::LapsesTooSoon);
        }
        if left > offer.max_timeout.saturating_add(WINDOW_SLACK) {
            return Err(Mismatch::ValidTooLong);
        }
        if signed.valid_after > U256::from(now.as_secs()) {
            return Err(Mismatch::NotYetValid);
        }
        Ok(())
    }

    fn signature(&self, offer: &Offer, authorization: &Authorization) -> Result<Checked, Mismatch> {
        let Authorization::Eip3009(signed) = authorization;
        let signature = canonical(&signed.signature).ok_or(Mismatch::Signature)?;
        let digest = digest(offer, signed).ok_or(Mismatch::Signature)?;
        let signer = signature.recover_address_from_prehash(&digest).map_err(|_| Mismatch::Signature)?;
        if signer != signed.from {
            return Err(Mismatch::Signature);
        }
        let signature = SignatureBytes(Bytes::copy_from_slice(&signature.as_bytes()));
        Ok(Checked { authorization: Authorization::Eip3009(Eip3009 { signature, ..signed.clone() }) })
    }
}

/// What a payer signs to accept `offer`. `None` when the offer's network is not an EVM chain.
pub fn digest(offer: &Offer, signed: &Eip3009) -> Option<B256> {
    let domain = domain_separator(offer.network.id.chain_id()?, &offer.asset);
    let mut message = [0; 66];
    message[..2].copy_from_slice(b"\x19\x01");
    message[2..34].copy_from_slice(domain.as_slice());
    message[34..].copy_from_slice(struct_hash(signed).as_slice());
    Some(keccak256(message))
}

/// What the token's `DOMAIN_SEPARATOR()` must answer (S9). Costs five short hashes, so nothing caches it.
pub fn domain_separator(chain_id: u64, asset: &Asset) -> B256 {
    hash_words([
        DOMAIN_TYPE_HASH.0,
        keccak256(&asset.eip712.name).0,
        keccak256(&asset.eip712.version).0,
        U256::from(chain_id).to_be_bytes(),
        asset.address.into_word().0,
    ])
}

/// EIP-712's `hashStruct` of the message.
pub fn struct_hash(signed: &Eip3009) -> B256 {
    hash_words([
        TRANSFER_TYPE_HASH.0,
        signed.from.into_word().0,
        signed.to.into_word().0,
        signed.value.units().to_be_bytes(),
        signed.valid_after.to_be_bytes(),
        signed.valid_before.to_be_bytes(),
        signed.nonce.0.0,
    ])
}

/// The call that settles it, in the overload every EIP-3009 token has (`v, r, s`; selector `0xe3ee160e`).
///
/// `None` unless the signature is one that [`Eip3009Exact`] has checked or would accept in form.
pub fn calldata_vrs(signed: &Eip3009) -> Option<Bytes> {
    let signature = canonical(&signed.signature)?;
    let call = abi::transferWithAuthorization_0Call {
        from: signed.from,
        to: signed.to,
        value: signed.value.units(),
        validAfter: signed.valid_after,
        validBefore: signed.valid_before,
        nonce: signed.nonce.0,
        v: signature.v_byte(),
        r: signature.r().into(),
        s: signature.s().into(),
    };
    Some(call.abi_encode().into())
}

/// The call that settles it, in the overload of FiatToken 2.2 and later (`bytes signature`; selector `0xcf092995`).
/// It takes a contract wallet's signature too.
pub fn calldata_bytes(signed: &Eip3009) -> Bytes {
    let call = abi::transferWithAuthorization_1Call {
        from: signed.from,
        to: signed.to,
        value: signed.value.units(),
        validAfter: signed.valid_after,
        validBefore: signed.valid_before,
        nonce: signed.nonce.0,
        signature: signed.signature.0.clone(),
    };
    call.abi_encode().into()
}

/// Signs the acceptance of an offer: the paying side.
///
/// # Errors
/// When the signer refuses, or the offer's network is not an EVM chain.
pub fn sign(
    signer: &PrivateKeySigner,
    offer: &Offer,
    valid_after: u64,
    valid_before: u64,
    nonce: Nonce,
) -> Result<Eip3009, alloy::signers::Error> {
    let mut signed = Eip3009 {
        from: signer.address(),
        to: offer.pay_to.0,
        value: offer.amount,
        valid_after: U256::from(valid_after),
        valid_before: U256::from(valid_before),
        nonce,
        signature: SignatureBytes(Bytes::new()),
    };
    let digest = digest(offer, &signed).ok_or_else(|| alloy::signers::Error::other("not an EVM chain"))?;
    let signature = signer.sign_hash_sync(&digest)?;
    signed.signature = SignatureBytes(Bytes::copy_from_slice(&signature.as_bytes()));
    Ok(signed)
}

/// A nonce nobody has used before. `None` when the system has no randomness to give.
pub fn random_nonce() -> Option<Nonce> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(Nonce(B256::new(bytes)))
}

/// The signature in the one form a token takes: `r ‖ s ‖ v`, `v` 27 or 28, `s` in the lower half of the curve (S4).
///
/// The token's ECDSA library refuses a high `s`; taking it here would serve a request that cannot be settled.
/// Recovery ids 0 and 1 are normalised, since wallets send them and the chain does not take them. 64 bytes
/// (EIP-2098) and the `v` of a transaction (EIP-155) are refused.
fn canonical(signature: &SignatureBytes) -> Option<Signature> {
    let bytes: &[u8; 65] = signature.0.as_ref().try_into().ok()?;
    let odd = match bytes[64] {
        0 | 27 => false,
        1 | 28 => true,
        _ => return None,
    };
    let signature = Signature::from_bytes_and_parity(&bytes[..64], odd);
    signature.normalize_s().is_none().then_some(signature)
}

fn hash_words<const N: usize>(words: [[u8; 32]; N]) -> B256 {
    keccak256(words.as_flattened())
}

/// keccak256 of `EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)`.
const DOMAIN_TYPE_HASH: B256 = b256!("8b73c3c69bb8fe3d512ecc4cf759cc79239f7b179b0ffacaa9a75d522b39400f");

/// keccak256 of `TransferWithAuthorization(address from,…,bytes32 nonce)`; EIP-3009 prints the same number.
const TRANSFER_TYPE_HASH: B256 = b256!("7c7c6cdb67a18743f49ec6fa9b35f50d52ed05cbed4cc592e13b44501c1a2267");

mod abi {
    alloy::sol! {
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            uint8 v, bytes32 r, bytes32 s
        ) external;

        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            bytes signature
        ) external;
    }
}
