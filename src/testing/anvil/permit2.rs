//! Uniswap's own Permit2, and a stand-in for x402's exact proxy, where both stand on every chain.

use alloy::primitives::{Address, B256, Bytes, U256, address, b256, hex};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};

use super::{Anvil, INSTALL, RICH, USDC, packages};
use crate::primitives::PERMIT2;
use crate::scheme::exact::permit2::PROXY;

sol! {
    function approve(address spender, uint256 value) external returns (bool);
    function invalidateUnorderedNonces(uint256 wordPos, uint256 mask) external;
}

/// The contract that makes others at addresses that depend on nothing but their code; every anvil has it.
const MAKER: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");
/// What Uniswap salted Permit2's address with.
const SALT: B256 = b256!("0000000000000000000000000000000000000000d3af2663da51c10215000000");
/// The creation code of Permit2, in a package of Uniswap's.
const FACTORY: &str = "@uniswap/uniswapx-sdk/dist/cjs/src/contracts/factories/Permit2__factory.js";
/// The code of `tests/e2e/contracts/ExactPermit2Proxy.sol`. The end-to-end tests compile it anew and compare.
const STAND_IN: &str = include_str!("../../../tests/e2e/contracts/ExactPermit2Proxy.hex");

impl Anvil {
    /// Puts Permit2 and the proxy where they stand on every chain.
    ///
    /// Permit2 is made as Uniswap made it. Its address is a digest of its code, so standing there is the proof that it
    /// is the real one.
    ///
    /// # Panics
    /// When the package with its code is not installed, with words on how to install it.
    pub async fn deploy_permit2(&self) {
        let transaction = [SALT.as_slice(), &creation_code()].concat();
        self.send_with(RICH, MAKER, transaction, 10_000_000).await;
        let code: Bytes = self.rpc("eth_getCode", json!([PERMIT2, "latest"])).await;
        assert!(!code.is_empty(), "the package holds another Permit2 than the one on every chain");
        self.rpc::<Value>("anvil_setCode", json!([PROXY, format!("0x{}", STAND_IN.trim())])).await;
    }

    /// Has an account let Permit2 move this much of its USDC.
    pub async fn approve_permit2(&self, owner: Address, amount: U256) {
        self.fund_gas(owner).await;
        self.send(owner, USDC, approveCall { spender: PERMIT2, value: amount }.abi_encode()).await;
    }

    /// Has an account strike out nonces: those in this word of its bitmap that the mask names.
    pub async fn strike_out(&self, owner: Address, word: U256, mask: U256) -> B256 {
        self.fund_gas(owner).await;
        self.send(owner, PERMIT2, invalidateUnorderedNoncesCall { wordPos: word, mask }.abi_encode()).await
    }

    /// A contract that passes whatever it is called with on to the proxy, as wallets and batchers do.
    pub async fn deploy_relay(&self) -> Address {
        let relay = Address::repeat_byte(0x5e);
        // calldatacopy(0, 0, calldatasize()); if iszero(call(gas(), PROXY, 0, 0, calldatasize(), 0, 0)) revert
        let code = [&hex!("365f5f375f5f365f5f73")[..], PROXY.as_slice(), &hex!("5af16026575f5ffd5b00")[..]].concat();
        self.rpc::<Value>("anvil_setCode", json!([relay, Bytes::from(code)])).await;
        relay
    }
}

fn creation_code() -> Bytes {
    let path = packages().join(FACTORY);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; {INSTALL}", path.display()));
    let code = text.split_once("_bytecode = \"0x").and_then(|(_, rest)| rest.split_once('"'));
    let (code, _) = code.expect("the factory holds the creation code");
    hex::decode(code).expect("it is hex").into()
}
