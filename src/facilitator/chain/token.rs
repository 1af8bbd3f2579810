//! An EIP-3009 token: what it is asked, and what it writes down.

use alloy::primitives::{B256, Bytes};
use alloy::sol;
use alloy::sol_types::SolCall;

use crate::payment::Eip3009;
use crate::primitives::Asset;

sol! {
    interface Token {
        event Transfer(address indexed from, address indexed to, uint256 value);
        event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce);
        event AuthorizationCanceled(address indexed authorizer, bytes32 indexed nonce);

        function name() external view returns (string);
        function version() external view returns (string);
        function DOMAIN_SEPARATOR() external view returns (bytes32);
        function balanceOf(address account) external view returns (uint256);
        function authorizationState(address authorizer, bytes32 nonce) external view returns (bool);
        function transferWithAuthorization(
            address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce,
            uint8 v, bytes32 r, bytes32 s
        ) external;
    }
}

/// The domain separator that the asset's name and version produce on this chain (EIP-712).
pub(super) fn domain_separator(asset: &Asset, chain_id: u64) -> B256 {
    alloy::sol_types::eip712_domain! {
        name: asset.eip712.name.clone(),
        version: asset.eip712.version.clone(),
        chain_id: chain_id,
        verifying_contract: asset.address,
    }
    .separator()
}

/// The call that moves the money; `None` when the signature is not `r ‖ s ‖ v`.
pub(in crate::facilitator) fn transfer_call(signed: &Eip3009) -> Option<Bytes> {
    let signature: &[u8; 65] = signed.signature.0.as_ref().try_into().ok()?;
    let call = Token::transferWithAuthorizationCall {
        from: signed.from,
        to: signed.to,
        value: signed.value.units(),
        validAfter: signed.valid_after,
        validBefore: signed.valid_before,
        nonce: signed.nonce.0,
        v: signature[64],
        r: B256::from_slice(&signature[..32]),
        s: B256::from_slice(&signature[32..64]),
    };
    Some(call.abi_encode().into())
}
