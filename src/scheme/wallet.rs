//! A signature that only code on the chain can judge.

use alloy::primitives::{Address, B256, Bytes, Signature, keccak256};

use super::erc6492::{self, Creation};
use crate::payment::SignatureBytes;

/// What is presented as a contract wallet's signature. Nothing of it is proven, not even that there is a wallet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalletSignature {
    /// The payer, whose code is to be asked (ERC-1271).
    pub wallet: Address,
    /// What is said to be signed. It covers chain, token, payer and every term.
    pub digest: B256,
    /// What the wallet judges.
    pub signature: SignatureBytes,
    /// How the wallet comes to be, where it may not exist yet (ERC-6492).
    pub creation: Option<Creation>,
    /// The same for the very same question only, wrapper included.
    pub id: B256,
}

impl WalletSignature {
    /// What `presented` could be, if anything: an empty signature, a broken wrapper and the mirror image of a signature
    /// of the payer's own key are nothing (S4).
    pub fn of(wallet: Address, digest: B256, presented: &Bytes) -> Option<Self> {
        let (creation, signature) = erc6492::open(presented).ok()?;
        if signature.is_empty() || is_own_key(wallet, digest, &signature) {
            return None;
        }
        let id = keccak256([digest.0, keccak256(presented).0].as_flattened());
        Some(Self { wallet, digest, signature: SignatureBytes(signature), creation, id })
    }
}

/// Whether the payer's own key made it, in whatever form. Whoever asks has refused the form: a token would take it from
/// nobody, so no code is asked about it.
fn is_own_key(payer: Address, digest: B256, signature: &Bytes) -> bool {
    let Ok(bytes) = <&[u8; 65]>::try_from(signature.as_ref()) else { return false };
    [false, true].iter().any(|odd| {
        let signature = Signature::from_bytes_and_parity(&bytes[..64], *odd);
        signature.recover_address_from_prehash(&digest).is_ok_and(|signer| signer == payer)
    })
}

#[cfg(test)]
mod tests {
    use alloy::primitives::{U256, uint};
    use alloy::signers::SignerSync;
    use alloy::signers::local::PrivateKeySigner;

    use super::*;

    const DIGEST: B256 = B256::repeat_byte(3);
    const WALLET: Address = Address::repeat_byte(9);

    #[test]
    fn s30_any_bytes_but_none_may_be_a_wallets_signature() {
        for length in [1, 64, 65, 66, 1000] {
            let signature = Bytes::from(vec![0xab; length]);
            let presented = WalletSignature::of(WALLET, DIGEST, &signature).expect("a wallet may judge it");
            assert_eq!((presented.wallet, presented.signature.0, presented.creation), (WALLET, signature, None));
        }
        assert_eq!(WalletSignature::of(WALLET, DIGEST, &Bytes::new()), None);
    }

    #[test]
    fn s4_what_the_payers_own_key_made_and_no_token_takes_is_nothing_for_a_wallet() {
        let order = uint!(0xfffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141_U256);
        let signer = PrivateKeySigner::from_bytes(&B256::repeat_byte(7)).expect("on the curve");
        let mut mirrored = signer.sign_hash_sync(&DIGEST).expect("it signs").as_bytes();
        let s = U256::from_be_slice(&mirrored[32..64]);
        mirrored[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        mirrored[64] = 27 + 28 - mirrored[64];
        let mirrored = Bytes::copy_from_slice(&mirrored);
        assert_eq!(WalletSignature::of(signer.address(), DIGEST, &mirrored), None);
        assert!(
            WalletSignature::of(WALLET, DIGEST, &mirrored).is_some(),
            "a wallet may take it from one of its owners"
        );
    }

    #[test]
    fn s32_two_questions_have_two_names() {
        let creation = |calldata: &'static [u8]| Creation { factory: WALLET, calldata: Bytes::from_static(calldata) };
        let inner = Bytes::from(vec![1; 65]);
        let named = |digest, presented: &Bytes| {
            WalletSignature::of(WALLET, digest, presented).expect("a wallet may judge it").id
        };
        let plain = named(DIGEST, &inner);
        assert_eq!(plain, named(DIGEST, &inner));
        let wrapped = [b"one", b"two"].map(|calldata| named(DIGEST, &erc6492::wrap(&creation(calldata), &inner)));
        let others = [named(B256::ZERO, &inner), named(DIGEST, &Bytes::from(vec![2; 65])), wrapped[0], wrapped[1]];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != plain && !others[..at].contains(other));
        }
    }
}
