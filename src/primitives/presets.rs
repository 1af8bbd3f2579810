//! The networks and tokens a seller can name without describing them.
//!
//! The rows are the default-asset tables of the x402 SDKs (protocol digest, D6). Every EIP-712 name and version
//! was checked against the domain separator the token must produce; a test repeats that check.

use alloy::primitives::{Address, address};

use super::{Asset, Caip2, Decimals, Eip712Name, Network, Peg, TransferMethod};

/// A network tollhouse knows by name.
#[derive(Debug)]
pub struct Preset {
    /// What `gateway.yaml` calls it.
    pub name: &'static str,
    /// Its EVM chain id.
    pub chain_id: u64,
    /// Whether money on it is real.
    pub live: bool,
    /// Whether x402 v1 clients can be offered it under this name. Only the four names that every v1 client
    /// knows: an unknown one makes them reject the whole 402 (protocol digest, A6 and A7).
    pub speaks_v1: bool,
    /// Where a person can look at a transaction; `{tx}` stands for its hash.
    pub explorer: Option<&'static str>,
    /// Its tokens, the default one first.
    pub assets: &'static [PresetAsset],
}

/// A token on a preset network; every one is pegged to the dollar.
#[derive(Debug)]
pub struct PresetAsset {
    symbol: &'static str,
    address: Address,
    decimals: u8,
    name: &'static str,
    version: &'static str,
    /// What payers sign to pay in it.
    pub method: TransferMethod,
}

impl Preset {
    /// The network as offers and receipts speak of it.
    pub fn network(&self) -> Network {
        Network {
            id: Caip2::evm(self.chain_id),
            name: self.name.to_owned(),
            v1_name: self.speaks_v1.then(|| self.name.into()),
            live: self.live,
            explorer: self.explorer.map(str::to_owned),
        }
    }
}

impl PresetAsset {
    /// The token as an offer names it.
    pub fn asset(&self) -> Asset {
        Asset {
            symbol: self.symbol.to_owned(),
            address: self.address,
            decimals: Decimals::new(self.decimals).expect("no row of the table exceeds 36 places"),
            peg: Some(Peg::Usd),
            eip712: Eip712Name { name: self.name.to_owned(), version: self.version.to_owned() },
            method: self.method,
        }
    }
}

/// Every preset network.
pub fn presets() -> &'static [Preset] {
    PRESETS
}

/// The preset network with this name.
pub fn preset(name: &str) -> Option<&'static Preset> {
    PRESETS.iter().find(|preset| preset.name == name)
}

/// The preset network with this CAIP-2 identifier.
pub fn preset_by_id(id: &Caip2) -> Option<&'static Preset> {
    let chain_id = id.chain_id()?;
    PRESETS.iter().find(|preset| preset.chain_id == chain_id)
}

const fn usd(
    symbol: &'static str,
    address: Address,
    decimals: u8,
    name: &'static str,
    version: &'static str,
) -> PresetAsset {
    PresetAsset { symbol, address, decimals, name, version, method: TransferMethod::Eip3009 }
}

/// A token without `transferWithAuthorization`.
const fn permit2(
    symbol: &'static str,
    address: Address,
    decimals: u8,
    name: &'static str,
    version: &'static str,
) -> PresetAsset {
    PresetAsset { method: TransferMethod::Permit2, ..usd(symbol, address, decimals, name, version) }
}

#[rustfmt::skip]
static PRESETS: &[Preset] = &[
    Preset { name: "base", chain_id: 8453, live: true, speaks_v1: true, explorer: Some("https://basescan.org/tx/{tx}"), assets: &[
        usd("USDC", address!("0x833589fCD6eDb6E08f4c7C32D4f71b54bdA02913"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "base-sepolia", chain_id: 84532, live: false, speaks_v1: true, explorer: Some("https://sepolia.basescan.org/tx/{tx}"), assets: &[
        usd("USDC", address!("0x036CbD53842c5426634e7929541eC2318f3dCF7e"), 6, "USDC", "2"),
    ] },
    Preset { name: "ethereum", chain_id: 1, live: true, speaks_v1: false, explorer: Some("https://etherscan.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0xA0b86991c6218b36c1d19D4a2e9Eb0cE3606eB48"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "avalanche", chain_id: 43114, live: true, speaks_v1: true, explorer: Some("https://snowtrace.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0xB97EF9Ef8734C71904D8002F8b6Bc66Dd9c48a6E"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "avalanche-fuji", chain_id: 43113, live: false, speaks_v1: true, explorer: Some("https://testnet.snowtrace.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0x5425890298aed601595a70AB815c96711a31Bc65"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "polygon", chain_id: 137, live: true, speaks_v1: false, explorer: Some("https://polygonscan.com/tx/{tx}"), assets: &[
        usd("USDC", address!("0x3c499c542cEF5E3811e1192ce70d8cC03d5c3359"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "polygon-amoy", chain_id: 80002, live: false, speaks_v1: false, explorer: Some("https://amoy.polygonscan.com/tx/{tx}"), assets: &[
        usd("USDC", address!("0x41E94Eb019C0762f9Bfcf9Fb1E58725BfB0e7582"), 6, "USDC", "2"),
    ] },
    Preset { name: "arbitrum", chain_id: 42161, live: true, speaks_v1: false, explorer: Some("https://arbiscan.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0xaf88d065e77c8cC2239327C5EDb3A432268e5831"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "arbitrum-sepolia", chain_id: 421614, live: false, speaks_v1: false, explorer: Some("https://sepolia.arbiscan.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0x75faf114eafb1BDbe2F0316DF893fd58CE46AA4d"), 6, "USD Coin", "2"),
    ] },
    Preset { name: "monad", chain_id: 143, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x754704Bc059F8C67012fEd69BC8A327a5aafb603"), 6, "USDC", "2"),
    ] },
    Preset { name: "sei", chain_id: 1329, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xe15fC38F6D8c56aF07bbCBe3BAf5708A2Bf42392"), 6, "USDC", "2"),
    ] },
    Preset { name: "sei-testnet", chain_id: 1328, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x4fCF1784B31630811181f670Aea7A7bEF803eaED"), 6, "USDC", "2"),
    ] },
    Preset { name: "celo", chain_id: 42220, live: true, speaks_v1: false, explorer: Some("https://celoscan.io/tx/{tx}"), assets: &[
        usd("USDC", address!("0xcebA9300f2b948710d2653dD7B07f33A8B32118C"), 6, "USDC", "2"),
        usd("USDT", address!("0x48065fbBE25f71C9282ddf5e1cD6D6A887483D5e"), 6, "Tether USD", "1"),
        usd("USAT", address!("0xD2ab3C9A02DBBAB236BfEC45D1d755DF4267F771"), 6, "Tether America USD", "1"),
    ] },
    Preset { name: "celo-sepolia", chain_id: 11142220, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x01C5C0122039549AD1493B8220cABEdD739BC44E"), 6, "USDC", "2"),
    ] },
    Preset { name: "flare", chain_id: 14, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDT0", address!("0xe7cd86e13AC4309349F30B3435a9d337750fC82D"), 6, "USD\u{20AE}0", "1"),
    ] },
    Preset { name: "stable", chain_id: 988, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDT0", address!("0x779Ded0c9e1022225f8E0630b35a9b54bE713736"), 6, "USDT0", "1"),
    ] },
    Preset { name: "stable-testnet", chain_id: 2201, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDT0", address!("0x78Cf24370174180738C5B8E352B6D14c83a6c9A9"), 6, "USDT0", "1"),
    ] },
    Preset { name: "xdc", chain_id: 50, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xfA2958CB79b0491CC627c1557F441eF849Ca8eb1"), 6, "USDC", "2"),
    ] },
    Preset { name: "xdc-apothem", chain_id: 51, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xb5AB69F7bBada22B28e79C8FFAECe55eF1c771D4"), 6, "USDC", "2"),
    ] },
    Preset { name: "adi", chain_id: 36900, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC.e", address!("0x9cb8142aEBBcdc60AF7c97Af897A67A8f3CA71C2"), 6, "USDC.e", "2"),
    ] },
    Preset { name: "hpp", chain_id: 190415, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC.e", address!("0x401eCb1D350407f13ba348573E5630B83638E30D"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "hpp-sepolia", chain_id: 181228, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC.e", address!("0x401eCb1D350407f13ba348573E5630B83638E30D"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "megaeth", chain_id: 4326, live: true, speaks_v1: false, explorer: None, assets: &[
        permit2("MegaUSD", address!("0xFAfDdbb3FC7688494971a79cc65DCa3EF82079E7"), 18, "MegaUSD", "1"),
    ] },
    Preset { name: "mezo", chain_id: 31612, live: true, speaks_v1: false, explorer: None, assets: &[
        permit2("mUSD", address!("0xdD468A1DDc392dcdbEf6db6e34E89AA338F9F186"), 18, "Mezo USD", "1"),
    ] },
    Preset { name: "mezo-testnet", chain_id: 31611, live: false, speaks_v1: false, explorer: None, assets: &[
        permit2("mUSD", address!("0x118917a40FAF1CD7a13dB0Ef56C86De7973Ac503"), 18, "Mezo USD", "1"),
    ] },
    Preset { name: "radius", chain_id: 723487, live: true, speaks_v1: false, explorer: None, assets: &[
        permit2("SBC", address!("0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb"), 6, "Stable Coin", "1"),
    ] },
    Preset { name: "radius-testnet", chain_id: 72344, live: false, speaks_v1: false, explorer: None, assets: &[
        permit2("SBC", address!("0x33ad9e4BD16B69B5BFdED37D8B5D9fF9aba014Fb"), 6, "Stable Coin", "1"),
    ] },
    Preset { name: "igra", chain_id: 38833, live: true, speaks_v1: false, explorer: None, assets: &[
        permit2("USDC", address!("0xA5b8BF902b2844dA17d4506cc827F7F1681735E7"), 6, "USDC", "1"),
    ] },
    Preset { name: "iotex", chain_id: 4689, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xcDf79194C6C285077A58da47641D4dBe51F63542"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "peaq", chain_id: 3338, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xbbA60da06c2c5424f03f7434542280FCAd453d10"), 6, "USDC", "2"),
    ] },
    Preset { name: "abstract", chain_id: 2741, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x84A71ccD554Cc1b02749b35d22F684CC8ec987e1"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "abstract-testnet", chain_id: 11124, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xe4C7fBB0a626ed208021ccabA6Be1566905E2dFc"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "story", chain_id: 1514, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0xF1815bd50389c46847f0Bda824eC8da914045D14"), 6, "Bridged USDC", "2"),
    ] },
    Preset { name: "educhain", chain_id: 41923, live: true, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x12a272A581feE5577A5dFa371afEB4b2F3a8C2F8"), 6, "Bridged USDC (Stargate)", "2"),
    ] },
    Preset { name: "skale-base-sepolia", chain_id: 324705682, live: false, speaks_v1: false, explorer: None, assets: &[
        usd("USDC", address!("0x2e08028E3C4c2356572E096d8EF835cD5C6030bD"), 6, "Bridged USDC (SKALE Bridge)", "2"),
    ] },
];
