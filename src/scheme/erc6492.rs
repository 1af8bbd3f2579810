//! Signatures of wallets that do not exist yet (ERC-6492): who would create the wallet, how, and what it would accept.

use alloy::primitives::{Address, B256, Bytes, b256};
use alloy::sol_types::SolValue;

/// What such a signature ends with, and no other: a plain one ends with its recovery id, this number with an even byte
/// that is none.
const SUFFIX: B256 = b256!("6492649264926492649264926492649264926492649264926492649264926492");

/// The creation of a wallet: a call that its factory carries out for anybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Creation {
    /// A stranger's choice until it was found on the operator's list (S30).
    pub factory: Address,
    /// What it is called with.
    pub calldata: Bytes,
}

/// It ends like a wrapped signature and is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the signature ends as ERC-6492 says and cannot be read as it says")]
pub struct Malformed;

/// Takes the wrapper off: who creates the wallet, if anybody has to, and the signature that the wallet is asked about.
///
/// # Errors
/// When the wrapper cannot be read, or there is another one in it.
pub fn open(signature: &Bytes) -> Result<(Option<Creation>, Bytes), Malformed> {
    let Some(wrapped) = signature.strip_suffix(SUFFIX.as_slice()) else { return Ok((None, signature.clone())) };
    let (factory, calldata, inner) =
        <(Address, Bytes, Bytes)>::abi_decode_params_validate(wrapped).map_err(|_| Malformed)?;
    if inner.is_empty() || inner.ends_with(SUFFIX.as_slice()) {
        return Err(Malformed);
    }
    Ok((Some(Creation { factory, calldata }), inner))
}

/// Puts a signature into the wrapper: the paying side.
pub fn wrap(creation: &Creation, signature: &Bytes) -> Bytes {
    let parts = (creation.factory, creation.calldata.clone(), signature.clone());
    [parts.abi_encode_params().as_slice(), SUFFIX.as_slice()].concat().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn creation() -> Creation {
        Creation { factory: Address::repeat_byte(7), calldata: Bytes::from_static(b"make one") }
    }

    #[test]
    fn what_was_wrapped_is_unwrapped() {
        let inner = Bytes::from(vec![5; 97]);
        assert_eq!(open(&wrap(&creation(), &inner)), Ok((Some(creation()), inner)));
    }

    #[test]
    fn a_signature_without_the_suffix_is_left_alone() {
        for plain in [Bytes::new(), Bytes::from(vec![1; 65]), Bytes::from(SUFFIX[1..].to_vec())] {
            assert_eq!(open(&plain), Ok((None, plain.clone())));
        }
    }

    #[test]
    fn s30_a_wrapper_that_cannot_be_read_is_refused() {
        let whole = wrap(&creation(), &Bytes::from(vec![5; 65]));
        let cut = [&whole[..64], SUFFIX.as_slice()].concat();
        let twice = wrap(&creation(), &whole);
        let empty = wrap(&creation(), &Bytes::new());
        for broken in [Bytes::from(SUFFIX.to_vec()), cut.into(), twice, empty] {
            assert_eq!(open(&broken), Err(Malformed));
        }
    }
}
