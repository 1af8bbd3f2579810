//! Contract wallets on the chain, from tests/fixtures/wallets, and what creates them.

use alloy::consensus::{SignableTransaction, TxEip7702};
use alloy::eips::eip2718::Encodable2718;
use alloy::eips::eip7702::Authorization;
use alloy::primitives::{Address, B256, Bytes, U64, U256, address, b256, hex};
use alloy::signers::SignerSync;
use alloy::signers::local::PrivateKeySigner;
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};

use super::{Anvil, CHAIN_ID, INSTALL, RICH, packages, usdc};
use crate::scheme::erc6492::Creation;
use crate::testing::Wallet;
use crate::testing::smart_wallet::SmartWallet;

sol! {
    interface Contracts {
        function createWallet(address[] owners, uint256 salt) external returns (address wallet);
        function addressOf(address[] owners, uint256 salt) external view returns (address);
        function initialize(address[] to) external;
        function replaceOwners(address[] to) external;
        function setMood(uint256 to) external;
    }
}

/// Where Multicall3 stands on nearly every chain.
pub const MULTICALL: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");
/// The key of [`RICH`], printed by every anvil.
const RICH_KEY: B256 = b256!("ac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80");

/// Creates wallets.
#[derive(Debug, Clone, Copy)]
pub struct Factory(pub Address);

impl Anvil {
    /// Puts a contract of tests/fixtures/wallets on the chain.
    pub async fn deploy(&self, contract: &str) -> Address {
        let all: Value = serde_json::from_str(include_str!("../../../tests/fixtures/wallets/wallets.json"))
            .expect("the fixture is JSON");
        let code = all[contract].as_str().unwrap_or_else(|| panic!("there is no contract {contract}"));
        usdc::create(self, hex::decode(code).expect("code is hex").into()).await
    }

    /// Puts Multicall3 where it stands elsewhere, and a factory of wallets on the chain.
    pub async fn deploy_factory(&self) -> Factory {
        let multicall = usdc::create(self, multicall()).await;
        let code: Bytes = self.rpc("eth_getCode", json!([multicall, "latest"])).await;
        self.rpc::<Value>("anvil_setCode", json!([MULTICALL, code])).await;
        Factory(self.deploy("Factory").await)
    }

    /// Where the factory would put this owner's wallet. It is not there yet.
    pub async fn wallet_of(&self, factory: Factory, owner: Wallet) -> SmartWallet {
        let (owners, salt) = (vec![owner.address()], U256::ZERO);
        let address = self.view(factory.0, &Contracts::addressOfCall { owners: owners.clone(), salt }).await;
        let calldata = Contracts::createWalletCall { owners, salt }.abi_encode().into();
        SmartWallet { address, creation: Creation { factory: factory.0, calldata }, owner }
    }

    /// Creates it.
    pub async fn create_wallet(&self, wallet: &SmartWallet) {
        self.send(RICH, wallet.creation.factory, wallet.creation.calldata.to_vec()).await;
        assert!(self.has_code(wallet.address).await, "the factory creates wallets where it says");
    }

    /// The wallet gets its first owner, who has not been named when it was created.
    pub async fn own(&self, wallet: Address, owner: Address) {
        self.send(RICH, wallet, Contracts::initializeCall { to: vec![owner] }.abi_encode()).await;
    }

    /// The wallet gets another owner, and only that one.
    pub async fn replace_owner(&self, wallet: &SmartWallet, owner: Address) {
        self.fund_gas(wallet.owner.address()).await;
        let call = Contracts::replaceOwnersCall { to: vec![owner] };
        self.send(wallet.owner.address(), wallet.address, call.abi_encode()).await;
    }

    /// Tells a `Moody` wallet how to judge signatures from now on.
    pub async fn set_mood(&self, wallet: Address, mood: u64) {
        self.send(RICH, wallet, Contracts::setMoodCall { to: U256::from(mood) }.abi_encode()).await;
    }

    /// How often a `Trap` was called.
    pub async fn calls_of(&self, trap: Address) -> u64 {
        let slot: U256 = self.rpc("eth_getStorageAt", json!([trap, "0x0", "latest"])).await;
        slot.to()
    }

    /// Whether there is code at an address.
    pub async fn has_code(&self, account: Address) -> bool {
        !self.rpc::<Bytes>("eth_getCode", json!([account, "latest"])).await.is_empty()
    }

    /// The account of this key delegates itself to a contract (EIP-7702); somebody else pays for that.
    pub async fn delegate(&self, key: &PrivateKeySigner, to: Address) {
        let chain_id = CHAIN_ID;
        let unsigned = Authorization { chain_id: U256::from(chain_id), address: to, nonce: 0 };
        let signature = key.sign_hash_sync(&unsigned.signature_hash()).expect("the key signs");
        let nonce: U64 = self.rpc("eth_getTransactionCount", json!([RICH, "latest"])).await;
        let transaction = TxEip7702 {
            chain_id,
            nonce: nonce.to(),
            gas_limit: 200_000,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: 1,
            to: key.address(),
            value: U256::ZERO,
            access_list: Default::default(),
            authorization_list: vec![unsigned.into_signed(signature)],
            input: Bytes::new(),
        };
        let rich = PrivateKeySigner::from_bytes(&RICH_KEY).expect("it is a key");
        let signature = rich.sign_hash_sync(&transaction.signature_hash()).expect("the key signs");
        let raw = Bytes::from(transaction.into_signed(signature).encoded_2718());
        let hash = self.rpc("eth_sendRawTransaction", json!([raw])).await;
        self.receipt(hash).await;
        assert!(self.has_code(key.address()).await, "the account has delegated itself");
    }

    async fn view<C: SolCall>(&self, contract: Address, call: &C) -> C::Return {
        let answer: Bytes = self.rpc("eth_call", json!([usdc::call(contract, call.abi_encode()), "latest"])).await;
        C::abi_decode_returns(&answer).expect("the contract answers")
    }
}

/// The code that creates Multicall3, as viem has it.
fn multicall() -> Bytes {
    let path = packages().join("viem/_esm/constants/contracts.js");
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}; {INSTALL}", path.display()));
    let code = text.split("multicall3Bytecode = '").nth(1).and_then(|rest| rest.split('\'').next());
    hex::decode(code.expect("viem has Multicall3")).expect("code is hex").into()
}
