//! `transferWithAuthorization` on the token itself (EIP-3009).
//!
//! The payer signs an EIP-712 message under the token's domain; whoever holds the signature may submit it, once.
//! Everything that can be known about such a promise without asking the chain is decided here.

use std::cell::RefCell;
use std::collections::HashMap;
use std::time::Duration;

use alloy::primitives::{Address, B256, Bytes, Signature, U256, b256, keccak256};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol_types::SolCall;
use ring::rand::{SecureRandom, SystemRandom};

use crate::payment::{Authorization, Eip3009, Offer, SignatureBytes};
use crate::primitives::{Asset, Eip712Name, Nonce, Timestamp};
use crate::scheme::{Checked, Mismatch, Scheme, WalletSignature};

/// How much longer than `maxTimeoutSeconds` an authorization may stay valid. A client adds the timeout to its own
/// clock, which may run ahead, and some round up; an authorization for days would be a bearer instrument (S28).
pub const WINDOW_SLACK: Duration = Duration::from_secs(3600);

/// How many domains a thread remembers: a tariff has few tokens.
const REMEMBERED: usize = 64;

thread_local! {
    /// A domain takes half of the Keccak permutations of a check. Beside each is the name it was made of: a reload may
    /// give a token another one.
    static DOMAINS: RefCell<HashMap<(u64, Address), (Eip712Name, B256)>> = RefCell::default();
}

/// `exact` with EIP-3009 authorizations.
///
/// What is proven here is a signature of the payer's own key. A contract wallet (ERC-1271, ERC-6492) can only be proven
/// by asking the chain: its signature is refused here like any other, and [`Scheme::wallet_signature`] says what could be asked.
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
        let Authorization::Eip3009(signed) = authorization else { return Err(Mismatch::Method) };
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
        let Authorization::Eip3009(signed) = authorization else { return Err(Mismatch::Method) };
        let signature = canonical(&signed.signature).ok_or(Mismatch::Signature)?;
        let digest = digest(offer, signed).ok_or(Mismatch::Signature)?;
        let signer = signature.recover_address_from_prehash(&digest).map_err(|_| Mismatch::Signature)?;
        if signer != signed.from {
            return Err(Mismatch::Signature);
        }
        let signature = SignatureBytes(Bytes::copy_from_slice(&signature.as_bytes()));
        Ok(Checked { authorization: Authorization::Eip3009(Eip3009 { signature, ..signed.clone() }) })
    }

    fn wallet_signature(&self, offer: &Offer, authorization: &Authorization) -> Option<WalletSignature> {
        let Authorization::Eip3009(signed) = authorization else { return None };
        WalletSignature::of(signed.from, digest(offer, signed)?, &signed.signature.0)
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

/// What the token's `DOMAIN_SEPARATOR()` must answer (S9).
pub fn domain_separator(chain_id: u64, asset: &Asset) -> B256 {
    DOMAINS.with_borrow_mut(|domains| {
        let token = (chain_id, asset.address);
        if let Some((name, domain)) = domains.get(&token)
            && *name == asset.eip712
        {
            return *domain;
        }
        if domains.len() >= REMEMBERED {
            domains.clear();
        }
        let domain = hash_domain(chain_id, asset);
        domains.insert(token, (asset.eip712.clone(), domain));
        domain
    })
}

fn hash_domain(chain_id: u64, asset: &Asset) -> B256 {
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

/// The call that settles it. A signature in the form of a plain key's goes in the overload that every EIP-3009 token
/// has, whoever made it; any other is a contract wallet's.
pub fn calldata(signed: &Eip3009) -> Bytes {
    // A wallet may mean something by a last byte of 0 or 1, so for a wallet it is not normalised.
    let canonical = canonical(&signed.signature).filter(|own| own.as_bytes()[..] == signed.signature.0[..]);
    canonical.and_then(|_| calldata_vrs(signed)).unwrap_or_else(|| calldata_bytes(signed))
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
pub(super) fn canonical(signature: &SignatureBytes) -> Option<Signature> {
    let bytes: &[u8; 65] = signature.0.as_ref().try_into().ok()?;
    let odd = match bytes[64] {
        0 | 27 => false,
        1 | 28 => true,
        _ => return None,
    };
    let signature = Signature::from_bytes_and_parity(&bytes[..64], odd);
    signature.normalize_s().is_none().then_some(signature)
}

/// EIP-712 hashes words side by side, whatever they stand for.
pub(super) fn hash_words<const N: usize>(words: [[u8; 32]; N]) -> B256 {
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use alloy::sol_types::{Eip712Domain, SolStruct};

    use super::*;
    use crate::payment::{SchemeName, SettleMode};
    use crate::primitives::{AtomicAmount, Payee, preset};

    const NOW: Timestamp = Timestamp::from_secs(1_767_225_600);
    const MARGIN: Duration = Duration::from_secs(6);

    alloy::sol! {
        struct TransferWithAuthorization {
            address from; address to; uint256 value; uint256 validAfter; uint256 validBefore; bytes32 nonce;
        }
    }

    fn offer() -> Offer {
        let base = preset("base").expect("a preset");
        Offer {
            scheme: SchemeName::Exact,
            network: Arc::new(base.network()),
            asset: Arc::new(base.assets[0].asset()),
            amount: AtomicAmount::new(U256::from(10_000)),
            pay_to: Payee(Address::repeat_byte(0x70)),
            max_timeout: Duration::from_secs(300),
            settle: SettleMode::OnResponse,
            sandbox: false,
        }
    }

    fn signed_between(valid_after: u64, valid_before: u64) -> Eip3009 {
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("on the curve");
        sign(&signer, &offer(), valid_after, valid_before, Nonce(B256::repeat_byte(1))).expect("an EVM chain")
    }

    fn signed() -> Eip3009 {
        signed_between(0, NOW.as_secs() + 300)
    }

    fn terms(signed: Eip3009, now: Timestamp) -> Result<(), Mismatch> {
        Eip3009Exact.terms(&offer(), &Authorization::Eip3009(signed), now, MARGIN)
    }

    fn with_signature(bytes: impl Into<Bytes>) -> Result<Checked, Mismatch> {
        let signed = Eip3009 { signature: SignatureBytes(bytes.into()), ..signed() };
        Eip3009Exact.signature(&offer(), &Authorization::Eip3009(signed))
    }

    #[test]
    fn the_digest_is_the_one_alloy_computes() {
        let (offer, signed) = (offer(), signed());
        let domain = Eip712Domain::new(
            Some("USD Coin".into()),
            Some("2".into()),
            Some(U256::from(8453)),
            Some(offer.asset.address),
            None,
        );
        let message = TransferWithAuthorization {
            from: signed.from,
            to: signed.to,
            value: signed.value.units(),
            validAfter: signed.valid_after,
            validBefore: signed.valid_before,
            nonce: signed.nonce.0,
        };
        assert_eq!(domain.type_hash(), DOMAIN_TYPE_HASH);
        assert_eq!(message.eip712_type_hash(), TRANSFER_TYPE_HASH);
        assert_eq!(domain_separator(8453, &offer.asset), domain.separator());
        assert_eq!(digest(&offer, &signed), Some(message.eip712_signing_hash(&domain)));
    }

    #[test]
    fn s9_a_token_that_a_reload_renames_is_signed_for_under_its_new_name() {
        let asset = offer().asset;
        let renamed =
            Asset { eip712: Eip712Name { name: "Bridged USDC".into(), ..asset.eip712.clone() }, ..(*asset).clone() };
        for _ in 0..2 {
            for asset in [&*asset, &renamed] {
                let Eip712Name { name, version } = asset.eip712.clone();
                let domain = Eip712Domain::new(
                    Some(name.into()),
                    Some(version.into()),
                    Some(U256::from(8453)),
                    Some(asset.address),
                    None,
                );
                assert_eq!(domain_separator(8453, asset), domain.separator());
            }
        }
    }

    #[test]
    fn s10_more_than_the_price_is_as_wrong_as_less() {
        for value in [0, 1, 9_999, 10_001] {
            let signed = Eip3009 { value: AtomicAmount::new(U256::from(value)), ..signed() };
            assert_eq!(terms(signed, NOW), Err(Mismatch::Amount));
        }
        assert_eq!(terms(signed(), NOW), Ok(()));
    }

    #[test]
    fn s9_money_for_somebody_else_buys_nothing_here() {
        let signed = Eip3009 { to: Address::repeat_byte(0x71), ..signed() };
        assert_eq!(terms(signed, NOW), Err(Mismatch::Payee));
    }

    #[test]
    fn s28_an_authorization_must_outlive_the_margin_to_the_millisecond() {
        let last = NOW.after(Duration::from_secs(294));
        assert_eq!(terms(signed(), last), Ok(()));
        assert_eq!(terms(signed(), last.after(Duration::from_millis(1))), Err(Mismatch::LapsesTooSoon));
        let no_margin = Eip3009Exact.terms(
            &offer(),
            &Authorization::Eip3009(signed()),
            NOW.after(Duration::from_secs(300)),
            Duration::ZERO,
        );
        assert_eq!(no_margin, Err(Mismatch::LapsesTooSoon), "the last second is exclusive on chain");
    }

    #[test]
    fn s28_an_authorization_for_years_is_refused() {
        let longest = NOW.as_secs() + 300 + WINDOW_SLACK.as_secs();
        assert_eq!(terms(signed_between(0, longest), NOW), Ok(()));
        assert_eq!(terms(signed_between(0, longest + 1), NOW), Err(Mismatch::ValidTooLong));
        let forever = Eip3009 { valid_before: U256::MAX, ..signed() };
        assert_eq!(terms(forever, NOW), Err(Mismatch::ValidTooLong));
    }

    #[test]
    fn s28_an_authorization_that_begins_later_is_refused() {
        let until = NOW.as_secs() + 300;
        assert_eq!(terms(signed_between(NOW.as_secs(), until), NOW), Ok(()));
        assert_eq!(terms(signed_between(NOW.as_secs() + 1, until), NOW), Err(Mismatch::NotYetValid));
        let never = Eip3009 { valid_after: U256::MAX, ..signed() };
        assert_eq!(terms(never, NOW), Err(Mismatch::NotYetValid));
    }

    #[test]
    fn s4_recovery_ids_of_wallets_are_normalised_and_no_others_taken() {
        let given = signed().signature.0.to_vec();
        let with_v = |v: u8| [&given[..64], &[v]].concat();
        let id = given[64] - 27;
        for v in [id, id + 27] {
            let checked = with_signature(with_v(v)).map(|checked| checked.authorization);
            assert_eq!(checked, Ok(Authorization::Eip3009(signed())), "v = {v}");
        }
        for v in [1 - id, 28 - id, 2, 26, 29, 35, 36, 37, 38, 255] {
            assert_eq!(with_signature(with_v(v)), Err(Mismatch::Signature), "v = {v}");
        }
    }

    #[test]
    fn s4_the_mirror_image_of_a_signature_is_refused() {
        let order = alloy::primitives::uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
        let mut bytes = signed().signature.0.to_vec();
        let s = U256::from_be_slice(&bytes[32..64]);
        bytes[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        bytes[64] = 27 + 28 - bytes[64];
        assert_eq!(with_signature(bytes), Err(Mismatch::Signature));
    }

    #[test]
    fn s4_any_length_but_65_bytes_is_refused() {
        let given = signed().signature.0.to_vec();
        let r_and_compact_s = given[..64].to_vec();
        for bytes in
            [Vec::new(), r_and_compact_s, [&given[..], &[0]].concat(), vec![0; 65], vec![0xff; 65], vec![0; 4096]]
        {
            assert_eq!(with_signature(bytes), Err(Mismatch::Signature));
        }
    }

    #[test]
    fn s6_a_signature_covers_every_term_and_the_token() {
        let check = |offer: &Offer, signed: Eip3009| Eip3009Exact.signature(offer, &Authorization::Eip3009(signed));
        assert!(check(&offer(), signed()).is_ok());
        let tampered = [
            Eip3009 { from: Address::repeat_byte(2), ..signed() },
            Eip3009 { to: Address::repeat_byte(2), ..signed() },
            Eip3009 { value: AtomicAmount::new(U256::from(2)), ..signed() },
            Eip3009 { valid_after: U256::from(2), ..signed() },
            Eip3009 { valid_before: U256::from(2), ..signed() },
            Eip3009 { nonce: Nonce(B256::repeat_byte(2)), ..signed() },
        ];
        for signed in tampered {
            assert_eq!(check(&offer(), signed), Err(Mismatch::Signature));
        }
        let sepolia = preset("base-sepolia").expect("a preset");
        let elsewhere = Offer { network: Arc::new(sepolia.network()), ..offer() };
        let other_token = Offer { asset: Arc::new(sepolia.assets[0].asset()), ..offer() };
        for offer in [elsewhere, other_token] {
            assert_eq!(check(&offer, signed()), Err(Mismatch::Signature));
        }
    }
}
