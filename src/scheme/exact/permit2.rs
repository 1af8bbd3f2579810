//! A transfer that Permit2 makes (`assetTransferMethod: permit2`), for tokens without EIP-3009.
//!
//! The payer has approved Permit2 for the token once. For each payment they sign a message that lets one contract, x402's
//! exact proxy, have Permit2 move exactly this much to exactly this payee: the payee is the *witness* of the message, and
//! the proxy hands it on. Whoever holds the signature may call the proxy, once; where the money goes is not theirs to
//! choose (protocol digest, D1).

use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, U256, address, b256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use ring::rand::{SecureRandom, SystemRandom};

use super::eip3009::{WINDOW_SLACK, canonical, hash_words};
use crate::payment::{Authorization, Offer, Permit2, SignatureBytes};
use crate::primitives::{PERMIT2, Timestamp};
use crate::scheme::{Checked, Mismatch, Scheme};

/// x402ExactPermit2Proxy: the same address on every chain that has it.
pub const PROXY: Address = address!("0x402085c248EeA27D92E8b30b2C58ed07f9E20001");

/// `exact` with Permit2 authorizations signed by plain accounts.
#[derive(Debug, Clone, Copy, Default)]
pub struct Permit2Exact;

/// Why a Permit2 authorization does not keep the promise an offer asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Breach {
    /// Another contract than the exact proxy may present it, so nobody can settle it here.
    #[error("the spender is not the exact proxy")]
    Spender,
    /// Another payee was signed (S9).
    #[error("the signed recipient is not the payee")]
    Payee,
    /// It lapses before it could be settled (S28).
    #[error("the authorization lapses too soon")]
    LapsesTooSoon,
    /// It is good for longer than any offer asks (S28).
    #[error("the authorization is valid for too long")]
    ValidTooLong,
    /// It is not good yet (S28).
    #[error("the authorization is not valid yet")]
    NotYetValid,
    /// Another amount was signed (S6, S10).
    #[error("the signed amount is not the price")]
    Amount,
    /// Another token was signed (S9).
    #[error("the signed token is not the asset")]
    Token,
    /// The signature is not one that Permit2 would take, or is somebody else's (S4).
    #[error("the signature does not fit")]
    Signature,
}

impl Breach {
    /// The code that facilitators and client SDKs know it by (protocol digest, B and D3).
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Spender => "invalid_permit2_spender",
            Self::Payee => "invalid_permit2_recipient_mismatch",
            // The SDKs know no "too long"; what is wrong is the same field.
            Self::LapsesTooSoon | Self::ValidTooLong => "permit2_deadline_expired",
            Self::NotYetValid => "permit2_not_yet_valid",
            Self::Amount => "permit2_amount_mismatch",
            Self::Token => "permit2_token_mismatch",
            Self::Signature => "invalid_permit2_signature",
        }
    }
}

impl Scheme for Permit2Exact {
    /// In the order of the SDKs, so that what is wrong in several ways has the same code everywhere.
    fn terms(
        &self,
        offer: &Offer,
        authorization: &Authorization,
        now: Timestamp,
        margin: Duration,
    ) -> Result<(), Mismatch> {
        let signed = authorization.permit2().ok_or(Mismatch::Method)?;
        kept(offer, signed, now, margin).map_err(Mismatch::Permit2)
    }

    fn signature(&self, offer: &Offer, authorization: &Authorization) -> Result<Checked, Mismatch> {
        let signed = authorization.permit2().ok_or(Mismatch::Method)?;
        let checked = recovered(offer, signed).ok_or(Mismatch::Permit2(Breach::Signature))?;
        Ok(Checked { authorization: Authorization::Permit2(Box::new(checked)) })
    }
}

fn kept(offer: &Offer, signed: &Permit2, now: Timestamp, margin: Duration) -> Result<(), Breach> {
    if signed.spender != PROXY {
        return Err(Breach::Spender);
    }
    if signed.to != offer.pay_to.0 {
        return Err(Breach::Payee);
    }
    // Seconds beyond 64 bits lie after the end of time either way, so saturating keeps every comparison true.
    let left = Timestamp::from_secs(signed.deadline.saturating_to()).since(now);
    if left < margin || left.is_zero() {
        return Err(Breach::LapsesTooSoon);
    }
    if left > offer.max_timeout.saturating_add(WINDOW_SLACK) {
        return Err(Breach::ValidTooLong);
    }
    if signed.valid_after > U256::from(now.as_secs()) {
        return Err(Breach::NotYetValid);
    }
    if signed.amount != offer.amount {
        return Err(Breach::Amount);
    }
    if signed.token != offer.asset.address {
        return Err(Breach::Token);
    }
    Ok(())
}

/// The same with its signature in the one form that is kept, if the payer made it.
///
/// Permit2 takes a high `s` and 64 bytes as well. Neither is anything a wallet sends, and one form for all keeps a
/// payment from having two spellings (S4).
fn recovered(offer: &Offer, signed: &Permit2) -> Option<Permit2> {
    let signature = canonical(&signed.signature)?;
    let digest = digest(offer, signed)?;
    let signer = signature.recover_address_from_prehash(&digest).ok()?;
    let signature = SignatureBytes(Bytes::copy_from_slice(&signature.as_bytes()));
    (signer == signed.from).then(|| Permit2 { signature, ..signed.clone() })
}

/// What a payer signs to accept `offer`. `None` when the offer's network is not an EVM chain.
pub fn digest(offer: &Offer, signed: &Permit2) -> Option<B256> {
    let domain = domain_separator(offer.network.id.chain_id()?);
    let mut message = [0; 66];
    message[..2].copy_from_slice(b"\x19\x01");
    message[2..34].copy_from_slice(domain.as_slice());
    message[34..].copy_from_slice(struct_hash(signed).as_slice());
    Some(keccak256(message))
}

/// What Permit2's `DOMAIN_SEPARATOR()` answers on this chain. Its domain has no version.
pub fn domain_separator(chain_id: u64) -> B256 {
    hash_words([DOMAIN_TYPE_HASH.0, keccak256("Permit2").0, U256::from(chain_id).to_be_bytes(), PERMIT2.into_word().0])
}

/// EIP-712's `hashStruct` of the message.
pub fn struct_hash(signed: &Permit2) -> B256 {
    let permitted =
        hash_words([TOKEN_PERMISSIONS_TYPE_HASH.0, signed.token.into_word().0, signed.amount.units().to_be_bytes()]);
    let witness = hash_words([WITNESS_TYPE_HASH.0, signed.to.into_word().0, signed.valid_after.to_be_bytes()]);
    hash_words([
        PERMIT_TYPE_HASH.0,
        permitted.0,
        signed.spender.into_word().0,
        signed.nonce.to_be_bytes(),
        signed.deadline.to_be_bytes(),
        witness.0,
    ])
}

/// The call of the proxy that settles it (selector `0x13cd3b53`).
pub fn calldata(signed: &Permit2) -> Bytes {
    let call = abi::settleCall {
        permit: abi::PermitTransferFrom {
            permitted: abi::TokenPermissions { token: signed.token, amount: signed.amount.units() },
            nonce: signed.nonce,
            deadline: signed.deadline,
        },
        owner: signed.from,
        witness: abi::Witness { to: signed.to, validAfter: signed.valid_after },
        signature: signed.signature.0.clone(),
    };
    call.abi_encode().into()
}

/// Whose authorization a call of the proxy presents: the owner, and the nonce in Permit2's books. `None` when it is no
/// call that settles.
pub fn presented(input: &[u8]) -> Option<(Address, U256)> {
    if let Ok(call) = abi::settleCall::abi_decode_validate(input) {
        return Some((call.owner, call.permit.nonce));
    }
    let call = abi::settleWithPermitCall::abi_decode_validate(input).ok()?;
    Some((call.owner, call.permit.nonce))
}

/// Where Permit2 keeps a nonce: the word of its owner's bitmap, and the bit in it.
pub fn place(nonce: U256) -> (U256, U256) {
    (nonce >> 8, U256::ONE << usize::from(nonce.byte(0)))
}

/// Signs the acceptance of an offer: the paying side.
///
/// # Errors
/// When the signer refuses, or the offer's network is not an EVM chain.
pub fn sign(
    signer: &PrivateKeySigner,
    offer: &Offer,
    valid_after: u64,
    deadline: u64,
    nonce: U256,
) -> Result<Permit2, alloy::signers::Error> {
    let mut signed = Permit2 {
        from: signer.address(),
        token: offer.asset.address,
        amount: offer.amount,
        spender: PROXY,
        nonce,
        deadline: U256::from(deadline),
        to: offer.pay_to.0,
        valid_after: U256::from(valid_after),
        signature: SignatureBytes(Bytes::new()),
    };
    let digest = digest(offer, &signed).ok_or_else(|| alloy::signers::Error::other("not an EVM chain"))?;
    let signature = signer.sign_hash_sync(&digest)?;
    signed.signature = SignatureBytes(Bytes::copy_from_slice(&signature.as_bytes()));
    Ok(signed)
}

/// A nonce nobody has used before. `None` when the system has no randomness to give.
pub fn random_nonce() -> Option<U256> {
    let mut bytes = [0; 32];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(U256::from_be_bytes(bytes))
}

/// keccak256 of `EIP712Domain(string name,uint256 chainId,address verifyingContract)`.
const DOMAIN_TYPE_HASH: B256 = b256!("8cad95687ba82c2ce50e74f7b754645e5117c3a5bec8151c0726d5857980a866");

/// keccak256 of `TokenPermissions(address token,uint256 amount)`.
const TOKEN_PERMISSIONS_TYPE_HASH: B256 = b256!("618358ac3db8dc274f0cd8829da7e234bd48cd73c4a740aede1adec9846d06a1");

/// keccak256 of `Witness(address to,uint256 validAfter)`.
const WITNESS_TYPE_HASH: B256 = b256!("d97b3239a7f32295517bd14cb074edfdd188dfe5eb42f802bb26d4fd1eb12c37");

/// keccak256 of `PermitWitnessTransferFrom(…,Witness witness)TokenPermissions(…)Witness(…)`.
const PERMIT_TYPE_HASH: B256 = b256!("ebc156cd23678a74c94df13d772ef5478420637f0c94bd10d509e1dc98f521c7");

mod abi {
    alloy::sol! {
        struct TokenPermissions { address token; uint256 amount; }
        struct PermitTransferFrom { TokenPermissions permitted; uint256 nonce; uint256 deadline; }
        struct Witness { address to; uint256 validAfter; }
        struct EIP2612Permit { uint256 value; uint256 deadline; bytes32 r; bytes32 s; uint8 v; }

        function settle(
            PermitTransferFrom permit, address owner, Witness witness, bytes signature
        ) external;

        function settleWithPermit(
            EIP2612Permit permit2612, PermitTransferFrom permit, address owner, Witness witness, bytes signature
        ) external;
    }
}
